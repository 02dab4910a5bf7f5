"""How agents are drawn: in every space of Mesa's, in the colour of what they did last."""

from __future__ import annotations

from typing import Any, get_args

import mesa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from mesa.visualization import SpaceRenderer
from mesa.visualization.mpl_space_drawing import draw_space

from llm_net import GenAgent, GenNetwork, Message
from mesa_bridge import (
    CoTReasoning,
    LLMAgent,
    NetworkAgent,
    SimulationRecorder,
    enable_automatic_parallel_stepping,
)
from mesa_bridge.viz import agent_portrayal, legend
from mesa_bridge.viz.portrayal import COLOURS
from mesa_bridge.viz.reading import Doing, doing
from tests.bridge.test_spaces import EVERY_SPACE

# -- in every space


def the_space(model: Any) -> Any:
    return getattr(model, "grid", None) or model.space


def points(axes: Any) -> set[tuple[float, ...]]:
    """Where markers are drawn."""
    drawn: list[Any] = [each for each in axes.collections if isinstance(each, PathCollection)]
    return {tuple(map(float, point)) for each in drawn for point in each.get_offsets()}


@pytest.mark.parametrize("name", EVERY_SPACE)
def test_every_space_draws_each_agent_in_its_place(name: str) -> None:
    model, _ = EVERY_SPACE[name]()
    axes: Any = Figure().add_subplot()

    draw_space(the_space(model), agent_portrayal, ax=axes)
    legend(axes)

    assert len(points(axes)) == 2, "two of the three stand in one place"
    texts = [each.get_text() for each in axes.get_legend().get_texts()]
    assert texts == list(get_args(Doing)) == list(COLOURS)


@pytest.mark.parametrize("name", EVERY_SPACE)
def test_mesas_renderer_draws_every_space_too(name: str) -> None:
    model, _ = EVERY_SPACE[name]()
    renderer: Any = SpaceRenderer(model, backend="matplotlib")

    if hasattr(renderer, "setup_agents"):  # since Mesa 3.4
        axes = renderer.setup_agents(agent_portrayal).draw_agents()
    else:
        axes = renderer.draw_agents(agent_portrayal)

    assert len(points(axes)) == 2


# -- what an agent did last


class Town(mesa.Model):
    def __init__(self, *answers: Any) -> None:
        super().__init__(rng=1)
        self.recorder = SimulationRecorder(self)
        for answer in answers:
            Person(self, answer)
        enable_automatic_parallel_stepping(self)

    def step(self) -> None:
        self.agents.do("step")


class Person(LLMAgent):
    def __init__(self, model: Town, answer: Any) -> None:
        super().__init__(model, CoTReasoning, llm_model=answer)

    def step(self) -> None:
        self.apply_plan(self.reasoning.plan("What do you do?"))


def thinks(request: Any) -> str:
    return "I wonder."


def speaks(request: Any) -> Any:
    given = {"listener_agents_unique_ids": [1], "message": "Hi"}
    return {"tool_calls": [{"name": "speak_to", "arguments": given}]}


def stumbles(request: Any) -> Any:
    return {"tool_calls": [{"name": "move_one_step", "arguments": {"direction": "North"}}]}


def breaks(request: Any) -> str:
    raise RuntimeError("no model here")


def test_a_step_shows_who_acted_who_only_thought_and_who_failed() -> None:
    town = Town(thinks, speaks, stumbles, breaks)
    bystander = mesa.Agent(town)
    people = list(town.agents)
    assert [doing(each) for each in people] == ["idle"] * 5

    town.step()

    assert [doing(each) for each in people[:4]] == ["thinking", "acted", "failed", "failed"]
    assert doing(bystander) == "idle"


def test_what_was_done_in_an_earlier_step_is_over() -> None:
    town = Town(speaks, thinks)
    town.step()
    first, _ = town.agents
    town.agents.select(lambda each: each is not first).do("step")
    town.steps += 1

    assert doing(first) == "idle"


@given(
    events=st.lists(
        st.tuples(
            st.integers(1, 3),
            st.sampled_from(["observation", "plan", "action", "message", "error", "else"]),
        ),
        max_size=12,
    )
)
def test_the_latest_of_an_agents_events_is_what_it_does(events: list[tuple[int, str]]) -> None:
    model: Any = mesa.Model(rng=1)
    model.recorder = SimulationRecorder(model)
    agents = [mesa.Agent(model) for _ in range(3)]
    shown: dict[int, Doing] = {}
    kinds: dict[str, Doing] = {
        "observation": "thinking",
        "plan": "thinking",
        "action": "acted",
        "message": "acted",
        "error": "failed",
    }
    for agent_id, kind in events:
        response = "Error: no" if kind == "error" else "Done."
        name = "action" if kind == "error" else kind
        model.recorder.record_event(name, {"response": response}, step=0, agent_id=agent_id)
        if kind in kinds:
            shown[agent_id] = kinds[kind]
        # Asked after each event: nothing that was found before is in the way.
        assert [doing(each) for each in agents] == [shown.get(n, "idle") for n in (1, 2, 3)]


class Speaker(GenAgent):
    blocking = False

    def step(self, message: Message) -> str:
        if "fail" in self.name:
            raise RuntimeError("out of words")
        return "Hello."


def test_a_network_without_a_recording_shows_how_its_latest_exchange_went() -> None:
    model = mesa.Model(rng=1)
    good, bad = (
        NetworkAgent(model, GenNetwork(name="house", agents=[Speaker(name=name)], entry=name))
        for name in ("fine", "fails")
    )
    assert doing(good) == doing(bad) == "idle"

    good.step()
    bad.step()

    assert (doing(good), doing(bad)) == ("acted", "failed")


def test_colour_and_marker_say_what_it_did_and_a_square_is_a_network() -> None:
    town = Town(thinks, breaks)
    network = GenNetwork(name="house", agents=[Speaker()], entry="speaker")
    NetworkAgent(town, network)
    town.step()

    thought, broke, house = (agent_portrayal(each) for each in town.agents)

    assert (thought.color, thought.marker) == (COLOURS["thinking"], "o")
    assert (broke.color, broke.marker) == (COLOURS["failed"], "X")
    assert house.marker == "s"
