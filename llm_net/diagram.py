"""Pictures in Mermaid: a network as a flow chart, a conversation as a sequence diagram.

Floor 1. Knows graphs and messages; knows nothing of running agents.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from llm_net.address import Address
from llm_net.message import Message

__all__ = ["OUTSIDE", "Box", "flow_chart", "merged", "sequence_diagram", "shortened"]

OUTSIDE = "outside"
SHOWN = 60
"""Characters of a message's body that a diagram shows."""


@dataclass
class Box:
    """One agent of a picture; a network has boxes and edges inside.

    Attributes:
        name: What stands on it.
        entry: Whether it takes the messages to its network.
        inside: The members, if it is a network.
        edges: Their edges as (u, event, v), if it is a network.
        exposes: The events that leave the network.
    """

    name: str
    entry: bool = False
    inside: list[Box] = field(default_factory=list)
    edges: list[tuple[str, str, str]] = field(default_factory=list)
    exposes: tuple[str, ...] = ()
    network: bool = False


def shortened(value: str) -> str:
    """A text on one line, not too long for a diagram."""
    short = " ".join(value.split())
    return short if len(short) <= SHOWN else short[: SHOWN - 1] + "…"


def _text(value: str) -> str:
    """A text that Mermaid shows as it is, whatever a model wrote into it."""
    short = shortened(value)
    # Mermaid reads #…; as an entity; its own syntax must not come out of a message.
    special = '#;"<>&{}[]()|`%:'
    return "".join(f"#{ord(char)};" if char in special else char for char in short)


def flow_chart(box: Box) -> str:
    """A network as a Mermaid flow chart: nested networks as subgraphs, parallel edges as one."""
    lines = ["flowchart LR"]
    ids: dict[tuple[int, ...], str] = {}

    def draw(inner: Box, place: tuple[int, ...], indent: str) -> None:
        ids[place] = "n" + "_".join(map(str, place)) if place else "n"
        label = _text(inner.name)
        if not inner.network:
            shape = f'(["{label}"])' if inner.entry else f'["{label}"]'
            lines.append(f"{indent}{ids[place]}{shape}")
            return
        lines.append(f'{indent}subgraph {ids[place]}["{label}"]')
        for index, member in enumerate(inner.inside):
            draw(member, (*place, index), indent + "    ")
        numbers = {member.name: index for index, member in enumerate(inner.inside)}
        for u, v, events in merged(inner.edges):
            start, end = ids[(*place, numbers[u])], ids[(*place, numbers[v])]
            lines.append(f'{indent}    {start} -->|"{_text(events)}"| {end}')
        lines.append(f"{indent}end")
        if inner.exposes:
            out = f"{ids[place]}_out"
            lines.append(f'{indent}{out}(("{_text(", ".join(inner.exposes))}"))')
            lines.append(f"{indent}{ids[place]} -.-> {out}")

    draw(box, (), "    ")
    return "\n".join(lines) + "\n"


def merged(edges: Iterable[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """Edges as (u, v, events), parallel ones as one."""
    merged: dict[tuple[str, str], list[str]] = {}
    for u, event, v in edges:
        merged.setdefault((u, v), []).append(event)
    return [(u, v, ", ".join(events)) for (u, v), events in merged.items()]


def sequence_diagram(
    conversation: Sequence[tuple[Message, Address | None]], *, total: int | None = None
) -> str:
    """Who said what to whom, as a Mermaid sequence diagram.

    Args:
        conversation: Messages with their receivers; None, as a sender too, is the world outside.
        total: How many there were, if not all are given.
    """
    names: dict[str, str] = {}

    def who(address: Address | None) -> str:
        path = OUTSIDE if address is None else address.path
        return names.setdefault(path, f"p{len(names)}")

    arrows: list[str] = []
    for message, receiver in conversation:
        arrow = "-->>" if message.reply_to_id is not None else "->>"
        said = f": {_text(message.body)}" if message.body.strip() else ""
        line = f"{who(message.sender)}{arrow}{who(receiver)}: {_text(message.method)}{said}"
        arrows.append(f"    {line}")
    if total is not None and total > len(conversation) and names:
        first = next(iter(names.values()))
        more = total - len(conversation)
        arrows.append(f"    Note over {first}: and {more} more messages")
    participants = [f"    participant {key} as {_text(path)}" for path, key in names.items()]
    return "\n".join(["sequenceDiagram", *participants, *arrows]) + "\n"
