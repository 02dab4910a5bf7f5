"""For users' tests: run a program again and again, under other orders, until one breaks it.

Floor 6.

What depends on the order of messages passes a thousand times and fails in production. Under a
deterministic runtime one scheduler decides every order; here it is told what to decide, and what
breaks the program is told so that it can be seen again.

The invariant: what is reported was seen. The error is the program's own, raised under the very
schedule that the report names, and the same program under that schedule raises it again; where it
does not, the report says that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llm_net.errors import UsageError
from llm_net.schedules import Delays
from llm_net.searching import (
    PORTFOLIO,
    Failure,
    Make,
    Program,
    Search,
    Strategy,
    deterministic,
    name_of,
    returned_by,
)
from llm_net.trial import deviations_in, schedule_text

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

__all__ = [
    "PORTFOLIO",
    "Exploration",
    "Failure",
    "Strategy",
    "explore",
    "find_failure",
    "replay",
    "schedules",
]

SHRINKS = 500
"""How many runs may be spent on making a schedule small."""

LINES = 20
"""How many deviations a note puts in words."""


@dataclass(frozen=True)
class Exploration:
    """What was tried, and did not fail.

    Attributes:
        runs: How often the program was run.
        complete: Whether that was under every schedule there is (with `commuting`, of every class
            that the promise leaves): then no order breaks it.
        choices: The largest number of choices of one run.
    """

    runs: int
    complete: bool
    choices: int


def explore(
    program: Program,
    *,
    runs: int = 1000,
    seconds: float | None = None,
    seed: int = 0,
    strategies: Sequence[Strategy] = PORTFOLIO,
    make: Make | None = None,
    commuting: bool = False,
    shrinks: int = SHRINKS,
) -> Exploration:
    """Run a program under many schedules; raise what it raises, with a note how to see it again.

    The first run is first come, first served. If it has so few choices that half of the runs should
    do for all schedules, these are tried. If half of the runs or seconds did not do, or would not,
    one random run measures the program further, and then the strategies take turns.

    The same arguments lead to the same runs, `seconds` apart.

    Args:
        program: Takes a new runtime, builds a network, runs it there, and asserts. What it builds
            must be new in each run.
        runs: How often it is run at most, before something is found.
        seconds: Real time after which no other run begins; as much again may be spent on making
            what was found small.
        seed: Decides what the strategies draw.
        strategies: Take turns, in this order.
        make: Makes the runtime of a run from its schedule; by default a `Deterministic`.
        commuting: The promise that agents share nothing but messages. Orders that then make no
            difference are left out of the schedules that `complete` speaks of (see `Exhaustive`).
        shrinks: How many runs may be spent on making what was found small.

    Raises:
        UsageError: If an argument cannot work, if the program is `async`, or if something beside
            the schedule decided what it did.
        BaseException: What the program raised under the least schedule found to break it.
    """
    search = Search(program, make, runs, seconds)
    found = search.find(seed, strategies, commuting=commuting)
    if found is None:
        return Exploration(search.runs, search.complete, search.choices)
    failure = search.shrink(found, shrinks)
    failure.error.add_note(_note(failure, program, own=make is not None))
    raise failure.error


def find_failure(
    program: Program,
    *,
    runs: int = 1000,
    seconds: float | None = None,
    seed: int = 0,
    strategies: Sequence[Strategy] = PORTFOLIO,
    make: Make | None = None,
    commuting: bool = False,
    shrinks: int = SHRINKS,
) -> Failure | None:
    """What `explore` would raise, as a value; None where it would return. It takes the same."""
    search = Search(program, make, runs, seconds)
    found = search.find(seed, strategies, commuting=commuting)
    return None if found is None else search.shrink(found, shrinks)


def replay(program: Program, schedule: str, *, make: Make | None = None) -> Any:
    """Run a program under one schedule.

    Args:
        program: As for `explore`.
        schedule: Where it is not first come, first served: `"3:1 7-9:2"` takes the option 1 at
            choice 3 and the option 2 at the choices 7 to 9; the empty text is FIFO. Options count
            from 0, the oldest; one that is not there is the last.
        make: As for `explore`.

    Returns:
        What the program returns.

    Raises:
        UsageError: If the text says nothing, or if the program is `async`.
    """
    runtime = (make or deterministic)(Delays(deviations_in(schedule)))
    return returned_by(program, program(runtime))


def schedules(choices: int = 50) -> SearchStrategy[str]:
    """Let hypothesis draw the schedule: texts for `replay`, which shrink toward FIFO.

    <!-- not run: it shows the shape, with a network that is not there -->
    ```python
    from hypothesis import given, strategies as st
    from llm_net.testing import replay, schedules

    @given(schedules(), st.integers(1, 3))
    def test_nobody_is_served_twice(schedule, clerks):
        def program(runtime):
            ...

        replay(program, schedule)
    ```

    A schedule is a few spans of choices, in each of which the same index is taken throughout: so
    does a message that is held back for long take no more than three numbers.

    Args:
        choices: The first so many choices may be taken otherwise than FIFO. How many a program has,
            `explore` tells.

    Raises:
        UsageError: If that is no choice at all.
    """
    from hypothesis import strategies as st  # noqa: PLC0415 - only those who call this need it

    if choices < 1:
        msg = f"choices={choices!r}: no schedule differs from FIFO there. Give 1 or more."
        raise UsageError(msg)
    span = st.tuples(st.integers(0, choices - 1), st.integers(1, choices), st.integers(1, 4))

    def text(spans: list[tuple[int, int, int]]) -> str:
        deviations: dict[int, int] = {}
        for first, length, index in spans:
            numbers = range(first, min(first + length, choices))
            deviations |= dict.fromkeys(numbers, index)
        return schedule_text(deviations)

    return st.lists(span, max_size=8).map(text)


def _note(failure: Failure, program: Program, *, own: bool) -> str:
    found = f"Found by {failure.strategy}, in run {failure.run}"
    make = ", make=..." if own else ""
    line = f'    replay({name_of(program)}, "{failure.schedule}"{make})'
    if not failure.again:
        return (
            f"{found}. Under the same schedule it did not fail the same again, so something "
            "beside the schedule decides: look for real time, threads, unseeded random numbers, "
            "the order of a set, and state that one run leaves to the next. The schedule was\n"
            f"{line}"
        )
    lines = [f"{found}; {failure.shrinking} more to make it small. To see it again:", line]
    if not failure.deviations:
        return "\n".join([*lines, "Its order is first come, first served."])
    told = [f"    {each}" for each in failure.deviations[:LINES]]
    if len(failure.deviations) > LINES:
        told.append(f"    and {len(failure.deviations) - LINES} more")
    return "\n".join([*lines, "Its order is first come, first served, but", *told])
