"""Routes: who hears an event of an agent, with all borders of nested networks compiled away.

Floor 1. A route is made from the graphs when an event is first emitted, and forgotten when one of
these graphs changes; so nesting costs nothing per message.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llm_net.errors import is_interrupt

if TYPE_CHECKING:
    from llm_net.cell import Cell
    from llm_net.channel import Channel
    from llm_net.message import Message
    from llm_net.node import Node

__all__ = ["Filter", "Leg", "Listener", "Route"]

Filter = Callable[["Message"], bool]
Listener = Callable[["Message"], Any]


@dataclass(frozen=True, slots=True)
class Leg:
    """The way along one edge.

    Attributes:
        node: The node at its end.
        where: The edge's filter, if it has one.
        cells: Who hears; None if it is to be looked up for each message, because it depends on the
            method, or because the listener may live in another runtime.
        channel: What the edge does to messages, if anything.
    """

    node: Node
    where: Filter | None
    cells: tuple[Cell, ...] | None
    channel: Channel | None = None

    def hears(self, message: Message, failed: Callable[[BaseException], None]) -> bool:
        """Whether the filter lets this message pass; one that raises does not, and is reported."""
        if self.where is None:
            return True
        try:
            return bool(self.where(message))
        except BaseException as error:
            if is_interrupt(error):
                raise
            failed(error)  # the other edges are served
            return False


class Route:
    """Where an event of one agent goes.

    Attributes:
        legs: The edges, in the order in which they were first linked, innermost network first.
        listeners: Functions to call.
        leaves: Whether it leaves the outermost network, as an output of the run.
        silent: Whether nobody hears it.
        cells: All who hear it, if nothing has to be looked at on the way; else None.
    """

    __slots__ = ("cells", "leaves", "legs", "listeners", "silent")

    def __init__(
        self, legs: tuple[Leg, ...], listeners: tuple[Listener, ...], *, leaves: bool
    ) -> None:
        self.legs = legs
        self.listeners = listeners
        self.leaves = leaves
        self.silent = not (legs or listeners or leaves)
        self.cells: tuple[Cell, ...] | None = None
        if (
            not listeners
            and not leaves
            and all(leg.where is None and leg.channel is None and leg.cells for leg in legs)
        ):
            self.cells = tuple(cell for leg in legs for cell in leg.cells or ())
