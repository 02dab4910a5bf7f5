"""From a schedule under which a program fails to the least that shows the same failure.

Floor 6. Knows neither programs nor runtimes: it is given a function that tries a schedule.

What is least: the fewest deviations from FIFO; of as many, those that pass over the fewest options;
then the earliest. The search is greedy, so it ends where no single step makes the schedule less:
leaving out any one deviation, or lowering any one index, lets the program pass or fail otherwise.
Where the runs that it may spend are too few, it ends before that.

Leaving a deviation out moves everything after it: where three options stood, two stand now, and
index 2 means another lane or none. So what follows is tried in two forms, once with its numbers as
they are, and once by its meaning: this lane before that one, wherever it comes to that next.

What a random walk found is one deviation after the other, and seldom becomes small in this way. So
where half of the runs do not lead to a few deviations, the other half goes to a second beginning.

Source: A. Zeller, R. Hildebrandt: Simplifying and isolating failure-inducing input (TSE 2002), for
the deletion of ever smaller parts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from llm_net.schedules import Delays, Option, Schedule
from llm_net.trial import Trial

__all__ = ["Attempt", "shrunk"]

Attempt = Callable[[Schedule], Trial | None]
"""Runs the program under a schedule; gives the record, or None where it did not fail the same."""


FEW = 5
"""With more deviations than this, a schedule that was made small is still hard to read."""


def shrunk(
    found: Trial,
    attempt: Attempt,
    *,
    runs: int,
    until: float | None = None,
    others: Iterable[Schedule] = (),
) -> Trial:
    """The trial of the least schedule that was found to fail.

    Args:
        found: The failing trial to begin with.
        attempt: Tries a schedule.
        runs: How many attempts may be made.
        until: When to stop, by `time.monotonic`.
        others: Schedules of a kind that is made small easily. If half of the attempts do not lead
            to a small one, the first of these that fails is a second beginning.
    """
    budget = _Budget(attempt, runs, until)
    shrinker = _Shrinker(found, budget)
    shrinker.shrink(leave=runs // 2)
    if len(shrinker.best.deviations) > FEW:
        second = next(filter(None, map(budget.spend, others)), None)
        if second is not None:
            least = _Shrinker(second, budget).shrink()
            if _size(least) < _size(shrinker.best):
                return least
    return shrinker.shrink()


def _size(trial: Trial) -> tuple[int, int, list[int]]:
    deviations = trial.deviations
    return len(deviations), sum(deviations.values()), sorted(deviations)


class _Budget:
    """How many attempts are left."""

    def __init__(self, attempt: Attempt, runs: int, until: float | None) -> None:
        self.left = runs
        self._attempt = attempt
        self._until = until

    def has(self, more_than: int = 0) -> bool:
        """Whether there are runs and time."""
        in_time = self._until is None or time.monotonic() < self._until
        return in_time and self.left > more_than

    def spend(self, schedule: Schedule) -> Trial | None:
        """Try this, if there is anything left to spend."""
        if not self.has():
            return None
        self.left -= 1
        return self._attempt(schedule)


class _Shrinker:
    """The least trial so far, and the ways to a lesser one.

    Each way says whether it found one.
    """

    def __init__(self, found: Trial, budget: _Budget) -> None:
        self.best = found
        self._budget = budget
        self._leave = 0
        self._tried: dict[tuple[tuple[int, int], ...], None] = {}

    def shrink(self, leave: int = 0) -> Trial:
        """Go all ways until none leads further, or only so many runs are left."""
        self._leave = leave
        while self.leave_out() or self.lower() or self.move_up():
            pass
        return self.best

    def leave_out(self) -> bool:
        """Halves, quarters and so on down to single deviations, from the end.

        What comes late hangs on what came before it, and seldom the other way round.
        """
        before = self.best
        size = len(self.best.deviations)
        while size:
            end = len(self.best.deviations)
            while end > 0 and self._may_try():
                self._leave_out(max(0, end - size), end)
                end = min(end - size, len(self.best.deviations))
            size //= 2
        return self.best is not before

    def _leave_out(self, start: int, end: int) -> None:
        """These of the deviations, counted by their order."""
        deviations = list(self.best.deviations.items())
        if not self._try(dict(deviations[:start] + deviations[end:])):
            later = list(self.best.passed.values())[end:]
            if later and self._may_try():
                last, _ = deviations[end - 1]
                self._run(_Meant(dict(deviations[:start]), last, later))

    def lower(self) -> bool:
        """Each index, to the smallest that will do."""
        before = self.best
        for number in self.best.deviations:
            for index in range(1, self.best.deviations.get(number, 0)):
                if self._try(self.best.deviations | {number: index}):
                    break
        return self.best is not before

    def move_up(self) -> bool:
        """All of them at once, as far to the beginning as will do."""
        before = self.best
        shift = min(self.best.deviations, default=0)
        while shift:
            moved = {number - shift: index for number, index in self.best.deviations.items()}
            self._try(moved)
            shift = min(shift // 2, *self.best.deviations)
        return self.best is not before

    def _try(self, deviations: dict[int, int]) -> bool:
        key = tuple(deviations.items())
        if key in self._tried or not self._may_try():
            return False
        self._tried[key] = None
        return self._run(Delays(deviations))

    def _may_try(self) -> bool:
        return self._budget.has(more_than=self._leave)

    def _run(self, schedule: Schedule) -> bool:
        trial = self._budget.spend(schedule)
        # An index beyond the options took the last, and one beyond the end nothing: what counts is
        # what the run did.
        if trial is None or _size(trial) >= _size(self.best):
            return False
        self.best = trial
        return True


class _Meant:
    """Deviations up to a choice, FIFO there, and after it deviations by their meaning.

    Each of these says that a lane came before the oldest. It is done wherever that lane is the
    oldest again while the other one has something, too; those before it in the list are given up.
    """

    def __init__(
        self, deviations: Mapping[int, int], number: int, later: Sequence[tuple[str, ...]]
    ) -> None:
        self._exact = Delays(deviations)
        self._left = number + 1
        self._later = list(later)

    def choose(self, options: Sequence[Option]) -> int:
        if self._left > 0:
            self._left -= 1
            return self._exact.choose(options)
        oldest = options[0].key
        for place, keys in enumerate(self._later):
            if keys[0] != oldest:
                continue
            for index, option in enumerate(options):
                if index and option.key == keys[-1]:
                    del self._later[: place + 1]
                    return index
        return 0
