"""Pictures: a network as Mermaid or SVG, a conversation as a Mermaid sequence diagram.

Floor 1. Knows graphs and messages; knows nothing of running agents.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

from llm_net.address import Address
from llm_net.message import Message

__all__ = ["Box", "flow_chart", "sequence_diagram", "svg"]

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


def _text(value: str) -> str:
    """A text that Mermaid shows as it is, whatever a model wrote into it."""
    short = " ".join(value.split())
    if len(short) > SHOWN:
        short = short[: SHOWN - 1] + "…"
    # Mermaid reads #…; as an entity; its own syntax must not come out of a message.
    special = "#;\"<>&{}[]()|`%:"
    return "".join(f"#{ord(char)};" if char in special else char for char in short)


def flow_chart(box: Box) -> str:
    """A network as a Mermaid flow chart; nested networks are subgraphs, parallel edges one arrow."""
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
        for u, v, events in _merged(inner.edges):
            start, end = ids[(*place, numbers[u])], ids[(*place, numbers[v])]
            lines.append(f'{indent}    {start} -->|"{_text(events)}"| {end}')
        lines.append(f"{indent}end")
        if inner.exposes:
            out = f"{ids[place]}_out"
            lines.append(f'{indent}{out}(("{_text(", ".join(inner.exposes))}"))')
            lines.append(f"{indent}{ids[place]} -.-> {out}")

    draw(box, (), "    ")
    return "\n".join(lines) + "\n"


def _merged(edges: Iterable[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
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

    arrows = []
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


# -- SVG

WIDTH, HEIGHT, GAP, PAD = 130.0, 40.0, 70.0, 28.0
"""The size of an agent's box, the space between boxes, and a network's margin, in pixels."""


@dataclass
class _Placed:
    box: Box
    x: float
    y: float
    width: float
    height: float
    inside: list[_Placed]

    @property
    def centre(self) -> tuple[float, float]:
        return self.x + self.width / 2, self.y + self.height / 2


def svg(box: Box) -> str:
    """A network as an SVG picture that a browser opens; needs no other program."""
    placed = _place(box)
    _move(placed, PAD, PAD)
    parts: list[str] = []
    _draw(placed, parts, 0)
    width, height = placed.width + 2 * PAD, placed.height + 2 * PAD
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" font-family="system-ui, sans-serif" '
        'font-size="13">\n<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" '
        'markerWidth="7" markerHeight="7" orient="auto-start-reverse">'
        '<path d="M0 0 10 5 0 10z" fill="#555"/></marker></defs>\n'
        f'<rect width="100%" height="100%" fill="#fff"/>\n'
    )
    return head + "\n".join(parts) + "\n</svg>\n"


def _place(box: Box) -> _Placed:
    """Lay members out on a circle that is wide enough for the largest."""
    if not box.network:
        return _Placed(box, 0, 0, max(WIDTH, 9.0 * len(box.name) + 24), HEIGHT, [])
    inside = [_place(member) for member in box.inside]
    count = len(inside)
    size_x = max((p.width for p in inside), default=WIDTH)
    size_y = max((p.height for p in inside), default=HEIGHT)
    if count <= 2:  # noqa: PLR2004 - two stand side by side
        radius_x, radius_y = (size_x + 2 * GAP) / 2 * (count - 1) if count else 0.0, 0.0
    else:
        step = 2 * math.sin(math.pi / count)
        radius_x = (size_x + GAP) / step
        radius_y = max((size_y + GAP) / step, size_y)
    for index, member in enumerate(inside):
        angle = math.pi + 2 * math.pi * index / max(count, 1)
        centre_x = radius_x * math.cos(angle)
        centre_y = radius_y * math.sin(angle)
        member.x, member.y = centre_x - member.width / 2, centre_y - member.height / 2
    left = min((p.x for p in inside), default=0) - PAD
    top = min((p.y for p in inside), default=0) - PAD - 18
    width = max((p.x + p.width for p in inside), default=WIDTH) + PAD - left
    height = max((p.y + p.height for p in inside), default=HEIGHT) + PAD - top
    for member in inside:
        _move(member, -left, -top)
    return _Placed(box, 0, 0, max(width, 9.0 * len(box.name) + 60), height, inside)


def _move(placed: _Placed, dx: float, dy: float) -> None:
    placed.x += dx
    placed.y += dy
    for member in placed.inside:
        _move(member, dx, dy)


def _draw(placed: _Placed, parts: list[str], depth: int) -> None:
    box = placed.box
    x, y, width, height = placed.x, placed.y, placed.width, placed.height
    name = escape(box.name)
    if not box.network:
        stroke = "#2a6f4e" if box.entry else "#555"
        parts.append(
            f'<g><rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="8" '
            f'fill="#f4f7fb" stroke="{stroke}" stroke-width="{2 if box.entry else 1}"/>'
            f'<text x="{x + width / 2:.1f}" y="{y + height / 2 + 4:.1f}" '
            f'text-anchor="middle">{name}</text></g>'
        )
        return
    shade = "#fbfbfd" if depth % 2 == 0 else "#f0f3f8"
    title = name + (f"  ⇢ {escape(', '.join(box.exposes))}" if box.exposes else "")
    parts.append(
        f'<g><rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="12" '
        f'fill="{shade}" stroke="#99a"/><text x="{x + 14:.1f}" y="{y + 20:.1f}" '
        f'font-weight="600">{title}</text></g>'
    )
    by_name = {member.box.name: member for member in placed.inside}
    for member in placed.inside:
        _draw(member, parts, depth + 1)
    both = {(u, v) for u, _, v in box.edges}
    for u, v, events in _merged(box.edges):
        parts.append(_arrow(by_name[u], by_name[v], events, bend=u != v and (v, u) in both))


def _arrow(start: _Placed, end: _Placed, label: str, *, bend: bool) -> str:
    label = escape(label)
    if start is end:
        x, y = start.x + start.width, start.y + start.height / 2
        path = f"M{x:.1f} {y - 8:.1f} C{x + 45:.1f} {y - 40:.1f} {x + 45:.1f} {y + 40:.1f} {x:.1f} {y + 8:.1f}"
        at = (x + 40, y + 4)
    else:
        (x1, y1), (x2, y2) = _border(start, end.centre), _border(end, start.centre)
        lift = 22 if bend else 0
        length = math.hypot(x2 - x1, y2 - y1) or 1.0
        middle = (
            (x1 + x2) / 2 - (y2 - y1) / length * lift,
            (y1 + y2) / 2 + (x2 - x1) / length * lift,
        )
        path = f"M{x1:.1f} {y1:.1f} Q{middle[0]:.1f} {middle[1]:.1f} {x2:.1f} {y2:.1f}"
        at = ((x1 + x2) / 4 + middle[0] / 2, (y1 + y2) / 4 + middle[1] / 2 - 5)
    return (
        f'<path d="{path}" fill="none" stroke="#555" marker-end="url(#tip)"/>'
        f'<text x="{at[0]:.1f}" y="{at[1]:.1f}" text-anchor="middle" fill="#333" '
        f'stroke="#fff" stroke-width="3" paint-order="stroke" font-size="11">{label}</text>'
    )


def _border(placed: _Placed, towards: tuple[float, float]) -> tuple[float, float]:
    """Where the line from a box's centre to a point leaves the box."""
    x, y = placed.centre
    dx, dy = towards[0] - x, towards[1] - y
    if not dx and not dy:
        return x, y
    reach = min(
        placed.width / 2 / abs(dx) if dx else math.inf,
        placed.height / 2 / abs(dy) if dy else math.inf,
    )
    return x + dx * reach, y + dy * reach
