"""`MemoryEntry`: what one step left behind, as plain data.

Mind, floor 0. Knows nothing of the package. An entry holds no agent and no object of anybody's,
only what JSON has, so that it can be saved, compared and shown anywhere.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

__all__ = ["MemoryEntry"]

_TELLING = ("message", "action", "plan")
"""The most telling first; then whatever else there is; then what was seen, which is seen again."""
_LEAST_TELLING = "observation"
_to_json = json.JSONEncoder(ensure_ascii=False).encode


@dataclass(frozen=True)
class MemoryEntry:
    """What happened to an agent in one step.

    Attributes:
        content: By the type of the event. Messages are a list of `{"message": …, "sender": …}`
            under `"message"`, what tools answered a list of `{"name": …, "response": …}` under
            `"action"`; of other types, the latest.
        step: When it was; None while that step is not over.
        importance: From 1 to 5, where a memory grades; else None.
    """

    content: dict[str, Any]
    step: int | None = None
    importance: int | None = None

    def events(self) -> list[tuple[str, Any]]:
        """What happened, one by one, with its type; in the order of types in `content`."""
        return [(kind, each) for kind, some in self.content.items() for each in _listed(some)]

    def messages(self) -> list[str]:
        """Who said what, a line each."""
        return [describe(kind, event) for kind, event in self.events() if kind == "message"]

    def pieces(self) -> list[str]:
        """The events as a line each, the most telling first."""
        events = sorted(self.events(), key=lambda event: _rank(event[0]))
        return [" ".join(describe(kind, event).split()) for kind, event in events]

    @cached_property
    def text(self) -> str:
        """All of them in words, to be compared with other texts."""
        return "\n".join(self.pieces())

    def to_dict(self) -> dict[str, Any]:
        """The entry as JSON has it; shares nothing with the entry."""
        plain: dict[str, Any] = {"content": copy.deepcopy(self.content), "step": self.step}
        return plain if self.importance is None else {**plain, "importance": self.importance}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> MemoryEntry:
        """The entry again."""
        content = copy.deepcopy(plain["content"])
        return cls(content, plain["step"], plain.get("importance"))

    def __str__(self) -> str:
        return self._told

    @cached_property
    def _told(self) -> str:
        when = "Now:" if self.step is None else f"Step {self.step}:"
        # Indented: a text of several lines cannot pass itself off as the next event, or step.
        lines = (describe(kind, event).replace("\n", "\n    ") for kind, event in self.events())
        return "\n".join([when, *(f"  - {line}" for line in lines)])


def describe(kind: str, event: Any) -> str:
    """An event in words."""
    match event:
        case {"message": said, **rest}:
            sender = rest.get("sender")
            who = "" if sender is None or sender == "" else f" from {_words(sender)}"
            return f"{kind}{who}: {_words(said)}"
        case {"name": name, "response": response}:
            return f"{kind} {_words(name)}: {_words(response)}"
        case {"content": content, **rest} if not rest:
            return f"{kind}: {_words(content)}"
        case _:
            return f"{kind}: {_words(event)}"


def _listed(content: Any) -> list[Any]:
    return cast("Any", content) if isinstance(content, list) else [content]


def _words(value: Any) -> str:
    return value if isinstance(value, str) else _to_json(value)


def _rank(kind: str) -> int:
    if kind in _TELLING:
        return _TELLING.index(kind)
    return len(_TELLING) + (kind == _LEAST_TELLING)
