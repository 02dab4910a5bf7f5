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
    """

    strategy: Strategy = "one_for_one"
    directive: Directive | Callable[[BaseException], Directive] = "resume"
    max_restarts: int | None = None
    window_s: float | None = None

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

    @property
    def may_restart(self) -> bool:
        """Whether a restart can follow, so that the fields at start must be kept."""
        return callable(self.directive) or self.directive == "restart"

    def decide(self, error: BaseException) -> Directive:
        """The directive for this exception.

        Raises:
            UsageError: If the user's function gave something else than a directive.
        """
        if callable(self.directive):
            return _check(self.directive(error))
        return self.directive


class Intensity:
    """Counts restarts against `max_restarts` within `window_s`."""

    def __init__(self) -> None:
        self._times: deque[float] = deque()

    def allows(self, supervision: Supervision, now: float) -> bool:
        """Whether one more restart at this time, in seconds, is within bounds; then it counts."""
        if supervision.max_restarts is None:
            return True
        window = supervision.window_s
        if window is not None:
            while self._times and self._times[0] <= now - window:
                self._times.popleft()
        if len(self._times) >= supervision.max_restarts:
            return False
        self._times.append(now)
        return True


def _check(directive: Directive) -> Directive:
    if directive in get_args(Directive):
        return directive
    msg = f"The directive {directive!r} is not one of {', '.join(get_args(Directive))}."
    raise UsageError(msg)
