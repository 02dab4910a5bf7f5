"""The door of an endpoint: who is in, who waits, and that a place is never lost nor doubled."""

from __future__ import annotations

import asyncio
import threading
from collections import deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from llm_net.llm.gate import Gate
from tests.waiting import DEADLINE_S, within_deadline


class GateMachine(RuleBasedStateMachine):
    """A gate beside a set of those inside and a line of those before it."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.tasks: dict[int, asyncio.Task[bool]] = {}
        self.number = 0

    @initialize(places=st.integers(1, 3))
    def open(self, places: int) -> None:
        self.places = places
        self.gate = Gate(places)
        self.inside: set[int] = set()
        self.line: deque[int] = deque()

    def settle(self) -> None:
        async def rounds() -> None:
            for _ in range(5):
                await asyncio.sleep(0)

        self.loop.run_until_complete(rounds())

    def admit(self) -> None:
        while self.line and len(self.inside) < self.places:
            self.inside.add(self.line.popleft())

    @rule()
    def come(self) -> None:
        self.number += 1
        self.tasks[self.number] = self.loop.create_task(self.gate.aenter(None))
        self.line.append(self.number)
        self.admit()
        self.settle()

    @precondition(lambda self: self.inside)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        who = data.draw(st.sampled_from(sorted(self.inside)))
        self.inside.remove(who)
        del self.tasks[who]
        self.admit()
        self.gate.leave()
        self.settle()

    @precondition(lambda self: self.line)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        who = data.draw(st.sampled_from(sorted(self.line)))
        self.line.remove(who)
        self.tasks.pop(who).cancel()
        self.settle()

    @precondition(lambda self: self.line and self.inside)
    @rule()
    def give_up_at_the_moment_the_place_comes(self) -> None:
        who = self.line.popleft()
        self.inside.remove(min(self.inside))
        self.tasks = {n: t for n, t in self.tasks.items() if n in self.inside | {who, *self.line}}
        self.gate.leave()
        self.tasks.pop(who).cancel()
        self.admit()
        self.settle()

    @precondition(lambda self: len(self.inside) == self.places)
    @rule()
    def come_without_patience(self) -> None:
        assert self.gate.enter(0) is False
        assert self.loop.run_until_complete(self.gate.aenter(0)) is False

    @invariant()
    def those_are_inside_who_should_be(self) -> None:
        done = {who for who, task in self.tasks.items() if task.done()}
        assert done == getattr(self, "inside", set())

    def teardown(self) -> None:
        for task in self.tasks.values():
            task.cancel()
        self.settle()
        self.loop.close()


TestGateMachine = GateMachine.TestCase
TestGateMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_threads_and_loops_stand_in_one_line() -> None:
    gate = Gate(3)
    lock = threading.Lock()
    inside = most = served = 0

    def step(by: int) -> None:
        nonlocal inside, most, served
        with lock:
            inside += by
            most = max(most, inside)
            served += by > 0

    def blocking() -> None:
        for _ in range(20):
            assert gate.enter(DEADLINE_S)
            step(1)
            step(-1)
            gate.leave()

    async def one() -> None:
        assert await gate.aenter(DEADLINE_S)
        step(1)
        await asyncio.sleep(0)
        step(-1)
        gate.leave()

    async def many() -> None:
        await asyncio.gather(*(one() for _ in range(100)))

    threads = [threading.Thread(target=blocking) for _ in range(6)]
    threads += [threading.Thread(target=asyncio.run, args=(many(),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        within_deadline(thread.join)
    assert (served, inside) == (6 * 20 + 3 * 100, 0)
    assert most <= 3


def test_a_place_is_not_handed_to_a_loop_that_has_closed() -> None:
    gate = Gate(1)
    assert gate.enter(0)
    loop = asyncio.new_event_loop()
    task = loop.create_task(gate.aenter(None))

    async def begin() -> None:
        await asyncio.sleep(0)

    loop.run_until_complete(begin())
    loop.close()  # with somebody of it still in line
    gate.leave()
    assert gate.enter(0)
    coroutine = task.get_coro()
    assert coroutine is not None
    coroutine.close()


def test_who_finds_the_place_taken_looks_again_before_standing_in_line() -> None:
    gate = Gate(1)  # as if it had been left just between the two
    assert gate._line_up("me", lambda: False)
    assert gate.enter(0) is False
