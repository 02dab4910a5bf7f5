"""Text as the numbers of word pieces, in the way of the uncased BERT models.

Model tower, floor 0. Pure.

Source: Devlin et al., "BERT", NAACL 2019; the rules of splitting are those of its reference code.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator

__all__ = ["WordPiece"]

_LONGEST_WORD = 100  # characters; a longer one is unknown
_SPACES = "\t\n\r"
# Blocks of ideographs, each of which is a word by itself.
_IDEOGRAPHS = (
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2CEAF),
    (0x2F800, 0x2FA1F),
)


class WordPiece:
    """A vocabulary, and how texts are cut into its pieces.

    Args:
        vocabulary: The pieces, in the order of their numbers.
        limit: The most numbers that a text may become; what is longer loses its end.
    """

    def __init__(self, vocabulary: Iterable[str], limit: int) -> None:
        self._numbers = {piece: number for number, piece in enumerate(vocabulary)}
        self._limit = limit

    def encode(self, text: str) -> list[int]:
        """The numbers of a text, between those of `[CLS]` and `[SEP]`."""
        room = self._limit - 2
        numbers: list[int] = []
        # A number stands for a character at least; spaces aside, the rest would be cut off below.
        for word in _words(text[: 20 * self._limit]):
            numbers += self._pieces(word)
            if len(numbers) >= room:
                break
        return [self._numbers["[CLS]"], *numbers[:room], self._numbers["[SEP]"]]

    def _pieces(self, word: str) -> list[int]:
        """The longest piece that the word begins with, then that of the rest, and so on."""
        unknown = [self._numbers["[UNK]"]]
        if len(word) > _LONGEST_WORD:
            return unknown
        numbers: list[int] = []
        start = 0
        while start < len(word):
            prefix = "##" if start else ""
            ends = range(len(word), start, -1)
            end = next((e for e in ends if prefix + word[start:e] in self._numbers), None)
            if end is None:
                return unknown
            numbers.append(self._numbers[prefix + word[start:end]])
            start = end
        return numbers


def _words(text: str) -> Iterator[str]:
    """Words, punctuation marks and ideographs, in lower case and without accents."""
    cleaned = "".join(map(_cleaned, text))
    plain = "".join(
        each for each in unicodedata.normalize("NFD", cleaned) if unicodedata.category(each) != "Mn"
    )
    for chunk in plain.lower().split():
        word = ""
        for character in chunk:
            if not _is_punctuation(character):
                word += character
                continue
            if word:
                yield word
            yield character
            word = ""
        if word:
            yield word


def _cleaned(character: str) -> str:
    code = ord(character)
    if character in _SPACES:
        return " "
    if code == 0xFFFD or unicodedata.category(character).startswith("C"):  # noqa: PLR2004
        return ""
    if any(first <= code <= last for first, last in _IDEOGRAPHS):
        return f" {character} "
    return character


def _is_punctuation(character: str) -> bool:
    # Of ASCII also what Unicode counts among the symbols, such as $ and +.
    if character.isascii():
        return not character.isalnum() and character.isprintable() and character != " "
    return unicodedata.category(character).startswith("P")
