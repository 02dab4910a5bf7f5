"""How agents that think are drawn, in any of Mesa's spaces: by what they did last.

Bridge, floor 9. For the space components of Mesa's `SolaraViz` and for its `SpaceRenderer`.
"""

from __future__ import annotations

from typing import Any

from matplotlib.lines import Line2D
from mesa.visualization.components import AgentPortrayalStyle

from mesa_bridge.network_agent import NetworkAgent
from mesa_bridge.viz.reading import Doing, doing

__all__ = ["COLOURS", "agent_portrayal", "legend"]

COLOURS: dict[Doing, str] = {
    "acted": "tab:green",
    "thinking": "tab:blue",
    "failed": "tab:red",
    "idle": "tab:gray",
}


def agent_portrayal(agent: Any) -> AgentPortrayalStyle:
    """Draw an agent in the colour of what it did in the latest step.

    Green has acted, blue has only thought, red has failed (and is a cross, for whoever cannot tell
    it from green), grey did nothing. A `NetworkAgent` is a square. The model needs a recorder, as
    for `AgentMind`.

    ```python
    from mesa.visualization import make_space_component

    from mesa_bridge.viz import agent_portrayal, legend

    space = make_space_component(agent_portrayal, post_process=legend, s=160)
    ```

    The size is for this component to be told: up to Mesa 3.5 it does not heed that of a portrayal.
    """
    did = doing(agent)
    marker = "s" if isinstance(agent, NetworkAgent) else "o"
    x, y = _place(agent)
    return AgentPortrayalStyle(
        x=x,
        y=y,
        color=COLOURS[did],
        marker="X" if did == "failed" else marker,
        size=None,  # `SpaceRenderer` takes as much as the space has room for
        alpha=0.8,  # so that two in one place are seen
    )


def legend(axes: Any) -> None:
    """Say beside a space what the colours are: the `post_process` of its component."""
    for_each = [
        Line2D(
            [], [], color=colour, marker="X" if did == "failed" else "o", linestyle="", label=did
        )
        for did, colour in COLOURS.items()
    ]
    axes.legend(handles=for_each, loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=4)


def _place(agent: Any) -> tuple[float, float] | tuple[None, None]:
    """Where it is drawn, where Mesa would not find it; else Nones, and Mesa looks."""
    cell: Any = getattr(agent, "cell", None)
    if "polygon" not in getattr(cell, "properties", ()):
        return None, None
    # A Voronoi cell: since Mesa 3.5 its coordinate is a number, which `SpaceRenderer` trips over.
    x, y = getattr(cell, "position", cell.coordinate)
    return float(x), float(y)
