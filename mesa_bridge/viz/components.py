"""Solara components for the `components=` of Mesa's `SolaraViz`.

Bridge, floor 9. The only module that imports Solara. What models of language write is hostile until
proven otherwise, so it is shown as text alone: never as HTML, never as Markdown. A drawing is shown
as an image, in which no script runs.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import solara
from mesa.visualization.utils import update_counter

from mesa_bridge.viz import reading

__all__ = ["AgentMind", "Conversation", "Costs", "NetworkView"]

Component: TypeAlias = Callable[[Any], Any]
"""What `SolaraViz` calls with the model."""

_CARD = {"height": "100%", "overflow": "auto"}
"""As high as the page gives it, or what is long would be under the card below."""
_TEXT = "white-space: pre-wrap; overflow-wrap: anywhere; font-size: 0.85em"


def AgentMind(agent_id: int | None = None) -> Component:  # noqa: N802 - a component's name
    """Show what an agent saw, thought and did last; by default one that is chosen on the page.

    The model needs a recorder: decorate its class with `@record_model`, or give it one as
    `self.recorder = SimulationRecorder(self)`.

    Args:
        agent_id: The agent's `unique_id`; None to choose on the page.
    """

    @solara.component
    def Mind(model: Any) -> None:  # noqa: N802
        update_counter.get()  # Mesa counts a step: look again
        known = reading.thinkers(model)
        chosen, choose = solara.use_state(agent_id)
        shown = chosen if chosen in known or agent_id is not None else next(iter(known), None)
        with solara.Card("Mind", style=_CARD):
            if agent_id is None and known:
                _select(known, shown, choose)
            view = reading.mind(model, shown)
            if view is None:
                solara.Text("Nothing is recorded yet.")
                return
            _text(f"Agent {shown} in step {view.step} saw", view.observation)
            _text("thought", view.thoughts)
            _text("did", "\n".join(view.actions))

    return Mind


def NetworkView(agent_id: int | None = None) -> Component:  # noqa: N802
    """Show the network of a `NetworkAgent`, and what left it in the latest step.

    Args:
        agent_id: The agent's `unique_id`; None to choose on the page.
    """

    @solara.component
    def Network(model: Any) -> None:  # noqa: N802
        update_counter.get()
        known = reading.networks(model)
        chosen, choose = solara.use_state(agent_id)
        shown = chosen if chosen in known else next(iter(known), None)
        with solara.Card("Network", style=_CARD):
            if shown is None:
                solara.Text("No agent of this model is a network.")
                return
            if agent_id is None:
                _select(list(known), shown, choose)
            agent: Any = known[shown]
            _text(f"{agent.network.name} said", reading.answered(agent))
            _drawing(agent.network.to_svg())

    return Network


def Conversation(last: int = 20) -> Component:  # noqa: N802
    """Show the latest messages between agents: of a model's recording, or of a `NetworkModel`.

    Args:
        last: So many, at most.
    """

    @solara.component
    def Messages(model: Any) -> None:  # noqa: N802
        update_counter.get()
        with solara.Card("Conversation", style=_CARD):
            lines = reading.said(model, last) or ["Nobody has said anything yet."]
            solara.Preformatted("\n".join(lines), style_=_TEXT)

    return Messages


def Costs() -> Component:  # noqa: N802
    """Show who spent what of the model's `budget`, and how its latest activation went."""

    @solara.component
    def Ledger(model: Any) -> None:  # noqa: N802
        update_counter.get()
        with solara.Card("Costs", style=_CARD):
            solara.Preformatted(reading.costs(model), style_="font-size: 0.75em; overflow-x: auto")

    return Ledger


def _select(ids: Sequence[int], shown: int | None, choose: Callable[[int], None]) -> None:
    solara.Select("Agent", values=list(ids), value=shown, on_value=choose)


def _text(title: str, text: str) -> None:
    """Text as text, whatever is in it."""
    solara.Text(title, style="font-weight: bold; display: block")
    solara.Preformatted(text or "(nothing)", style_=_TEXT)


def _drawing(svg: str) -> None:
    data = base64.b64encode(svg.encode()).decode()
    solara.Image(f"data:image/svg+xml;base64,{data}", width="75%")
