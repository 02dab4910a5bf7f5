"""`ShortTermMemory`: the latest steps, word for word.

Mind, floor 4. Asks no model.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from llm_net.memory.asking import Flow
from llm_net.memory.entry import MemoryEntry
from llm_net.memory.memory import Memory, known, whole_number

__all__ = ["ShortTermMemory"]


@known
class ShortTermMemory(Memory):
    """Remembers the latest steps, and nothing of what was before.

    Args:
        agent: Whose memory it is.
        n: How many steps.
        display: Whether to print the entry of each step.
        additive_event_types: Types of events that add up within a step, besides `message` and
            `action`.

    Raises:
        UsageError: If `n` is no number of steps.
    """

    def __init__(
        self,
        agent: Any = None,
        n: int = 5,
        display: bool = False,  # noqa: FBT001, FBT002 - as Mesa-LLM has it
        additive_event_types: Iterable[str] | None = None,
    ) -> None:
        super().__init__(agent, display=display, additive_event_types=additive_event_types)
        self.n = whole_number("n", n, at_least=1)
        self._entries: deque[MemoryEntry] = deque()
        self._dropped = 0

    @property
    def short_term_memory(self) -> tuple[MemoryEntry, ...]:
        """The entries, the oldest first, the step under way last."""
        return tuple(self.latest())

    @property
    def dropped(self) -> int:
        """How many events were too long ago, or too many for their step."""
        return super().dropped + self._dropped

    def keep(self, entry: MemoryEntry) -> Flow:
        """Forget the oldest entry, if there are too many."""
        self._entries.append(entry)
        self._forget()
        yield from ()

    def latest(self) -> list[MemoryEntry]:
        """All that is remembered."""
        return [*self._entries, *super().latest()]

    def settings(self) -> dict[str, Any]:
        """The arguments that make a memory like this one."""
        shared = super().settings()
        return {"n": self.n} | {key: shared[key] for key in ("display", "additive_event_types")}

    def to_dict(self) -> dict[str, Any]:
        """Everything but the agent."""
        entries = [entry.to_dict() for entry in self._entries]
        return super().to_dict() | {"entries": entries, "forgotten": self._dropped}

    def restore(self, plain: Mapping[str, Any]) -> None:
        """Remember what `to_dict` gave."""
        super().restore(plain)
        self._entries = deque(map(MemoryEntry.from_dict, plain["entries"]))
        self._dropped = plain["forgotten"]
        self._forget()

    def _forget(self) -> None:
        while len(self._entries) > self.n:
            self._dropped += len(self._entries.popleft().events())
