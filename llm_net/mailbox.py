"""What stands in a mailbox, and what becomes of a message that nobody takes.

Floor 1. Knows messages; knows nothing of agents.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

from llm_net.errors import UsageError

if TYPE_CHECKING:
    from llm_net.address import Address
    from llm_net.errors import LLMNetError
    from llm_net.message import Message
    from llm_net.scope import Scope

__all__ = ["DeadLetter", "Envelope", "Letter", "Mailbox", "Overflow", "Reason", "Sink"]


class Reason(StrEnum):
    """Why a message died; a run's limit adds its own name, as in `max_messages`."""

    STOPPED = "stopped"
    NO_HANDLER = "no_handler"
    NO_RECEIVER = "no_receiver"
    NO_ENTRY = "no_entry"
    LATE_REPLY = "late_reply"
    OVERFLOW = "overflow"
    LOSS = "loss"
    POISON = "poison"


Overflow = Literal["wait", "fail", "drop_oldest", "drop_newest"]


@dataclass(frozen=True, kw_only=True)
class Mailbox:
    """How many messages an agent's mailbox holds, and what becomes of more.

    Attributes:
        capacity: Messages that wait for their turn at most; None is no bound.
        overflow: What becomes of one more. `wait`: whoever sends it waits (`asend`, `aemit` and
            `atell` await; the plain words block on a thread, and on an event loop the sender's turn
            does not end before the message is taken). `fail`: whoever sends it gets `MailboxFull`.
            `drop_oldest`, `drop_newest`: one becomes a dead letter (`overflow`), as does what
            `fail` refuses.
    """

    capacity: int | None = None
    overflow: Overflow = "wait"

    def __post_init__(self) -> None:
        most = self.capacity
        if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
            msg = f"capacity={most!r} is no size of a mailbox: give 1 or more messages, or None."
            raise UsageError(msg)
        if self.overflow not in get_args(Overflow):
            msg = f"overflow={self.overflow!r} is not one of {', '.join(get_args(Overflow))}."
            raise UsageError(msg)


class Sink(Protocol):
    """Where the replies to one asked message go."""

    @property
    def wants(self) -> bool:
        """Whether the next reply belongs here; else it goes its own way."""
        ...

    def take(self, reply: Message) -> None:
        """Accept a reply that is wanted."""
        ...

    def ended(self, error: LLMNetError | None) -> None:
        """One of the turns that the message caused is over; no reply will come of it."""
        ...

    def expect(self, count: int) -> None:
        """The message went to so many receivers."""
        ...

    @property
    def expired(self) -> bool:
        """Whether whoever asked has given up."""
        ...

    targets: tuple[Any, ...]
    """The cells that were asked."""

    @property
    def light(self) -> bool:
        """Whether no code of the user's runs when it takes a reply or hears of an end."""
        ...


class Envelope:
    """A message on its way along edges; all listeners of one emit share one.

    Attributes:
        message: What is said.
        scope: The run it belongs to.
        hops: How many messages caused this one, one after the other; 0 from outside.
        overheard: Whether it came along an edge; otherwise it is addressed.
        sink: Where replies go, if somebody asked.
        via: The address under which the receiver was spoken to, if that is its network's.
        cause: The envelope whose handling caused this one; kept only where loops are looked for.
        by: The cell that handled it; kept likewise.
    """

    __slots__ = ("hops", "message", "scope")

    # What only a letter can have costs an overheard message nothing.
    overheard: bool = True
    sink: Sink | None = None
    via: Address | None = None
    cause: Envelope | None = None
    by: Any = None

    def __init__(self, message: Message, scope: Scope, hops: int) -> None:
        self.message = message
        self.scope = scope
        self.hops = hops

    @property
    def light(self) -> bool:
        """Whether no code of the user's hears what becomes of it."""
        return self.sink is None or self.sink.light


class Letter(Envelope):
    """A message with all that delivery may have to know of it; addressed, unless it says so."""

    __slots__ = ("by", "cause", "overheard", "sink", "via")

    def __init__(
        self,
        message: Message,
        scope: Scope,
        hops: int,
        *,
        overheard: bool = False,
        sink: Sink | None = None,
        via: Address | None = None,
    ) -> None:
        super().__init__(message, scope, hops)
        self.overheard = overheard
        self.sink = sink
        self.via = via
        self.cause = None
        self.by = None


@dataclass(frozen=True)
class DeadLetter:
    """A message that nobody took.

    Attributes:
        message: The message.
        reason: Why, one of `Reason` or the name of the limit that ended the run.
        receiver: The path it was meant for, as far as known; empty if it had none.
    """

    message: Message
    reason: str
    receiver: str
