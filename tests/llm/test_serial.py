"""The lock that finalizers need not wait for."""

from __future__ import annotations

import threading

from llm_net.llm.serial import Serial
from tests.waiting import within_deadline


def test_what_comes_while_the_lock_is_held_by_its_own_thread_runs_after() -> None:
    serial = Serial()
    seen: list[str] = []

    def nested() -> None:
        with serial:
            serial.soon(lambda: seen.append("later"))
            seen.append("first")

    within_deadline(nested)
    assert seen == ["first", "later"]


def test_what_comes_while_another_is_run_runs_after_it() -> None:
    serial = Serial()
    seen: list[str] = []

    def outer() -> None:
        serial.soon(lambda: seen.append("later"))
        seen.append("first")

    within_deadline(lambda: serial.soon(outer))
    assert seen == ["first", "later"]


def test_whoever_takes_the_lock_finds_all_done_that_came_before() -> None:
    serial = Serial()
    seen: list[int] = []
    serial._lock.acquire()
    serial.soon(lambda: seen.append(1))
    assert seen == []
    serial._lock.release()
    with serial:
        assert seen == [1]


def test_nothing_is_lost_between_threads_and_nothing_interrupted() -> None:
    serial = Serial()
    count = 0

    def add() -> None:
        nonlocal count
        seen = count
        count = seen + 1

    def work() -> None:
        for _ in range(500):
            serial.soon(add)
            with serial:
                add()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        within_deadline(thread.join)
    assert count == 4 * 500 * 2
