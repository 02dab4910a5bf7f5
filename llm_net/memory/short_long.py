"""`STLTMemory`: the latest steps word for word, and what was before in one bounded text.

Mind, floor 4.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from llm_net.memory.asking import Flow
from llm_net.memory.entry import MemoryEntry
from llm_net.memory.memory import AnyModel, Memory, known, whole_number
from llm_net.memory.summary import Summary, condense

__all__ = ["STLTMemory"]


@known
class STLTMemory(Memory):
    """Remembers the latest steps as they were, and condenses those before: the default.

    Consolidation loses nothing: entries leave the window for the summary in one go, by rule. With a
    model, that is then asked to write the summary anew, and what arrives meanwhile is kept.

    Args:
        agent: Whose memory it is.
        short_term_capacity: How many steps are kept word for word, at least.
        consolidation_capacity: How many more may gather before they are condensed, all at once. 0
            to condense each by itself, by rule, never asking the model.
        display: Whether to print the entry of each step.
        llm_model: Who writes the summary: anything that `ModuleLLM` takes. None for the rule.
        api_base: Where that model is reached.
        additive_event_types: Types of events that add up within a step, besides `message` and
            `action`.
        max_characters: How long the summary may become.

    Raises:
        UsageError: If a capacity is no number, or `max_characters` too small to tell anything.
    """

    def __init__(  # noqa: PLR0917 - as Mesa-LLM has it
        self,
        agent: Any = None,
        short_term_capacity: int = 5,
        consolidation_capacity: int = 2,
        display: bool = False,  # noqa: FBT001, FBT002 - as Mesa-LLM has it
        llm_model: AnyModel | None = None,
        api_base: str | None = None,
        additive_event_types: Iterable[str] | None = None,
        *,
        max_characters: int = 2000,
    ) -> None:
        super().__init__(
            agent,
            display=display,
            llm_model=llm_model,
            api_base=api_base,
            additive_event_types=additive_event_types,
        )
        self.capacity = whole_number("short_term_capacity", short_term_capacity, at_least=1)
        self.consolidation_capacity = whole_number(
            "consolidation_capacity", consolidation_capacity, at_least=0
        )
        self._entries: list[MemoryEntry] = []
        self._summary = Summary(max_characters)

    @property
    def short_term_memory(self) -> tuple[MemoryEntry, ...]:
        """The entries kept word for word, the oldest first, the step under way last."""
        return tuple(self.latest())

    @property
    def long_term_memory(self) -> str:
        """The summary."""
        return str(self._summary)

    @property
    def dropped(self) -> int:
        """How many events the summary tells no more."""
        return super().dropped + self._summary.dropped

    def keep(self, entry: MemoryEntry) -> Flow:
        """Condense the oldest entries, if there are enough of them."""
        self._entries.append(entry)
        ask = self.llm is not None and self.consolidation_capacity > 0
        if moved := self._surplus():
            yield from condense(self._summary, moved, ask=ask)

    def latest(self) -> list[MemoryEntry]:
        """The entries kept word for word."""
        return [*self._entries, *super().latest()]

    def format_long_term(self) -> str:
        """The summary."""
        return str(self._summary)

    def settings(self) -> dict[str, Any]:
        """The arguments that make a memory like this one."""
        return super().settings() | {
            "short_term_capacity": self.capacity,
            "consolidation_capacity": self.consolidation_capacity,
            "max_characters": self._summary.max_characters,
        }

    def to_dict(self) -> dict[str, Any]:
        """Everything but the agent."""
        entries = [entry.to_dict() for entry in self._entries]
        return super().to_dict() | {"entries": entries, "summary": self._summary.to_dict()}

    def restore(self, plain: Mapping[str, Any]) -> None:
        """Remember what `to_dict` gave."""
        super().restore(plain)
        self._entries = [MemoryEntry.from_dict(each) for each in plain["entries"]]
        self._summary.restore(plain["summary"])
        self._summary.take(self._surplus())  # of a memory with more room

    def _surplus(self) -> list[MemoryEntry]:
        """Take the oldest entries out of the window, once it is full."""
        excess = len(self._entries) - self.capacity - self.consolidation_capacity
        count = max(excess, self.consolidation_capacity) if excess > 0 else 0
        moved, self._entries = self._entries[:count], self._entries[count:]
        return moved
