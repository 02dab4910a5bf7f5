"""`LongTermMemory`: all that was, in one bounded text.

Mind, floor 4.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from llm_net.memory.asking import Flow
from llm_net.memory.entry import MemoryEntry
from llm_net.memory.memory import AnyModel, Memory, known
from llm_net.memory.summary import Summary, condense

__all__ = ["LongTermMemory"]


@known
class LongTermMemory(Memory):
    """Remembers everything, ever more briefly the longer ago it is.

    Without a model, a step becomes a line; old lines are shortened, then left out and counted. With
    a model, it is asked after every step to write the summary anew; until it has, and if it fails,
    the lines stand.

    Args:
        agent: Whose memory it is.
        display: Whether to print the entry of each step.
        llm_model: Who writes the summary: anything that `ModuleLLM` takes. None for the rule.
        api_base: Where that model is reached.
        additive_event_types: Types of events that add up within a step, besides `message` and
            `action`.
        max_characters: How long the summary may become.

    Raises:
        UsageError: If `max_characters` is too small to tell anything.
    """

    def __init__(
        self,
        agent: Any = None,
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
        self._summary = Summary(max_characters)

    @property
    def long_term_memory(self) -> str:
        """The summary."""
        return str(self._summary)

    @property
    def dropped(self) -> int:
        """How many events the summary tells no more."""
        return super().dropped + self._summary.dropped

    def keep(self, entry: MemoryEntry) -> Flow:
        """Take the entry into the summary."""
        yield from condense(self._summary, [entry], ask=self.llm is not None)

    def format_long_term(self) -> str:
        """The summary."""
        return str(self._summary)

    def settings(self) -> dict[str, Any]:
        """The arguments that make a memory like this one."""
        return super().settings() | {"max_characters": self._summary.max_characters}

    def to_dict(self) -> dict[str, Any]:
        """Everything but the agent."""
        return super().to_dict() | {"summary": self._summary.to_dict()}

    def restore(self, plain: Mapping[str, Any]) -> None:
        """Remember what `to_dict` gave."""
        super().restore(plain)
        self._summary.restore(plain["summary"])
