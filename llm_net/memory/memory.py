"""`Memory`: what an agent keeps of what happens to it, and how it tells it to a model.

Mind, floor 3. Half written: what happens in a step is gathered here, what becomes of the entry of a
step that is over is the business of the classes above. A memory holds data only; its agent it knows
as long as somebody else holds that.
"""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias, TypeVar, cast

from pydantic import GetCoreSchemaHandler
from pydantic_core import core_schema

from llm_net.errors import UsageError
from llm_net.llm.model import Model, shorten
from llm_net.llm.module_llm import ModuleLLM
from llm_net.llm.scripted import ModelFunction
from llm_net.memory.asking import Flow, adrive, drive
from llm_net.memory.buffer import StepBuffer
from llm_net.memory.entry import MemoryEntry

__all__ = ["AnyModel", "Memory", "known", "whole_number"]

AnyModel: TypeAlias = str | ModelFunction | Model | ModuleLLM
"""What may be given as `llm_model`."""

M = TypeVar("M", bound="Memory")

_known: dict[str, type[Memory]] = {}


def known(kind: type[M]) -> type[M]:
    """Let a class be found by its name, where a memory is read from JSON; a class decorator."""
    _known[kind.__name__] = kind
    return kind


class Memory(ABC):
    """What an agent remembers.

    Things that happen are added, by type; `process_step(pre_step=True)` begins a step,
    `process_step()` ends it and makes an entry of what happened. What comes between two steps
    belongs to the next one.

    To write a memory of your own, override `keep` (what becomes of an entry), `format_long_term`
    and `latest` (what is told), and, to have it saved, `settings`, `to_dict` and `restore`.

    Args:
        agent: Whose memory it is. It is not kept alive, copied or pickled: whoever owns a copy sets
            `memory.agent`.
        display: Whether to print the entry of each step.
        llm_model: Who condenses or grades: anything that `ModuleLLM` takes. None for a rule.
        api_base: Where that model is reached.
        additive_event_types: Types of events that add up within a step, besides `message` and
            `action`; of others, the latest is kept.

    Attributes:
        llm: The model; None if there is none.
        calls: How often it was asked.
        failed_calls: How often it failed, and the rule did its work.
    """

    def __init__(
        self,
        agent: Any = None,
        *,
        display: bool = False,
        llm_model: AnyModel | None = None,
        api_base: str | None = None,
        additive_event_types: Iterable[str] | None = None,
    ) -> None:
        self._agent: weakref.ref[Any] | None = None
        self.agent = agent
        self.display = display
        self.llm: ModuleLLM | None = None
        if isinstance(llm_model, ModuleLLM):
            self.llm = llm_model
        elif llm_model is not None:
            self.llm = ModuleLLM(llm_model, api_base)
        self._named_llm = self.llm if isinstance(llm_model, str) else None
        self.calls = 0
        self.failed_calls = 0
        self._buffer = StepBuffer(additive_event_types or ())
        self._steps = 0

    @property
    def agent(self) -> Any:
        """Whose memory it is; None if nobody's, or if that agent is gone."""
        return None if self._agent is None else self._agent()

    @agent.setter
    def agent(self, agent: Any) -> None:
        self._agent = None if agent is None else weakref.ref(agent)

    @property
    def dropped(self) -> int:
        """How many events the bounds have pushed out of all that is told."""
        return self._buffer.dropped

    @property
    def now(self) -> int:
        """The step that is under way: the agent's `memory_step`, else a count of its own."""
        step = getattr(self.agent, "memory_step", None)
        return self._steps + 1 if step is None else int(step)

    # -- what happens

    def add_to_memory(self, type: str, content: Any) -> None:  # noqa: A002 - Mesa-LLM's word
        """Something happened.

        Args:
            type: Of what type it is: `message`, `action`, `observation`, `plan`, or any other.
            content: What it was; a copy is kept, in words of JSON.
        """
        self._buffer.add(type, content)

    async def aadd_to_memory(self, type: str, content: Any) -> None:  # noqa: A002
        """As `add_to_memory`: it asks no model, and so never waits."""
        self.add_to_memory(type, content)

    def process_step(self, pre_step: bool = False) -> None:  # noqa: FBT001, FBT002 - as Mesa-LLM has it
        """Begin or end a step; may ask the model.

        Args:
            pre_step: Whether it begins. One that has begun and not ended is ended first.

        Raises:
            ModelError: If the model cannot be asked at all; nothing is lost by that.
        """
        drive(self._process(pre_step=pre_step), self)

    async def aprocess_step(self, pre_step: bool = False) -> None:  # noqa: FBT001, FBT002
        """As `process_step`, without blocking the event loop."""
        await adrive(self._process(pre_step=pre_step), self)

    def _process(self, *, pre_step: bool) -> Flow:
        entry: MemoryEntry | None = None
        if self._buffer.is_open or not pre_step:
            entry = self._buffer.close(self.now)
            self._steps += 1
        if pre_step:
            self._buffer.open(self.now)
        if entry is not None:
            if self.display:
                print(f"{_name(self.agent)}: {entry}")  # noqa: T201 - asked for
            yield from self.keep(entry)

    @abstractmethod
    def keep(self, entry: MemoryEntry) -> Flow:
        """A step is over: keep its entry. Yields what is to be asked of the model, if anything."""

    # -- what is told

    def latest(self) -> list[MemoryEntry]:
        """What is remembered word for word, the oldest first, the step under way last."""
        current = self._buffer.current()
        return [] if current is None else [current]

    def focus(self, query: str) -> None:  # noqa: B027 - for those that choose
        """What will be told next should have to do with this; here, that changes nothing."""

    def format_long_term(self) -> str:
        """What is told of what is long ago; empty if there is nothing."""
        return ""

    def format_short_term(self) -> str:
        """What is told word for word, a line for each event; empty if there is nothing."""
        return "\n".join(map(str, self.latest()))

    def get_prompt_ready(self) -> str:
        """All of it, for a prompt; empty if there is nothing."""
        parts = {"Long-term memory": self.format_long_term(), "Recent": self.format_short_term()}
        return "\n\n".join(f"{title}:\n{text}" for title, text in parts.items() if text)

    def get_communication_history(self) -> str:
        """Who said what, a line for each message that is remembered word for word."""
        return "\n".join(line for entry in self.latest() for line in entry.messages())

    # -- saved and read again

    def settings(self) -> dict[str, Any]:
        """The arguments that make a memory like this one, as JSON has them.

        A model that was not given by its name is none of them.
        """
        named = None if self.llm is None or self.llm is not self._named_llm else self.llm
        return {
            "display": self.display,
            "llm_model": None if named is None else named.llm_model,
            "api_base": None if named is None else named.api_base,
            "additive_event_types": sorted(self._buffer.additive),
        }

    def to_dict(self) -> dict[str, Any]:
        """Everything but the agent, as JSON has it; what is under way, too."""
        return {
            "kind": type(self).__name__,
            "settings": self.settings(),
            "steps": self._steps,
            "calls": self.calls,
            "failed_calls": self.failed_calls,
            "buffer": self._buffer.to_dict(),
        }

    def restore(self, plain: Mapping[str, Any]) -> None:
        """Remember what `to_dict` gave, and nothing else. Settings and agent stay as they are."""
        self._steps = plain["steps"]
        self.calls = plain["calls"]
        self.failed_calls = plain["failed_calls"]
        self._buffer.restore(plain["buffer"])

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_agent"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _agent=None)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {_name(self.agent)}, {self._steps} steps>"

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        """A field of this type holds a memory; in JSON it is what `to_dict` gives."""
        return core_schema.no_info_plain_validator_function(
            cls._read,
            serialization=core_schema.plain_serializer_function_ser_schema(
                _plain, return_schema=core_schema.dict_schema()
            ),
            json_schema_input_schema=core_schema.dict_schema(),
        )

    @classmethod
    def _read(cls, value: Any) -> Memory:
        """A memory as it is, or again from its JSON; raises ValueError, as pydantic expects."""
        if isinstance(value, cls):
            return value
        plain: dict[str, Any] = cast("Any", value) if isinstance(value, dict) else {}
        kind = _known.get(plain.get("kind", ""))
        if kind is None or not issubclass(kind, cls):
            names = ", ".join(name for name, each in _known.items() if issubclass(each, cls))
            raise ValueError(
                f"{shorten(f'{value}')} is no {cls.__name__}: neither an object of "
                f"that class, nor the JSON of one of a known kind ({names or 'there is none'}). "
                "Give one, or what to_dict() gave; decorate a class of your own with `known`."
            )
        try:
            memory = kind(**plain["settings"])
            memory.restore(plain)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"The JSON of this {kind.__name__} cannot be read: {error!r}. It is damaged, or "
                "another version wrote it. Give what to_dict() gave."
            ) from error
        return memory


def whole_number(name: str, value: Any, *, at_least: int) -> int:
    """A setting that counts something; raises UsageError if it does not."""
    if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
        raise UsageError(
            f"{name}={value!r} is no number of entries. A memory is bounded by whole numbers. "
            f"Give one, at least {at_least}."
        )
    return value


def _plain(memory: Memory) -> dict[str, Any]:
    return memory.to_dict()


def _name(agent: Any) -> str:
    """How people know an agent: its path, its name, or its number in Mesa."""
    found = (getattr(agent, word, None) for word in ("path", "name", "unique_id"))
    return next((str(each) for each in found if each is not None), "nobody")
