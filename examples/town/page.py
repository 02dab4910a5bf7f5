"""`solara run examples/town/page.py`: households, and the people in them, in the browser."""

from mesa.visualization import SolaraViz, make_plot_component, make_space_component

from examples.simulation import ANSWERS, OnPage
from examples.town.__main__ import EXAMPLE
from examples.town.model import Town
from mesa_bridge.viz import AgentMind, Costs, NetworkView, agent_portrayal, legend


class TownSquare(OnPage, Town):
    """The model of this page."""

    example = EXAMPLE


page = SolaraViz(
    TownSquare(),
    components=[
        make_space_component(agent_portrayal, post_process=legend, s=160),
        NetworkView(),
        AgentMind(),
        make_plot_component({"visits": "tab:green", "hungry": "tab:red"}),
        Costs(),
    ],
    model_params={"answers": ANSWERS},
    name="Town",
)
