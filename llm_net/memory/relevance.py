"""How much texts have to do with a question: by meaning, or by the words they share.

Mind, floor 2. Pure; each function gives a number from 0 to 1 for each text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import TypeAlias

from llm_net.errors import ModelSetupError

__all__ = ["Relevance", "by_best_means", "by_meaning", "by_words"]

Relevance: TypeAlias = Callable[[str, Sequence[str]], Sequence[float]]
"""A function of the question and the texts."""

_WORD = re.compile(r"\w+")


def by_words(query: str, texts: Sequence[str]) -> list[float]:
    """By the words that a text and the question share: the cosine of their sets."""
    asked = _words(query)
    return [_cosine(asked, _words(text)) for text in texts]


def by_meaning(query: str, texts: Sequence[str]) -> list[float]:
    """By the cosine of their embeddings, made by the small model of `llm_net.llm.embedding`.

    Raises:
        ModelSetupError: If the extra or the weights are missing.
    """
    # Here, or `python -m llm_net.llm.weights` would find itself imported already.
    from llm_net.llm.embedding import shared  # noqa: PLC0415

    vectors = shared().embed([query, *texts])
    return [max(0.0, float(cosine)) for cosine in vectors[1:] @ vectors[0]]


def by_best_means(query: str, texts: Sequence[str]) -> list[float]:
    """By meaning where the embedding model is on this machine, else by words."""
    try:
        return by_meaning(query, texts)
    except ModelSetupError:
        return by_words(query, texts)


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.casefold()))


def _cosine(one: set[str], other: set[str]) -> float:
    return len(one & other) / math.sqrt(len(one) * len(other)) if one and other else 0.0
