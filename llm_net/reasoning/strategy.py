"""What all ways of reasoning share: the words, and the life of a plan.

Mind, floor 5. A plan of step s that lives n steps is asked for once, and answers for n steps.
"""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, ClassVar, cast

from llm_net.llm.model import AssistantMessage, ToolCall
from llm_net.llm.waiting import run_coroutine
from llm_net.reasoning.gate import through, through_async
from llm_net.reasoning.needs import Ask, Flow, Task, adrive, drive
from llm_net.reasoning.plan import Action, Observation, Plan
from llm_net.reasoning.prompts import EXECUTOR
from llm_net.reasoning.reading import Answer, Exchange, ask

__all__ = ["Reasoning", "as_message", "finished"]


class Reasoning:
    """A way to come from an observation to a plan.

    Write a strategy of your own as a generator, `flow(task)`, and it works in blocking code, in
    coroutines and in tests. Or override `plan`, `aplan` or both.

    Planning changes nothing in the world: only tools marked `@tool(reads=True)` run meanwhile, all
    others are put into the plan. (An agent with `acts_while_planning` lets all run.)

    A plan that was made in step s with a `ttl` of n answers later calls in the steps s+1 to s+n-1,
    without a model. Each of its actions is handed out once. It dies early if an action fails, or
    if one of its tools is not selected any more.

    Args:
        agent: Who plans; it needs `llm`, `memory`, `tool_manager`, `system_prompt`, `step_prompt`
            and `generate_obs`.
    """

    one_by_one: ClassVar[bool] = False
    """Whether one action is handed out a step; else all in the first."""

    def __init__(self, agent: Any = None) -> None:
        self.agent = agent
        self._plan: Plan | None = None
        self._left: list[Action] = []

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # Whoever writes these by hand passes the gate, too.
        if "plan" in cls.__dict__:
            setattr(cls, "plan", _gated(cls.plan))  # noqa: B010 - a method is not assigned otherwise
        if "aplan" in cls.__dict__:
            setattr(cls, "aplan", _agated(cls.aplan))  # noqa: B010

    def plan(
        self,
        prompt: str | None = None,
        obs: Observation | None = None,
        ttl: int = 1,
        selected_tools: Sequence[str] | None = None,
        tool_calls: str | None = "auto",
    ) -> Plan:
        """Make a plan, or go on with the one that lives.

        Args:
            prompt: What to do; None for the agent's `step_prompt`.
            obs: What the agent sees; None to let it look (`generate_obs`).
            ttl: Steps that the plan is to live.
            selected_tools: The tools it may use, by name: None for all, `[]` for none.
            tool_calls: `auto`, `none`, `required`, or None for the provider's default.

        Raises:
            ValueError: If there is neither a prompt nor a `step_prompt`.
            UsageError: If a selected tool does not exist.
            ModelError: If the model could not be asked.
        """
        prompt = self.prompted(prompt)
        if not self.has_flow and type(self).aplan is not Reasoning.aplan:
            return run_coroutine(self.aplan(prompt, obs, ttl, selected_tools, tool_calls))
        seen = self.agent.generate_obs() if obs is None else obs  # before the gate: it looks around
        words = (prompt, seen, ttl, selected_tools, tool_calls)
        return through(self, functools.partial(self._driven, words))

    async def aplan(
        self,
        prompt: str | None = None,
        obs: Observation | None = None,
        ttl: int = 1,
        selected_tools: Sequence[str] | None = None,
        tool_calls: str | None = "auto",
    ) -> Plan:
        """As `plan`, without blocking the event loop."""
        prompt = self.prompted(prompt)
        if not self.has_flow and type(self).plan is not Reasoning.plan:
            # A strategy that only blocks: beside the loop, not in it.
            return await asyncio.to_thread(self.plan, prompt, obs, ttl, selected_tools, tool_calls)
        seen = await _observed(self.agent) if obs is None else obs
        words = (prompt, seen, ttl, selected_tools, tool_calls)
        return await through_async(self, functools.partial(self._adriven, words))

    def flow(self, task: Task) -> Flow:  # noqa: ARG002 - for those who override it
        """Make the plan: yield what it needs, return it. Strategies override this."""
        raise NotImplementedError(
            f"{type(self).__name__} does not say how it plans: give it flow(task), or plan()."
        )
        yield

    def execute_tool_call(
        self,
        chaining_message: str,
        selected_tools: Sequence[str] | None = None,
        ttl: int = 1,
        tool_calls: str | None = "auto",
    ) -> Plan:
        """Turn a decision that stands in a text into calls of tools, with one model call."""
        task = self._decision(chaining_message, selected_tools, ttl, tool_calls)
        return drive(self._carried_out(task), self.agent)

    async def aexecute_tool_call(
        self,
        chaining_message: str,
        selected_tools: Sequence[str] | None = None,
        ttl: int = 1,
        tool_calls: str | None = "auto",
    ) -> Plan:
        """As `execute_tool_call`, without blocking the event loop."""
        task = self._decision(chaining_message, selected_tools, ttl, tool_calls)
        return await adrive(self._carried_out(task), self.agent)

    def executed(self, decision: str, task: Task) -> Exchange:
        """Ask the model to call the tools that do what was decided; it need not say anything."""
        question = Ask(
            prompt=decision, system_prompt=EXECUTOR, tools=task.tools, tool_choice=task.tool_calls
        )
        return (yield from ask(question, task, self.agent.tool_manager, silent=True))

    def _decision(
        self, text: str, selected_tools: Sequence[str] | None, ttl: int, tool_calls: str | None
    ) -> Task:
        step = int(getattr(self.agent, "memory_step", None) or 0)
        return Task(
            prompt=text,
            obs=Observation(step),
            ttl=ttl,
            selected_tools=selected_tools,
            tool_calls=tool_calls,
            tools=self._schemas(selected_tools),
        )

    def _carried_out(self, task: Task) -> Flow:
        answer = yield from self.executed(task.prompt, task)
        return finished(task, task.prompt, answer)

    def _schemas(self, selected_tools: Sequence[str] | None) -> tuple[Any, ...]:
        manager = getattr(self.agent, "tool_manager", None)
        if manager is None:
            return ()
        # Read only: a copy of all schemas for each plan would cost more than the rest of it.
        offers = getattr(manager, "offers", manager.get_all_tools_schema)
        return tuple(offers(selected_tools))

    def took(self, action: Action, *, failed: bool, value: Any = None) -> None:  # noqa: ARG002 - strategies use it
        """An action of the plan has been carried out; if it failed, the plan's life is over.

        Whoever carries plans out calls this after each action.

        Args:
            action: As the plan had it.
            failed: Whether its tool refused or raised.
            value: What the tool gave.
        """
        if failed and self._plan is not None and action.id in {a.id for a in self._plan.actions}:
            self.end_plan()

    def end_plan(self) -> None:
        """Plan anew at the next call."""
        self._plan, self._left = None, []

    @property
    def has_flow(self) -> bool:
        """Whether the strategy is written as a generator."""
        return type(self).flow is not Reasoning.flow

    def prompted(self, prompt: str | None) -> str:
        """The prompt, or the agent's step prompt; raises ValueError if there is neither."""
        found = getattr(self.agent, "step_prompt", None) if prompt is None else prompt
        if found is None:
            raise ValueError(
                "Nothing to plan for: no prompt was given, and the agent's step_prompt is None. "
                "Give plan(prompt=…), or the agent a step_prompt."
            )
        return str(found)

    def planned(
        self,
        prompt: str,
        obs: Observation,
        ttl: int = 1,
        selected_tools: Sequence[str] | None = None,
        tool_calls: str | None = "auto",
    ) -> Flow:
        """What `plan` and `aplan` drive: the plan that lives, or a new one from `flow`."""
        held = self._held(obs.step, selected_tools)
        if held is not None:
            return held
        self.end_plan()
        plan = yield from self.flow(
            Task(
                prompt=prompt,
                obs=obs,
                ttl=ttl,
                selected_tools=selected_tools,
                tool_calls=tool_calls,
                tools=self._schemas(selected_tools),
            )
        )
        return self._hold(plan)

    def _driven(self, words: tuple[Any, ...]) -> Plan:
        return drive(self.planned(*words), self.agent)

    def _adriven(self, words: tuple[Any, ...]) -> Awaitable[Plan]:
        return adrive(self.planned(*words), self.agent)

    def _hold(self, plan: Plan) -> Plan:
        """Keep the plan for the steps to come; gives what is to be done in this one."""
        if self.one_by_one:
            plan.ttl = max(plan.ttl, len(plan.actions))
        self._plan, self._left = plan, list(plan.actions)
        return self._next(plan.step)

    def _held(self, step: int, selected_tools: Sequence[str] | None) -> Plan | None:
        """What the plan that lives says for this step; None if none lives."""
        plan = self._plan
        if plan is None or not plan.step < step < plan.step + plan.ttl:
            return None
        if selected_tools is not None and any(a.name not in selected_tools for a in plan.actions):
            return None
        return self._next(step)

    def _next(self, step: int) -> Plan:
        assert self._plan is not None, "called with a plan"
        whole = self._plan
        many = 1 if self.one_by_one else len(self._left)
        now, self._left = self._left[:many], self._left[many:]
        return Plan(
            step=step,
            thoughts=whole.thoughts,
            actions=now,
            ttl=whole.step + whole.ttl - step,
            llm_plan=as_message(getattr(whole.llm_plan, "content", None) or whole.thoughts, now),
        )


def finished(task: Task, thoughts: str, answer: Answer) -> Plan:
    """The plan that an answer makes; if the answer is at fault, one that does nothing, and why."""
    if answer.fault is not None:
        thoughts = f"{thoughts}\n\nNo action was taken. {answer.fault}".strip()
    return Plan(
        step=task.obs.step,
        thoughts=thoughts,
        actions=list(answer.actions),
        ttl=task.ttl,
        llm_plan=as_message(answer.thoughts or thoughts, answer.actions),
    )


def as_message(thoughts: str, actions: Sequence[Action]) -> AssistantMessage:
    """Thoughts and actions as a model's message, in LiteLLM's shape."""
    calls = [
        ToolCall(name=each.name, arguments=json.dumps(each.arguments), id=each.id)
        for each in actions
    ]
    return AssistantMessage(content=thoughts or None, tool_calls=calls or None)


async def _observed(agent: Any) -> Observation:
    look = getattr(agent, "agenerate_obs", None)
    return cast("Observation", agent.generate_obs() if look is None else await look())


def _gated(plan: Callable[..., Plan]) -> Callable[..., Plan]:
    @functools.wraps(plan)
    def behind_the_gate(self: Reasoning, *args: Any, **kwargs: Any) -> Plan:
        return through(self, lambda: plan(self, *args, **kwargs))

    return behind_the_gate


def _agated(
    aplan: Callable[..., Coroutine[Any, Any, Plan]],
) -> Callable[..., Coroutine[Any, Any, Plan]]:
    @functools.wraps(aplan)
    async def behind_the_gate(self: Reasoning, *args: Any, **kwargs: Any) -> Plan:
        return await through_async(self, lambda: aplan(self, *args, **kwargs))

    return behind_the_gate
