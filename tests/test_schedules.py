"""Schedules: which of several messages comes next, at random, as recorded, or in every order."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import HealthCheck, assume, find, given, settings
from hypothesis import strategies as st

from llm_net.errors import UsageError
from llm_net.exhaustive import Exhaustive
from llm_net.schedules import (
    PCT,
    POS,
    Delays,
    FewDelays,
    Fifo,
    Option,
    Random,
    Recorded,
    Replay,
    Schedule,
)
from llm_net.trial import Trial, deviations_in, schedule_text
from tests.schedule_simulator import (
    Head,
    Program,
    Simulator,
    lost_update,
    overtaken,
    relays,
    three_events,
)

Draw = Callable[[random.Random], Schedule]

DRAWN: dict[str, Draw] = {
    "random": Random,
    "PCT 1": lambda rng: PCT(rng, 1, 20),
    "PCT 3": lambda rng: PCT(rng, 3, 20),
    "POS": POS,
    "few delays": lambda rng: FewDelays(rng, 3, 20),
}

drawn = st.sampled_from(list(DRAWN.values()))
seeds = st.integers(0, 1_000_000)
numbers = st.integers(0, 3)
steps = st.tuples(st.lists(numbers, max_size=2).map(tuple), st.booleans())
programs = st.builds(
    relays,
    st.lists(st.lists(steps, min_size=1, max_size=2), min_size=2, max_size=4),
    st.lists(st.tuples(numbers, st.integers(0, 2)), min_size=2, max_size=4),
)


def _log(program: Program, schedule: Schedule) -> list[tuple[str, str, str]]:
    """The steps of a run, which may fail."""
    sim = Simulator(schedule)
    try:
        program(sim)
    except AssertionError:
        sim.log.append(("", "", "it failed"))
    return sim.log


def _classed(log: Sequence[tuple[str, str, str]]) -> tuple[tuple[tuple[str, str, str], ...], ...]:
    """What equivalent runs have in common: the steps of each receiver, in their order."""
    receivers = sorted(dict.fromkeys(receiver for _, receiver, _ in log))
    return tuple(tuple(step for step in log if step[1] == receiver) for receiver in receivers)


def _every_log(program: Program, most: int) -> list[list[tuple[str, str, str]]]:
    """Every run there is, without `Exhaustive`: all that branch off from those known."""
    logs: list[list[tuple[str, str, str]]] = []
    waiting: list[list[int]] = [[]]
    while waiting:
        prefix = waiting.pop()
        recorded = Recorded(Replay(prefix))
        logs.append(_log(program, recorded))
        assume(len(logs) <= most)
        for number in range(len(prefix), len(recorded.sizes)):
            known = recorded.choices[:number]
            waiting += [[*known, index] for index in range(1, recorded.sizes[number])]
    return logs


# -- what holds for all of them


@given(programs, drawn, seeds)
def test_every_index_is_in_range_and_no_choice_is_asked_for_where_there_is_none(
    program: Program, draw: Draw, seed: int
) -> None:
    recorded = Recorded(draw(random.Random(seed)))  # raises where it is not
    program(Simulator(recorded))
    assert all(
        0 <= index < size for index, size in zip(recorded.choices, recorded.sizes, strict=True)
    )
    assert all(size > 1 for size in recorded.sizes)


@given(programs, drawn, seeds)
def test_the_same_seed_gives_the_same_choices(program: Program, draw: Draw, seed: int) -> None:
    first, second = (Recorded(draw(random.Random(seed))) for _ in range(2))
    assert _log(program, first) == _log(program, second)
    assert first.choices == second.choices


@given(programs, drawn, seeds)
def test_what_was_recorded_can_be_replayed_from_the_list_the_deviations_and_the_text(
    program: Program, draw: Draw, seed: int
) -> None:
    recorded = Recorded(draw(random.Random(seed)))
    log = _log(program, recorded)
    text = schedule_text(recorded.deviations)
    assert _log(program, Replay(recorded.choices)) == log
    assert _log(program, Delays(recorded.deviations)) == log
    assert _log(program, Delays(deviations_in(text))) == log


class _Zero(random.Random):
    """What hypothesis shrinks a random source to."""

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        return 0

    def getrandbits(self, k: int, /) -> int:
        return 0


@given(programs)
def test_the_smallest_draws_are_first_come_first_served(program: Program) -> None:
    log = _log(program, Fifo())
    assert _log(program, Random(_Zero())) == log
    assert _log(program, POS(_Zero())) == log
    assert _log(program, PCT(_Zero(), 1, 20)) == log
    assert _log(program, Delays({})) == log
    assert _log(program, Replay([])) == log


# -- each of them


def test_priorities_of_lanes_stand_in_one_order_while_nothing_changes_them() -> None:
    class Watched(PCT):
        before: dict[tuple[str, str], None]

        def choose(self, options: Sequence[Option]) -> int:
            index = super().choose(options)
            for other in options:
                if other is not options[index]:
                    self.before[options[index].key, other.key] = None
            return index

    for seed in range(200):
        watched = Watched(random.Random(seed), 1, 100)
        watched.before = {}
        _log(lost_update(noise=2), watched)
        assert not [pair for pair in watched.before if pair[::-1] in watched.before]


def test_a_change_of_priority_puts_the_lane_below_all_others() -> None:
    heads = [Head(f"{name}>z", "z") for name in "abcde"]
    for seed in range(200):
        schedule = PCT(random.Random(seed), 3, 2)  # changes at the choices 0 and 1
        assert len({schedule.choose(heads) for _ in range(2)}) == 2
        last = [schedule.choose(heads) for _ in range(10)]
        assert len(set(last)) == 1
        # Both that were put down stay down, under whatever is there.
        assert schedule.choose(heads) == last[0]


def test_what_writes_to_itself_for_ever_does_not_keep_the_highest_lane_for_ever() -> None:
    def program(sim: Simulator) -> None:
        over: list[str] = []

        def poll(sender: str, body: str) -> None:
            if not over:
                sim.send("poll", "poll")

        sim.handlers |= {"poll": poll, "end": lambda sender, body: over.append(sender)}
        sim.send("world", "poll")
        sim.send("world", "end")
        sim.run()

    lengths: list[int] = []
    for seed in range(50):
        recorded = Recorded(PCT(random.Random(seed), 2, 5))
        program(Simulator(recorded))  # asserts that it ends
        lengths.append(len(recorded.choices))
    assert max(lengths) > 50  # starved, until patience was over


def test_changes_of_priority_go_below_the_smallest_that_is_drawn() -> None:
    assert PCT(_Zero(), 2, 1).choose([Head("a>z", "z"), Head("b>z", "z")]) == 1


@pytest.mark.parametrize(
    ("receivers", "draws"), [("zzz", 3 * 5), ("xyz", 3 + 4), ("yyz", 3 + 2 * 4)]
)
def test_events_that_race_with_the_chosen_one_draw_anew(receivers: str, draws: int) -> None:
    class Counted(random.Random):
        drawn = 0

        def getrandbits(self, k: int, /) -> int:
            self.drawn += 1
            # The third last, and always one of the first two, where they are alike.
            return 5 if self.drawn == 3 else 10 + self.drawn

    heads = [Head(f"{name}>{to}", to) for name, to in zip("abc", receivers, strict=True)]
    rng = Counted()
    schedule = POS(rng)
    for _ in range(5):
        schedule.choose(heads)
    assert rng.drawn == draws


def test_a_delay_lasts_for_a_power_of_two_of_choices() -> None:
    heads = [Head("a>z", "z"), Head("b>z", "z")]
    lasted: dict[int, None] = {}
    for seed in range(200):
        schedule = FewDelays(random.Random(seed), 1, 30)
        lasted[sum(schedule.choose(heads) for _ in range(100))] = None
    assert sorted(lasted) == [1, 2, 4, 8, 16]


def test_delays_hold_back_the_oldest_for_a_while_at_few_places() -> None:
    heads = [Head(f"{name}>z", "z") for name in "abcde"]
    for seed in range(200):
        schedule = FewDelays(random.Random(seed), 2, 30)
        taken = [schedule.choose(heads) for _ in range(100)]
        spans = [n for n in range(100) if taken[n] and (n == 0 or taken[n] != taken[n - 1])]
        assert len(spans) in {1, 2}


def test_an_index_beyond_the_options_takes_the_last() -> None:
    heads = [Head("a>z", "z"), Head("b>z", "z")]
    assert Delays({0: 7}).choose(heads) == 1
    assert Replay([7]).choose(heads) == 1


def test_records_hold_choices_and_sizes() -> None:
    recorded = Recorded(Replay([0, 1, 2]))
    for size in (2, 3, 4, 2):
        recorded.choose([Head(f"{n}>z", "z") for n in range(size)])
    assert (recorded.choices, recorded.sizes) == ([0, 1, 2, 0], [2, 3, 4, 2])
    assert recorded.deviations == {1: 1, 2: 2}


@pytest.mark.parametrize("index", [2, -1])
def test_an_index_that_is_none_is_refused_where_it_is_recorded(index: int) -> None:
    class Wrong:
        def choose(self, options: Sequence[Option]) -> int:
            return index

    with pytest.raises(UsageError, match=f"gave {index} for 2 options at choice 0"):
        Recorded(Wrong()).choose([Head("a>z", "z"), Head("b>z", "z")])


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: PCT(random.Random(), 0, 5), "depth=0"),
        (lambda: PCT(random.Random(), 2, 0), "steps=0"),
        (lambda: FewDelays(random.Random(), 0, 5), "delays=0"),
        (lambda: Delays({-1: 1}), "choice -1"),
        (lambda: Replay([0, -2]), "option -2"),
        (lambda: deviations_in("3:1, 7:2"), "'3:1,'"),
        (lambda: deviations_in("9-7:1"), "'9-7:1'"),
        (lambda: deviations_in("-3:1"), "'-3:1'"),
        (lambda: deviations_in("1234567890:1"), "'1234567890:1'"),
    ],
)
def test_what_cannot_work_is_refused(make: Callable[[], object], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        make()


@given(st.dictionaries(st.integers(0, 40), st.integers(1, 3)))
def test_a_text_says_what_the_deviations_say(deviations: dict[int, int]) -> None:
    text = schedule_text(deviations)
    assert deviations_in(text) == deviations
    assert deviations_in(f"  {text} ") == deviations
    assert schedule_text(deviations_in(text)) == text


def test_a_trial_says_in_words_what_it_passed_over() -> None:
    trial = Trial(Replay([0, 1, 1, 4, 0, 4]))
    heads = [Head(f"{name}>z", "z") for name in "abcdef"]
    for _ in range(7):
        trial.choose(heads)
    assert trial.in_words() == (
        "at choices 1 to 2: b>z came before a>z",
        "at choice 3: e>z came before a>z and b>z and c>z and 1 more",
        "at choice 5: e>z came before a>z and b>z and c>z and 1 more",
    )


def test_a_random_source_of_hypothesis_shrinks_to_the_fewest_deviations() -> None:
    def text(rng: random.Random) -> str | None:
        recorded = Recorded(Random(rng))
        failed = _log(lost_update(head_start=2), recorded)[-1][-1] == "it failed"
        return schedule_text(recorded.deviations) if failed else None

    found: list[str | None] = []

    def fails(rng: random.Random) -> bool:
        found.append(text(rng))
        return found[-1] is not None

    still = settings(database=None, suppress_health_check=list(HealthCheck), derandomize=True)
    find(st.randoms(use_true_random=False), fails, settings=still)
    assert min((each for each in found if each), key=len) == "0:1"


# -- all of them


@pytest.mark.parametrize(
    ("program", "runs", "failed"),
    [(lost_update(), 70, 60), (overtaken(5), 36, 8), (three_events(), 1260, 120)],
)
def test_every_schedule_is_there_once(program: Program, runs: int, failed: int) -> None:
    logs = [_log(program, schedule) for schedule in Exhaustive()]
    assert len(logs) == len(dict.fromkeys(map(tuple, logs))) == runs
    assert sum(log[-1][-1] == "it failed" for log in logs) == failed


@given(st.lists(st.integers(0, 3), max_size=3))
def test_there_are_as_many_schedules_as_interleavings(lengths: list[int]) -> None:
    def program(sim: Simulator) -> None:
        sim.handlers["z"] = lambda sender, body: None
        for number, length in enumerate(lengths):
            for _ in range(length):
                sim.send(str(number), "z")
        sim.run()

    multinomial = math.factorial(sum(lengths)) // math.prod(map(math.factorial, lengths))
    logs = [_log(program, schedule) for schedule in Exhaustive()]
    assert len(logs) == len(dict.fromkeys(map(tuple, logs))) == multinomial


@settings(suppress_health_check=[HealthCheck.filter_too_much])
@given(programs)
def test_all_schedules_are_those_that_brute_force_finds(program: Program) -> None:
    every = _every_log(program, 300)
    exhaustive = Exhaustive()
    logs: list[list[tuple[str, str, str]]] = []
    for schedule in exhaustive:
        assert not exhaustive.complete
        logs.append(_log(program, schedule))
    assert exhaustive.complete
    assert sorted(logs) == sorted(every)
    assert logs[0] == _log(program, Fifo())


@settings(suppress_health_check=[HealthCheck.filter_too_much])
@given(programs)
def test_of_those_that_commute_one_of_each_class_is_left(program: Program) -> None:
    every = _every_log(program, 300)
    logs = [_log(program, schedule) for schedule in Exhaustive(commuting=True)]
    assert len(logs) == len(dict.fromkeys(map(tuple, logs))) <= len(every)
    assert sorted(dict.fromkeys(map(_classed, logs))) == sorted(dict.fromkeys(map(_classed, every)))


@pytest.mark.parametrize(
    ("program", "most"), [(lost_update(), 12), (overtaken(5), 4), (three_events(), 21)]
)
def test_what_commutes_is_left_out_for_the_greater_part(program: Program, most: int) -> None:
    logs = [_log(program, schedule) for schedule in Exhaustive(commuting=True)]
    assert len(logs) <= most
    assert any(log[-1][-1] == "it failed" for log in logs)


def test_options_of_the_same_name_are_told_apart() -> None:
    orders: list[tuple[int, ...]] = []
    for schedule in Exhaustive(commuting=True):
        numbered = [(number, Head("timer z", "z")) for number in range(3)]
        order: list[int] = []
        while len(numbered) > 1:
            order.append(numbered.pop(schedule.choose([head for _, head in numbered]))[0])
        orders.append((*order, numbered[0][0]))
    assert len(orders) == len(set(orders)) == 6


def test_a_program_without_a_choice_has_one_schedule() -> None:
    exhaustive = Exhaustive()
    assert len([_log(lambda sim: sim.run(), schedule) for schedule in exhaustive]) == 1
    assert exhaustive.complete


@pytest.mark.parametrize("first", [2, 3])
def test_a_program_that_goes_astray_is_reported(first: int) -> None:
    exhaustive = iter(Exhaustive())
    for size, receiver in [(first, "x"), (2, "y")]:
        schedule = next(exhaustive)
        schedule.choose([Head(f"{number}>{receiver}", receiver) for number in range(size)])
        schedule.choose([Head("a>z", "z"), Head("b>z", "z")])
    with pytest.raises(UsageError, match=r"choice 0 was between .*0>x.* before, and .*0>y.* now"):
        next(exhaustive)


def test_a_program_that_is_over_too_soon_is_reported() -> None:
    exhaustive = iter(Exhaustive())
    next(exhaustive).choose([Head("a>z", "z"), Head("b>z", "z")])
    next(exhaustive)
    with pytest.raises(UsageError, match="had 1 choices at least before, and 0 now"):
        next(exhaustive)
