"""The small embedding model, the real one: what is alike in meaning is near."""

from __future__ import annotations

import importlib
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_net.errors import ModelSetupError
from llm_net.llm import embedding, weights
from llm_net.llm.embedding import MAX_TOKENS, SIZE, Embedder, shared
from llm_net.llm.wordpiece import WordPiece

pytestmark = pytest.mark.real_llm


@pytest.fixture(scope="module", autouse=True)
def _weights() -> None:
    """The weights, fetched if this machine has none: tests on the real model are not skipped."""
    weights.fetch(weights.MINILM)


@pytest.fixture(scope="module")
def word_piece() -> WordPiece:
    pieces = weights.find(weights.MINILM_VOCABULARY).read_text(encoding="utf-8").split("\n")
    return WordPiece(pieces, MAX_TOKENS)


ODD = "Ünïcödé naïve café 中文字符 テスト 🙂"

# From the same weights, by transformers and torch.
VECTORS = {
    "Hello, world.": [-0.04629326, 0.03751072, -0.01364920, 0.02889878],
    ODD: [-0.03157661, 0.04822804, 0.01412051, 0.01299472],
}
PIECES = {
    "": [101, 102],
    "Don't stop; $5+3=8!": [
        *(101, 2123, 1005, 1056, 2644, 1025, 1002, 1019, 1009, 1017, 1027, 1022, 999, 102),
    ],
    ODD: [101, 27260, 15743, 7668, 1746, 1861, 100, 100, 1713, 30233, 30240, 100, 102],
    "a\x00b\u200bc\ufffd d\xa0e": [101, 5925, 1040, 1041, 102],
    "unaffable antidisestablishmentarianism": [
        *(101, 14477, 20961, 3468, 3424, 10521, 4355, 7875, 13602, 3672, 12199, 2964, 102),
    ],
    "x" * 101: [101, 100, 102],
    "１２３ हिन्दी ไทย": [101, 100, 1339, 29877, 29863, 29861, 29878, 100, 102],  # noqa: RUF001
}


def cosine(one: str, other: str) -> float:
    vectors = shared().embed([one, other])
    return float(vectors[0] @ vectors[1])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The bridge is closed.", "The bridge has been shut."),
        ("She sells bread and cakes.", "She is a baker who sells cakes and bread."),
        ("I want to buy a cheap car.", "I am looking for an inexpensive automobile."),
    ],
)
def test_what_says_the_same_in_other_words_is_near(one: str, other: str) -> None:
    assert cosine(one, other) > 0.6


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The bridge is closed today.", "She sells bread and cakes."),
        ("I want to buy a cheap car.", "It rained on the mountains."),
        ("The vote was four to three.", "My dog likes to swim."),
    ],
)
def test_what_has_nothing_in_common_is_far(one: str, other: str) -> None:
    assert cosine(one, other) < 0.3


@pytest.mark.parametrize("text", VECTORS)
def test_the_numbers_are_those_of_the_reference(text: str) -> None:
    assert shared().embed([text])[0, :4] == pytest.approx(VECTORS[text], abs=2e-6)


@pytest.mark.parametrize("text", PIECES)
def test_the_pieces_are_those_of_the_reference(word_piece: WordPiece, text: str) -> None:
    assert word_piece.encode(text) == PIECES[text]


def test_a_batch_gives_what_single_texts_give() -> None:
    texts = [
        f"{word} " * n for n, word in enumerate(["", "bread", "käse", "wine 🍷", "x" * 300], 1)
    ]
    texts += ["The bridge is closed. " * 60, "", texts[1]]
    together = Embedder().embed(texts)
    alone = np.concatenate([Embedder().embed([text]) for text in texts])
    assert together.shape == (len(texts), SIZE)
    assert together.dtype == np.float32
    assert np.abs(together - alone).max() < 1e-5


@settings(max_examples=20)
@given(st.lists(st.text(max_size=40), max_size=4))
def test_every_text_has_a_vector_of_length_one(texts: list[str]) -> None:
    vectors = shared().embed(texts)
    assert vectors.shape == (len(texts), SIZE)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    assert np.array_equal(vectors, shared().embed(texts))


@given(st.text(max_size=3000))
def test_no_text_becomes_more_pieces_than_there_is_room_for(
    word_piece: WordPiece, text: str
) -> None:
    numbers = word_piece.encode(text)
    assert 2 <= len(numbers) <= MAX_TOKENS
    assert (numbers[0], numbers[-1]) == (101, 102)


def test_of_a_very_long_text_the_beginning_counts(word_piece: WordPiece) -> None:
    long = "the bridge is closed " * 100_000
    assert len(word_piece.encode(long)) == MAX_TOKENS
    assert word_piece.encode(long) == word_piece.encode(long[:5000])


def test_any_number_of_threads_may_ask_at_once() -> None:
    embedder = Embedder()
    texts = [[f"{n} loaves", "bread"] for n in range(4)]
    found: dict[int, Any] = {}

    def ask(n: int) -> None:
        found[n] = embedder.embed(texts[n])

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n in range(4):
        assert np.allclose(found[n], Embedder().embed(texts[n]), atol=1e-5)


def test_only_so_many_texts_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "_REMEMBERED", 2)
    embedder = Embedder()
    first = embedder.embed(["a", "b", "c"])
    assert len(embedder._seen) == 2
    assert np.allclose(embedder.embed(["a", "b", "c"]), first, atol=1e-5)


def test_without_numpy_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(ModelSetupError, match=r"pip install 'llm-net\[local\]'"):
        Embedder().embed(["bread"])


def test_without_the_weights_it_says_what_to_type(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("LLM_NET_MODEL_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(ModelSetupError, match=r"all-minilm-l6-v2.*python -m llm_net\.llm\.weights"):
        Embedder().embed(["bread"])
