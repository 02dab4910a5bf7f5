"""Moving and speaking as tools, and the set of tools that all Mesa agents have."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import mesa
import networkx as nx
import pytest
from mesa.discrete_space import CellAgent, Network, OrthogonalMooreGrid
from mesa.space import ContinuousSpace

from llm_net import UsageError
from llm_net.tools import manager as llm_net_tools
from mesa_bridge import toolset
from mesa_bridge.toolset import ToolManager, tool

BUILT_IN = ["move_one_step", "teleport_to_location", "speak_to"]


class Walker(CellAgent):
    heard: list[tuple[str, list[int]]]

    def send_message(self, message: str, recipients: list[Any]) -> str:
        for each in recipients:
            each.heard = [*getattr(each, "heard", []), message]
        return f"Told {[each.unique_id for each in recipients]}."


@pytest.fixture(autouse=True)
def _the_default_set_begins_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolset, "_joined", llm_net_tools.ToolManager())


@pytest.fixture
def model() -> Any:
    model: Any = mesa.Model(rng=1)
    model.grid = OrthogonalMooreGrid((3, 3), capacity=1, random=model.random)
    for cell in ((1, 1), (0, 1), (2, 2)):
        Walker(model).cell = model.grid[cell]
    return model


def run(agent: Any, name: str, **arguments: Any) -> Any:
    return ToolManager().run(name, arguments, agent=agent)


def test_a_step_goes_one_cell_in_the_direction_however_it_is_written(model: Any) -> None:
    agent = next(iter(model.agents))
    assert run(agent, "move_one_step", direction="South").text == "Walker 1 moved to [2, 1]."
    assert run(agent, "move_one_step", direction=" northwest ").error is None
    assert agent.cell.coordinate == (1, 0)


@pytest.mark.parametrize("direction", ["North", "up", "", "North by Northwest"])
def test_a_step_that_cannot_be_made_is_an_error_that_lists_those_that_can(
    model: Any, direction: str
) -> None:
    agent = next(iter(model.agents))
    result = run(agent, "move_one_step", direction=direction)  # North of it somebody stands
    assert result.error is not None
    assert "NorthEast, East, South, SouthWest, West, NorthWest." in result.text
    assert agent.cell.coordinate == (1, 1)


def test_where_there_are_no_directions_a_step_goes_to_a_neighbour_and_the_error_lists_them() -> (
    None
):
    model: Any = mesa.Model(rng=1)
    model.net = Network(nx.path_graph(4), random=model.random)
    agent = Walker(model)
    agent.cell = model.net[1]
    wrong = run(agent, "move_one_step", direction="North")
    assert "one step leads to 0, 2." in wrong.text
    assert run(agent, "move_one_step", direction="3").error is not None  # two steps away
    assert run(agent, "move_one_step", direction="2").text == "Walker 1 moved to 2."


def test_teleporting_goes_anywhere_that_exists_and_is_free(model: Any) -> None:
    agent = next(iter(model.agents))
    moved = run(agent, "teleport_to_location", target_coordinates=[0, 0])
    assert moved.text == "Walker 1 moved to [0, 0]."
    taken = run(agent, "teleport_to_location", target_coordinates=[2, 2])
    assert "full (Walker 3)" in taken.text
    outside = run(agent, "teleport_to_location", target_coordinates=[3, 3])
    assert "from 0 to 2" in outside.text
    assert agent.cell.coordinate == (0, 0)


def test_teleporting_takes_parts_of_a_unit_where_the_space_has_them() -> None:
    model: Any = mesa.Model(rng=1)
    model.space = ContinuousSpace(5, 5, torus=True)
    agent: Any = mesa.Agent(model)
    model.space.place_agent(agent, (0.0, 0.0))
    run(agent, "teleport_to_location", target_coordinates=[1.5, 6])
    assert agent.pos == (1.5, 1)


def test_without_a_space_to_move_in_moving_is_an_error_and_no_exception() -> None:
    agent: Any = mesa.Agent(mesa.Model(rng=1))
    for name, arguments in (
        ("move_one_step", {"direction": "North"}),
        ("teleport_to_location", {"target_coordinates": [1, 1]}),
    ):
        assert "is in no space" in run(agent, name, **arguments).text


def test_speaking_reaches_those_that_exist_and_says_who_does_not(model: Any) -> None:
    first, second, third = model.agents
    said = run(first, "speak_to", listener_agents_unique_ids=[3, 9, 2, 3], message="Hello")
    assert said.text == "Told [3, 2]. There is no other agent 9."
    assert second.heard == third.heard == ["Hello"]
    assert not hasattr(first, "heard")


def test_speaking_to_nobody_is_an_error(model: Any) -> None:
    first = next(iter(model.agents))
    for ids in ([], [9], [1]):  # nobody, nobody there, itself
        result = run(first, "speak_to", listener_agents_unique_ids=ids, message="Hello")
        assert "nobody was told" in result.text
    dumb: Any = mesa.Agent(model)
    result = run(dumb, "speak_to", listener_agents_unique_ids=[1], message="Hello")
    assert "no method send_message" in result.text


def test_every_manager_offers_the_built_in_tools() -> None:
    assert list(ToolManager().tools) == BUILT_IN


def test_a_tool_without_a_manager_joins_all_managers_those_made_before_too() -> None:
    before = ToolManager()

    @tool
    def wait(agent: Any) -> str:
        """Do nothing."""
        return f"{agent.unique_id} waits"

    assert list(before.tools) == list(ToolManager().tools) == [*BUILT_IN, "wait"]
    assert wait.__name__ == "wait"


def test_a_tool_with_a_manager_joins_that_one_only() -> None:
    citizens, cops = ToolManager(), ToolManager()

    @tool(tool_manager=citizens)
    def change_state(agent: Any, state: str) -> str:
        """Change."""
        return state

    @tool(tool_manager=cops, reads=True)
    def arrest(agent: Any, citizen_id: int) -> str:
        """Arrest."""
        return str(citizen_id)

    assert list(citizens.tools) == [*BUILT_IN, "change_state"]
    assert list(cops.tools) == [*BUILT_IN, "arrest"]
    assert cops.reads("arrest")
    assert not citizens.has_tool("arrest")
    assert citizens.run("arrest", {"citizen_id": 1}).error is not None


def test_a_managers_own_tool_goes_before_one_of_the_default_set() -> None:
    def move_one_step(agent: Any, direction: str) -> str:
        """Not a step."""
        return "stayed"

    manager = ToolManager([move_one_step])
    assert manager.run("move_one_step", {"direction": "North"}).text == "stayed"
    assert list(manager.tools) == BUILT_IN
    tool(move_one_step)
    assert ToolManager().run("move_one_step", {"direction": "North"}).text == "stayed"


def test_two_tools_of_one_name_in_the_default_set_are_refused() -> None:
    def first() -> Any:
        @tool
        def buy() -> str:
            return "first"

    def second() -> Any:
        @tool
        def buy() -> str:
            return "second"

    first()
    first()  # the same again, as in a notebook
    with pytest.raises(UsageError, match="'buy' already"):
        second()


def test_managers_are_copied_and_pickled_without_the_default_set() -> None:
    manager = ToolManager({"jump": Walker.send_message})
    for twin in (copy.deepcopy(manager), pickle.loads(pickle.dumps(manager))):
        assert list(twin.tools) == [*BUILT_IN, "jump"]
    assert b"teleport" not in pickle.dumps(manager)
