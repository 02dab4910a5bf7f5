"""Exploring: orders that break a program are found, made small, and told."""

from __future__ import annotations

import random
import re
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, find, given, settings
from hypothesis import strategies as st

from llm_net.errors import UsageError
from llm_net.exploring import (
    PORTFOLIO,
    Exploration,
    Failure,
    Strategy,
    explore,
    find_failure,
    replay,
    schedules,
)
from llm_net.schedules import PCT, Delays, Fifo, Random, Schedule
from llm_net.shrinking import shrunk
from llm_net.trial import Trial, deviations_in, schedule_text
from tests.schedule_simulator import Program, Simulator, lost_update, overtaken, three_events

RACES: dict[str, Program] = {
    "lost update": lost_update(head_start=4, noise=1),
    "overtaken": overtaken(12),
    "three events": three_events(hops=2),
}

CHOICES = {"lost update": 18, "overtaken": 14, "three events": 10}
"""About how many choices a run has."""

races = pytest.mark.parametrize("race", list(RACES))


def _fails(program: Program, schedule: Schedule) -> bool:
    try:
        program(Simulator(schedule))
    except AssertionError:
        return True
    return False


def _failure(program: Callable[[Simulator], object], **options: Any) -> Failure:
    failure = find_failure(program, make=Simulator, **options)
    assert failure is not None
    return failure


def _shrunk(program: Program, choices: int) -> Iterator[Trial]:
    """What failures of every strategy shrink to."""

    def attempt(schedule: Schedule) -> Trial | None:
        trial = Trial(schedule)
        return trial if _fails(program, trial) else None

    for seed in range(60):
        for strategy in PORTFOLIO:
            found = attempt(strategy.draw(random.Random(seed), choices))
            if found is not None:
                yield shrunk(found, attempt, runs=2000)


def _harmless(sim: Simulator) -> None:
    """Six choices, and no order matters."""
    sim.handlers |= {"x": lambda sender, body: None, "y": lambda sender, body: None}
    for number in range(6):
        sim.send("xy"[number % 2], "yx"[number % 2])
    sim.run()


def _long(sim: Simulator) -> None:
    """A hundred choices, and no order matters."""
    sim.handlers["x"] = lambda sender, body: None
    for number in range(101):
        sim.send(str(number), "x")
    sim.run()


# -- what is found


@races
@pytest.mark.parametrize("seed", range(5))
def test_each_race_is_found(race: str, seed: int) -> None:
    failure = _failure(RACES[race], seed=seed)
    assert failure.run < 1000
    assert failure.again


def test_no_strategy_is_the_best_at_everything() -> None:
    rates = {
        race: [
            sum(
                _fails(program, strategy.draw(random.Random(seed), CHOICES[race]))
                for seed in range(400)
            )
            for strategy in PORTFOLIO
        ]
        for race, program in RACES.items()
    }
    assert all(max(found) > 20 for found in rates.values()), rates
    best = [found.index(max(found)) for found in rates.values()]
    assert len(set(best)) > 1, rates
    assert rates["overtaken"][0] == 0, rates  # a random walk has no patience


@races
def test_the_schedule_is_as_small_as_any_single_step_makes_it(race: str) -> None:
    program = RACES[race]
    for least in _shrunk(program, CHOICES[race]):
        deviations = least.deviations
        assert _fails(program, Delays(deviations))
        for number, index in deviations.items():
            without = {other: i for other, i in deviations.items() if other != number}
            assert not _fails(program, Delays(without))
            for lower in range(1, index):
                assert not _fails(program, Delays(deviations | {number: lower}))


@pytest.mark.parametrize("noise", [0, 2])
def test_shrinking_does_not_stop_at_what_hangs_on_numbers(noise: int) -> None:
    """By numbers alone, every third of these would end with three deviations."""
    sizes = [len(least.deviations) for least in _shrunk(lost_update(head_start=2, noise=noise), 8)]
    assert len(sizes) > 50
    if noise == 0:
        assert max(sizes) == 1
    assert sum(sizes) < 1.5 * len(sizes)


def test_what_a_random_walk_finds_in_a_large_program_has_a_second_beginning() -> None:
    """Each begins with about 150 deviations; the first beginning leaves 11 to 79 of them."""
    program = lost_update(head_start=8, noise=20)
    for seed in range(5):
        failure = _failure(program, strategies=[PORTFOLIO[0]], seed=seed)
        assert failure.strategy == "random"
        deviations = deviations_in(failure.schedule)
        assert len(deviations) < 10
        assert _fails(program, Delays(deviations))


def test_what_may_come_earlier_does() -> None:
    def attempt(schedule: Schedule) -> Trial | None:
        trial = Trial(schedule)
        return trial if _fails(RACES["overtaken"], trial) else None

    late = attempt(Delays(deviations_in("2-14:1")))
    assert late is not None
    assert schedule_text(shrunk(late, attempt, runs=100).deviations) == "0-12:1"


def test_the_error_is_the_programs_own_and_says_how_to_see_it_again() -> None:
    program = overtaken(12)
    with pytest.raises(AssertionError, match=r"overtaken: \['slow', 'fast'\]") as caught:
        explore(program, make=Simulator)
    (note,) = caught.value.__notes__
    found, line, but, *told = note.splitlines()
    assert re.fullmatch(r"Found by .+, in run \d+; \d+ more to .*", found)
    assert but == "Its order is first come, first served, but"
    assert any("slow>slow came before world>fast" in each for each in told)
    typed = re.fullmatch(r' {4}replay\(program, "(.*)", make=\.\.\.\)', line)
    assert typed is not None
    with pytest.raises(AssertionError, match=r"overtaken: \['slow', 'fast'\]"):
        replay(program, typed[1], make=Simulator)


def test_what_fails_first_come_first_served_has_the_empty_schedule() -> None:
    program = lost_update()
    failure = _failure(program)
    assert (failure.schedule, failure.run, failure.deviations) == ("", 0, ())
    with pytest.raises(AssertionError) as caught:
        explore(program, make=Simulator)
    assert 'replay(program, "", make=...)' in caught.value.__notes__[0]
    with pytest.raises(AssertionError, match="lost"):
        replay(program, "", make=Simulator)


def test_a_failure_of_another_kind_is_another_failure() -> None:
    def program(sim: Simulator) -> None:
        heard: list[str] = []
        sim.handlers["z"] = lambda sender, body: heard.append(sender)
        for name in "abcdefghijklmnop":
            sim.send(name, "z")
        sim.run()
        if heard[:3] == ["c", "b", "a"]:
            raise LookupError(heard)
        if heard[:3] == ["c", "a", "b"]:
            raise ValueError(heard)

    def known(rng: random.Random, steps: int) -> Schedule:
        return Delays({0: 2, 1: 1, 7: 3})

    failure = _failure(program, strategies=[Strategy("known", known)])
    assert type(failure.error) is LookupError
    assert failure.schedule == "0:2 1:1"


def test_the_same_arguments_lead_to_the_same_failure() -> None:
    first, second = (_failure(RACES["lost update"], seed=3) for _ in range(2))
    assert first.schedule == second.schedule
    assert (first.run, first.strategy, first.shrinking) == (
        second.run,
        second.strategy,
        second.shrinking,
    )
    others = [_failure(RACES["lost update"], seed=seed).run for seed in range(10)]
    assert len(set(others)) > 1


def test_shrinking_is_bounded() -> None:
    failure = _failure(RACES["three events"], shrinks=0)
    assert failure.shrinking == 1  # repeated, to see that it can be
    assert _fails(RACES["three events"], Delays(deviations_in(failure.schedule)))
    failure = _failure(RACES["three events"], shrinks=7)
    assert failure.shrinking == 8


def test_shrinking_is_bounded_in_time() -> None:
    calls = count()

    def program(sim: Simulator) -> None:
        next(calls)
        time.sleep(0.01)
        RACES["three events"](sim)

    always = [Strategy("known", lambda rng, steps: Delays(dict.fromkeys(range(9), 2)))]
    _failure(program, strategies=always, seconds=0.1)
    assert next(calls) < 40


# -- what is not found


def test_a_tiny_program_is_seen_completely() -> None:
    assert explore(_harmless, make=Simulator) == Exploration(1 + 20, complete=True, choices=5)


def test_what_commutes_is_left_out_by_promise_only() -> None:
    promised = explore(_harmless, make=Simulator, commuting=True)
    assert promised.complete
    assert promised.runs < 1 + 20


def test_a_program_without_a_choice_is_run_once() -> None:
    assert explore(lambda sim: sim.run(), make=Simulator) == Exploration(
        1, complete=True, choices=0
    )


def test_a_large_program_is_run_as_often_as_allowed() -> None:
    assert explore(_long, make=Simulator, runs=23) == Exploration(23, complete=False, choices=100)


def test_trying_all_leaves_half_of_the_runs_to_the_others() -> None:
    def program(sim: Simulator) -> None:
        """It looks like 8 schedules, and has 120."""
        with suppress(AssertionError):
            overtaken(12)(sim)

    drawn = count()

    def draw(rng: random.Random, steps: int) -> Schedule:
        next(drawn)
        return Random(rng)

    found = explore(program, make=Simulator, runs=20, strategies=[Strategy("own", draw)])
    assert (found.runs, found.complete) == (20, False)
    assert next(drawn) == 20 - 10 - 1  # but for those tried at first, and the random one


def test_where_all_would_be_too_many_they_are_not_tried() -> None:
    drawn = count()

    def draw(rng: random.Random, steps: int) -> Schedule:
        next(drawn)
        return Random(rng)

    own = [Strategy("own", draw)]
    assert not explore(_long, make=Simulator, runs=20, strategies=own).complete
    assert next(drawn) == 20 - 2


def test_no_run_begins_after_the_time_is_over() -> None:
    start = time.monotonic()
    found = explore(_long, make=Simulator, runs=10**9, seconds=0.2)
    assert found.runs > 1
    assert not found.complete
    assert time.monotonic() - start < 5


def test_what_starves_does_not_make_the_runs_after_it_longer_and_longer() -> None:
    def program(sim: Simulator) -> None:
        over: list[str] = []

        def poll(sender: str, body: str) -> None:
            if not over:
                sim.send("poll", "poll")

        sim.handlers |= {"poll": poll, "end": lambda sender, body: over.append(sender)}
        sim.handlers["z"] = lambda sender, body: None
        sim.send("world", "poll")
        for number in range(20):
            sim.send(str(number), "z")
        sim.send("world", "end")
        sim.run()  # asserts that it ends

    strict = Strategy("strict", lambda rng, steps: PCT(rng, 1, steps))
    found = explore(program, make=Simulator, runs=100, strategies=[strict])
    assert 200 < found.choices < 2000


# -- what is no failure, or not one of the order


def test_an_async_program_is_refused() -> None:
    async def program(sim: Simulator) -> None:
        sim.run()

    for call in (
        lambda: explore(program, make=Simulator),
        lambda: replay(program, "", make=Simulator),
    ):
        with pytest.raises(UsageError, match="program is an `async def`"):
            call()


def test_who_interrupts_or_skips_is_not_a_failure() -> None:
    for interrupt in (KeyboardInterrupt(), pytest.skip.Exception("not here"), SystemExit(3)):

        def program(sim: Simulator, interrupt: BaseException = interrupt) -> None:
            raise interrupt

        with pytest.raises(type(interrupt)) as caught:
            explore(program, make=Simulator)
        assert not hasattr(caught.value, "__notes__")


def test_pytest_fail_is_a_failure() -> None:
    def program(sim: Simulator) -> None:
        pytest.fail("as said")

    with pytest.raises(pytest.fail.Exception, match="as said") as caught:
        explore(program, make=Simulator)
    assert "replay(" in caught.value.__notes__[0]


def test_what_does_not_fail_again_is_reported_with_that() -> None:
    runs = count()

    def program(sim: Simulator) -> None:
        _long(sim)
        assert next(runs) != 17, "once"

    with pytest.raises(AssertionError, match="once") as caught:
        explore(program, make=Simulator)
    assert "in run 17." in caught.value.__notes__[0]
    assert "something beside the schedule decides" in caught.value.__notes__[0]


def test_what_goes_astray_is_not_called_complete() -> None:
    runs = count()

    def program(sim: Simulator) -> None:
        sim.handlers["z"] = lambda sender, body: None
        for number in range(3):
            sim.send(f"{next(runs)}{number}", "z")
        sim.run()

    with pytest.raises(UsageError, match="The same schedule led the program somewhere else"):
        explore(program, make=Simulator)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"runs": 0}, "runs=0"),
        ({"runs": "many"}, "runs='many'"),
        ({"seconds": 0}, "seconds=0"),
        ({"strategies": ()}, r"strategies=\(\)"),
    ],
)
def test_what_cannot_work_is_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        explore(_harmless, make=Simulator, **options)


def test_the_runtime_is_a_deterministic_one_unless_another_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stand_in = types.ModuleType("llm_net.deterministic")
    stand_in.Deterministic = lambda *, schedule: Simulator(schedule)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "llm_net.deterministic", stand_in)
    assert explore(_harmless).complete
    with pytest.raises(AssertionError, match="overtaken"):
        replay(overtaken(3), "0-3:1")


# -- hypothesis


@races
def test_hypothesis_shrinks_the_schedule_to_a_least_one(race: str) -> None:
    program = RACES[race]
    text = find(
        schedules(30),
        lambda text: _fails(program, Delays(deviations_in(text))),
        settings=settings(
            max_examples=1000,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert len(text.split()) == 1, text
    numbers = deviations_in(text)
    shorter = {number: index for number, index in numbers.items() if number < max(numbers)}
    lower = {number: index - 1 for number, index in numbers.items()}
    assert not _fails(program, Delays(shorter))
    assert not _fails(program, Delays(lower))


def test_the_example_that_hypothesis_reports_is_what_replay_takes() -> None:
    texts: list[str] = []

    @settings(database=None, derandomize=True)
    @given(schedules(14), st.integers(2, 3))
    def check(schedule: str, length: int) -> None:
        texts.append(schedule)
        replay(overtaken(length), schedule, make=Simulator)

    with pytest.raises(AssertionError, match="overtaken") as caught:
        check()
    assert texts[-1] == "0-2:1"
    assert any("schedule='0-2:1'" in note for note in caught.value.__notes__)


@given(schedules(5))
def test_drawn_schedules_stay_within_the_choices(text: str) -> None:
    assert all(number < 5 for number in deviations_in(text))


def test_a_schedule_of_no_choices_is_refused() -> None:
    with pytest.raises(UsageError, match="choices=0"):
        schedules(0)


def test_neither_hypothesis_nor_pytest_is_imported_before_it_is_needed() -> None:
    code = (
        "import sys, llm_net.exploring; "
        "print([name for name in ('hypothesis', 'pytest') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_first_come_first_served_passes_all_races() -> None:
    assert [race for race, program in RACES.items() if _fails(program, Fifo())] == []
