"""What is to be seen of a model: an agent's mind, what was said, what it cost. As text.

Bridge, floor 8. Knows models, recordings and networks; knows nothing of Solara.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from mesa_bridge.network_agent import NetworkAgent
from mesa_bridge.network_model import NetworkModel
from mesa_bridge.stepping import last_report

__all__ = ["MindView", "costs", "mind", "networks", "said", "thinkers"]

_INNER = frozenset({"observation", "plan", "action"})


@dataclass(frozen=True)
class MindView:
    """An agent's mind, as it was recorded last.

    Attributes:
        step: The step in which the agent last saw, planned or did something.
        observation: What it saw.
        thoughts: What it thought of that; may be empty.
        actions: What it did then, and what came of each.
    """

    step: int
    observation: str
    thoughts: str
    actions: tuple[str, ...]


def thinkers(model: Any) -> list[int]:
    """The unique ids of the agents that are recorded as having seen, planned or done something."""
    return sorted(
        {
            each.agent_id
            for each in _events(model)
            if each.agent_id is not None and each.event_type in _INNER
        }
    )


def mind(model: Any, agent_id: int | None) -> MindView | None:
    """The mind of an agent in its latest recorded step; None if nothing of it is recorded."""
    # From the end, and of one step only: recordings grow long.
    latest: list[Any] = []
    for each in reversed(_events(model)):
        if latest and each.step < latest[0].step:
            break
        if each.agent_id == agent_id and each.event_type in _INNER:
            latest.append(each)
    if not latest:
        return None
    told: dict[str, list[Any]] = {kind: [] for kind in _INNER}
    for each in reversed(latest):
        told[each.event_type].append(each.content)
    seen, plans = told["observation"], told["plan"]
    return MindView(
        step=latest[0].step,
        observation=_lines(seen[-1]) if seen else "",
        thoughts=str(plans[-1].get("thoughts") or "") if plans else "",
        actions=tuple(_deed(each) for each in told["action"]),
    )


def said(model: Any, last: int = 20) -> list[str]:
    """The latest messages between agents, the oldest first: of a recording, or of a network."""
    if isinstance(model, NetworkModel):
        lines: Iterable[str] = (
            f"step {step}: {sender or 'outside'} to {receiver or 'outside'} [{method}] {body}"
            for step, sender, receiver, method, body in reversed(model.messages)
        )
    else:
        lines = (
            f"step {each.step}: {each.agent_id} to {_listed(each.content['recipients'])}: "
            f"{each.content['message']}"
            for each in reversed(_events(model))
            if each.event_type == "message"
        )
    return [*islice(lines, last)][::-1]


def networks(model: Any) -> dict[int, NetworkAgent]:
    """The agents that are networks, by their unique ids."""
    return {each.unique_id: each for each in model.agents if isinstance(each, NetworkAgent)}


def costs(model: Any) -> str:
    """What the calls of the model's `budget` took so far, and how its latest activation went."""
    budget = getattr(model, "budget", None)
    parts = [] if budget is None else [str(budget.ledger), _left(budget)]
    report = last_report(model)
    if report is not None:
        parts.append(
            f"latest activation: {report.agents} agents, {report.plans} plans, "
            f"{report.max_in_flight} at a time at most, {report.wall_s:.1f} s"
        )
        parts += [f"failed: {failure}" for failure in report.failures]
    return "\n".join(part for part in parts if part)


def _events(model: Any) -> list[Any]:
    recorder = getattr(model, "recorder", None)
    return [] if recorder is None else recorder.events


def _left(budget: Any) -> str:
    left = [f"{most:,.6g} {kind}" for kind, most in vars(budget.left).items() if most is not None]
    return f"left: {', '.join(left)}" if left else ""


def _lines(content: Any) -> str:
    """The parts of an observation, a line each."""
    return "\n".join(f"{name}: {_plain(part)}" for name, part in content.items() if part)


def _deed(content: Any) -> str:
    given = ", ".join(f"{name}={_plain(value)}" for name, value in content["arguments"].items())
    return f"{content['name']}({given}): {content['response']}"


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _listed(ids: Iterable[Any]) -> str:
    return ", ".join(str(each) for each in ids)
