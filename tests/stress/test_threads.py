"""A live network on the thread host, and eight threads that never leave it alone.

`LLMNET_STRESS_S` says for how long, in seconds; by default for a minute.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import random
import threading
import time
import traceback
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any, ClassVar

import pytest

from llm_net import (
    DeliveryError,
    Envelope,
    GenAgent,
    GenNetwork,
    Instrument,
    Message,
    Runtime,
    Statistics,
    Supervision,
    UsageError,
)

SECONDS = float(os.environ.get("LLMNET_STRESS_S") or 60)
THREADS = 8
DEADLINE = 30.0
"""How long one word may take before it counts as a hang: a hundred times what is usual."""
STABLE = ["p0", "p1", "p2", "t0", "t1", "a0", "a1", "a2", "g0", "g1"]


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Failures that nobody asked for are logged; here they are made on purpose."""
    caplog.set_level(logging.CRITICAL + 1, logger="llm_net")
    caplog.set_level(logging.CRITICAL + 1, logger="asyncio")


class Part(GenAgent):
    """Passes on what it hears, as long as it has hops to go; fails sometimes."""

    inside: int = 0
    worst: int = 0
    handled: int = 0

    def enter(self, message: Message) -> int:
        self.inside += 1
        self.worst = max(self.worst, self.inside)
        self.handled += 1
        if message.body == "fail":
            self.inside -= 1
            raise LookupError(message.body)
        return int(message.body)

    def leave(self) -> None:
        self.inside -= 1

    def pass_on(self, hops: int) -> None:
        if hops > 0:
            self.emit("step", str(hops - 1))


class Plain(Part):
    blocking: ClassVar[bool] = False

    def step(self, message: Message) -> str:
        hops = self.enter(message)
        try:
            self.pass_on(hops)
            return self.name
        finally:
            self.leave()


class Threaded(Part):
    """Asks the next, from a thread."""

    def step(self, message: Message) -> str:
        hops = self.enter(message)
        try:
            self.pass_on(hops)
            if hops > 1:
                try:
                    self.ask("p0", "0", timeout=DEADLINE)
                except (DeliveryError, UsageError):
                    return "refused"
            return self.name
        finally:
            self.leave()


class Async(Part):
    async def astep(self, message: Message) -> str:
        hops = self.enter(message)
        try:
            await asyncio.sleep(0)
            self.pass_on(hops)
            if hops > 1:
                try:
                    await self.aask("p1", "0", timeout=DEADLINE)
                except (DeliveryError, UsageError):
                    return "refused"
            return self.name
        finally:
            self.leave()


class Generating(Part):
    def step(self, message: Message) -> Generator[str]:
        hops = self.enter(message)
        try:
            for number in range(3):
                yield str(number)
            self.pass_on(hops)
        finally:
            self.leave()


class AsyncGenerating(Part):
    async def astep(self, message: Message) -> AsyncGenerator[str]:
        hops = self.enter(message)
        try:
            for number in range(3):
                await asyncio.sleep(0)
                yield str(number)
            self.pass_on(hops)
        finally:
            self.leave()


class Tally(Instrument):
    """Counts on its own what delivery says it does."""

    def __init__(self) -> None:
        self.delivered = 0
        self.dead = 0
        self.open: Counter[int] = Counter()

    def deliver(self, envelope: Envelope, receiver: str) -> None:
        self.delivered += 1

    def drop(self, letter: Any) -> None:
        self.dead += 1


def built() -> GenNetwork:
    kinds: dict[str, type[Part]] = {"p": Plain, "t": Threaded, "a": Async}
    agents: list[GenAgent] = [
        *(kinds[name[0]](name=name) for name in STABLE[:8]),
        Generating(name="g0"),
        AsyncGenerating(name="g1"),
        GenNetwork(
            name="sub",
            agents=[Plain(name="x"), Async(name="y")],
            edges=[("x", "step", "y")],
            entry=["x", "y"],
            expose=["step"],
        ),
    ]
    return GenNetwork(
        name="net",
        agents=agents,
        edges=[(u, "step", v) for u, v in itertools.pairwise(STABLE)],
        entry=["p0", "t0"],
        supervision=Supervision(directive=lambda error: "restart"),
    )


class Pest:
    """A thread that does one thing after the other to the network."""

    def __init__(self, net: GenNetwork, number: int, end: float) -> None:
        self.net = net
        self.number = number
        self.end = end
        self.random = random.Random(number)
        self.done: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.slowest = 0.0
        self.wrong: list[BaseException] = []
        self.at = ""
        self.made = 0
        self.mine: list[str] = []
        self.thread = threading.Thread(target=self.run, name=f"pest-{number}", daemon=True)

    def run(self) -> None:
        deeds: list[Callable[[], object]] = [
            self.tell,
            self.tell,
            self.tell,
            self.ask,
            self.ask,
            self.future,
            self.stream,
            self.link,
            self.unlink,
            self.add,
            self.remove,
            self.stop_one,
            self.look,
            self.fail,
            self.alone,
            self.run_it,
        ]
        while time.monotonic() < self.end and not self.wrong:
            deed = self.random.choice(deeds)
            self.at = deed.__name__
            began = time.monotonic()
            try:
                deed()
                self.done[self.at] += 1
            except (DeliveryError, UsageError) as error:  # what is documented for all of these
                self.refused[f"{self.at}: {type(error).__name__}"] += 1
            except BaseException as error:  # noqa: BLE001 - the test says which
                self.wrong.append(error)
            self.slowest = max(self.slowest, time.monotonic() - began)
        self.at = ""

    def some(self) -> str:
        return self.random.choice([*STABLE, "sub", "sub/x", *self.mine])

    def tell(self) -> None:
        self.net[self.some()].ref.tell(str(self.random.randint(0, 4)))

    def ask(self) -> None:
        self.net[self.some()].ref.ask(str(self.random.randint(0, 3)), timeout=DEADLINE)

    def future(self) -> None:
        futures = [
            self.net[self.some()].ref.ask("1", block=False, timeout=DEADLINE) for _ in range(5)
        ]
        for future in futures:
            future.get(timeout=DEADLINE)

    def stream(self) -> None:
        stream = self.net[self.random.choice(["g0", "g1"])].ref.stream("2", timeout=DEADLINE)
        if self.random.random() < 0.3:
            next(stream)
            stream.close()
        else:
            assert [each.body for each in stream] == ["0", "1", "2"]

    def link(self) -> None:
        self.net.link(self.some(), "step", self.random.choice(STABLE))

    def unlink(self) -> None:
        edges = [each for each in self.net.edges if each[0] in self.mine or each[2] in self.mine]
        everywhere = list(self.net.edges)
        if len(everywhere) > 40:
            edges = everywhere
        if edges:
            u, event, v = self.random.choice(edges)  # type: ignore[misc]
            self.net.unlink(u, event, v)

    def add(self) -> None:
        if len(self.mine) < 5:
            self.made += 1
            name = f"new{self.number}-{self.made}"
            kind = self.random.choice([Plain, Threaded, Async])
            self.net.add(kind(name=name))
            self.mine.append(name)
            self.net.link(self.random.choice(STABLE), "step", name)

    def remove(self) -> None:
        if self.mine:
            self.net.remove(self.mine.pop(self.random.randrange(len(self.mine))))

    def stop_one(self) -> None:
        if self.mine:
            name = self.random.choice(self.mine)
            self.net[name].ref.stop(timeout=DEADLINE, drain=self.random.random() < 0.5)

    def look(self) -> None:
        for counts in (self.net.statistics(), self.net[self.some()].statistics()):
            assert counts.queued >= 0
        _ = self.net.graph, self.net.find(method="step"), self.net.to_mermaid()

    def fail(self) -> None:
        self.net[self.some()].ref.ask("fail", timeout=DEADLINE)

    def alone(self) -> None:
        """Start and stop an agent of one's own, in the runtime of all."""
        runtime = self.net.ref._runtime
        with Plain(name=f"alone{self.number}").start(runtime=runtime) as ref:
            reply = ref.ask("0", timeout=DEADLINE)
            assert reply is not None
            assert reply.body == ref.path

    def run_it(self) -> None:
        run = self.net.run(Message("2", receiver=self.random.choice(STABLE)), timeout=DEADLINE)
        counts = run.statistics
        assert counts.queued == 0
        assert counts.sent == counts.delivered + counts.dead
        assert run.ended != "timeout"


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 10 * DEADLINE)
def test_eight_threads_cannot_break_a_live_network(capsys: pytest.CaptureFixture[str]) -> None:
    before = set(threading.enumerate())
    tally = Tally()
    runtime = Runtime("thread", instruments=[tally])
    net = built()
    net.start(runtime=runtime)
    end = time.monotonic() + SECONDS
    pests = [Pest(net, number, end) for number in range(THREADS)]
    for pest in pests:
        pest.thread.start()
    sampled = 0
    while any(pest.thread.is_alive() for pest in pests):
        for pest in pests:
            pest.thread.join(0.2)
        counts = runtime.statistics()
        sampled += 1
        assert counts.sent == counts.delivered + counts.queued + counts.dead, counts
        assert time.monotonic() < end + 2 * DEADLINE, f"hangs: {[pest.at for pest in pests]}"
    wrong = [error for pest in pests for error in pest.wrong]
    assert not wrong, "".join("".join(traceback.format_exception(error)) for error in wrong)
    agents = [each for each in net.agents if isinstance(each, Part)]
    net.ref.stop(timeout=2 * DEADLINE)
    counts = runtime.statistics()
    with capsys.disabled():
        _report(pests, counts, sampled)
    assert counts.queued == 0
    assert counts.sent == counts.delivered + counts.dead
    assert (tally.delivered, tally.dead) == (counts.delivered, counts.dead)
    assert all(agent.worst <= 1 for agent in agents)
    assert not any(agent.inside for agent in agents)
    assert not runtime.roots
    for thread in set(threading.enumerate()) - before:
        thread.join(DEADLINE)
    assert set(threading.enumerate()) <= before


def _report(pests: list[Pest], counts: Statistics, sampled: int) -> None:
    done = sum((pest.done for pest in pests), Counter[str]())
    refused = sum((pest.refused for pest in pests), Counter[str]())
    slowest = max(pest.slowest for pest in pests)
    print(f"\n{SECONDS:g} s: {counts}, looked at {sampled} times meanwhile")  # noqa: T201
    print(f"done: {dict(done)}\nrefused: {dict(refused)}\nslowest: {slowest:.2f} s")  # noqa: T201
