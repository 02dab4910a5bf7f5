"""What came of an activation: `StepReport`.

Bridge, floor 0. Figures and text only: a report holds no agent, no model and no traceback's frames,
so keeping reports keeps nothing else.
"""

from __future__ import annotations

import math
import time
import traceback
from dataclasses import dataclass, field
from typing import Any, Self

__all__ = ["Failure", "Gauge", "StepReport"]


@dataclass(frozen=True)
class Failure:
    """An agent's turn that ended with an exception.

    Attributes:
        agent: The agent's `unique_id`.
        agent_type: The name of its class.
        error: The exception: its class and its text.
        details: Where it was raised, as a traceback prints it.
    """

    agent: int
    agent_type: str
    error: str
    details: str = field(repr=False)

    @classmethod
    def of(cls, agent: Any, error: BaseException) -> Self:
        """The failure of this agent by this exception."""
        details = "".join(traceback.format_exception(error))
        said = traceback.format_exception_only(error)[0].strip()
        return cls(agent.unique_id, type(agent).__name__, said, details)

    def __str__(self) -> str:
        """Who failed, and how."""
        return f"{self.agent_type} {self.agent}: {self.error}"


@dataclass(frozen=True)
class StepReport:
    """What came of one activation.

    Attributes:
        agents: Turns that were begun.
        plans: Plans that were made.
        mean_in_flight: Plans under way at a time, on average over the time in which there were any.
        max_in_flight: Plans under way at the same time, at most.
        wall_s: Seconds that the activation took.
        ideal_s: Seconds that its plans would take if nothing else took any: for each round, as many
            waves as the cap on plans in flight makes of it, times the mean time of a plan.
        failures: The turns that ended with an exception, in order.
        dropped: The `unique_id` of each agent that was removed while it planned, and whose plan
            came to nothing.
    """

    agents: int
    plans: int
    mean_in_flight: float
    max_in_flight: int
    wall_s: float
    ideal_s: float
    failures: tuple[Failure, ...]
    dropped: tuple[int, ...]


class Gauge:
    """Measures how many plans are under way; its caller lets one thread at a time in.

    Attributes:
        plans: How many were made; whoever has them made counts here.
        most: How many were under way at once.
        ideal_s: Seconds that they take at least.
    """

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.plans = 0
        self.most = 0
        self.ideal_s = 0.0
        self._under_way = 0
        self._changed = 0.0
        self._busy_s = 0.0
        self._plan_s = 0.0  # summed over plans, so this divided by busy is the mean in flight
        self._round_s = 0.0
        self._in_round = 0

    def up(self) -> float:
        """A plan begins; gives the moment."""
        now = self._tick()
        self._under_way += 1
        self.most = max(self.most, self._under_way)
        return now

    def down(self, began: float) -> None:
        """The plan that began then has ended."""
        now = self._tick()
        self._under_way -= 1
        self._in_round += 1
        self._round_s += now - began

    def end_round(self, cap: int | None) -> None:
        """All plans of a round have ended."""
        if self._in_round:
            waves = math.ceil(self._in_round / (cap or self._in_round))
            self.ideal_s += waves * self._round_s / self._in_round
        self._in_round, self._round_s = 0, 0.0

    def mean(self) -> float:
        """Plans under way, on average."""
        return self._plan_s / self._busy_s if self._busy_s else 0.0

    def wall_s(self) -> float:
        """Seconds since the activation began."""
        return time.perf_counter() - self.began

    def _tick(self) -> float:
        now = time.perf_counter()
        if self._under_way:
            self._busy_s += now - self._changed
            self._plan_s += (now - self._changed) * self._under_way
        self._changed = now
        return now
