"""Rates: never more than allowed in any sixty seconds, and no later than that asks for."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from llm_net.llm.rates import WINDOW_S, Booking, Rates

arrivals = st.lists(
    st.tuples(
        st.floats(0, 90, allow_subnormal=False),  # seconds since the one before
        st.integers(0, 30),  # tokens that were expected
        st.integers(0, 30),  # tokens that it took
        st.sampled_from(["goes", "corrected", "given up"]),
    ),
    max_size=40,
)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def most_in_any_window(starts: list[tuple[float, int]]) -> int:
    """The most that lies within sixty seconds, the end not included."""
    return max(
        (sum(n for at, n in starts if begin <= at < begin + WINDOW_S) for begin, _ in starts),
        default=0,
    )


@given(arrivals, st.integers(1, 6))
def test_in_no_minute_are_there_more_calls_than_allowed(
    comings: list[tuple[float, int, int, str]], limit: int
) -> None:
    clock = Clock()
    rates = Rates(limit, None, clock=clock)
    starts: list[tuple[float, int]] = []
    for pause, *_ in comings:
        clock.now += pause
        booking = rates.book(0)
        assert booking is not None
        assert booking.at >= clock.now
        assert not starts or booking.at >= starts[-1][0]
        starts.append((booking.at, 1))
    assert most_in_any_window(starts) <= limit


@given(arrivals, st.integers(1, 60))
def test_in_no_minute_are_there_more_tokens_than_allowed(
    comings: list[tuple[float, int, int, str]], limit: int
) -> None:
    clock = Clock()
    rates = Rates(None, limit, clock=clock)
    made: list[tuple[Booking, int]] = []
    for pause, expected, took, then in comings:
        clock.now += pause
        booking = rates.book(expected)
        assert booking is not None
        if then == "given up":
            rates.cancel(booking)
            continue
        if then == "corrected":
            rates.correct(booking, min(took, expected))
            expected = min(took, expected)  # noqa: PLW2901 - it is what counts from now on
        made.append((booking, expected))
    # What is too large for any minute has one to itself.
    for booking, tokens in made:
        others = [(b.at, n) for b, n in made if b is not booking and n]
        if tokens > limit:
            mine = booking.at
            assert all(at >= mine + WINDOW_S or mine >= at + WINDOW_S for at, _ in others)
    assert most_in_any_window([(b.at, n) for b, n in made if n <= limit]) <= limit


def test_a_minute_may_begin_with_all_its_calls_and_then_waits() -> None:
    clock = Clock()
    rates = Rates(3, None, clock=clock)
    bookings = [rates.book(0) for _ in range(7)]
    assert [b.at for b in bookings if b] == [0, 0, 0, 60, 60, 60, 120]


def test_what_a_call_really_took_counts_for_those_that_come_after() -> None:
    clock = Clock()
    rates = Rates(None, 100, clock=clock)
    first = rates.book(90)
    assert first is not None
    rates.correct(first, 10)
    second = rates.book(80)
    assert second is not None
    assert second.at == 0
    rates.correct(second, 100)
    third = rates.book(1)
    assert third is not None
    assert third.at == 60


def test_who_would_come_too_late_books_nothing() -> None:
    clock = Clock()
    rates = Rates(1, None, clock=clock)
    assert rates.book(0) is not None
    assert rates.book(0, until=59) is None
    booking = rates.book(0, until=60)
    assert booking is not None
    assert booking.at == 60


def test_threads_book_as_if_one_after_the_other() -> None:
    rates = Rates(10, None, clock=lambda: 0.0)
    starts: list[float] = []

    def book() -> None:
        for _ in range(50):
            booking = rates.book(0)
            assert booking is not None
            starts.append(booking.at)

    threads = [threading.Thread(target=book) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(starts) == [60.0 * (n // 10) for n in range(200)]
