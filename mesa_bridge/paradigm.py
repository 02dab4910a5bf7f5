"""How an agent's step is put together: observe, plan, act.

Bridge, floor 4. By overriding methods (`ClassBasedParadigm`), or by functions beside a Mesa class
that stays as it is (`FunctionBasedParadigm`).

Source: the proposal that Mesa-LLM began with.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self, TypeAlias, cast

from llm_net.errors import UsageError
from llm_net.llm.module_llm import ModuleLLM
from llm_net.memory.memory import Memory
from llm_net.memory.short_long import STLTMemory
from llm_net.reasoning.cot import CoTReasoning
from llm_net.reasoning.plan import Observation, Plan
from llm_net.reasoning.strategy import Reasoning
from llm_net.tools.manager import ToolManager
from mesa_bridge import observing, versions

__all__ = ["Attachment", "ClassBasedParadigm", "FunctionBasedParadigm", "Mind", "Paradigm"]

Observe: TypeAlias = Callable[[Any], Observation]
Act: TypeAlias = Callable[[Any, Plan], Any]


class Mind:
    """What a strategy needs, for a Mesa agent that has none of it.

    Args:
        body: The agent; tools act on it.
        llm: Its model; anything that `ModuleLLM` takes.
        tools: What it may call.
        memory: What it keeps; a class or an instance.
        system_prompt: Who it is.
        step_prompt: What it is asked each step.
        observe: What it sees.
    """

    def __init__(
        self,
        body: Any,
        *,
        llm: Any,
        tools: ToolManager | Iterable[Any] = (),
        memory: Memory | type[Memory] = STLTMemory,
        system_prompt: str | None = None,
        step_prompt: str | None = None,
        observe: Observe = observing.observe,
    ) -> None:
        self.body = body
        self.llm = llm if isinstance(llm, ModuleLLM) else ModuleLLM(llm)
        self.tool_manager = tools if isinstance(tools, ToolManager) else ToolManager(tools)
        self.memory = memory() if isinstance(memory, type) else memory
        self.system_prompt = system_prompt
        self.step_prompt = step_prompt
        self._observe = observe

    @property
    def memory_step(self) -> int:
        """The model's step, under which memories are kept."""
        return versions.steps(self.body.model)

    def generate_obs(self) -> Observation:
        """What the agent sees now; it is remembered."""
        observation = self._observe(self.body)
        self.memory.agent = self
        self.memory.process_step(pre_step=True)
        self.memory.add_to_memory("observation", observation.model_dump())
        return observation


class Paradigm:
    """One step of an agent: observe, plan, act.

    Args:
        agent: A Mesa agent; unless `observe` and `action` are overridden it needs `reasoning`.
    """

    def __init__(self, agent: Any) -> None:
        self.agent = agent

    @property
    def reasoning(self) -> Reasoning:
        """What makes the plans: the agent's."""
        found: Reasoning = self.agent.reasoning
        return found

    def step(self) -> list[Any]:
        """Observe, plan, act; gives what acting gave."""
        plan = self.reasoning.plan(obs=self.observe())
        return self.action(plan)

    async def astep(self) -> list[Any]:
        """As `step`, without blocking the event loop."""
        plan = await self.reasoning.aplan(obs=self.observe())
        return self.action(plan)

    def observe(self) -> Observation:
        """What the agent sees now; by default what it generates itself, or what is near it."""
        look = getattr(self.agent, "generate_obs", None)
        observation: Observation = observing.observe(self.agent) if look is None else look()
        return observation

    def action(self, plan: Plan) -> list[Any]:
        """Carry the plan out; by default its actions, as tools, each once."""
        apply = getattr(self.agent, "apply_plan", None)
        if apply is not None:
            return list(apply(plan))
        results: list[Any] = []
        for each in plan.actions:
            manager = self.agent.tool_manager
            result = manager.run(each.name, each.arguments, agent=self.agent, id=each.id)
            self.reasoning.took(each, failed=result.error is not None, value=result.value)
            results.append(result.to_dict())
        return results


class ClassBasedParadigm(Paradigm):
    """A step whose parts are methods: override `observe`, `action`, or both."""


class FunctionBasedParadigm(Paradigm):
    """A step whose parts are functions, beside an agent whose class stays as it is.

    Args:
        agent: A Mesa agent.
        action: Carries a plan out: `action(agent, plan)`.
        observe: What the agent sees: `observe(agent)`; None for what is near it.
        reasoning: What makes the plans; None for the agent's own.
    """

    def __init__(
        self,
        agent: Any,
        action: Act,
        observe: Observe | None = None,
        reasoning: Reasoning | None = None,
    ) -> None:
        super().__init__(agent)
        self._action = action
        self._observe = observe
        self._reasoning = reasoning

    @property
    def reasoning(self) -> Reasoning:
        """What makes the plans."""
        return super().reasoning if self._reasoning is None else self._reasoning

    def observe(self) -> Observation:
        """What the function says, or what is near the agent."""
        thinker = None if self._reasoning is None else self._reasoning.agent
        if isinstance(thinker, Mind):
            return thinker.generate_obs()
        return super().observe() if self._observe is None else self._observe(self.agent)

    def action(self, plan: Plan) -> list[Any]:
        """Let the function act; what it gives, as a list."""
        given: Any = self._action(self.agent, plan)
        if given is None:
            return []
        return list(cast("Any", given)) if isinstance(given, (list, tuple)) else [given]

    @classmethod
    def attach(
        cls,
        agent_class: type,
        *,
        action: Act,
        observe: Observe | None = None,
        reasoning: type[Reasoning] | Callable[[], Reasoning] = CoTReasoning,
        method: str = "step",
        **mind: Any,
    ) -> Attachment:
        """Drive the agents of a Mesa class from now on, those that exist and those to come.

        The class keeps its name and everything else; `detach` on the result, or the end of a `with`
        block, gives it its own step back.

        Args:
            agent_class: The class, unchanged.
            action: Carries a plan out: `action(agent, plan)`.
            observe: What an agent sees: `observe(agent)`; None for what is near it.
            reasoning: Makes a strategy for each agent.
            method: The method that is replaced.
            **mind: What each agent thinks with: `llm`, `tools`, `memory`, `system_prompt`,
                `step_prompt`.

        Raises:
            UsageError: If the class has no such method, or is attached already.
        """

        def paradigm(agent: Any) -> FunctionBasedParadigm:
            # A plain attribute: it pickles and copies with the agent, memory and all.
            found: FunctionBasedParadigm | None = agent.__dict__.get(_ATTRIBUTE)
            if found is None:
                thinker = Mind(agent, observe=observe or observing.observe, **mind)
                strategy = reasoning()
                strategy.agent = thinker
                found = cls(agent, action, observe, strategy)
                agent.__dict__[_ATTRIBUTE] = found
            found._action = action
            return found

        return Attachment(agent_class, method, paradigm)


_ATTRIBUTE = "_mesa_bridge_paradigm"


class Attachment:
    """A Mesa class whose agents are driven by a paradigm; ends with `detach`, or as a `with` block.

    Made by `FunctionBasedParadigm.attach`.
    """

    def __init__(
        self, agent_class: type, method: str, paradigm: Callable[[Any], FunctionBasedParadigm]
    ) -> None:
        own: Any = inspect.getattr_static(agent_class, method, None)
        if own is None:
            raise UsageError(
                f"{agent_class.__name__} has no method {method!r} that could be driven. "
                "Name the one that its model calls: attach(…, method='…')."
            )
        if getattr(own, "mesa_bridge_attached", False):
            raise UsageError(
                f"{agent_class.__name__}.{method} is attached already. Detach that first: "
                "attachment.detach()."
            )

        @functools.wraps(own)
        def step(agent: Any) -> list[Any]:
            return paradigm(agent).step()

        @functools.wraps(own)
        async def astep(agent: Any) -> list[Any]:
            return await paradigm(agent).astep()

        self._class = agent_class
        self._before: dict[str, Any] = {}
        for name, driven in ((method, step), (f"a{method}", astep)):
            driven.__dict__["mesa_bridge_attached"] = True
            if name in agent_class.__dict__:
                self._before[name] = agent_class.__dict__[name]
            setattr(agent_class, name, driven)
        self._names: tuple[str, ...] = (method, f"a{method}")

    def detach(self) -> None:
        """Give the class its own methods back; again does nothing."""
        for name in self._names:
            if name in self._before:
                setattr(self._class, name, self._before[name])
            elif name in self._class.__dict__:
                delattr(self._class, name)
        self._names = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.detach()
