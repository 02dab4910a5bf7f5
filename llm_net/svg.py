"""Pictures in SVG, which a browser opens without another program.

Floor 1. Knows graphs and messages; knows nothing of running agents.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape as escape_html

from llm_net.address import Address
from llm_net.diagram import OUTSIDE, Box, merged, shortened
from llm_net.message import Message

__all__ = ["network_svg", "sequence_svg"]

WIDTH, HEIGHT, GAP, PAD = 130.0, 40.0, 70.0, 28.0
"""The size of an agent's box, the space between boxes, and a network's margin, in pixels."""

ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML does not know, not even as entities."""

LANE, ROW = 170.0, 38.0
"""The least width of a sequence diagram's lane, and the height of its rows, in pixels."""


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


def escape(text: str) -> str:
    """A text as XML can hold it."""
    return escape_html(ILLEGAL.sub("\ufffd", text))


def network_svg(box: Box) -> str:
    """A network as an SVG picture that a browser opens; needs no other program."""
    placed = _place(box)
    _move(placed, PAD, PAD)
    parts: list[str] = []
    _draw(placed, parts, 0)
    width, height = placed.width + 2 * PAD, placed.height + 2 * PAD
    return _page(width, height, parts)


def sequence_svg(conversation: Sequence[tuple[Message, Address | None]]) -> str:
    """Who said what to whom, as an SVG sequence diagram.

    Args:
        conversation: Messages with their receivers; None, as a sender too, is the world outside.
    """
    lanes: dict[str, int] = {}
    for message, receiver in conversation:
        for address in (message.sender, receiver):
            lanes.setdefault(OUTSIDE if address is None else address.path, len(lanes))
    lane = max([LANE, *(8.0 * len(path) + 30 for path in lanes)])
    height = PAD + HEIGHT + ROW * (len(conversation) + 1)
    parts: list[str] = []
    for path, index in lanes.items():
        x = PAD + lane * (index + 0.5)
        parts.append(
            f'<line x1="{x:.1f}" y1="{PAD + HEIGHT}" x2="{x:.1f}" y2="{height:.1f}" '
            'stroke="#bbc" stroke-dasharray="4 4"/>'
            f'<rect x="{x - lane / 2 + 8:.1f}" y="{PAD}" width="{lane - 16:.1f}" height="{HEIGHT}" '
            'rx="8" fill="#f4f7fb" stroke="#555"/>'
            f'<text x="{x:.1f}" y="{PAD + HEIGHT / 2 + 4}" text-anchor="middle">'
            f"{escape(path)}</text>"
        )
    for row, (message, receiver) in enumerate(conversation, 1):
        start = lanes[OUTSIDE if message.sender is None else message.sender.path]
        end = lanes[OUTSIDE if receiver is None else receiver.path]
        x1, x2 = PAD + lane * (start + 0.5), PAD + lane * (end + 0.5)
        y = PAD + HEIGHT + ROW * row
        dashes = ' stroke-dasharray="6 3"' if message.reply_to_id is not None else ""
        said = shortened(message.body)
        label = escape(f"{message.method}: {said}" if said else message.method)
        path = (
            f"M{x1:.1f} {y:.1f} H{x2:.1f}"
            if start != end
            else f"M{x1:.1f} {y - 8:.1f} h26 v14 h-26"
        )
        middle = (x1 + x2) / 2 if start != end else x1 + 32
        anchor = "middle" if start != end else "start"
        parts.append(
            f'<path d="{path}" fill="none" stroke="#555"{dashes} marker-end="url(#tip)"/>'
            f'<text x="{middle:.1f}" y="{y - 6:.1f}" text-anchor="{anchor}" font-size="11" '
            f'stroke="#fff" stroke-width="3" paint-order="stroke">{label}</text>'
        )
    return _page(2 * PAD + lane * max(1, len(lanes)), height + PAD, parts)


def _page(width: float, height: float, parts: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" font-family="system-ui, sans-serif" '
        'font-size="13">\n<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" '
        'markerWidth="7" markerHeight="7" orient="auto-start-reverse">'
        '<path d="M0 0 10 5 0 10z" fill="#555"/></marker></defs>\n'
        '<rect width="100%" height="100%" fill="#fff"/>\n'
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
        _move(member, centre_x - member.width / 2, centre_y - member.height / 2)
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
    for u, v, events in merged(box.edges):
        parts.append(_arrow(by_name[u], by_name[v], events, bend=u != v and (v, u) in both))


def _arrow(start: _Placed, end: _Placed, label: str, *, bend: bool) -> str:
    label = escape(label)
    if start is end:
        x, y = start.x + start.width, start.y + start.height / 2
        right = x + 45
        path = f"M{x:.1f} {y - 8:.1f} C{right:.1f} {y - 40:.1f} "
        path += f"{right:.1f} {y + 40:.1f} {x:.1f} {y + 8:.1f}"
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
