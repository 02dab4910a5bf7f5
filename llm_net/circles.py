"""Circles of agents that wait for each other: for answers, for room in a mailbox, or both.

Floor 2. Each serves one message at a time, so in a circle nobody would ever go on. It is found
before it closes, by whoever would wait last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from llm_net.cell import Cell

__all__ = ["Awaited", "circle_of"]


class Awaited(Protocol):
    """Something that a turn waits for."""

    @property
    def targets(self) -> tuple[Any, ...]:
        """The cells that have to do something first."""
        ...


def circle_of(cell: Cell, awaited: Awaited) -> tuple[str, ...] | None:
    """The paths of the circle that would close if this agent waited for that, else None."""
    if cell.limit > 1:
        return None
    circle = _circle(cell, awaited, (cell,))
    return None if circle is None else tuple(each.node.path for each in circle)


def _circle(waiter: Cell, awaited: Awaited, trail: tuple[Cell, ...]) -> tuple[Cell, ...] | None:
    for cell in awaited.targets:
        if cell is waiter:
            return (*trail, waiter)
        if cell in trail or cell.limit > 1:
            continue
        for turn in cell.open:
            for waiting in turn.waits:
                found = _circle(waiter, waiting, (*trail, cell))
                if found is not None:
                    return found
    return None
