"""`LLMAgent`: a Mesa agent with a language model, as users of Mesa-LLM know it.

Bridge, floor 7. What it does, others do: reasoning plans, tools act, memory keeps. Here they are
tied to an agent of Mesa, to its model's steps, and to each other.
"""

from __future__ import annotations

import asyncio
import copy
import inspect
import json
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import mesa

from llm_net.errors import UsageError
from llm_net.llm.module_llm import ModuleLLM
from llm_net.llm.waiting import run_coroutine
from llm_net.memory.memory import AnyModel
from llm_net.memory.short_long import STLTMemory
from llm_net.reasoning.gate import GATE
from llm_net.reasoning.plan import Action, Observation, Plan
from llm_net.reasoning.strategy import Reasoning
from llm_net.tools.result import ToolResult
from mesa_bridge.activation import stand_in
from mesa_bridge.observing import observe
from mesa_bridge.randomness import PlanningRandom
from mesa_bridge.recording import SimulationRecorder, record
from mesa_bridge.remembering import Remembering
from mesa_bridge.served import is_served
from mesa_bridge.toolset import ToolManager

__all__ = ["LLMAgent"]

_warned: weakref.WeakSet[Any] = weakref.WeakSet()
_MODELS_OWN = frozenset(inspect.signature(ModuleLLM).parameters)


class LLMAgent(Remembering, PlanningRandom, mesa.Agent):
    """A Mesa agent that sees, plans with a language model, and acts with tools.

    Write `step`, `astep` or both; one is enough in every way of stepping. It goes with any other
    class of Mesa's: `class Citizen(LLMAgent, CellAgent)`.

    ```python
    from mesa_bridge import LLMAgent


    class Citizen(LLMAgent):
        def step(self):
            plan = self.reasoning.plan(prompt="Decide what to do.")
            self.apply_plan(plan)
    ```

    Args:
        model: The Mesa model.
        reasoning: A class of reasoning, or anything called with `agent=` that gives one; or an
            instance without an agent, of which this agent gets a copy.
        llm_model: As in `ModuleLLM`, or such a handle, which many agents may share: its limits, its
            cassette, its budget.
        system_prompt: Who the agent is.
        vision: How far it sees, as its space measures; None or 0 for nobody, -1 for all agents.
        internal_state: What it knows of itself, in words; a list that may change. Others see it,
            but for what begins with `_`.
        step_prompt: What it is asked to do, where `plan` is given no prompt.
        api_base: Where the provider is reached.
        **kwargs: For the classes of Mesa's that it goes with, such as `space=`.

    Attributes:
        llm: The handle on the language model.
        tool_manager: What it can do.
        global_keys: Attributes of the model that it observes, by name.
    """

    global_keys: ClassVar[Sequence[str]] = ()
    _recorder: SimulationRecorder | None = None

    def __init__(  # noqa: PLR0917 - in Mesa-LLM's order
        self,
        model: Any,
        reasoning: Any,
        llm_model: AnyModel = "gemini/gemini-2.0-flash",
        system_prompt: str | None = None,
        vision: float | None = None,
        internal_state: list[str] | str | None = None,
        step_prompt: str | None = None,
        api_base: str | None = None,
        **kwargs: Any,
    ) -> None:
        try:
            super().__init__(model=model, **kwargs)
        except TypeError as error:
            if word := min(_MODELS_OWN.intersection(kwargs), default=None):
                raise UsageError(
                    f"{word}= is the language model's and not the agent's ({error}). "
                    f"Give a handle: LLMAgent(model, reasoning, ModuleLLM('…', {word}=…))."
                ) from error
            raise
        self.llm = _handle(llm_model, api_base, system_prompt)
        self.system_prompt = system_prompt
        self.step_prompt = step_prompt
        self.vision = vision
        self.internal_state: list[str] = (
            [internal_state] if isinstance(internal_state, str) else list(internal_state or ())
        )
        self.tool_manager = ToolManager()
        self.memory = STLTMemory(self)
        self.reasoning = reasoning
        self._step_display_data: dict[str, Any] = {}

    @property
    def reasoning(self) -> Any:
        """How it comes to a plan."""
        return self._reasoning

    @reasoning.setter
    def reasoning(self, reasoning: Any) -> None:
        if not isinstance(reasoning, Reasoning):
            if not callable(reasoning):
                raise UsageError(
                    f"reasoning={reasoning!r} is no way of reasoning. Give a class, such as "
                    "CoTReasoning, ReActReasoning or ReWOOReasoning."
                )
            make: Callable[..., Any] = reasoning
            reasoning = make(agent=self)
        elif reasoning.agent is not self:
            # Its plan is one agent's: two that share it would act on each other's.
            reasoning = copy.deepcopy(reasoning)
            reasoning.agent = self
        self._reasoning = reasoning

    @property
    def place_of_calls(self) -> str:
        """Under which name its model calls are entered in ledgers, and recorded."""
        return f"{type(self).__name__} {self.unique_id}"

    @property
    def recorder(self) -> SimulationRecorder | None:
        """Where what it does is recorded: one that was assigned, or the model's, if it has one."""
        return self._recorder or getattr(self.model, "recorder", None)

    @recorder.setter
    def recorder(self, recorder: SimulationRecorder | None) -> None:
        self._recorder = recorder

    @stand_in
    def step(self) -> None:
        """One step; calls `astep` if that is what was written."""
        if self._writes("astep") and not self._writes("step"):
            run_coroutine(self.astep())

    @stand_in
    async def astep(self) -> None:
        """One step; calls `step` if that is what was written, beside the event loop."""
        if self._writes("step") and not self._writes("astep"):
            await asyncio.to_thread(self.step)

    def _writes(self, word: str) -> bool:
        # Both may be written, and call these with super(): then there is nothing to stand in for.
        return getattr(type(self), word) is not getattr(LLMAgent, word)

    def generate_obs(self) -> Observation:
        """Look around, and remember what is seen."""
        self._open_memory()
        seen = observe(
            self,
            vision=self.vision,
            internal_state=self.internal_state,
            global_keys=self.global_keys,
        )
        told = {name: part for name, part in seen if name != "step"}
        self.remember("observation", {name: part for name, part in told.items() if part})
        record(self, "observation", told)
        return seen

    async def agenerate_obs(self) -> Observation:
        """As `generate_obs`, without blocking the event loop."""
        await self._aopen_memory()
        return self.generate_obs()

    def apply_plan(self, plan: Plan) -> list[dict[str, str]]:
        """Carry out the actions of a plan, in order, each once.

        Returns:
            What came of each: `name` and `response`. An error is a response, too.
        """
        self._open_memory()
        self._planned(plan)
        manager = self.tool_manager
        return [
            self._acted(action, manager.run(action.name, given, agent=self, id=action.id))
            for action, given in _calls(plan)
        ]

    async def aapply_plan(self, plan: Plan) -> list[dict[str, str]]:
        """As `apply_plan`; awaits tools that are async."""
        await self._aopen_memory()
        self._planned(plan)
        manager = self.tool_manager
        return [
            self._acted(action, await manager.arun(action.name, given, agent=self, id=action.id))
            for action, given in _calls(plan)
        ]

    def _opened(self) -> None:
        super()._opened()
        _warn_if_idle(self.model)

    def _planned(self, plan: Plan) -> None:
        if not (hasattr(plan, "thoughts") and hasattr(plan, "actions")):
            raise UsageError(
                f"{plan!r} is no plan, so there is nothing to carry out. Give what "
                "reasoning.plan() or await reasoning.aplan() returned."
            )
        self._step_display_data["plan_content"] = plan.thoughts
        record(self, "plan", plan)

    def _acted(self, action: Action, result: ToolResult) -> dict[str, str]:
        told = result.to_dict()
        self.remember("action", dict(told))
        record(self, "action", {**told, "arguments": action.arguments})
        self.reasoning.took(action, failed=result.error is not None, value=result.value)
        return told


def _handle(llm_model: AnyModel, api_base: str | None, system_prompt: str | None) -> ModuleLLM:
    if not isinstance(llm_model, ModuleLLM):
        return ModuleLLM(llm_model, api_base=api_base, system_prompt=system_prompt)
    if api_base is not None:
        raise UsageError(
            f"api_base={api_base!r} was given beside {llm_model!r}, which knows its own address "
            "already. Give it to the ModuleLLM."
        )
    return llm_model


def _calls(plan: Plan) -> Iterator[tuple[Action, Any]]:
    """The actions, each with its arguments; then the calls of its message that nobody can read."""
    for action in plan.actions:
        yield action, action.arguments
    for call in getattr(plan.llm_plan, "tool_calls", None) or ():
        given = call.function.arguments
        if not _is_json_object(given):
            # Handed on as it is, so that the agent is told what was wrong with it.
            yield Action(str(call.function.name), id=str(getattr(call, "id", "") or "")), given


def _is_json_object(text: Any) -> bool:
    try:
        return isinstance(json.loads(text or "{}"), dict)
    except (TypeError, ValueError):
        return False


def _warn_if_idle(model: Any) -> None:
    heeded = GATE.get() is not None or is_served(model)
    if heeded or getattr(model, "parallel_stepping", False) is not True or model in _warned:
        return
    _warned.add(model)
    warnings.warn(
        f"{type(model).__name__} has parallel_stepping = True, but its agents are stepped one "
        "after the other, for nothing has enabled it. Add to its __init__: "
        "enable_automatic_parallel_stepping()  # from mesa_bridge",
        stacklevel=2,
    )
