"""A channel: an edge that takes time, loses messages, or holds only so many.

Floor 2. Time is the runtime's, luck its seeded random source. A channel keeps its own order; other
edges may overtake it. What is under way counts as queued, and holds its run.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

from llm_net.errors import UsageError, is_number
from llm_net.mailbox import Reason

if TYPE_CHECKING:
    import asyncio

    from llm_net.cell import Cell
    from llm_net.mailbox import Envelope
    from llm_net.node import Node
    from llm_net.scope import Scope

__all__ = ["Channel", "Transit"]

Latency = float | Callable[[Random], float]
KEYS = ("latency", "loss", "capacity")


class Channel:
    """What happens to messages on one edge.

    Attributes:
        latency: Seconds on the way, or a function of a random source that draws them.
        loss: The probability with which a message gets lost.
        capacity: How many messages may be under way at once; None is no bound.
    """

    def __init__(self, name: str, attributes: dict[str, Any]) -> None:
        """Take what concerns the channel from an edge's attributes.

        Raises:
            UsageError: If a value cannot be what it says.
        """
        self._name = name
        self.latency: Latency = attributes.get("latency") or 0.0
        self.loss: float = attributes.get("loss") or 0.0
        self.capacity: int | None = attributes.get("capacity")
        if not callable(self.latency) and not (is_number(self.latency) and self.latency >= 0):
            msg = f"{name}: latency={self.latency!r} is no time: give seconds, or a function."
            raise UsageError(msg)
        if not is_number(self.loss) or not 0 <= self.loss <= 1:
            msg = f"{name}: loss={self.loss!r} is no probability: give a number from 0 to 1."
            raise UsageError(msg)
        if self.capacity is not None:
            if isinstance(self.capacity, bool) or not isinstance(self.capacity, int):
                msg = f"{name}: capacity={self.capacity!r} is no number of messages."
                raise UsageError(msg)
            if self.capacity < 1 or not attributes.get("latency"):
                msg = (
                    f"{name}: capacity={self.capacity!r} bounds how many messages are under way "
                    "on the edge, so it is 1 or more and needs a latency=. To bound those that "
                    "wait for their turn, give the receiver a Mailbox(capacity=…)."
                )
                raise UsageError(msg)
        self._luck: tuple[Any, Random] | None = None
        self._way: deque[Transit] = deque()
        self._last = 0.0

    @classmethod
    def of(cls, name: str, attributes: dict[str, Any]) -> Channel | None:
        """The channel of an edge; None if it takes no time and loses nothing.

        Raises:
            UsageError: If a value cannot be what it says.
        """
        if not any(attributes.get(key) is not None for key in KEYS):
            return None
        return cls(name, attributes)

    def carry(self, cell: Cell, receiver: Node, envelope: Envelope) -> Any:
        """Take a message on the way; gives what the mailbox says, if it is there at once."""
        runtime = cell.runtime
        if self._luck is None or self._luck[0] is not runtime:
            self._luck = (runtime, runtime.random(f"{cell.node.path} {self._name}"))
        luck = self._luck[1]
        cell.sent += 1
        if self.loss and luck.random() < self.loss:
            runtime.bury(envelope, Reason.LOSS, receiver.path, counted=False)
            return None
        if self.capacity is not None and len(self._way) >= self.capacity:
            runtime.bury(envelope, Reason.OVERFLOW, receiver.path, counted=False)
            return None
        delay = self.latency(luck) if callable(self.latency) else self.latency
        if not delay > 0 and not self._way:
            return arrive(cell, receiver, envelope)
        assert runtime.engine.loop is not None
        now = runtime.engine.loop.time()
        self._last = max(self._last if self._way else 0.0, now + max(0.0, delay))
        transit = Transit(self._way, cell, receiver, envelope)
        self._way.append(transit)
        transit.set_out(self._last - now)
        return None


class Transit:
    """One message under way.

    Attributes:
        scope: The run it belongs to.
    """

    def __init__(self, way: deque[Transit], cell: Cell, receiver: Node, envelope: Envelope) -> None:
        self._way = way
        self._cell = cell
        self._receiver = receiver
        self._envelope = envelope
        self._timer: asyncio.TimerHandle | None = None
        self.scope: Scope = envelope.scope

    def set_out(self, delay: float) -> None:
        """Begin the way."""
        runtime = self._cell.runtime
        self.scope.sent += 1
        self.scope.open += 1
        runtime.engine.held += 1
        runtime.transits[self] = None
        self._timer = runtime.engine.call_later(delay, self._first_arrives)

    def _first_arrives(self) -> None:
        # Whichever timer fires: the first on the way is the first to arrive.
        self._way[0].arrive()

    def _leave(self) -> None:
        runtime = self._cell.runtime
        self._way.remove(self)
        runtime.engine.held -= 1
        del runtime.transits[self]

    def arrive(self) -> None:
        """Put the message into the mailbox."""
        self._leave()
        # The mailbox counts it again; the run stays open until it has.
        self.scope.sent -= 1
        arrive(self._cell, self._receiver, self._envelope)
        self.scope.close()

    def die(self, reason: str) -> None:
        """Let it die on the way."""
        if self._timer is not None:
            self._timer.cancel()
        self._leave()
        self._cell.runtime.bury(self._envelope, reason, self._receiver.path)
        self.scope.close()


def arrive(cell: Cell, receiver: Node, envelope: Envelope) -> Any:
    """Put a message into the mailboxes behind a node."""
    doors = receiver.doors(envelope.message.method)
    if not doors:
        cell.runtime.bury(envelope, receiver.why_closed, receiver.path, counted=False)
        return None
    cell.sent += len(doors) - 1
    answers = [door.put(envelope, cell, None) for door in doors]
    return next((answer for answer in answers if answer is not None), None)
