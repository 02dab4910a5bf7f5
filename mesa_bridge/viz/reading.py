"""What is to be seen of a model: an agent's mind, what was said, what it cost. As text.

Bridge, floor 8. Knows models, recordings and networks; knows nothing of Solara.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, TypeAlias

from pydantic import ValidationError

from llm_net import Message, Plan
from llm_net.llm.budget import Budget
from mesa_bridge.network_agent import NetworkAgent
from mesa_bridge.network_model import NetworkModel
from mesa_bridge.progress import budget_of
from mesa_bridge.stepping import last_report
from mesa_bridge.versions import steps

__all__ = [
    "Doing",
    "MindView",
    "answered",
    "costs",
    "doing",
    "mind",
    "networks",
    "said",
    "thinkers",
]

Doing: TypeAlias = Literal["acted", "thinking", "failed", "idle"]
"""What an agent did last; `thinking` is to observe or to plan, as long as no action comes of it."""

_INNER = frozenset({"observation", "plan", "action"})
_DOINGS: dict[str, Doing] = {
    "observation": "thinking",
    "plan": "thinking",
    "action": "acted",
    "message": "acted",
}

_doings: weakref.WeakKeyDictionary[Any, tuple[object, dict[int, Doing]]] = (
    weakref.WeakKeyDictionary()
)
"""What all agents of a model did last, and when that was found: each drawing asks for every one."""


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


def doing(agent: Any) -> Doing:
    """What an agent did in the model's latest step, as far as that is recorded.

    Its turn has failed, or its latest action was an error: `failed`. Without a recording, a
    `NetworkAgent` is known by its latest exchange, any other by its failures alone.
    """
    model = agent.model
    found = _doings.get(model)
    when = (len(_events(model)), steps(model), last_report(model))
    if found is None or found[0] != when:
        found = _doings[model] = (when, _found(model))
    known = found[1].get(agent.unique_id)
    if known is not None:
        return known
    exchange = agent.last_exchange if isinstance(agent, NetworkAgent) else None
    if exchange is None or _events(model):
        return "idle"
    return "failed" if exchange.failures else "acted"


def _found(model: Any) -> dict[int, Doing]:
    found: dict[int, Doing] = {}
    now = steps(model)
    for each in reversed(_events(model)):
        if each.step < now:
            break
        kind = _DOINGS.get(each.event_type)
        if kind is not None and each.agent_id is not None:
            found.setdefault(each.agent_id, "failed" if _is_error(each) else kind)
    report = last_report(model)
    if report is not None:
        found.update((each.agent, "failed") for each in report.failures)
    return found


def _is_error(event: Any) -> bool:
    # As `ToolResult` puts it: a recording has its text alone.
    return event.event_type == "action" and event.content["response"].startswith("Error: ")


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


def answered(agent: NetworkAgent) -> str:
    """What left an agent's network in its latest exchange; plans as what is to be done."""
    exchange = agent.last_exchange
    return "\n".join(map(_answer, () if exchange is None else exchange.outputs))


def costs(model: Any) -> str:
    """What the calls of the model's `budget` took so far, and how its latest activation went."""
    budget = budget_of(model)
    # What matters most stands first: the table is wide, and often cut off.
    parts = [] if budget is None else [_spent(budget), _left(budget), str(budget.ledger)]
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


def _spent(budget: Budget) -> str:
    spent = budget.spent
    return f"spent: {spent.calls:,} calls, {spent.tokens:,} tokens, ${spent.usd:,.4f}"


def _answer(message: Message) -> str:
    if message.method != "plan":
        return message.body
    try:
        plan = Plan.model_validate_json(message.body)
    except ValidationError:
        return message.body
    calls = [_call(each.name, each.arguments) for each in plan.actions]
    return "\n".join(filter(None, [plan.thoughts, *calls]))


def _left(budget: Budget) -> str:
    left = [f"{most:,.6g} {kind}" for kind, most in vars(budget.left).items() if most is not None]
    return f"left: {', '.join(left)}" if left else ""


def _lines(content: Any) -> str:
    """The parts of an observation, a line each."""
    return "\n".join(f"{name}: {_plain(part)}" for name, part in content.items() if part)


def _deed(content: Any) -> str:
    return f"{_call(content['name'], content['arguments'])}: {content['response']}"


def _call(name: str, arguments: Mapping[str, Any]) -> str:
    given = ", ".join(f"{each}={_plain(value)}" for each, value in arguments.items())
    return f"{name}({given})"


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _listed(ids: Iterable[Any]) -> str:
    return ", ".join(str(each) for each in ids)
