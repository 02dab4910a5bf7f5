"""Routes: who hears an event of an agent, with all borders of nested networks compiled away.

Floor 1. A route is made from the graphs when an event is first emitted, and forgotten when one of
these graphs changes; so nesting costs nothing per message.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llm_net.mailbox import Reason

if TYPE_CHECKING:
    from llm_net.message import Message

__all__ = ["Filter", "Leg", "Listener", "Route"]

Filter = Callable[["Message"], bool]
Listener = Callable[["Message"], Any]


@dataclass(frozen=True, slots=True)
class Leg:
    """The way along one edge.

    Attributes:
        path: The agent at its end, for dead letters.
        where: The edge's filter, if it has one.
        cells: Who hears; None if that depends on the message's method.
        resolve: Gives the cells for a method; a network with handlers of its own needs it.
        live: Whether the agent at the end is live.
    """

    path: str
    where: Filter | None
    cells: tuple[Any, ...] | None
    resolve: Callable[[str], tuple[Any, ...]]
    live: bool

    @property
    def reason(self) -> str:
        """Why a message that found no cell here died."""
        return Reason.NO_ENTRY if self.live else Reason.STOPPED

    def hears(self, message: Message, failed: Callable[[Exception], None]) -> bool:
        """Whether the filter lets this message pass; one that raises does not, and is reported."""
        if self.where is None:
            return True
        try:
            return bool(self.where(message))
        except Exception as error:  # noqa: BLE001 - a user's function; the other edges are served
            failed(error)
            return False


@dataclass(frozen=True, slots=True)
class Route:
    """Where an event of one agent goes.

    Attributes:
        legs: The edges, in the order in which they were first linked, innermost network first.
        listeners: Functions to call.
        leaves: Whether it leaves the outermost network, as an output of the run.
    """

    legs: tuple[Leg, ...]
    listeners: tuple[Listener, ...]
    leaves: bool

    @property
    def silent(self) -> bool:
        """Whether nobody hears it."""
        return not (self.legs or self.listeners or self.leaves)
