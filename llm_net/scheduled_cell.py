"""The cell under a deterministic runtime: which of its messages comes next is not its own decision.

Floor 2. Messages from one sender arrive in the order sent, and nothing else is promised; so the
mail stands in lanes, one for each sender, and the head of each lane that may be handled now is an
option of the schedule.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any

from llm_net.cell import Cell
from llm_net.mailbox import Envelope
from llm_net.turn import Turn

__all__ = ["ScheduledCell"]


class Lane:
    """What one sender has sent to one agent; an option while its head may be handled.

    Attributes:
        sender: The sender's path; empty for the world outside.
        queue: The messages, each with its number in the order of arrival at the agent.
        offered: Whether it is among the options.
    """

    __slots__ = ("_cell", "offered", "queue", "sender")

    def __init__(self, cell: ScheduledCell, sender: str) -> None:
        self._cell = cell
        self.sender = sender
        self.queue: deque[tuple[int, Envelope]] = deque()
        self.offered = False

    @property
    def key(self) -> str:
        """Its name, equal in every run."""
        return f"{self.sender}>{self._cell.node.path}"

    @property
    def receiver(self) -> str:
        """The path of the agent whose mail it is."""
        return self._cell.node.path

    def serve(self) -> bool:
        """Let the agent handle the head."""
        self.offered = False
        self._cell.serve_lane(self)
        return True


class Lanes:
    """A mailbox of lanes."""

    def __init__(self, cell: ScheduledCell) -> None:
        self._cell = cell
        self._lanes: dict[str, Lane] = {}
        self._names: dict[str, deque[int]] = {}
        """The numbers of the messages that bear each sender's name."""
        self._count = 0
        self._numbers = 0
        self._front = 0
        self._last: Lane | None = None
        self.source = ""
        """The path of whoever sends what is taken in next."""
        self.given_by = ""
        """The path of whoever sent what was given last."""
        self.horizon = math.inf
        """The number of the latest message that may be given."""
        self.next: Lane | None = None
        """The lane whose head is asked for; without one, the oldest message is."""

    def __len__(self) -> int:
        return self._count

    def all(self) -> list[Lane]:
        """The lanes, each with mail."""
        return list(self._lanes.values())

    def free(self, lane: Lane) -> bool:
        """Whether nothing older bears the same name as the lane's head.

        Those who speak for a network bear its name, and a message that is passed on that of another
        agent; to the receiver they are one sender.
        """
        number, envelope = lane.queue[0]
        return number <= self.horizon and self._names[_name(envelope)][0] == number

    def append(self, envelope: Envelope) -> None:
        """Take a message in."""
        sender = self.source
        lane = self._lanes.get(sender)
        if lane is None:
            lane = self._lanes[sender] = Lane(self._cell, sender)
        self._numbers += 1
        lane.queue.append((self._numbers, envelope))
        self._names.setdefault(_name(envelope), deque()).append(self._numbers)
        self._count += 1

    @property
    def latest(self) -> int:
        """The number of the message that was taken in last."""
        return self._numbers

    def appendleft(self, envelope: Envelope) -> None:
        """Take the message back that was given last."""
        assert self._last is not None
        self.take_back(envelope, self._last.sender)

    def take_back(self, envelope: Envelope, sender: str) -> None:
        """Take back a message, which others may have overtaken since, to the front of its lane."""
        lane = self._lanes.get(sender)
        if lane is None:
            lane = self._lanes[sender] = Lane(self._cell, sender)
        elif lane.offered:
            self._cell.hide(lane)  # another message is its head now
        self._front -= 1
        lane.queue.appendleft((self._front, envelope))
        self._names.setdefault(_name(envelope), deque()).appendleft(self._front)
        self._count += 1

    def popleft(self) -> Envelope:
        """The head of the lane that is next, or the oldest message."""
        lane = self.next or min(self.all(), key=lambda lane: lane.queue[0][0])
        self.next = None  # once: a handler may stop its agent, which empties the mailbox
        self._last = lane
        self.given_by = lane.sender
        self._count -= 1
        _, envelope = lane.queue.popleft()
        name = _name(envelope)
        numbers = self._names[name]
        numbers.popleft()
        if not numbers:
            del self._names[name]
        if not lane.queue:
            del self._lanes[lane.sender]
            if lane.offered:
                self._cell.hide(lane)
        return envelope


def _name(envelope: Envelope) -> str:
    sender = envelope.message.sender
    return "" if sender is None else sender.path


class ScheduledCell(Cell):
    """Hosts one agent, and handles what the schedule says."""

    quantum = 1

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._mail = Lanes(self)
        self.mail = self._mail
        self.careful = True
        self.scheduled = True
        """Never put among the ready by itself: it offers what it could do."""
        self._offered = False
        self._sources: dict[Envelope, str] = {}
        """Who sent the messages that are handled now."""

    @property
    def key(self) -> str:
        """The name of the option to go on with hooks, or to stop."""
        return f"life {self.node.path}"

    @property
    def receiver(self) -> str:
        """The path of the agent."""
        return self.node.path

    def _take_in(self, envelope: Envelope, sender: Cell | None) -> None:
        # Who really sends: a message that is passed on may name another.
        self._mail.source = "" if sender is None else sender.node.path
        super()._take_in(envelope, sender)
        self._offer()

    @property
    def latest(self) -> int:
        """The number of the message that came last."""
        return self._mail.latest

    def letters(self) -> list[tuple[str, Envelope]]:
        """The messages that wait, each with the path of who sent it, in order of arrival."""
        numbered = [
            (number, lane.sender, envelope)
            for lane in self._mail.all()
            for number, envelope in lane.queue
        ]
        return [(sender, each) for _, sender, each in sorted(numbered, key=lambda it: it[0])]

    def put_again(self, sender: str, envelope: Envelope) -> None:
        """Take in a message that waited in another life; by the owner."""
        envelope.scope.sent += 1
        envelope.scope.open += 1
        self._mail.source = sender
        super()._take_in(envelope, None)
        self._offer()

    def handle_until(self, number: float) -> None:
        """Handle messages up to this one and none that came after it; by the owner."""
        self._mail.horizon = number
        for lane in self._mail.all():
            if lane.offered and not self._mail.free(lane):
                self.hide(lane)
        self._offer()

    def source_of(self, envelope: Envelope) -> str:
        """Who sent a message that is handled."""
        return self._sources.get(envelope, "")

    def take_back(self, envelope: Envelope, source: str) -> None:
        """Put a message that is to be tried again before all others of its sender."""
        self._mail.take_back(envelope, source)
        self._offer()

    def _begun(self, envelope: Envelope) -> None:
        self._sources[envelope] = self._mail.given_by
        super()._begun(envelope)

    def _settle(self, turn: Turn, envelope: Envelope, raised: BaseException | None) -> None:
        super()._settle(turn, envelope, raised)
        self._sources.pop(envelope, None)

    def serve(self) -> bool:
        """Begin the hooks that wait; end, if it is time."""
        self._offered = False
        self._begin_hooks()
        self._look_after()
        self._offer()
        return True

    def serve_lane(self, lane: Lane) -> None:
        """Handle the head of a lane."""
        self._mail.next = lane
        try:
            super().serve()
        finally:
            self._mail.next = None
            self.scheduled = True
            self._offer()

    def _turn_over(self, turn: Turn, raised: BaseException | None) -> None:
        super()._turn_over(turn, raised)
        self._schedule()

    def _requeue(self) -> None:
        """The lanes that have mail are offered."""

    def _schedule(self) -> None:
        self._offer()
        if self.engine.loop is None:
            self.serve()
        elif (self._hooks or self.stopping is not None) and not self._offered:
            self._offered = True
            self.engine.ready.append(self)

    def _offer(self) -> None:
        """Let the options be what this agent could do now."""
        if not self._mail:
            return
        if self.stopping is not None:
            self._mail.horizon = math.inf  # what was sent before the stop is handled, and soon
        ready: Any = self.engine.ready
        room = self.turns < self.limit and not self._holding and not self._hooks
        for lane in self._mail.all():
            if room and not lane.offered and self._mail.free(lane):
                lane.offered = True
                ready.append(lane)
            elif lane.offered and not room:
                self.hide(lane)

    def hide(self, lane: Lane) -> None:
        """Take a lane off the options."""
        lane.offered = False
        ready: Any = self.engine.ready
        ready.remove(lane)
