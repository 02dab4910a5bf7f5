"""`solara run examples/buyers_and_sellers/page.py`: the market in the browser."""

from mesa.visualization import SolaraViz, make_plot_component

from examples.buyers_and_sellers.__main__ import EXAMPLE
from examples.buyers_and_sellers.model import Market
from examples.simulation import ANSWERS, OnPage
from mesa_bridge.viz import AgentMind, Conversation, Costs


class MarketPlace(OnPage, Market):
    """The model of this page."""

    example = EXAMPLE


page = SolaraViz(
    MarketPlace(),
    components=[
        Conversation(),
        AgentMind(),
        make_plot_component({"sold": "tab:green", "mean price": "tab:orange"}),
        Costs(),
    ],
    model_params={"answers": ANSWERS},
    name="Buyers and sellers",
)
