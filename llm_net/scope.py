"""What one run, or the world outside of runs, has sent, delivered and lost.

Floor 1. Every envelope belongs to a scope, and what it causes belongs to the same one; so a run
knows when it is quiet, and a limit ends this run and no other.

Invariant, at every moment: sent = delivered + queued + dead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

from llm_net.errors import UsageError, is_number

if TYPE_CHECKING:
    from llm_net.address import Address
    from llm_net.cell import Cell
    from llm_net.errors import HandlerError
    from llm_net.llm.budget import Budget
    from llm_net.mailbox import DeadLetter, Envelope
    from llm_net.message import Message

__all__ = ["Limits", "Scope", "Statistics", "total"]


RECORDED = 500
"""How many messages a run's sequence diagram shows at most."""


@dataclass(frozen=True)
class Statistics:
    """Counts of messages; one message to one receiver counts once.

    For an agent, `sent` is what it wrote, the others what came to it.

    Attributes:
        sent: Accepted for delivery; an emit to three edges is three, a reply or output one.
        delivered: A turn began on it, or the reply or output reached its taker.
        queued: Waits in a mailbox.
        dead: Became a dead letter.
        failures: Turns that raised.
        restarts: Restarts by a supervisor.
    """

    sent: int = 0
    delivered: int = 0
    queued: int = 0
    dead: int = 0
    failures: int = 0
    restarts: int = 0


def total(counts: Iterable[Statistics]) -> Statistics:
    """The sum of several counts."""
    rows = [astuple(each) for each in counts]
    return Statistics(*(sum(column) for column in zip(*rows, strict=True)))


@dataclass(frozen=True)
class Limits:
    """The bounds of a run; None is none.

    Attributes:
        max_messages: Deliveries to agents.
        max_hops: Messages that caused each other, one after the other.
        max_repeats: How often a message may have been caused by one with the same sender, receiver,
            method and body.
        timeout: Seconds on the runtime's clock.
        budget: What its model calls may cost.
    """

    max_messages: int | None = None
    max_hops: int | None = None
    max_repeats: int | None = None
    timeout: float | None = None
    budget: Budget | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is None or name == "budget":
                continue
            if not is_number(value) or not value >= 0:
                msg = f"{name}={value!r} is no bound: give a number that is not negative, or None."
                raise UsageError(msg)


class Scope:
    """The counts, outcomes and limits of one run; touched by the engine's thread only."""

    __slots__ = (
        "__weakref__",
        "careful",
        "changed",
        "dead",
        "dead_letters",
        "delivered",
        "ended",
        "failed",
        "failures",
        "limits",
        "loop",
        "open",
        "outputs",
        "past",
        "record",
        "restarts",
        "sent",
        "tap",
        "tight",
        "turns",
    )

    def __init__(self, limits: Limits | None = None, *, keep: int | None = None) -> None:
        """Open a scope.

        Args:
            limits: The bounds that end it.
            keep: How many of the latest outcomes of each kind to remember; None is all.
        """
        self.sent = 0
        self.delivered = 0
        self.dead = 0
        self.failed = 0
        self.restarts = 0
        self.turns = 0
        self.open = 0
        """Messages queued, turns open, and one-shot timers: zero is quiet."""
        self.limits = limits or Limits()
        self.tight = any(
            bound is not None
            for bound in (
                self.limits.max_messages,
                self.limits.max_hops,
                self.limits.max_repeats,
            )
        )
        self.careful = self.tight
        """Whether more is to be done with a message than to count it: limits, a record, an end."""
        self.ended: str | None = None
        """The name of what ended it: a limit, or `failure`."""
        self.past = False
        """Whether its run is over and reported: what is said in its name now belongs to no run."""
        self.loop: tuple[str, ...] = ()
        self.outputs: deque[Message] = deque(maxlen=keep)
        self.dead_letters: deque[DeadLetter] = deque(maxlen=keep)
        self.failures: deque[HandlerError] = deque(maxlen=keep)
        self.changed: Callable[[], None] | None = None
        """Called when the scope has fallen quiet or has ended."""
        self.record: list[tuple[Message, Address | None]] | None = None
        """The first messages with their receivers, for the run's sequence diagram."""
        self.tap: Callable[[Message], None] | None = None
        """Called with each message when it is sent."""

    def keep_record(self) -> None:
        """Remember the first messages from now on."""
        self.record = []
        self.careful = True

    @property
    def quiet(self) -> bool:
        """Whether nothing is queued, no turn is open and no one-shot timer is set."""
        return self.open == 0

    @property
    def reason(self) -> str:
        """Why messages of this scope die now: the limit that ended it, or a stop."""
        return "stopped" if self.ended in (None, "failure") else self.ended

    def close(self, count: int = 1) -> None:
        """That many of the open things are over."""
        self.open -= count
        if self.open == 0 and self.changed is not None:
            self.changed()

    def end(self, reason: str) -> None:
        """End the scope: what is sent from now on is dead, for this reason."""
        if self.ended is None:
            self.ended = reason
            self.careful = True
            if self.changed is not None:
                self.changed()

    def taken(self, reply: Message) -> None:
        """A reply reached whoever waited for it, without a mailbox."""
        self.sent += 1
        self.delivered += 1
        if self.tap is not None:
            self.tap(reply)
        if self.record is not None:
            self.note(reply, reply.receiver)

    def note(self, message: Message, receiver: Address | None) -> None:
        """Keep the message for the run's sequence diagram."""
        assert self.record is not None
        if len(self.record) < RECORDED:
            self.record.append((message, receiver))
        elif not self.tight and self.ended is None:
            self.careful = False  # the record is full, and nothing else wants a look

    def admits(self, envelope: Envelope, receiver: Cell) -> bool:
        """Whether the limits allow this message; if one does not, the scope has ended.

        Called only where a limit is set.
        """
        limits = self.limits
        if limits.max_hops is not None and envelope.hops > limits.max_hops:
            self.end("max_hops")
        elif limits.max_repeats is not None and self._repeats(envelope, receiver):
            self.end("max_repeats")
        return self.ended is None

    def may_begin(self) -> bool:
        """Whether one more delivery is allowed; if not, the scope has ended.

        Called only where a limit is set.
        """
        bound = self.limits.max_messages
        if bound is not None and self.turns >= bound:
            self.end("max_messages")
        return self.ended is None

    def _repeats(self, envelope: Envelope, receiver: Cell) -> bool:
        """Whether messages like this one have caused it too often; if so, name the loop."""
        message = envelope.message
        seen = 0
        back: list[Cell] = [receiver]
        later = envelope
        while later.cause is not None:
            earlier = later.cause.message
            back.append(later.by)
            if (
                later.by is receiver
                and earlier.method == message.method
                and earlier.body == message.body
                and earlier.sender == message.sender
            ):
                seen += 1
                if seen == 1:
                    self.loop = tuple(cell.node.path for cell in reversed(back))
                if self.limits.max_repeats is not None and seen >= self.limits.max_repeats:
                    return True
            later = later.cause
        self.loop = ()
        return False

    def statistics(self) -> Statistics:
        """The counts now; what is neither delivered nor dead is queued."""
        return Statistics(
            sent=self.sent,
            delivered=self.delivered,
            queued=self.sent - self.delivered - self.dead,
            dead=self.dead,
            failures=self.failed,
            restarts=self.restarts,
        )
