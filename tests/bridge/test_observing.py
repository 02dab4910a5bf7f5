"""The default observation: the agent, those around it, and what it asked of the model."""

from __future__ import annotations

import enum
import json
from typing import Any

import mesa
import numpy as np
import pytest
from mesa.discrete_space import CellAgent, OrthogonalMooreGrid

from llm_net import UsageError
from mesa_bridge.observing import observe


class Weather(enum.Enum):
    RAIN = "rain"


class Market(mesa.Model):
    nowhere: int

    def __init__(self) -> None:
        super().__init__(rng=1)
        self.grid: Any = OrthogonalMooreGrid((5, 5), random=self.random)
        self.price = 8.5
        self.stock = {"apples": [3, 4]}
        self.heights = np.array([[1.5, 2.0]])
        self.weather = Weather.RAIN

    @property
    def wealth(self) -> int:
        return 12

    @property
    def broken(self) -> int:
        nowhere: int = self.nowhere
        return nowhere


class Trader(CellAgent):
    def __init__(self, model: Any, cell: tuple[int, int], state: Any) -> None:
        super().__init__(model)
        self.cell = model.grid[cell]
        self.internal_state = state


@pytest.fixture
def market() -> Market:
    market = Market()
    Trader(market, (0, 0), ["calm", "_plans a raid"])
    Trader(market, (0, 1), ["angry", "_knows nothing"])
    Trader(market, (4, 4), ["far away"])
    return market


def first(market: Market) -> Any:
    return next(iter(market.agents))


def test_one_text_is_no_list_of_global_keys(market: Market) -> None:
    with pytest.raises(UsageError, match=r"\('price',\), with the comma"):
        observe(first(market), global_keys="price")


def test_an_observation_says_who_where_and_when(market: Market) -> None:
    market.step()
    seen = observe(first(market), internal_state=["hungry", "_afraid"])
    assert seen.step == 1
    assert seen.self_state == {
        "agent_unique_id": 1,
        "location": [0, 0],
        "internal_state": ["hungry", "_afraid"],
    }
    assert seen.local_state == {}
    assert seen.global_keys == {}


def test_others_are_seen_by_class_and_id_without_what_is_private(market: Market) -> None:
    seen = observe(first(market), vision=1)
    assert seen.local_state == {"Trader 2": {"position": [0, 1], "internal_state": ["angry"]}}
    assert list(observe(first(market), vision=-1).local_state) == ["Trader 2", "Trader 3"]


def test_an_agent_of_any_class_is_seen_whatever_its_internal_state_is(market: Market) -> None:
    plain = mesa.Agent(market)
    Trader(market, (1, 1), "in one word")
    Trader(market, (1, 1), 7)
    Trader(market, (1, 1), [])
    seen = observe(plain, vision=-1).local_state
    states = [each["internal_state"] for each in seen.values()]
    assert states == [["calm"], ["angry"], ["far away"], ["in one word"], [7], []]
    assert observe(first(market), vision=-1).local_state["Agent 4"] == {
        "position": None,
        "internal_state": [],
    }


def test_what_the_model_is_asked_for_comes_as_json(market: Market) -> None:
    names = ["price", "stock", "heights", "weather", "wealth"]
    seen = observe(first(market), global_keys=names)
    assert seen.global_keys == {
        "price": 8.5,
        "stock": {"apples": [3, 4]},
        "heights": [[1.5, 2.0]],
        "weather": "rain",
        "wealth": 12,
    }
    assert json.loads(seen.model_dump_json())["global_keys"] == seen.global_keys


def test_nothing_that_changes_later_shows(market: Market) -> None:
    agent, other = list(market.agents)[:2]
    state = ["calm"]
    seen = observe(agent, vision=-1, internal_state=state, global_keys=["stock", "heights"])
    before = seen.model_dump_json()
    state.append("angry")
    other.internal_state.append("gone")
    other.cell = market.grid[3, 3]
    market.stock["apples"].append(5)
    market.heights += 1
    assert seen.model_dump_json() == before


def test_a_name_that_the_model_does_not_have_is_refused_with_those_that_are_close(
    market: Market,
) -> None:
    with pytest.raises(UsageError, match=r"global_keys holds 'prise'.*Market.*'price'"):
        observe(first(market), global_keys=["prise"])
    with pytest.raises(UsageError, match=r"no such attribute\. Correct"):
        observe(first(market), global_keys=["qqqqqq"])


def test_a_property_that_fails_says_so_itself(market: Market) -> None:
    with pytest.raises(AttributeError, match="nowhere"):
        observe(first(market), global_keys=["broken"])


def test_looking_twice_sees_the_same(market: Market) -> None:
    for agent in list(market.agents):
        assert observe(agent, vision=2) == observe(agent, vision=2)
