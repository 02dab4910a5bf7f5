"""The small embedding model: how near two texts are in meaning, offline and without a key.

Model tower, floor 1. all-MiniLM-L6-v2 (Apache-2.0), computed with numpy. Needs the extra
`llm-net[local]` and the weights (`llm_net.llm.weights`). Only English is its own; what it says of
other languages is worth little.

Source: Reimers and Gurevych, "Sentence-BERT", EMNLP 2019; Wang et al., "MiniLM", NeurIPS 2020.
"""

from __future__ import annotations

import functools
import importlib
import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from llm_net.errors import ModelSetupError
from llm_net.llm import weights
from llm_net.llm.wordpiece import WordPiece

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[np.float32]

__all__ = ["MAX_TOKENS", "SIZE", "Embedder", "shared"]

SIZE = 384
MAX_TOKENS = 512
"""Of a longer text, the beginning counts."""

_LAYERS = 6
_HEADS = 12
_BATCH_TOKENS = 2048  # what is computed at once takes some 30 MB
_REMEMBERED = 4096  # texts; 6 MB


class Embedder:
    """The model, and the vectors of the texts that it has seen lately.

    It is loaded when it is first asked, takes 90 MB of address space, and may be used by any number
    of threads. `shared()` is one for all.
    """

    def __init__(self) -> None:
        self._network: _Network | None = None
        self._lock = threading.Lock()
        self._seen: OrderedDict[str, Array] = OrderedDict()

    def embed(self, texts: Sequence[str]) -> Array:
        """Vectors of length one; their products are the cosines.

        Args:
            texts: Any number of them; empty ones, too.

        Returns:
            vectors: (n_texts, 384).

        Raises:
            ModelSetupError: If numpy or the weights are missing.
        """
        np = _numpy()
        found = self._recall(texts)
        missing = [text for text in dict.fromkeys(texts) if text not in found]
        if missing:
            vectors = dict(zip(missing, self._load().vectors(missing), strict=True))
            found |= vectors
            self._remember(vectors)
        made: Array = np.array([found[text] for text in texts], np.float32).reshape(-1, SIZE)
        return made

    def _load(self) -> _Network:
        with self._lock:
            if self._network is None:
                files = weights.find(weights.MINILM), weights.find(weights.MINILM_VOCABULARY)
                self._network = _Network(_numpy(), *files)
            return self._network

    def _recall(self, texts: Sequence[str]) -> dict[str, Array]:
        with self._lock:
            found = {text: self._seen[text] for text in texts if text in self._seen}
            for text in found:
                self._seen.move_to_end(text)
            return found

    def _remember(self, vectors: dict[str, Array]) -> None:
        with self._lock:
            self._seen |= vectors
            while len(self._seen) > _REMEMBERED:
                self._seen.popitem(last=False)


@functools.cache
def shared() -> Embedder:
    """The process's embedder."""
    return Embedder()


class _Network:
    """A BERT of six layers: token numbers in, the mean of what comes out, at length one.

    Args:
        np: The module numpy.
        file: The weights, in the safetensors format.
        vocabulary: The word pieces, a line each.
    """

    def __init__(self, np: Any, file: Path, vocabulary: Path) -> None:
        self._np = np
        self._weights = _read(np, file)
        pieces = vocabulary.read_text(encoding="utf-8").split("\n")
        self._tokens = WordPiece(pieces, MAX_TOKENS)

    def vectors(self, texts: Sequence[str]) -> list[Array]:
        """A vector for each text, in order."""
        numbers = [self._tokens.encode(text) for text in texts]
        # Texts of like length side by side, so that little is computed for padding.
        order = sorted(range(len(texts)), key=lambda i: len(numbers[i]))
        found: dict[int, Array] = {}
        while order:
            longest = len(numbers[order[0]])
            batch: list[int] = []
            for i in order:
                longest = len(numbers[i])
                if batch and longest * (len(batch) + 1) > _BATCH_TOKENS:
                    break
                batch.append(i)
            del order[: len(batch)]
            found |= zip(batch, self._forward([numbers[i] for i in batch]), strict=True)
        return [found[i] for i in range(len(texts))]

    def _forward(self, numbers: Sequence[Sequence[int]]) -> Array:
        """Vectors of one batch: (n_texts, 384)."""
        np, w = self._np, self._weights
        longest = max(map(len, numbers))
        ids = np.array([[*each, *[0] * (longest - len(each))] for each in numbers])
        real = np.array([[i < len(each) for i in range(longest)] for each in numbers])
        x = w["embeddings.word_embeddings.weight"][ids]
        x = x + w["embeddings.position_embeddings.weight"][:longest]
        x = x + w["embeddings.token_type_embeddings.weight"][0]
        x = self._normed(x, "embeddings.LayerNorm")
        unseen = np.where(real, np.float32(0), np.float32(-1e9))[:, None, None, :]
        for number in range(_LAYERS):
            x = self._layer(x, f"encoder.layer.{number}", unseen)
        mean = (x * real[..., None]).sum(1) / real.sum(1, keepdims=True)
        vectors: Array = mean / np.linalg.norm(mean, axis=1, keepdims=True)
        return vectors.astype(np.float32)

    def _layer(self, x: Any, name: str, unseen: Any) -> Any:
        np = self._np
        many, longest, _ = x.shape

        def heads(part: str) -> Any:
            whole = self._linear(x, f"{name}.attention.self.{part}")
            return whole.reshape(many, longest, _HEADS, -1).transpose(0, 2, 1, 3)

        scores = heads("query") @ heads("key").transpose(0, 1, 3, 2)
        scores = scores * np.float32((SIZE / _HEADS) ** -0.5) + unseen
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        seen = scores / scores.sum(-1, keepdims=True) @ heads("value")
        seen = seen.transpose(0, 2, 1, 3).reshape(many, longest, SIZE)
        attended = self._linear(seen, f"{name}.attention.output.dense")
        x = self._normed(x + attended, f"{name}.attention.output.LayerNorm")
        inner = _gelu(np, self._linear(x, f"{name}.intermediate.dense"))
        return self._normed(
            x + self._linear(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm"
        )

    def _linear(self, x: Any, name: str) -> Any:
        # One product for all texts of the batch, instead of one for each.
        flat = x.reshape(-1, x.shape[-1]) @ self._weights[f"{name}.weight"].T
        return (flat + self._weights[f"{name}.bias"]).reshape(*x.shape[:-1], -1)

    def _normed(self, x: Any, name: str) -> Any:
        x = x - x.mean(-1, keepdims=True)
        x = x / self._np.sqrt((x * x).mean(-1, keepdims=True) + self._np.float32(1e-12))
        return x * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]


def _gelu(np: Any, x: Any) -> Any:
    """GELU, x Φ(x), by an approximation of erf that is right to 1.5e-7: numpy has none.

    Source: Abramowitz and Stegun, "Handbook of Mathematical Functions", 7.1.26.
    """
    z = np.abs(x) * np.float32(0.5**0.5)
    t = 1 / (1 + np.float32(0.3275911) * z)
    powers = 0.0
    for factor in (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592):
        powers = (powers + np.float32(factor)) * t
    tail = powers * np.exp(-z * z) / 2  # of the normal distribution, beyond |x|
    return x * np.where(x > 0, 1 - tail, tail)


def _read(np: Any, file: Path) -> dict[str, Any]:
    """The tensors of a safetensors file, mapped and not copied: one page of it is one page."""
    content = np.memmap(file, mode="r")
    start = 8 + int.from_bytes(content[:8].tobytes(), "little")
    header: dict[str, Any] = json.loads(content[8:start].tobytes())
    return {
        name: np.ndarray(
            each["shape"], "<f4", buffer=content, offset=start + each["data_offsets"][0]
        )
        for name, each in header.items()
        if each.get("dtype") == "F32"
    }


def _numpy() -> Any:
    """The module numpy.

    Raises:
        ModelSetupError: If it is not installed.
    """
    try:
        return importlib.import_module("numpy")
    except ImportError as error:
        raise ModelSetupError(
            f"The embedding model needs numpy, which cannot be imported: {error}. "
            "It belongs to an extra. Type: pip install 'llm-net[local]'"
        ) from error
