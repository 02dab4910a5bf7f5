"""Models written for Mesa-LLM, with their imports changed, run in every way of stepping."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mesa
import pytest

from mesa_bridge import (
    CoTReasoning,
    ReActReasoning,
    ReWOOReasoning,
    disable_automatic_parallel_stepping,
)
from mesa_bridge.spaces import position
from mesa_bridge.stepping import last_report
from tests.bridge.mesa_llm_models import brains, epstein, first_model, negotiation, sugarscape

Make = Callable[..., Any]

MODELS: dict[str, tuple[Make, Any]] = {
    "epstein": (epstein.EpsteinModel, brains.citizen_or_cop),
    "negotiation": (negotiation.NegotiationModel, brains.trader_on_the_market),
    "sugarscape": (sugarscape.SugarScapeModel, brains.trader_in_sugar),
}
REASONINGS = [CoTReasoning, ReActReasoning, ReWOOReasoning]


@pytest.fixture(autouse=True)
def _mesa_is_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield
    disable_automatic_parallel_stepping()


@pytest.fixture(params=MODELS)
def made(request: pytest.FixtureRequest) -> tuple[Make, Any]:
    return MODELS[request.param]


def digest(model: Any) -> list[Any]:
    """Everything about a model that a run could change."""
    told: list[Any] = [model.random.getstate(), str(model.rng.bit_generator.state)]
    for agent in model.agents:
        told.append((type(agent).__name__, agent.unique_id, position(agent)))
        told += [
            getattr(agent, name, None)
            for name in ("state", "products", "sales", "sugar", "spice", "amount")
        ]
        if hasattr(agent, "memory"):
            told.append(agent.memory.to_dict()["buffer"])
            told.append(agent.memory.format_short_term())
    return told


def stepped(model: Any, steps: int = 6) -> Any:
    for _ in range(steps):
        model.step()
    return model


@pytest.mark.parametrize("reasoning", REASONINGS)
def test_a_model_of_mesa_llms_runs_as_mesa_steps_it(made: tuple[Make, Any], reasoning: Any) -> None:
    make, brain = made
    model = stepped(make(reasoning, brain))
    for agent in model.agents:
        if hasattr(agent, "memory") and agent.memory.latest():
            assert "plan" in agent.memory.format_short_term()


@pytest.mark.parametrize("reasoning", REASONINGS)
@pytest.mark.parametrize("name", ["epstein", "negotiation"])
def test_the_result_is_the_same_in_every_mode_and_for_any_latency(
    name: str, reasoning: Any
) -> None:
    make, brain = MODELS[name]
    digests = [
        digest(stepped(make(reasoning, model, parallel_stepping=True, mode=mode)))
        for mode in ("sequential", "asyncio", "threading")
        for model in (brain, brains.Hurried(brain, seed=3))
    ]
    assert all(each == digests[0] for each in digests[1:])


def test_rebels_rebel_and_cops_arrest_them() -> None:
    model = stepped(epstein.EpsteinModel(CoTReasoning, brains.citizen_or_cop), 8)
    active = model.datacollector.get_model_vars_dataframe()["active"]
    assert max(active) > 0
    arrests = [
        entry
        for agent in model.agents
        for entry in agent.memory.latest()
        if "arrested by" in str(entry)
    ]
    assert arrests


def test_each_class_of_agents_plans_with_its_own_tools() -> None:
    tools = [set(each.tools) for each in (epstein.citizen_tool_manager, epstein.cop_tool_manager)]
    assert tools[0] - tools[1] == {"change_state"}
    assert tools[1] - tools[0] == {"arrest_citizen"}


def test_a_pitch_is_heard_remembered_and_bought() -> None:
    model = stepped(negotiation.NegotiationModel(CoTReasoning, brains.trader_on_the_market), 8)
    buyers = list(model.agents_by_type[negotiation.BuyerAgent])
    sellers = list(model.agents_by_type[negotiation.SellerAgent])
    bought = [product for buyer in buyers for product in buyer.products]
    assert bought
    assert sum(seller.sales for seller in sellers) == len(bought)
    heard = "\n".join(buyer.memory.get_communication_history() for buyer in buyers)
    assert "message from 2: Buy premium!" in heard


def test_agents_with_only_astep_think_in_every_way_of_stepping() -> None:
    for words in ({}, {"parallel_stepping": True}, {"manual": True}):
        model = stepped(
            sugarscape.SugarScapeModel(CoTReasoning, brains.trader_in_sugar, **words), 3
        )
        traders = list(model.agents_by_type[sugarscape.Trader])
        assert traders
        for trader in traders:
            assert "harvested" in trader.memory.format_short_term()


def test_parallel_steps_of_a_model_written_for_mesa_llm_are_parallel() -> None:
    model = epstein.EpsteinModel(CoTReasoning, brains.citizen_or_cop, parallel_stepping=True)
    model.step()
    report: Any = last_report(model)
    assert report.agents == report.plans == 10
    assert not report.failures


def test_the_tutorials_first_agents_think_aloud() -> None:
    model = stepped(first_model.RoomModel(CoTReasoning, brains.thoughtful), 2)
    for agent in model.agents:
        assert agent.thoughts.startswith("Thought 1:")
        assert "Thought 1:" in str(agent.memory.latest()[-1])


@pytest.mark.parametrize(
    ("make", "brain"),
    [
        # Not those in cells: Mesa itself copies cells apart from their grid.
        (negotiation.NegotiationModel, brains.trader_on_the_market),
        (first_model.RoomModel, brains.thoughtful),
    ],
)
def test_a_copied_or_pickled_model_goes_on_as_the_first_one(make: Make, brain: Any) -> None:
    for reasoning in REASONINGS:
        model = stepped(make(reasoning, brain), 3)
        twins = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
        after = digest(stepped(model, 3))
        for twin in twins:
            for agent in twin.agents:
                if hasattr(agent, "memory"):
                    assert agent.memory.agent is agent
                    assert agent.reasoning.agent is agent
                    assert agent.model is twin
            assert digest(stepped(twin, 3)) == after


def test_twenty_models_that_are_dropped_are_gone() -> None:
    gone = []
    for seed in range(20):
        model = stepped(
            first_model.RoomModel(CoTReasoning, brains.thoughtful, agents=2, seed=seed), 1
        )
        getattr(mesa.Agent, "_ids", {}).pop(model, None)  # Mesa 3.3 holds every model here
        gone.append(weakref.ref(model))
        del model
    gc.collect()
    assert [each() for each in gone] == [None] * 20
    assert len(list(Path("recordings").glob("RoomModel_*.json"))) == 20
