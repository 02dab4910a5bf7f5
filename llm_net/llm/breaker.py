"""A circuit breaker: an endpoint that fails and fails is left alone for a while.

Model tower, floor 1. Closed, calls pass. After so many failures in a row it opens, and calls are
refused without being sent. When the cool-down is over one call passes as a probe (half open): its
success closes the circuit, its failure opens it anew.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from llm_net.errors import CircuitOpen, UsageError, is_number
from llm_net.llm.serial import Serial

__all__ = ["Breaker", "Circuit"]


@dataclass(frozen=True, kw_only=True)
class Breaker:
    """When to leave an endpoint alone, and for how long.

    Attributes:
        failures: So many calls in a row that failed for a passing reason open the circuit. A
            refusal (no such model, wrong key) is an answer: it proves that somebody is there.
        cool_down_s: Seconds until one call is let through, to see.

    Raises:
        UsageError: If one of them is not positive.
    """

    failures: int = 5
    cool_down_s: float = 30.0

    def __post_init__(self) -> None:
        count, wait_s = self.failures, self.cool_down_s
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise _no_breaker("failures", count, "a whole number, 1 or more")
        if not is_number(wait_s) or not 0 < wait_s < math.inf:
            raise _no_breaker("cool_down_s", wait_s, "a number of seconds above 0")


def _no_breaker(name: str, value: object, wanted: str) -> UsageError:
    return UsageError(
        f"Breaker({name}={value!r}) would let no call through, or refuse none. Give {wanted}."
    )


class Circuit:
    """The state of one endpoint's breaker; any thread.

    Args:
        breaker: When it opens, and for how long.
        name: Whose circuit it is, for errors.
        clock: Seconds that never go back.
    """

    def __init__(
        self, breaker: Breaker, *, name: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._breaker = breaker
        self._name = name
        self._clock = clock
        self._serial = Serial()
        self._failures = 0
        self._open_until: float | None = None
        # Calls bear the number of the era in which they began; what one from before says about the
        # endpoint is old news.
        self._era = 0

    def enter(self) -> int:
        """Ask to make a call; gives what `leave` wants to know.

        Raises:
            CircuitOpen: If it may not be made.
        """
        with self._serial:
            if self._open_until is None:
                return self._era
            now = self._clock()
            if now >= self._open_until:
                # The probe. Until it is back others are refused; if it never comes back, for one
                # cool-down more.
                self._open(now)
                return self._era
            raise self._refusal(self._open_until - now)

    def leave(self, era: int, *, well: bool | None) -> None:
        """The call is over.

        Args:
            era: What `enter` gave.
            well: Whether the endpoint answered; None if nobody knows: the call was given up.
        """
        self._serial.soon(partial(self._leave, era, well))

    def _leave(self, era: int, well: bool | None) -> None:  # noqa: FBT001 - `leave` names it
        if era != self._era:
            return
        if well:
            self._failures = 0
            self._open_until = None
        elif well is False:
            self._failures += 1
            if self._open_until is not None or self._failures >= self._breaker.failures:
                self._open(self._clock())
        elif self._open_until is not None:
            self._open_until = self._clock()  # the probe was given up: the next call is one

    def _open(self, now: float) -> None:
        self._era += 1
        self._open_until = now + self._breaker.cool_down_s

    def _refusal(self, left: float) -> CircuitOpen:
        error = CircuitOpen(
            f"{self._name} was not asked: its last {self._failures} calls failed, and it is left "
            f"alone for {left:.3g} s more. Try again then, give a Fallback, or look whether it is "
            "down."
        )
        error.retry_after = left
        return error
