"""What a strategy may need while it plans, and the two ways to give it: blocking and awaiting.

Mind, floor 4. A strategy is a generator that yields needs and is sent the answers. `drive` and
`adrive` give them; a test may give them itself, without any model.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, cast

from llm_net.llm.model import ChatDict
from llm_net.llm.module_llm import ModuleLLM
from llm_net.reasoning.plan import Action, Observation, Plan

__all__ = ["Act", "Ask", "Flow", "Need", "Remember", "Task", "Thinker", "adrive", "drive"]


class Thinker(Protocol):
    """What a strategy needs of its agent; any agent will do that has these."""

    llm: Any
    memory: Any
    tool_manager: Any
    system_prompt: str | None
    step_prompt: str | None

    # And, if it has one, `place_of_calls`: the name under which its calls are entered in ledgers.

    def generate_obs(self) -> Observation:
        """What the agent sees now."""
        ...


@dataclass(frozen=True, kw_only=True)
class Ask:
    """A question to the agent's model; answered with its completion."""

    prompt: str | Sequence[str] | None = None
    system_prompt: str | None = None
    messages: Sequence[ChatDict] = ()
    tools: Sequence[Mapping[str, Any]] = ()
    tool_choice: str | None = None

    def words(self) -> dict[str, Any]:
        """The keyword arguments of `generate`; what is not needed is not said."""
        words: dict[str, Any] = {"prompt": self.prompt, "system_prompt": self.system_prompt}
        if self.messages:
            words["messages"] = list(self.messages)
        if self.tools:
            words |= {"tool_schema": list(self.tools), "tool_choice": self.tool_choice}
        return words


@dataclass(frozen=True)
class Act:
    """A tool to run now; answered with its `ToolResult`."""

    action: Action


@dataclass(frozen=True)
class Remember:
    """Something for the agent's memory; answered with None."""

    kind: str
    content: Mapping[str, Any]


Need: TypeAlias = Ask | Act | Remember
Flow: TypeAlias = Generator[Need, Any, Plan]


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is to be planned.

    Attributes:
        prompt: What the agent is asked to do.
        obs: What it sees.
        ttl: Steps that the plan is to live.
        selected_tools: The tools that may be planned; None for all.
        tool_calls: `auto`, `none`, `required`, or None for the provider's default.
        tools: Their schemas, as chat-completion dicts.
    """

    prompt: str
    obs: Observation
    ttl: int = 1
    selected_tools: Sequence[str] | None = None
    tool_calls: str | None = "auto"
    tools: Sequence[Mapping[str, Any]] = ()

    @property
    def may_act(self) -> bool:
        """Whether any tool may be called."""
        return bool(self.tools) and self.tool_calls != "none"


def drive(flow: Flow, agent: Any) -> Plan:
    """Give a strategy what it needs, in blocking code."""
    answer: Any = None  # a generator's first send must be None
    while True:
        try:
            need = flow.send(answer)
        except StopIteration as done:
            return cast("Plan", done.value)
        answer = _give(need, agent)


def _give(need: Need, agent: Any) -> Any:
    match need:
        case Ask():
            return agent.llm.generate(**_words(need, agent))
        case Act(action):
            manager = agent.tool_manager
            return manager.run(action.name, action.arguments, agent=_body(agent), id=action.id)
        case Remember(kind, content):
            return None if agent.memory is None else agent.memory.add_to_memory(kind, dict(content))


async def adrive(
    flow: Flow, agent: Any, watch: Callable[[Need, Any], Awaitable[None]] | None = None
) -> Plan:
    """Give a strategy what it needs, without blocking the event loop.

    Args:
        flow: The strategy at work.
        agent: Whose model, tools and memory are used.
        watch: Awaited with each need and its answer.
    """
    answer: Any = None
    while True:
        try:
            need = flow.send(answer)
        except StopIteration as done:
            return cast("Plan", done.value)
        given = _agive(need, agent)
        answer = None if given is None else await given
        if watch is not None:
            await watch(need, answer)


def _agive(need: Need, agent: Any) -> Awaitable[Any] | None:
    given: Awaitable[Any] | None = None
    match need:
        case Ask():
            given = agent.llm.agenerate(**_words(need, agent))
        case Act(action):
            manager = agent.tool_manager
            given = manager.arun(action.name, action.arguments, agent=_body(agent), id=action.id)
        case Remember(kind, content):
            if agent.memory is not None:
                given = agent.memory.aadd_to_memory(kind, dict(content))
    return given


def _words(question: Ask, agent: Any) -> dict[str, Any]:
    words = question.words()
    place = getattr(agent, "place_of_calls", "")
    if place and isinstance(agent.llm, ModuleLLM):  # another's handle may not know the word
        words["place"] = f"{place}:plan"
    return words


def _body(agent: Any) -> Any:
    """Whom tools act on: the agent itself, unless it thinks for another."""
    return getattr(agent, "body", agent)
