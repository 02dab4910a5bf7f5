"""`solara run examples/civil_violence/page.py`: the town square in the browser."""

from typing import Any

from mesa.visualization import SolaraViz, make_plot_component, make_space_component
from mesa.visualization.components import AgentPortrayalStyle

from examples.civil_violence.__main__ import EXAMPLE
from examples.civil_violence.model import STATES, CivilViolence
from examples.simulation import ANSWERS, OnPage
from mesa_bridge.viz import AgentMind, Costs

COLOURS = dict(zip(STATES, ("tab:red", "tab:green", "tab:grey"), strict=True))


class Square(OnPage, CivilViolence):
    """The model of this page."""

    example = EXAMPLE


def portrayal(agent: Any) -> AgentPortrayalStyle:
    """Citizens are discs in the colour of what they do, police are black squares."""
    state = getattr(agent, "state", None)
    colour = "black" if state is None else COLOURS[state]
    return AgentPortrayalStyle(color=colour, marker="o" if state else "s")


page = SolaraViz(
    Square(),
    components=[
        make_space_component(portrayal, s=160),
        make_plot_component(COLOURS),
        AgentMind(),
        Costs(),
    ],
    model_params={"answers": ANSWERS},
    name="Civil violence",
)
