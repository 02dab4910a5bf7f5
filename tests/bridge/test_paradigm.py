"""Steps put together from methods, or from functions beside an unchanged Mesa class."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import mesa
import pytest
from mesa.examples.basic.boltzmann_wealth_model import model as boltzmann
from mesa.examples.basic.boltzmann_wealth_model.agents import MoneyAgent

from llm_net import CoTReasoning, ModuleLLM, UsageError, tool
from llm_net.reasoning.plan import Action, Observation, Plan
from llm_net.reasoning.strategy import Reasoning
from mesa_bridge.paradigm import ClassBasedParadigm, FunctionBasedParadigm


def wealth(n: int, side: int) -> Any:
    """Mesa's own model, which takes a scenario from Mesa 3.5 on."""
    kind: Any = getattr(boltzmann, "BoltzmannScenario", None)
    if kind is None:
        return boltzmann.BoltzmannWealth(n=n, width=side, height=side)
    return boltzmann.BoltzmannWealth(kind(n=n, width=side, height=side))


class Fixed(Reasoning):
    """Always the same plan."""

    def flow(self, task: Any) -> Any:
        return Plan(step=task.obs.step, thoughts="same", actions=[Action("say", {"n": 1})])
        yield


class Walker(mesa.Agent):
    """A Mesa agent with a way of reasoning."""

    def __init__(self, model: mesa.Model) -> None:
        super().__init__(model)
        self.reasoning = Fixed(self)
        self.tool_manager: Any = None
        self.memory = None
        self.llm = None
        self.system_prompt = None
        self.step_prompt = "go"
        self.done: list[str] = []


class Walking(ClassBasedParadigm):
    """Sees little, and notes what it does."""

    def observe(self) -> Observation:
        return Observation(7, {"mood": "fine"})

    def action(self, plan: Plan) -> list[Any]:
        self.agent.done.append(f"{plan.step} {plan.thoughts}")
        return ["done"]


def test_a_step_observes_plans_and_acts() -> None:
    walker = Walker(mesa.Model(rng=1))
    assert Walking(walker).step() == ["done"]
    assert asyncio.run(Walking(walker).astep()) == ["done"]
    assert walker.done == ["7 same", "7 same"]


def test_functions_will_do() -> None:
    walker = Walker(mesa.Model(rng=1))

    def act(agent: Walker, plan: Plan) -> str:
        agent.done.append(plan.thoughts)
        return "acted"

    paradigm = FunctionBasedParadigm(walker, act, observe=lambda agent: Observation(3))
    assert paradigm.step() == ["acted"]
    assert FunctionBasedParadigm(walker, lambda _agent, _plan: None).step() == []
    assert walker.done == ["same"]


def generous(request: Any) -> dict[str, Any]:
    return {"tool_calls": [{"name": "give", "arguments": {"amount": 1}}]}


@tool
def give(agent: MoneyAgent, amount: int) -> str:
    """Give money to another in the cell."""
    others = [each for each in agent.cell.agents if each is not agent]
    if not others or agent.wealth < amount:
        return "nobody here, or no money"
    agent.random.choice(others).wealth += amount
    agent.wealth -= amount
    return "given"


def act(agent: MoneyAgent, plan: Plan) -> list[Any]:
    agent.move()
    return [give(agent, **each.arguments) for each in plan.actions]


def test_mesas_own_boltzmann_model_thinks_in_ten_lines() -> None:
    calls: list[Any] = []

    def think(request: Any) -> Any:
        calls.append(request)
        return generous(request)

    with FunctionBasedParadigm.attach(
        MoneyAgent,
        action=act,
        reasoning=CoTReasoning,
        llm=ModuleLLM(think),
        tools=[give],
        step_prompt="Will you give something?",
    ):
        model = wealth(20, 3)
        for _ in range(3):
            model.step()
    assert len(calls) == 60
    assert "agent_unique_id" in str(calls[0].messages)
    assert sum(each.wealth for each in model.agents) == 20
    assert len({each.wealth for each in model.agents}) > 1
    model.step()
    assert len(calls) == 60  # its own step again


class Saver(mesa.Agent):
    """A Mesa agent as it comes."""

    saved = 0

    def step(self) -> None:
        """Nothing of its own."""


def save(agent: Saver, plan: Plan) -> None:
    agent.saved += len(plan.actions)


def test_an_attached_model_copies_with_the_memories_of_its_agents() -> None:
    words: dict[str, Any] = {"tools": [give], "llm": generous, "step_prompt": "save?"}
    with FunctionBasedParadigm.attach(Saver, action=save, **words):
        model = mesa.Model(rng=1)
        agents = [Saver(model) for _ in range(3)]
        model.agents.shuffle_do("step")
        twin = copy.deepcopy(model)
        for each in (model, twin):
            each.agents.shuffle_do("step")
        assert [each.saved for each in twin.agents] == [each.saved for each in agents] == [2] * 3
        minds = [vars(each)["_mesa_bridge_paradigm"].reasoning.agent for each in twin.agents]
        assert [each.body for each in minds] == list(twin.agents)
        assert all(len(each.memory.short_term_memory) == 1 for each in minds)


def test_a_class_is_attached_once_and_gets_its_step_back() -> None:
    own = MoneyAgent.step
    attachment = FunctionBasedParadigm.attach(MoneyAgent, action=act, llm=generous)
    with pytest.raises(UsageError, match="attached already"):
        FunctionBasedParadigm.attach(MoneyAgent, action=act, llm=generous)
    attachment.detach()
    attachment.detach()
    assert MoneyAgent.step is own
    assert not hasattr(MoneyAgent, "astep")
    with pytest.raises(UsageError, match="no method"):
        FunctionBasedParadigm.attach(MoneyAgent, action=act, method="fly", llm=generous)
