"""`solara run examples/sugar_trade/page.py`: sugar, spice and traders in the browser."""

from typing import Any

from mesa.visualization import SolaraViz, make_plot_component, make_space_component
from mesa.visualization.components import AgentPortrayalStyle

from examples.simulation import ANSWERS, OnPage
from examples.sugar_trade.__main__ import EXAMPLE
from examples.sugar_trade.model import SugarTrade
from mesa_bridge.viz import AgentMind, Conversation, Costs


class Island(OnPage, SugarTrade):
    """The model of this page."""

    example = EXAMPLE


def portrayal(agent: Any) -> AgentPortrayalStyle:
    """Blue has more sugar, orange more spice."""
    return AgentPortrayalStyle(color="tab:blue" if agent.sugar > agent.spice else "tab:orange")


page = SolaraViz(
    Island(),
    components=[
        make_space_component(portrayal, s=160),
        make_plot_component({"traders": "tab:green", "trades": "tab:orange"}),
        AgentMind(),
        Conversation(),
        Costs(),
    ],
    model_params={"answers": ANSWERS},
    name="Sugar and spice",
)
