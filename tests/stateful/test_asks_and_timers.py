"""Asks and timers beside models that are a few lists, on virtual time."""

from __future__ import annotations

import heapq
import logging
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from pydantic import Field

from llm_net import (
    AgentStopped,
    AskTimeout,
    Deterministic,
    GenAgent,
    GenNetwork,
    HandlerError,
    Message,
)
from llm_net.schedules import Fifo

SECOND = 1_000_000
"""Times are whole microseconds."""
EXTRA = 7000
"""Every pause lasts so much longer than whole seconds, and what is asked has a patience of its own:
so nothing ends at the moment at which something else does, and there is one right answer."""
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


class Clock(GenAgent):
    """Lets time pass while it is asked."""

    async def astep(self, message: Message) -> str:
        await self.sleep(int(message.body) / SECOND)
        return "now"


class Machine(RuleBasedStateMachine):
    """A live network whose time passes only when the machine says so."""

    def __init__(self) -> None:
        super().__init__()
        logging.getLogger("llm_net").setLevel(logging.CRITICAL)
        self.runtime = Deterministic(schedule=Fifo(), ask_timeout=None)
        self.now = 0

    def begin(self, *agents: GenAgent) -> None:
        self.net = GenNetwork(name="net", agents=[Clock(), *agents])
        self.net.start(runtime=self.runtime)

    def settle(self) -> None:
        """Let everything happen that can happen now, in no time to speak of."""
        self.pass_time(1)

    def pass_time(self, microseconds: int) -> None:
        self.net["clock"].ref.ask(str(microseconds))
        self.now += microseconds
        assert round(self.runtime.time() * SECOND) == self.now

    @invariant()
    def the_counts_add_up(self) -> None:
        counts = self.runtime.statistics()
        assert counts.sent == counts.delivered + counts.queued + counts.dead

    def teardown(self) -> None:
        if self.net.ref.is_alive():
            self.net.ref.stop(drain=False)
        assert self.runtime.statistics().queued == 0
        assert self.runtime.engine.closed
        logging.getLogger("llm_net").setLevel(logging.NOTSET)


# -- asks


@dataclass
class Job:
    """What the model knows of one message to the server.

    Attributes:
        number: Which.
        work: How many seconds its handling takes, and how it ends.
        asked: Whether somebody waits for the reply.
        until: When the asker gives up, in microseconds; None is never.
        end: How the ask ended, and when; None while it has not.
    """

    number: int
    work: tuple[int, str]
    asked: bool
    until: int | None
    end: tuple[str, int] | None = None


class Server(GenAgent):
    """Takes some seconds for each message, and ends as it says."""

    began: list[tuple[int, int]] = Field(default_factory=list)

    async def astep(self, message: Message) -> str | None:
        number, seconds, how = message.body.split()
        self.began.append((int(number), _when(self)))
        await self.sleep(int(seconds))
        match how:
            case "replies":
                return f"reply to {number}"
            case "fails":
                raise LookupError(number)
            case _:
                return None


def _when(agent: GenAgent) -> int:
    return round((agent.now() - EPOCH).total_seconds() * SECOND)


class Client(GenAgent):
    """Asks and tells what it is told to, everything at once."""

    concurrency: ClassVar[int] = 1000
    ends: dict[int, tuple[str, int]] = Field(default_factory=dict)

    async def tell(self, message: Message) -> None:
        self.send(Message(message.body, receiver="server"))

    async def question(self, message: Message) -> None:
        timeout, _, body = message.body.partition(" ")
        number = int(body.split()[0])
        try:
            reply = await self.aask(
                "server", body, timeout=None if timeout == "None" else int(timeout) / SECOND
            )
        except AskTimeout:
            end = "AskTimeout"
        except AgentStopped:
            end = "AgentStopped"
        except HandlerError:
            end = "HandlerError"
        else:
            end = "nothing" if reply is None else reply.body
        self.ends[number] = (end, _when(self))


@dataclass
class ServerModel:
    """One server, one queue."""

    queue: list[Job] = field(default_factory=list)
    busy: Job | None = None
    free_at: int = 0
    began: list[tuple[int, int]] = field(default_factory=list)
    dead: Counter[str] = field(default_factory=Counter)
    stopping: bool = False
    stopped: bool = False

    def put(self, job: Job, now: int) -> None:
        if self.stopping:
            self.dead["stopped"] += 1
            if job.asked:
                job.end = ("AgentStopped", now)
            return
        self.queue.append(job)
        self.look(now)

    def look(self, now: int) -> None:
        if self.busy is None and self.queue:
            self.busy = self.queue.pop(0)
            self.began.append((self.busy.number, now))
            self.free_at = now + self.busy.work[0] * SECOND
        if self.stopping and self.busy is None:
            self.stopped = True

    def next_event(self) -> int | None:
        times = [job.until for job in self.asks() if job.until is not None]
        if self.busy is not None:
            times.append(self.free_at)
        return min(times, default=None)

    def asks(self) -> list[Job]:
        jobs = [*self.queue, *([self.busy] if self.busy else [])]
        return [job for job in jobs if job.asked and job.end is None]

    def advance(self, end: int) -> None:
        while (when := self.next_event()) is not None and when <= end:
            for job in self.asks():
                if job.until == when:
                    job.end = ("AskTimeout", when)
                    if job is self.busy:  # nobody wants the answer: the handler is cancelled
                        self.busy = None
            if self.busy is not None and self.free_at == when:
                self.finish(self.busy, when)
                self.busy = None
            self.look(when)

    def finish(self, job: Job, now: int) -> None:
        how = job.work[1]
        if job.asked and job.end is None:
            ends = {"replies": f"reply to {job.number}", "fails": "HandlerError"}
            job.end = (ends.get(how, "nothing"), now)
        elif job.asked and how == "replies":
            self.dead["late_reply"] += 1

    def stop(self, now: int, *, drain: bool) -> None:
        self.stopping = True
        if not drain:
            for job in [*self.queue, *([self.busy] if self.busy else [])]:
                if job.asked and job.end is None:
                    job.end = ("AgentStopped", now)
            self.dead["stopped"] += len(self.queue)
            self.queue.clear()
            self.busy = None
        self.look(now)


class Asks(Machine):
    """Tells, asks, timeouts, late replies and stops, beside a server that is one queue."""

    @initialize()
    def network(self) -> None:
        self.begin(Server(), Client())
        self.model = ServerModel()
        self.jobs: list[Job] = []

    def job(self, seconds: int, how: str, *, asked: bool, until: int | None) -> Job:
        job = Job(len(self.jobs), (seconds, how), asked, until)
        self.jobs.append(job)
        return job

    def say(self, method: str, body: str) -> None:
        """Have the client do this now."""
        self.net["client"].ref.ask(Message(body, method=method), block=False)
        self.settle()

    @rule(seconds=st.integers(1, 4), how=st.sampled_from(["replies", "fails", "is silent"]))
    def tell(self, seconds: int, how: str) -> None:
        job = self.job(seconds, how.replace(" ", "-"), asked=False, until=None)
        self.model.put(job, self.now)
        self.say("tell", f"{job.number} {seconds} {job.work[1]}")

    @rule(
        seconds=st.integers(1, 4),
        how=st.sampled_from(["replies", "fails", "is silent"]),
        patience=st.none() | st.integers(0, 8),
    )
    def ask(self, seconds: int, how: str, patience: int | None) -> None:
        own = 400_000 + 100 * len(self.jobs)
        wait = None if patience is None else patience * SECOND + own
        until = None if wait is None else self.now + wait
        job = self.job(seconds, how.replace(" ", "-"), asked=True, until=until)
        self.model.put(job, self.now)
        self.say("question", f"{wait} {job.number} {seconds} {job.work[1]}")

    @rule(seconds=st.integers(0, 6))
    def wait(self, seconds: int) -> None:
        self.pass_time(seconds * SECOND + EXTRA)
        self.model.advance(self.now)

    @precondition(lambda self: len(self.jobs) > 3 and not self.model.stopping)
    @rule(drain=st.booleans())
    def stop(self, drain: bool) -> None:  # noqa: FBT001 - hypothesis gives it by name
        self.model.stop(self.now, drain=drain)
        self.net["server"].stop(drain=drain)
        self.settle()

    @invariant()
    def it_is_as_in_the_model(self) -> None:
        assert self.net["server"].began == self.model.began
        mine = {job.number: job.end for job in self.jobs if job.asked and job.end is not None}
        assert self.net["client"].ends == mine
        assert Counter(each.reason for each in self.runtime.dead_letters) == self.model.dead
        assert self.net["server"].statistics().queued == (
            0 if self.model.stopped else len(self.model.queue)
        )
        assert self.net["server"].ref.is_alive() is not self.model.stopped

    def teardown(self) -> None:
        self.pass_time(1000 * SECOND)
        self.model.advance(self.now)
        self.it_is_as_in_the_model()
        assert all(job.end is not None for job in self.jobs if job.asked)
        super().teardown()


TestAsks = Asks.TestCase
TestAsks.settings = settings(max_examples=40, stateful_step_count=25)


# -- timers


class Bell(GenAgent):
    """Notes when it is rung."""

    blocking: ClassVar[bool] = False
    rung: list[tuple[int, int]] = Field(default_factory=list)

    def step(self, message: Message) -> None:
        self.rung.append((_when(self), int(message.body)))


class Timers(Machine):
    """Timers, once and again, cancelled and ended, beside a heap of times."""

    @initialize()
    def network(self) -> None:
        self.begin(Bell())
        self.heap: list[tuple[int, int, int | None]] = []
        self.timers: list[Any] = []
        self.rung: list[tuple[int, int]] = []

    @precondition(lambda self: self.net["bell"].ref.is_alive())
    @rule(delay=st.integers(1, 5), every=st.none() | st.integers(1, 3))
    def schedule(self, delay: int, every: int | None) -> None:
        number = len(self.timers)
        self.timers.append(self.net["bell"].schedule(delay, str(number), every=every))
        heapq.heappush(self.heap, (self.now + delay * SECOND, number, every))

    @precondition(lambda self: self.timers)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(0, len(self.timers) - 1))
        self.timers[number].cancel()
        self.heap = [each for each in self.heap if each[1] != number]
        heapq.heapify(self.heap)

    @rule(seconds=st.integers(0, 6))
    def wait(self, seconds: int) -> None:
        self.pass_time(seconds * SECOND + EXTRA)
        while self.heap and self.heap[0][0] <= self.now:
            when, number, every = heapq.heappop(self.heap)
            self.rung.append((when, number))
            if every is not None:
                heapq.heappush(self.heap, (when + every * SECOND, number, every))

    @precondition(lambda self: len(self.timers) > 3 and self.net["bell"].ref.is_alive())
    @rule()
    def stop(self) -> None:
        self.net["bell"].stop()
        self.settle()
        self.heap.clear()

    @invariant()
    def it_rang_as_in_the_model(self) -> None:
        assert sorted(self.net["bell"].rung) == sorted(self.rung)


TestTimers = Timers.TestCase
TestTimers.settings = settings(max_examples=40, stateful_step_count=25)
