"""What a Google docstring says about a function, and about each of its parameters.

Tools, floor 0. Knows nothing of the package. Reads generously: only a line that begins with the
name of a parameter begins a new description, however it is indented; everything else goes on with
the last one. So odd indents and texts with colons in them do no harm.
"""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["read"]

_OPENS = re.compile(r"(Args|Arguments|Parameters|Params):\s*$")
_CLOSES = re.compile(
    r"(Attributes|Examples?|Notes?|Raises|References|Returns?|See Also|Todo|Warnings?|Yields?):"
)
_ITEM = re.compile(
    r"(?P<name>\w+)"
    r"\s*(\((?:[^()]|\([^()]*\))*\))?"  # a type, which may hold brackets of its own
    r"\s*:\s*(?P<text>.*)$"
)


def read(docstring: str | None, parameters: Collection[str]) -> tuple[str, dict[str, str]]:
    """The description of a function, and those of its parameters, as far as there are any.

    Args:
        docstring: As it stands in the code.
        parameters: The names that the function has. Others are not taken for parameters.
    """
    lines = iter(inspect.cleandoc(docstring or "").splitlines())
    described: list[str] = []
    for line in lines:
        if _OPENS.match(line.strip()):
            texts, rest = _items(list(lines), _indent(line), parameters)
            described += _until_section(rest)
            return "\n".join(described).strip(), texts
        if _closes(line):
            break
        described.append(line)
    return "\n".join(described).strip(), {}


def _items(
    lines: list[str], margin: int, parameters: Collection[str]
) -> tuple[dict[str, str], list[str]]:
    """The texts of an `Args:` section, by parameter; and the lines after the section."""
    texts: dict[str, list[str]] = {}
    current: list[str] = []  # what stands before the first parameter is nobody's
    for number, line in enumerate(lines):
        said = line.strip()
        after_a_gap = number > 0 and not lines[number - 1].strip()
        outside = bool(said) and _indent(line) <= margin
        item = _ITEM.match(said)
        if item and item["name"] in parameters and item["name"] not in texts:
            current = texts[item["name"]] = [item["text"]]
        elif _closes(said if outside else line) or (outside and after_a_gap):
            return _joined(texts), lines[number:]
        else:
            current.append(said)
    return _joined(texts), []


def _until_section(lines: list[str]) -> list[str]:
    closing = (number for number, line in enumerate(lines) if _closes(line))
    return lines[: next(closing, len(lines))]


def _closes(line: str) -> bool:
    """Whether a line begins another section: with a text only at the margin, alone anywhere."""
    return bool(_CLOSES.match(line) or _CLOSES.fullmatch(line.strip()))


def _joined(texts: dict[str, list[str]]) -> dict[str, str]:
    joined = {name: " ".join(" ".join(lines).split()) for name, lines in texts.items()}
    return {name: text for name, text in joined.items() if text}


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
