"""So many calls, and so many tokens, in any sixty seconds.

Model tower, floor 0. A window that slides, not a bucket that fills: from a full bucket, twice the
rate passes in the first minute, and providers count by the minute. Calls are booked, first come,
first served; who books is told how long to wait, so nobody waits in a line and nothing polls.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from llm_net.llm.serial import Serial

__all__ = ["Booking", "Rates"]

WINDOW_S = 60.0


class _Window:
    """What was, and will be, within one window of time: at most `limit` of it."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._sum = 0
        self._booked: deque[Booking] = deque()

    def when(self, amount: int, at: float) -> float:
        """The first time from `at` on when so much more fits; what is out by then is forgotten."""
        booked = self._booked
        while booked:
            first = booked[0]
            end = first.at + WINDOW_S
            if end > at and self._sum + amount <= self.limit:
                break
            booked.popleft()
            self._sum -= first.amounts.pop(self)
            at = max(at, end)
        return at

    def add(self, booking: Booking, amount: int) -> None:
        self._booked.append(booking)
        booking.amounts[self] = amount
        self._sum += amount

    def correct(self, booking: Booking, amount: int) -> None:
        if self in booking.amounts:
            self._sum += amount - booking.amounts[self]
            booking.amounts[self] = amount


@dataclass(eq=False, slots=True)
class Booking:
    """A call's place in the windows.

    Attributes:
        at: When the call may begin, on the clock of its rates.
        amounts: What it takes of each window in which it still counts.
    """

    at: float
    amounts: dict[_Window, int] = field(default_factory=dict[_Window, int])


class Rates:
    """The calls and tokens of the last minute, and those booked for later.

    Args:
        calls: At most so many in a minute; None for any number.
        tokens: At most so many in a minute; None for any number. A call that takes more than this
            by itself has a minute to itself.
        clock: Seconds that never go back.
    """

    def __init__(
        self, calls: int | None, tokens: int | None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._calls = None if calls is None else _Window(calls)
        self._tokens = None if tokens is None else _Window(tokens)
        self._clock = clock
        self._serial = Serial()
        self._latest = -math.inf

    @property
    def counts_tokens(self) -> bool:
        """Whether tokens are limited, so that it is worth guessing them."""
        return self._tokens is not None

    def book(self, tokens: int, *, until: float | None = None) -> Booking | None:
        """Book a call.

        Args:
            tokens: How many it will take, as far as one can say.
            until: The latest time, on the clock, at which it may begin.

        Returns:
            The booking; None if it would begin too late, in which case nothing is booked.
        """
        with self._serial:
            at = max(self._clock(), self._latest)
            if self._calls is not None:
                at = self._calls.when(1, at)
            if self._tokens is not None:
                at = self._tokens.when(tokens, at)
            # Whoever comes later begins later: for him, too, what left the windows is out of them.
            self._latest = at
            booking = Booking(at)
            if until is not None and at > until:
                return None
            if self._calls is not None:
                self._calls.add(booking, 1)
            if self._tokens is not None:
                self._tokens.add(booking, tokens)
            return booking

    def correct(self, booking: Booking, tokens: int) -> None:
        """The call took so many tokens, not as many as were expected."""
        if self._tokens is not None:
            self._serial.soon(partial(self._tokens.correct, booking, tokens))

    def cancel(self, booking: Booking) -> None:
        """The call is not made: it takes nothing of any window."""
        for window in tuple(booking.amounts):
            self._serial.soon(partial(window.correct, booking, 0))
