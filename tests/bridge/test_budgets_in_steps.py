"""Budgets that run out in the middle of a step: whoever is refused, is so in every mode."""

from __future__ import annotations

import asyncio
import random
from typing import Any, get_args

import mesa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_net.errors import BudgetExceeded
from llm_net.llm.budget import Budget
from llm_net.llm.model import Request
from llm_net.llm.module_llm import ModuleLLM
from llm_net.memory.long_term import LongTermMemory
from llm_net.reasoning.needs import Ask, Flow, Task
from llm_net.reasoning.plan import Plan
from llm_net.reasoning.strategy import Reasoning
from mesa_bridge.hook import enable_automatic_parallel_stepping
from mesa_bridge.llm_agent import LLMAgent
from mesa_bridge.options import Mode
from mesa_bridge.stepping import last_report
from tests.waiting import within_deadline

MODES: tuple[Mode, ...] = get_args(Mode)


class Questions(Reasoning):
    """Asks as often as its agent is curious, and takes a refusal for an answer if it is patient."""

    def flow(self, task: Task) -> Flow:
        said: list[str] = []
        for number in range(self.agent.curiosity):
            try:
                told = self.agent.memory.get_prompt_ready()
                answer = yield Ask(prompt=f"{number}? {task.obs} {told}")
            except BudgetExceeded:
                if not self.agent.patient:
                    raise
                said.append("refused")
            else:
                said.append(str(answer))
        return Plan(step=task.obs.step, thoughts=" ".join(said))


class Asker(LLMAgent):
    def __init__(self, model: Any, llm: ModuleLLM, curiosity: int, *, patient: bool) -> None:
        super().__init__(model, Questions, llm, step_prompt="go")
        self.memory = LongTermMemory(self, llm_model=llm)
        self.curiosity = curiosity
        self.patient = patient
        self.thoughts: list[str] = []

    def step(self) -> None:
        self.say("I think.")
        self.thoughts.append(self.reasoning.plan().thoughts)
        self.say(self.thoughts[-1])

    async def astep(self) -> None:
        self.say("I think.")
        self.thoughts.append((await self.reasoning.aplan()).thoughts)
        self.say(self.thoughts[-1])

    def say(self, words: str) -> None:
        others = sorted(self.model.agents, key=lambda each: each.unique_id)
        self.send_message(words, [others[self.unique_id % len(others)]])


class Town(mesa.Model):
    def __init__(self, budget: Budget, minds: list[tuple[int, bool]], luck: random.Random) -> None:
        super().__init__(rng=3)
        self.budget = budget

        async def answer(request: Request) -> str:
            await asyncio.sleep(luck.random() / 500)
            return "ja" * (1 + len(request.prompt) % 7)

        llm = ModuleLLM(answer, budget=budget, max_tokens=20)
        for curiosity, patient in minds:
            Asker(self, llm, curiosity, patient=patient)

    def step(self) -> None:
        self.agents.shuffle_do("step")


def lived(mode: Mode, cap: int | None, minds: Any, limits: dict[str, Any], seed: int) -> Any:
    town = Town(Budget(**limits), minds, random.Random(seed))
    failures: list[Any] = []
    with enable_automatic_parallel_stepping(town, mode, max_in_flight=cap):
        for _ in range(3):
            town.step()
            report = last_report(town)
            assert report is not None
            failures.append([(each.agent, each.error) for each in report.failures])
    standing = town.budget.statistics()
    return (
        [agent.thoughts for agent in town.agents],
        [str(agent.memory.get_prompt_ready()) for agent in town.agents],
        failures,
        (standing.spent.calls, standing.spent.tokens, standing.reserved, standing.refused),
        sorted(
            (row.agent, row.method, row.calls, row.errors) for row in town.budget.ledger.table()
        ),
    )


minds = st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=5)
limits = st.fixed_dictionaries({"calls": st.integers(1, 25)}) | st.fixed_dictionaries(
    {"tokens": st.integers(50, 1500)}
)


@settings(max_examples=40)
@given(minds=minds, limits=limits, cap=st.none() | st.integers(1, 3), seed=st.integers(0, 99))
def test_who_is_refused_depends_on_the_order_of_turns_and_on_nothing_else(
    minds: Any, limits: dict[str, int], cap: int | None, seed: int
) -> None:
    wanted = lived("sequential", None, minds, limits, seed)
    for mode in MODES:
        assert lived(mode, cap, minds, limits, seed + 1) == wanted
    standing = wanted[3]
    assert standing[0] <= limits.get("calls", standing[0])
    assert standing[1] <= limits.get("tokens", standing[1])


@settings(max_examples=20)
@given(minds=minds, mode=st.sampled_from(MODES), seed=st.integers(0, 99))
def test_a_limit_that_is_never_reached_changes_nothing(minds: Any, mode: Mode, seed: int) -> None:
    free = lived("sequential", None, minds, {}, seed)
    assert lived(mode, None, minds, {"calls": 1000}, seed + 1)[:3] == free[:3]


def test_a_blocking_plan_inside_of_a_coroutine_does_not_wait_for_itself() -> None:
    class Hasty(Asker):
        async def astep(self) -> None:
            self.step()

    town = Town(Budget(calls=5), [], random.Random(1))
    agent = Hasty(town, ModuleLLM(lambda request: "ja", budget=town.budget), 2, patient=True)
    with enable_automatic_parallel_stepping(town):
        within_deadline(town.step)
    assert agent.thoughts == ["ja ja"]


@pytest.mark.parametrize("mode", ["asyncio", "threading"])
def test_calls_that_are_paid_for_are_still_made_at_the_same_time(mode: Mode) -> None:
    town = Town(Budget(calls=100), [(2, True)] * 6, random.Random(1))
    with enable_automatic_parallel_stepping(town, mode):
        town.step()
        town.step()  # memories are condensed by the model here, too
    report = last_report(town)
    assert report is not None
    assert report.max_in_flight > 1
    assert report.plans == 6
