"""The model tower: language models behind one word, `generate`; it knows nothing of actors."""
