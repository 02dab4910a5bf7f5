"""What to do with an agent whose handler raised: pure decisions, no actors.

Floor 1. A strategy decides, the cell acts.

Source: the supervisor behaviour of Erlang/OTP, in the words of Akka.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from llm_net.errors import UsageError, is_number

__all__ = ["Directive", "Intensity", "Strategy", "Supervision"]

Directive = Literal["resume", "restart", "stop", "escalate"]
Strategy = Literal["one_for_one", "all_for_one", "rest_for_one"]


@dataclass(frozen=True, kw_only=True)
class Supervision:
    """How failures of an agent, or of the members of a network, are answered.

    Attributes:
        strategy: Whom a restart or stop touches: the failing agent (`one_for_one`), all members of
            its network, or it and those added after it.
        directive: `resume` (the turn is over, the agent serves its next message), `restart` (its
            fields return to what they were at start; the mailbox stays), `stop`, `escalate` (the
            network above fails in its place), or a function of the exception that gives one of
            these.
        max_restarts: More restarts than this within `window_s` stop the agent and escalate.
        window_s: Seconds in which restarts are counted; None is the agent's whole life.
        backoff_s: Seconds before the first restart that counts, on the runtime's clock; twice as
            many before each further one. Meanwhile the mailbox waits.
        max_backoff_s: The longest of these times; None is no bound.
        keep_state: Whether a restart leaves the fields as they are.
        max_tries: How often a message is tried whose handler raises, after a `resume` or `restart`:
            it is handled again, first of all, and after the last try it is a dead letter
            (`poison`). Whoever asked hears only then. What a failing try has sent is sent, so this
            is at least once. None tries once, and a failing message counts as delivered.
    """

    strategy: Strategy = "one_for_one"
    directive: Directive | Callable[[BaseException], Directive] = "resume"
    max_restarts: int | None = None
    window_s: float | None = None
    backoff_s: float = 0.0
    max_backoff_s: float | None = None
    keep_state: bool = False
    max_tries: int | None = None

    def __post_init__(self) -> None:
        if self.strategy not in get_args(Strategy):
            msg = f"strategy={self.strategy!r} is not one of {', '.join(get_args(Strategy))}."
            raise UsageError(msg)
        if not callable(self.directive):
            _check(self.directive)
        most = self.max_restarts
        if most is not None and not (is_number(most) and most >= 0):
            msg = f"max_restarts={most!r} is no number of restarts: give 0 or more, or None."
            raise UsageError(msg)
        window = self.window_s
        if window is not None and not (is_number(window) and window > 0):
            msg = f"window_s={window!r} is no length of time: give seconds above 0, or None."
            raise UsageError(msg)
        for name in ("backoff_s", "max_backoff_s"):
            value: float | None = getattr(self, name)
            optional = name == "max_backoff_s"
            if value is None and optional:
                continue
            if value is None or not is_number(value) or not 0 <= value < float("inf"):
                msg = f"{name}={value!r} is no time to wait: give seconds, 0 or more."
                raise UsageError(msg)
        tries = self.max_tries
        if tries is not None and (isinstance(tries, bool) or not isinstance(tries, int)):
            msg = f"max_tries={tries!r} is no number of tries: give 1 or more, or None."
            raise UsageError(msg)
        if tries is not None and tries < 1:
            msg = f"max_tries={tries!r} would try no message at all: give 1 or more, or None."
            raise UsageError(msg)

    @property
    def may_restart(self) -> bool:
        """Whether a restart can follow, so that the fields at start must be kept."""
        return callable(self.directive) or self.directive == "restart"

    def backoff(self, restarts: int) -> float:
        """Seconds to wait before this restart, the first being 1."""
        if not self.backoff_s:
            return 0.0
        most = float("inf") if self.max_backoff_s is None else self.max_backoff_s
        return min(most, self.backoff_s * 2.0 ** min(restarts - 1, 1000))

    def decide(self, error: BaseException) -> Directive:
        """The directive for this exception.

        Raises:
            UsageError: If the user's function gave something else than a directive.
        """
        if callable(self.directive):
            return _check(self.directive(error))
        return self.directive


class Intensity:
    """Counts restarts against `max_restarts` within `window_s`, each at the time when it happens.

    Attributes:
        delay: The back-off of the restart that was allowed last, in seconds.
    """

    __slots__ = ("_times", "_total", "delay")

    def __init__(self) -> None:
        self._times: deque[float] = deque()
        self._total = 0
        self.delay = 0.0

    def allows(self, supervision: Supervision, now: float) -> bool:
        """Whether one more restart, decided at this time, is within bounds; then it counts."""
        most, window = supervision.max_restarts, supervision.window_s
        if window is not None:
            while self._times and self._times[0] <= now - window:
                self._times.popleft()
            self._total = len(self._times)
        delay = supervision.backoff(self._total + 1)
        due = now + delay
        near = self._total
        if window is not None:
            near = sum(time > due - window for time in self._times)
        if most is not None and near >= most:
            return False
        self.delay = delay
        self._total += 1
        if window is not None and (most is not None or supervision.backoff_s):
            self._times.append(due)  # or nobody would ask how many there were
        return True


def _check(directive: Directive) -> Directive:
    if directive in get_args(Directive):
        return directive
    msg = f"The directive {directive!r} is not one of {', '.join(get_args(Directive))}."
    raise UsageError(msg)
