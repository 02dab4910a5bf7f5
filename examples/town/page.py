"""`solara run examples/town/page.py`: households, and the people in them, in the browser."""

from typing import Any

from mesa.visualization import SolaraViz, make_plot_component, make_space_component
from mesa.visualization.components import AgentPortrayalStyle

from examples.simulation import ANSWERS, OnPage
from examples.town.__main__ import EXAMPLE
from examples.town.model import Town
from mesa_bridge.viz import AgentMind, Costs, NetworkView


class TownSquare(OnPage, Town):
    """The model of this page."""

    example = EXAMPLE


def portrayal(agent: Any) -> AgentPortrayalStyle:
    """Green has food, red has none."""
    return AgentPortrayalStyle(color="tab:green" if agent.food else "tab:red", size=160)


page = SolaraViz(
    TownSquare(),
    components=[
        make_space_component(portrayal),
        NetworkView(),
        AgentMind(),
        make_plot_component({"visits": "tab:green", "hungry": "tab:red"}),
        Costs(),
    ],
    model_params={"answers": ANSWERS},
    name="Town",
)
