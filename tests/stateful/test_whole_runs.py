"""Whole runs under drawn schedules: small networks that fail, ask, stop and rewire themselves."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from collections import Counter, defaultdict, deque
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from llm_net import (
    DeadLetter,
    DeliveryError,
    Deterministic,
    Envelope,
    GenAgent,
    GenNetwork,
    HandlerError,
    Instrument,
    LLMNetError,
    Message,
    Run,
    Runtime,
    Supervision,
    UsageError,
)
from llm_net.schedules import Delays, Random, Recorded, Replay, Schedule
from llm_net.trial import deviations_in

Kind = Literal["plain", "thread", "async"]
MOST = 60
"""Deliveries of a run; networks that write more to each other reach this limit."""


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Failures that nobody asked for are logged; here they are made on purpose."""
    caplog.set_level(logging.CRITICAL, logger="llm_net")
    caplog.set_level(logging.CRITICAL, logger="asyncio")


# -- what is drawn


@dataclass(frozen=True)
class Act:
    """One thing that a handler does.

    Attributes:
        what: Which.
        number: Whom it is done to, as far as that matters.
        seconds: How long it takes, as far as that matters.
    """

    what: str
    number: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Part:
    """An agent: what it does with its messages, one after the other, and again."""

    kind: Kind
    script: tuple[tuple[Act, ...], ...]
    inner: bool = False


@dataclass(frozen=True)
class Plan:
    parts: tuple[Part, ...]
    edges: tuple[tuple[int, int], ...]
    entry: tuple[int, ...]
    directive: str
    strategy: str
    hops: int
    limits: dict[str, Any]


ACTS = [
    "emit",
    "emit",
    "emit",
    "send",
    "send",
    "ask",
    "ask",
    "ask",
    "sleep",
    "sleep",
    "reply",
    "yield",
    "fail",
    "exit",
    "schedule",
    "every",
    "cancel",
    "stop",
    "kill",
    "link",
    "unlink",
    "add",
    "remove",
]
acts = st.builds(
    Act,
    what=st.sampled_from(ACTS),
    number=st.integers(0, 5),
    seconds=st.sampled_from([0.0, 0.5, 1.0, 2.5]),
)
parts = st.builds(
    Part,
    kind=st.sampled_from(["plain", "thread", "async"]),
    script=st.lists(st.lists(acts, min_size=1, max_size=4).map(tuple), min_size=1, max_size=3).map(
        tuple
    ),
    inner=st.booleans(),
)
plans = st.builds(
    Plan,
    parts=st.lists(parts, min_size=1, max_size=5).map(tuple),
    edges=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=8).map(
        tuple
    ),
    entry=st.lists(st.integers(0, 4), min_size=1, max_size=3).map(tuple),
    directive=st.sampled_from(["resume", "restart", "stop", "escalate"]),
    strategy=st.sampled_from(["one_for_one", "all_for_one", "rest_for_one"]),
    hops=st.integers(1, 5),
    limits=st.sampled_from([{}, {"timeout": 1.5}, {"max_hops": 3}]),
)
seeded = st.integers(0, 2**32).map(lambda seed: Random(random.Random(seed)))
spans = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 20), st.integers(1, 4)), max_size=5
).map(lambda all_: " ".join(f"{a}-{a + n}:{i}" for a, n, i in all_))
delayed = spans.map(lambda text: Delays(deviations_in(text)))
schedules: st.SearchStrategy[Schedule] = st.one_of(delayed, seeded)


# -- the agents


@dataclass
class Notes:
    """What the agents themselves see of a run."""

    inside: Counter[int] = field(default_factory=Counter)
    overlaps: list[str] = field(default_factory=list)
    asks: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    strange: list[BaseException] = field(default_factory=list)
    made: int = 0

    def __deepcopy__(self, memo: object) -> Notes:
        """The same: a restart gives an agent its fields back, and is not to take these away."""
        return self


class Player(GenAgent):
    """Follows its script."""

    part: Any
    notes: Any
    turn: int = 0

    def names(self) -> list[str]:
        net = self.network
        return [] if net is None else [each.name for each in net.agents]

    def name_of(self, number: int) -> str:
        names = self.names()
        return names[number % len(names)] if names else "nobody"

    def next_acts(self) -> tuple[Act, ...]:
        self.turn += 1
        script: tuple[tuple[Act, ...], ...] = self.part.script
        return script[(self.turn - 1) % len(script)]

    def enter(self) -> None:
        notes = self.notes
        notes.inside[id(self)] += 1
        if notes.inside[id(self)] > 1:
            notes.overlaps.append(self.name)

    def leave(self) -> None:
        self.notes.inside[id(self)] -= 1

    def act(self, act: Act, hops: int) -> Message | str | None:
        """Do what needs no waiting; gives what is to be said in reply."""
        net = self.network
        text = str(hops - 1)
        match act.what:
            case "fail":
                raise LookupError(act.number)
            case "exit":
                raise SystemExit(act.number)
            case "reply" | "yield":
                return text
            case "schedule" if hops > 0:
                self.schedule(act.seconds, text)
            case "every" if hops > 0:
                timer = self.schedule(act.seconds, Message("0"), every=1.0)
                self.schedule(2.5, Message("0"))
                if act.number % 2:
                    timer.cancel()
            case "cancel" if hops > 0:
                self.schedule(act.seconds, text).cancel()
            case "emit" if hops > 0:
                self.emit("step", text)
            case "send" if hops > 0:
                self.send(Message(text, receiver=self.name_of(act.number)))
            case _ if net is not None:
                self.rewire(net, act, hops)
            case _:
                pass
        return None

    def rewire(self, net: GenNetwork, act: Act, hops: int) -> None:
        """Change the network."""
        try:
            match act.what:
                case "stop":
                    net[self.name_of(act.number)].stop()
                case "kill":
                    net[self.name_of(act.number)].stop(drain=False)
                case "link":
                    net.link(self.name, "step", self.name_of(act.number))
                case "unlink":
                    net.unlink(self.name, "step", self.name_of(act.number))
                case "remove":
                    net.remove(self.name_of(act.number))
                case "add" if hops > 0:
                    self.notes.made += 1
                    name = f"new{self.notes.made}"
                    net.add(KINDS[self.part.kind](name=name, part=self.part, notes=self.notes))
                    net.link(self.name, "step", name)
                case _:
                    pass
        except LLMNetError:
            pass  # it is gone, or was never there; another handler was faster

    def began_to_ask(self, act: Act) -> dict[str, Any]:
        self.notes.asks += 1
        return {"timeout": act.seconds or 5}

    def answered(self, reply: Message | None) -> None:
        self.notes.ends["reply" if reply is not None else "no reply"] += 1

    def refused(self, error: BaseException) -> None:
        self.notes.ends[type(error).__name__] += 1
        if not isinstance(error, (DeliveryError, UsageError, asyncio.CancelledError)):
            self.notes.strange.append(error)  # a network whose entry is gone is a UsageError


class Plain(Player):
    blocking: ClassVar[bool] = False

    def step(self, message: Message) -> Any:
        self.enter()
        try:
            hops = int(message.body)
            said = [self.act(act, hops) for act in self.next_acts()]
            return next((each for each in said if each is not None), None)
        finally:
            self.leave()

    response = step


class Threaded(Player):
    def step(self, message: Message) -> Generator[Any]:
        self.enter()
        try:
            hops = int(message.body)
            for act in self.next_acts():
                if act.what == "ask" and hops > 0:
                    self.ask_one(act, hops)
                elif (said := self.act(act, hops)) is not None:
                    yield said
        finally:
            self.leave()

    def ask_one(self, act: Act, hops: int) -> None:
        options = self.began_to_ask(act)
        try:
            reply = self.ask(self.name_of(act.number), str(hops - 1), **options)
        except BaseException as error:
            self.refused(error)
            if not isinstance(error, DeliveryError):
                raise
        else:
            self.answered(reply)

    response = step


class Async(Player):
    async def astep(self, message: Message) -> AsyncGenerator[Any]:
        self.enter()
        try:
            hops = int(message.body)
            for act in self.next_acts():
                if act.what == "sleep":
                    await self.sleep(act.seconds)
                elif act.what == "ask" and hops > 0:
                    await self.ask_one(act, hops)
                elif (said := self.act(act, hops)) is not None:
                    yield said
        finally:
            self.leave()

    async def ask_one(self, act: Act, hops: int) -> None:
        options = self.began_to_ask(act)
        try:
            reply = await self.aask(self.name_of(act.number), str(hops - 1), **options)
        except BaseException as error:
            self.refused(error)
            if not isinstance(error, DeliveryError):
                raise
        else:
            self.answered(reply)

    aresponse = astep


KINDS: dict[Kind, type[Player]] = {"plain": Plain, "thread": Threaded, "async": Async}


def built(plan: Plan, notes: Notes) -> GenNetwork:
    agents = [
        KINDS[part.kind](name=f"p{number}", part=part, notes=notes)
        for number, part in enumerate(plan.parts)
    ]
    supervision = Supervision(
        directive=plan.directive,  # type: ignore[arg-type]
        strategy=plan.strategy,  # type: ignore[arg-type]
        max_restarts=2,
    )
    inner = [agent for agent in agents if agent.part.inner]
    outer: list[GenAgent] = [agent for agent in agents if not agent.part.inner]
    if inner:
        sub = GenNetwork(
            name="sub",
            agents=inner,
            entry=[each.name for each in inner[:2]],
            expose=["step"],
            supervision=supervision,
        )
        outer.append(sub)
    names = [each.name for each in outer]
    edges = dict.fromkeys((names[u % len(names)], names[v % len(names)]) for u, v in plan.edges)
    if inner:
        inside = [each.name for each in inner]
        for u, v in plan.edges:
            outer[-1].link(inside[u % len(inside)], "step", inside[v % len(inside)])  # type: ignore[attr-defined]
    return GenNetwork(
        name="net",
        agents=outer,
        edges=[(u, "step", v) for u, v in edges],
        entry=list(dict.fromkeys(names[each % len(names)] for each in plan.entry)),
        expose=["step"],
        supervision=supervision,
    )


# -- who watches


def last(path: str) -> str:
    """The name: it stays when its bearer is removed from a network, and the path does not."""
    return path.rpartition("/")[2]


class Watch(Instrument):
    """Checks at every event that counts add up, order is kept, and turns do not overlap."""

    def __init__(self) -> None:
        self.runtime: Runtime | None = None
        self.waiting: dict[tuple[str, str], deque[str]] = defaultdict(deque)
        self.open: Counter[str] = Counter()
        self.wrong: list[str] = []

    def count(self, where: str) -> None:
        assert self.runtime is not None
        counts = self.runtime.statistics()
        if counts.sent != counts.delivered + counts.queued + counts.dead or counts.queued < 0:
            self.wrong.append(f"at {where}: {counts}")

    def lane(self, message: Message, receiver: str) -> deque[str]:
        sender = "" if message.sender is None else message.sender.path
        return self.waiting[last(sender), last(receiver)]

    def start(self, path: str) -> None:
        self.count(f"start {path}")

    def send(self, envelope: Envelope, receiver: str) -> None:
        self.count(f"send {receiver}")
        if receiver:
            self.lane(envelope.message, receiver).append(envelope.message.id)

    def deliver(self, envelope: Envelope, receiver: str) -> None:
        self.count(f"deliver {receiver}")
        if not receiver:
            return
        self.open[last(receiver)] += 1
        if self.open[last(receiver)] > 1:
            self.wrong.append(f"two turns of {receiver}")
        lane = self.lane(envelope.message, receiver)
        if not lane or lane.popleft() != envelope.message.id:
            self.wrong.append(f"out of order at {receiver}: {envelope.message!r}")

    def finish(self, envelope: Envelope, receiver: str) -> None:
        self.count(f"finish {receiver}")
        self.open[last(receiver)] -= 1

    def fail(self, error: HandlerError) -> None:
        self.count(f"fail {error.path}")

    def restart(self, path: str) -> None:
        self.count(f"restart {path}")

    def drop(self, letter: DeadLetter) -> None:
        self.count(f"drop {letter.receiver}")
        lane = self.lane(letter.message, letter.receiver)
        if letter.message.id in lane:
            lane.remove(letter.message.id)

    def stop(self, path: str) -> None:
        self.count(f"stop {path}")
        if self.open[last(path)]:
            self.wrong.append(f"{path} stopped in a turn")


def run_under(plan: Plan, schedule: Schedule) -> tuple[Run, Notes, Watch, Deterministic]:
    notes, watch = Notes(), Watch()
    runtime = Deterministic(schedule=schedule, instruments=[watch])
    watch.runtime = runtime
    run = built(plan, notes).run(
        Message(str(plan.hops)),
        runtime=runtime,
        max_messages=MOST,
        **plan.limits,
    )
    return run, notes, watch, runtime


@given(plan=plans, schedule=schedules)
@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
def test_every_promise_is_kept_in_every_run(plan: Plan, schedule: Schedule) -> None:
    before = set(threading.enumerate())
    recorded = Recorded(schedule)
    run, notes, watch, runtime = run_under(plan, recorded)
    for each in (run.ended, *{letter.reason for letter in run.dead_letters}, *notes.ends):
        event(each)
    # Counted at every moment, one turn at a time, in order.
    assert not watch.wrong
    assert not notes.overlaps
    counts = run.statistics
    assert counts.queued == 0
    assert counts.sent == counts.delivered + counts.dead
    assert counts.dead == len(run.dead_letters)
    assert counts.failures == len(run.failures)
    # Every message that was accepted has its end.
    assert not any(watch.waiting.values())
    assert not +watch.open
    # Every ask ends, and as documented.
    assert notes.asks == notes.ends.total()
    assert not notes.strange
    # Nothing is left over.
    assert not +notes.inside
    assert not runtime.roots
    assert runtime.engine.closed
    assert set(threading.enumerate()) <= before
    # The same choices are the same run.
    again, *_ = run_under(plan, Replay(recorded.choices))
    assert again.trace == run.trace
    assert again.statistics == counts
    assert again.ended == run.ended


def test_a_plan_can_reach_every_end() -> None:
    """The property above would say little, if its plans never did what they are drawn for."""
    seen: Counter[str] = Counter()

    @given(plan=plans, schedule=schedules)
    @settings(max_examples=400, derandomize=True, database=None, phases=[Phase.generate])
    def look(plan: Plan, schedule: Schedule) -> None:
        run, notes, _, _ = run_under(plan, schedule)
        seen.update([run.ended, *(letter.reason for letter in run.dead_letters), *notes.ends])

    look()
    assert seen.keys() >= {
        "idle",
        "failure",
        "timeout",
        "max_hops",
        "stopped",
        "reply",
        "no reply",
        "AskTimeout",
        "AskCycle",
        "AgentStopped",
        "HandlerError",
        "UnknownAgent",
    }, seen
