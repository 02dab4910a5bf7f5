"""Bounded mailboxes: what becomes of one message too many, and how whoever sends it waits."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from pydantic import Field, PrivateAttr

from llm_net import (
    Deterministic,
    GenAgent,
    GenNetwork,
    HandlerError,
    Mailbox,
    MailboxFull,
    Message,
    Runtime,
    UsageError,
)

DEADLINE = 10

HOSTS = ["thread", "inline", "deterministic"]


def runtime_of(host: str) -> Runtime:
    return Deterministic(5) if host == "deterministic" else Runtime(host)  # type: ignore[arg-type]


class Slow(GenAgent):
    """Takes its time: handles one message at each tick of the clock."""

    seen: list[str] = Field(default_factory=list)

    async def astep(self, message: Message) -> None:
        await self.sleep(0.001)
        self.seen.append(message.body)


class Gated(GenAgent):
    """Takes nothing before it is let in."""

    seen: list[str] = Field(default_factory=list)
    _gate: threading.Event = PrivateAttr(default_factory=threading.Event)
    _entered: threading.Event = PrivateAttr(default_factory=threading.Event)

    def step(self, message: Message) -> None:
        self._entered.set()
        assert self._gate.wait(DEADLINE)
        self.seen.append(message.body)


class Burst(GenAgent):
    """Sends five at once, in an async handler, and says how many were on their way at its end."""

    async def astep(self, message: Message) -> None:
        for number in range(5):
            self.emit("out", Message(str(number)))


class Patient(GenAgent):
    most: int = 0

    async def astep(self, message: Message) -> None:
        for number in range(5):
            await self.aemit("out", Message(str(number)))
            assert self.network is not None
            self.most = max(self.most, self.network["slow"].statistics().queued)


class InlineBurst(GenAgent):
    blocking = False

    def step(self, message: Message) -> None:
        for number in range(5):
            self.emit("out", Message(str(number)))


class ThreadBurst(GenAgent):
    most: int = 0

    def step(self, message: Message) -> None:
        for number in range(5):
            self.emit("out", Message(str(number)))
            assert self.network is not None
            self.most = max(self.most, self.network["slow"].statistics().queued)


def pair(sender: GenAgent, bound: Mailbox, receiver: GenAgent | None = None) -> GenNetwork:
    receiver = receiver or Slow(name="slow", mailbox=bound)
    return GenNetwork(
        name="net",
        agents=[sender, receiver],
        edges=[(sender.name, "out", receiver.name)],
        entry=sender.name,
    )


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("kind", [Burst, Patient, InlineBurst, ThreadBurst])
@pytest.mark.parametrize("capacity", [1, 2, 10])
def test_with_wait_nothing_is_lost_and_the_order_is_kept(
    kind: type[GenAgent], capacity: int, host: str
) -> None:
    sender = kind(name="sender")
    net = pair(sender, Mailbox(capacity=capacity))
    run = net.run("go", runtime=runtime_of(host))
    assert net["slow"].seen == ["0", "1", "2", "3", "4"]
    assert (run.ended, run.failures, run.dead_letters) == ("idle", (), ())
    assert run.statistics.sent == run.statistics.delivered == 6


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("kind", [Patient, ThreadBurst])
def test_back_pressure_reaches_whoever_awaits_or_is_on_a_thread(
    kind: type[Patient | ThreadBurst], host: str
) -> None:
    sender = kind(name="sender")
    pair(sender, Mailbox(capacity=2)).run("go", runtime=runtime_of(host))
    assert sender.most <= 2


class Counting(GenAgent):
    """Two turns; the first sends more than there is room for."""

    turns: list[str] = Field(default_factory=list)

    async def astep(self, message: Message) -> None:
        self.turns.append(message.body)
        if message.body == "first":
            for number in range(4):
                self.send(Message(str(number), receiver="slow"))
        else:
            assert self.network is not None
            self.turns.append(f"{len(self.network['slow'].seen)} handled")


def test_a_turn_is_not_over_before_its_messages_are_taken() -> None:
    sender = Counting(name="sender")
    net = pair(sender, Mailbox(capacity=1))
    with net.start(runtime=Deterministic(1)) as ref:
        ref.tell("first")
        ref.tell("second")
        assert ref.ask(Message("third", receiver="sender")) is None
    # Four were sent, one waits in the mailbox: three at least have been begun.
    assert sender.turns[1] == "second"
    assert int(sender.turns[2].split()[0]) >= 2


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize(
    ("overflow", "kept"), [("drop_newest", ["0", "1"]), ("drop_oldest", ["3", "4"])]
)
def test_a_policy_that_drops_says_which(overflow: Any, kept: list[str], host: str) -> None:
    sender = Burst(name="sender")
    net = pair(sender, Mailbox(capacity=2, overflow=overflow))
    run = net.run("go", runtime=runtime_of(host))
    assert net["slow"].seen[-2:] == kept
    dropped = [letter.message.body for letter in run.dead_letters]
    assert sorted([*dropped, *net["slow"].seen]) == ["0", "1", "2", "3", "4"]
    assert {letter.reason for letter in run.dead_letters} == {"overflow"}
    assert run.statistics.dead == len(dropped)


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("kind", [Burst, InlineBurst, ThreadBurst, Patient])
def test_a_mailbox_that_fails_tells_the_sender(kind: type[GenAgent], host: str) -> None:
    sender = kind(name="sender")
    receiver = Gated(name="slow", mailbox=Mailbox(capacity=1, overflow="fail"))
    receiver._gate.set()
    if host == "deterministic" or kind is InlineBurst:
        net = pair(sender, Mailbox(), Slow(name="slow", mailbox=receiver.mailbox))
    else:
        net = pair(sender, Mailbox(), receiver)
        receiver._gate.clear()
        threading.Timer(0.05, receiver._gate.set).start()
    run = net.run("go", runtime=runtime_of(host))
    assert [type(error.__cause__) for error in run.failures] == [MailboxFull]
    assert "'net/slow'" in str(run.failures[0].__cause__)
    assert {letter.reason for letter in run.dead_letters} == {"overflow"}


@pytest.mark.parametrize("overflow", ["fail", "drop_newest"])
def test_an_ask_that_finds_no_room_raises(overflow: Any) -> None:
    agent = Gated(mailbox=Mailbox(capacity=1, overflow=overflow))
    runtime = Runtime("thread")
    with agent.start(runtime=runtime) as ref:
        ref.tell("in hand")
        assert agent._entered.wait(DEADLINE)
        ref.tell("queued")
        with pytest.raises(MailboxFull, match="gated"):
            ref.ask("too much")
        agent._gate.set()
    assert agent.seen == ["in hand", "queued"]


def test_a_tell_from_outside_blocks_and_gives_up_after_the_ask_timeout() -> None:
    agent = Gated(mailbox=Mailbox(capacity=1))
    runtime = Runtime("thread", ask_timeout=0.05)
    with agent.start(runtime=runtime) as ref:
        ref.tell("in hand")
        assert agent._entered.wait(DEADLINE)
        ref.tell("queued")
        with pytest.raises(MailboxFull, match="within"):
            ref.tell("too much")
        agent._gate.set()
    assert agent.seen == ["in hand", "queued"]
    assert [letter.reason for letter in runtime.dead_letters] == ["overflow"]


def test_atell_awaits_room() -> None:
    async def program() -> list[str]:
        agent = Slow(mailbox=Mailbox(capacity=1))
        async with agent.astart() as ref:
            for number in range(5):
                await ref.atell(str(number))
                assert agent.statistics().queued <= 1
        return agent.seen

    assert asyncio.run(program()) == ["0", "1", "2", "3", "4"]


class Pusher(GenAgent):
    """Pushes two messages to its neighbour for each that it gets."""

    def step(self, message: Message) -> None:
        for _ in range(3):
            self.emit("out", Message(message.body))


class AsyncPusher(GenAgent):
    async def astep(self, message: Message) -> None:
        for _ in range(3):
            await self.aemit("out", Message(message.body))


class InlinePusher(GenAgent):
    blocking = False

    def step(self, message: Message) -> None:
        for _ in range(3):
            self.emit("out", Message(message.body))


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("kind", [Pusher, AsyncPusher, InlinePusher])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_circle_of_full_mailboxes_is_named_not_waited_for(
    kind: type[GenAgent], count: int, host: str
) -> None:
    names = [f"p{number}" for number in range(count)]
    net = GenNetwork(
        name="ring",
        agents=[kind(name=name) for name in names],
        edges=[(name, "out", names[(place + 1) % count]) for place, name in enumerate(names)],
        entry=names,
        mailbox=Mailbox(capacity=1),
    )
    run = net.run("x", runtime=runtime_of(host), max_messages=200)
    causes = [error.__cause__ for error in run.failures]
    circles = [cause.circle for cause in causes if isinstance(cause, MailboxFull)]
    assert circles, causes
    assert all(circle[0] == circle[-1] for circle in circles)
    assert run.statistics.sent == run.statistics.delivered + run.statistics.dead


class Asker(GenAgent):
    async def astep(self, message: Message) -> None:
        await self.aask("filler", Message("?", method="question"))

    async def anote(self, message: Message) -> None:
        """Hear it."""


class Filler(GenAgent):
    async def aquestion(self, message: Message) -> str:
        for _ in range(3):
            await self.asend(Message("back", method="note", receiver="asker"))
        return "done"


def test_a_circle_of_an_ask_and_a_full_mailbox_is_named() -> None:
    asker = Asker(mailbox=Mailbox(capacity=1))
    net = GenNetwork(name="net", agents=[asker, Filler()], entry="asker")
    run = net.run("go", runtime=Deterministic(2))
    causes = [error.__cause__ for error in run.failures]
    full = [cause for cause in causes if isinstance(cause, MailboxFull)]
    assert len(full) == 1
    assert full[0].circle == ("net/filler", "net/asker", "net/filler")
    assert any(isinstance(cause, HandlerError) for cause in causes)  # and the asker hears of it


@pytest.mark.parametrize("host", HOSTS)
def test_a_limit_lets_those_in_line_die(host: str) -> None:
    net = pair(InlineBurst(name="sender"), Mailbox(capacity=1))
    run = net.run("go", runtime=runtime_of(host), max_messages=2)
    assert run.ended == "max_messages"
    assert run.statistics.queued == 0
    assert run.statistics.sent == run.statistics.delivered + run.statistics.dead == 6


def test_a_network_gives_its_members_a_bound() -> None:
    net = GenNetwork(
        name="net",
        agents=[Burst(name="sender"), Slow(name="slow")],
        edges=[("sender", "out", "slow")],
        entry="sender",
        mailbox=Mailbox(capacity=1, overflow="drop_newest"),
    )
    run = net.run("go", runtime=Deterministic(0))
    assert run.statistics.dead >= 1


@pytest.mark.parametrize(
    ("capacity", "overflow"), [(0, "wait"), (-1, "wait"), (True, "wait"), (1.5, "wait"), (1, "x")]
)
def test_a_bound_that_is_none_is_refused(capacity: Any, overflow: Any) -> None:
    with pytest.raises(UsageError):
        Mailbox(capacity=capacity, overflow=overflow)
