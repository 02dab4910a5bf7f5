"""The search for an order that breaks a program: which schedules are tried, and in which turn.

Floor 6.

First come, first served once; all schedules, where they are few; then a portfolio of strategies in
turns, since each is good at what the others seldom find. What fails is repeated, and made small.

The invariant: the same arguments lead to the same runs, but for a limit in real time.
"""

from __future__ import annotations

import inspect
import itertools
import math
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from llm_net.errors import UsageError, is_number
from llm_net.exhaustive import Exhaustive
from llm_net.schedules import PCT, POS, FewDelays, Fifo, Random, Recorded, Replay, Schedule
from llm_net.shrinking import shrunk
from llm_net.trial import Trial, schedule_text

__all__ = [
    "PORTFOLIO",
    "Failure",
    "Found",
    "Make",
    "Program",
    "Search",
    "Strategy",
    "deterministic",
    "name_of",
    "returned_by",
]

Make = Callable[[Schedule], Any]
Program = Callable[[Any], object]


@dataclass(frozen=True)
class Strategy:
    """A way to draw schedules.

    Attributes:
        name: What reports call it.
        draw: Makes the schedule of one run, from a random source of its own and the number of
            choices that a run is expected to have.
    """

    name: str
    draw: Callable[[random.Random, int], Schedule]


PORTFOLIO: tuple[Strategy, ...] = (
    Strategy("random", lambda rng, _: Random(rng)),
    Strategy("PCT of depth 2", lambda rng, steps: PCT(rng, 2, steps)),
    Strategy("PCT of depth 3", lambda rng, steps: PCT(rng, 3, steps)),
    Strategy("POS", lambda rng, _: POS(rng)),
    Strategy("few delays", lambda rng, steps: FewDelays(rng, 1 + rng.randrange(3), steps)),
)
"""What takes turns. Orders that one of them finds in every fifth run, another does not find in a
thousand (tests/test_exploring.py)."""


@dataclass(frozen=True)
class Found:
    """A run that failed, as it was found.

    Attributes:
        strategy: Which strategy drew its schedule.
        run: Which run it was, from 0.
        record: What the schedule said.
        error: What the program raised.
    """

    strategy: str
    run: int
    record: Recorded
    error: BaseException


@dataclass(frozen=True)
class Failure:
    """A schedule that breaks the program, as small as it could be made.

    Attributes:
        error: What the program raised under it.
        schedule: The schedule as a text, for `replay`.
        strategy: Which strategy found it, before it was made small.
        run: In which run, from 0.
        shrinking: How many runs were spent on repeating it and making it small.
        deviations: Where it is not first come, first served, in words.
        again: Whether the program failed again when its schedule was repeated.
    """

    error: BaseException
    schedule: str
    strategy: str
    run: int
    shrinking: int
    deviations: tuple[str, ...]
    again: bool


class Search:
    """The runs of one exploration, and what they showed.

    Attributes:
        runs: How many there were.
        choices: The largest number of choices of one.
        complete: Whether they were all there are.

    Args:
        program: What is run.
        make: Makes the runtime of a run.
        runs: How many runs there may be.
        seconds: Real time after which no other begins.
    """

    def __init__(
        self, program: Program, make: Make | None, runs: int, seconds: float | None
    ) -> None:
        if not is_number(runs) or runs < 1:
            msg = f"runs={runs!r} leaves nothing to look at: give 1 or more."
            raise UsageError(msg)
        if seconds is not None and not (is_number(seconds) and seconds > 0):
            msg = f"seconds={seconds!r} is no time to look for: give seconds above 0, or None."
            raise UsageError(msg)
        self.runs = 0
        self.choices = 0
        self.complete = False
        self._space = 0.0
        self._program = program
        self._make = make or deterministic
        self._most = runs
        self._seconds = seconds
        self._start = time.monotonic()

    def find(self, seed: int, strategies: Sequence[Strategy], *, commuting: bool) -> Found | None:
        """The first run that fails."""
        if not strategies:
            msg = "strategies=() leaves nothing to draw from: give one at least, or leave it out."
            raise UsageError(msg)
        for name, schedule in self._schedules(seed, strategies, commuting=commuting):
            number, record = self.runs, Recorded(schedule)
            self.runs += 1
            error = self._error(record)
            self.choices = max(self.choices, len(record.choices))
            if number == 0:
                self._space = _space(record.sizes)
            if error is not None:
                return Found(name, number, record, error)
        return None

    def _schedules(
        self, seed: int, strategies: Sequence[Strategy], *, commuting: bool
    ) -> Iterator[tuple[str, Schedule]]:
        """What to try, while there are runs and time; it goes by what the runs before showed."""
        yield "first come, first served", Fifo()
        if not self.choices:
            self.complete = True
            return
        # Of those that commute, few are left: about the root of all, in the programs we looked at.
        if (math.sqrt(self._space) if commuting else self._space) <= self._most / 2:
            exhaustive = Exhaustive(commuting=commuting)
            for schedule in exhaustive:
                if not self._may_go_on(1 / 2):
                    break
                yield "trying all", schedule
            self.complete = exhaustive.complete
            if self.complete:
                return
        if self._may_go_on():
            yield "random", Random(_source(seed, "first"))
        # Of fair schedules only: under PCT, what writes to itself makes a run as long as it may be.
        steps = max(1, self.choices)
        for number in itertools.count():
            if not self._may_go_on():
                return
            strategy = strategies[number % len(strategies)]
            yield strategy.name, strategy.draw(_source(seed, number), steps)

    def _may_go_on(self, share: float = 1) -> bool:
        spent = time.monotonic() - self._start
        in_time = self._seconds is None or spent < self._seconds * share
        return in_time and self.runs < self._most * share

    def shrink(self, found: Found, most: int) -> Failure:
        """Make what was found small, in so many runs at most, and as many seconds again."""
        tried = 0

        def attempt(schedule: Schedule) -> Trial | None:
            nonlocal tried
            tried += 1
            trial = Trial(schedule)
            trial.error = self._error(trial)
            return trial if type(trial.error) is type(found.error) else None

        # Repeated in any case: to see that it can be, and what it passes over.
        trial = attempt(Replay(found.record.choices))
        if trial is not None:
            until = None if self._seconds is None else time.monotonic() + self._seconds
            steps = max(1, len(trial.choices))
            # What PCT finds hangs on one lane or two that fell behind: little is left of it.
            others = (PCT(_source(0, number), 2, steps) for number in range(most // 10))
            trial = shrunk(trial, attempt, runs=most, until=until, others=others)
        return Failure(
            error=found.error if trial is None or trial.error is None else trial.error,
            schedule=schedule_text((trial or found.record).deviations),
            strategy=found.strategy,
            run=found.run,
            shrinking=tried,
            deviations=() if trial is None else trial.in_words(),
            again=trial is not None,
        )

    def _error(self, schedule: Schedule) -> BaseException | None:
        """Run the program once; what it raises, if that is a failure of the program."""
        runtime = self._make(schedule)
        try:
            returned = self._program(runtime)
        except BaseException as error:
            if isinstance(error, _failures()):
                return error
            raise
        returned_by(self._program, returned)
        return None


def returned_by(program: Program, returned: object) -> Any:
    """What the program returned.

    Raises:
        UsageError: If it has not run yet.
    """
    if inspect.iscoroutine(returned):
        returned.close()
        msg = (
            f"{name_of(program)} is an `async def`, and nothing would run it: the program that is "
            "explored is a plain function, which waits for its network with run()."
        )
        raise UsageError(msg)
    return returned


def name_of(program: Program) -> str:
    """What to call the program."""
    name = str(getattr(program, "__name__", ""))
    return name if name.isidentifier() else "program"


def deterministic(schedule: Schedule) -> Any:
    """The runtime of a run, unless the user has another."""
    from llm_net.deterministic import Deterministic  # noqa: PLC0415 - a user may have another

    return Deterministic(schedule=schedule)


def _space(sizes: Sequence[int]) -> float:
    """About how many schedules there are, by the numbers of options along one of them.

    Source: D. E. Knuth: Estimating the efficiency of backtrack programs (1975).
    """
    return math.exp(min(700, sum(map(math.log, sizes))))


def _source(seed: int, number: object) -> random.Random:
    return random.Random(f"{seed}:{number}")  # noqa: S311 - for behaviour, not for secrets


def _failures() -> tuple[type[BaseException], ...]:
    """What counts as the program's failure: every exception, and pytest.fail, which is none."""
    pytest = sys.modules.get("pytest")
    return (Exception,) if pytest is None else (Exception, pytest.fail.Exception)
