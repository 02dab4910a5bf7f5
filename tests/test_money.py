"""Budgets in networks and runs: who pays, what ends, what is told."""

from __future__ import annotations

from typing import Any

import pytest

from llm_net import (
    Budget,
    BudgetExceeded,
    Deterministic,
    GenAgent,
    GenNetwork,
    Message,
    ModuleLLM,
    Runtime,
)
from tests.waiting import DEADLINE_S


def count(request: Any) -> str:
    return "one two three"


class Asker(GenAgent):
    """Asks its model with every message, and goes on for ever."""

    llm: ModuleLLM

    async def astep(self, message: Message) -> None:
        answer = await self.llm.agenerate(message.body, max_tokens=10)
        self.emit("step", answer.text)


class Blocker(GenAgent):
    """The same on a thread."""

    llm: ModuleLLM

    def step(self, message: Message) -> None:
        self.emit("step", self.llm.generate(message.body, max_tokens=10).text)


def pair(kind: type[Any] = Asker, **network: Any) -> GenNetwork:
    llm = ModuleLLM(count)
    return GenNetwork(
        name="net",
        agents=[kind(name="a", llm=llm), kind(name="b", llm=llm)],
        edges=[("a", "step", "b"), ("b", "step", "a")],
        entry="a",
        **network,
    )


@pytest.mark.parametrize("kind", [Asker, Blocker])
@pytest.mark.parametrize("runtime", [lambda: Runtime("thread"), lambda: Deterministic(1)])
def test_a_run_ends_at_its_budget_with_what_it_has(kind: type[Any], runtime: Any) -> None:
    budget = Budget(calls=5)
    run = pair(kind).run("go", budget=budget, runtime=runtime(), timeout=DEADLINE_S)
    assert run.ended == "budget"
    assert budget.spent.calls == 5
    assert run.statistics.queued == 0
    assert isinstance(run.failures[0].__cause__, BudgetExceeded)


def test_the_ledger_says_who_spent_what_by_agent_and_method() -> None:
    budget = Budget(calls=6)
    pair().run("go", budget=budget, runtime=Deterministic(1))
    rows = {(row.agent, row.method): row.calls for row in budget.ledger.table()}
    assert rows == {("net/a", "step"): 3, ("net/b", "step"): 3}


def test_a_budget_of_one_agent_stops_that_agent_and_not_the_run() -> None:
    net = pair(budgets={"b": Budget(calls=2)})
    run = net.run("go", budget=Budget(calls=50), runtime=Deterministic(1))
    assert run.ended == "idle"
    assert net.budgets["b"].spent.calls == 2
    assert run.failures[0].path == "net/b"


def test_a_budget_of_a_network_inside_is_for_all_in_it() -> None:
    inner = pair(budgets={".": Budget(calls=4)})
    spent = Budget(calls=50)
    net = GenNetwork(name="firm", agents=[inner], entry="net", budgets={"net/a": Budget(calls=9)})
    net.run("go", budget=spent, runtime=Deterministic(1))
    assert inner.budgets["."].spent.calls == 4
    assert net.budgets["net/a"].spent.calls == 2
    assert spent.spent.calls == 4


def test_a_copy_of_a_network_has_budgets_of_its_own() -> None:
    net = pair(budgets={"b": Budget(calls=2)})
    net.run("go", runtime=Deterministic(1))
    copy = net.model_copy(deep=True)
    assert (net.budgets["b"].spent.calls, copy.budgets["b"].spent.calls) == (2, 0)


def test_an_estimate_comes_from_one_run_of_a_copy() -> None:
    net = pair()
    guess = net.estimate("go", times=10, budget=Budget(calls=4), runtime=Deterministic(1))
    assert guess.calls == 40
    assert guess.tokens > 0
    assert net.statistics().sent == 0
