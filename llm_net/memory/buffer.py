"""`StepBuffer`: what happens in a step, until the step is an entry.

Mind, floor 1. Knows entries. Nothing that is added is lost between two steps, whoever adds it and
from whatever thread; a step that was opened and never closed, for its agent failed, is closed when
the next one is opened.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterable, Mapping
from typing import Any

from llm_net.memory.entry import MemoryEntry
from llm_net.snapshot import jsonable

__all__ = ["EVENTS_PER_STEP", "StepBuffer"]

EVENTS_PER_STEP = 1000
"""Events of one type that a step remembers; of more, the latest."""


class StepBuffer:
    """The events of the step that is under way.

    Args:
        additive: Types of events that add up within a step, like messages and actions; of others,
            the latest counts.

    Attributes:
        is_open: Whether a step has been opened, and not closed yet.
        dropped: How many events were too many for their step.
    """

    def __init__(self, additive: Iterable[str] = ()) -> None:
        self.additive = frozenset({"message", "action", *additive})
        self.is_open = False
        self.dropped = 0
        self._step = 0
        self._before: dict[str, Any] = {}  # what had come when the step was opened
        self._since: dict[str, Any] = {}
        self._lock = threading.Lock()

    def add(self, kind: str, content: Any) -> None:
        """Something happened."""
        event = jsonable(content)
        with self._lock:
            self._merge(self._since, {kind: [event] if kind in self.additive else event})

    def open(self, step: int) -> None:
        """The step begins: what has come so far is what its agent knows of it."""
        with self._lock:
            self._merge(self._before, self._since)
            self._since = {}
            self._step, self.is_open = step, True

    def close(self, step: int) -> MemoryEntry | None:
        """The step is over; None if nothing happened in it.

        Args:
            step: Which, if it was never opened.
        """
        with self._lock:
            content, self._before = self._before, {}
            self._merge(content, self._since)
            self._since = {}
            opened, self.is_open = self.is_open, False
        return MemoryEntry(content, self._step if opened else step) if content else None

    def current(self) -> MemoryEntry | None:
        """What the agent knows of the step that is not over; None if that is nothing.

        Of a step that is open, this is what had come when it was opened: what came since is in
        the prompt already, or is for the next step.
        """
        with self._lock:
            known = self._before if self.is_open else self._since
            return MemoryEntry(copy.deepcopy(known)) if known else None

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON has it."""
        with self._lock:
            return {
                "before": copy.deepcopy(self._before),
                "since": copy.deepcopy(self._since),
                "open": self._step if self.is_open else None,
                "dropped": self.dropped,
            }

    def restore(self, plain: Mapping[str, Any]) -> None:
        """Hold what `to_dict` gave, and nothing else."""
        with self._lock:
            self._before = copy.deepcopy(plain["before"])
            self._since = copy.deepcopy(plain["since"])
            self.is_open = plain["open"] is not None
            self._step = plain["open"] or 0
            self.dropped = plain["dropped"]

    def _merge(self, into: dict[str, Any], events: Mapping[str, Any]) -> None:
        for kind, content in events.items():
            if kind not in self.additive:
                into[kind] = content
                continue
            line = into.setdefault(kind, [])
            line += content
            if (excess := len(line) - EVENTS_PER_STEP) > 0:
                self.dropped += excess
                del line[:excess]

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            return copy.deepcopy({k: v for k, v in vars(self).items() if k != "_lock"})

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._lock = threading.Lock()
