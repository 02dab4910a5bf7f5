"""Admissions: messages that wait until a full mailbox takes them.

Floor 2. The message waits at the mailbox, in line behind earlier ones, and counts as queued. The
turn that sent it is over only when it has been taken.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from llm_net.errors import MailboxFull

if TYPE_CHECKING:
    from llm_net.cell import Cell
    from llm_net.mailbox import Envelope
    from llm_net.turn import Turn

__all__ = ["Admission", "full"]


class Admission:
    """One message in line at a full mailbox.

    Attributes:
        envelope: The message.
        sender: Who sends it; None from outside.
        turn: The turn that is not over before it is taken, if it was sent in one.
        targets: The cell whose mailbox is full.
        done: Whether it was taken, or died.
        wake: Called once, on the engine's thread, when done.
    """

    __slots__ = ("done", "envelope", "sender", "targets", "turn", "wake")

    def __init__(
        self, cell: Cell, envelope: Envelope, sender: Cell | None, turn: Turn | None
    ) -> None:
        self.targets = (cell,)
        self.envelope = envelope
        self.sender = sender
        self.turn = turn
        self.done = False
        self.wake: Callable[[], None] | None = None

    def settle(self) -> None:
        """The message was taken, or died."""
        self.done = True
        turn, self.turn = self.turn, None
        if self.wake is not None:
            self.wake()
        if turn is not None:
            turn.waits_no_more(self)
            turn.cell.taken_in(turn)

    def give_up(self, _error: BaseException) -> None:
        """The turn waits no longer; the message stays in line."""
        turn, self.turn = self.turn, None
        if turn is not None:
            turn.waits_no_more(self)


def full(path: str, capacity: int, circle: tuple[str, ...] = ()) -> MailboxFull:
    """The error of a sender whose message a mailbox does not take."""
    if circle:
        return MailboxFull(
            f"The message would wait for ever: the mailbox of {path!r} holds {capacity} messages, "
            f"its capacity, and {' waits for '.join(map(repr, circle))}. Give one of them a larger "
            "mailbox, or another overflow=, or let one send less.",
            circle=circle,
        )
    return MailboxFull(
        f"The mailbox of {path!r} is full: it holds {capacity} messages, its capacity. Send less, "
        "give it a larger capacity=, or overflow='wait'."
    )
