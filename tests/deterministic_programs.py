"""Programs of every kind for tests of the deterministic runtime, and what is to be equal of a run.

Run as a script, it prints a line for each program and seed; equal programs print equal lines, on
every Python and under every hash seed: `python tests/deterministic_programs.py 0 20 [name …]`.

They import nothing but what the package itself needs, so that any Python with it can run them.
"""

from __future__ import annotations

import asyncio
import enum
import hashlib
import logging
import sys
from collections.abc import AsyncGenerator, Callable, Generator
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, Field

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from llm_net import (
    AskTimeout,
    DeliveryError,
    Deterministic,
    GenAgent,
    GenNetwork,
    Message,
    Run,
    Supervision,
)
from llm_net.protocols import (
    AcceptProposal,
    Cfp,
    ContractNet,
    Failure,
    Inform,
    Propose,
    Refuse,
)

__all__ = ["PROGRAMS", "fingerprint", "told"]

Program = Callable[[Deterministic], str]


def told(messages: Any) -> list[tuple[Any, ...]]:
    """What of messages that agents wrote is equal in every run, ids and times included."""
    return [
        (
            type(each).__name__,
            each.id,
            each.created_at.isoformat(),
            "" if each.sender is None else each.sender.path,
            each.method,
            each.body,
        )
        for each in messages
    ]


def fingerprint(run: Run) -> str:
    """All of a run that is to be equal."""
    return repr(
        (
            run.trace,
            told(run.outputs),
            [(each.reason, each.receiver, each.message.body) for each in run.dead_letters],
            [(each.path, type(each.__cause__).__name__) for each in run.failures],
            run.statistics,
            run.ended,
            run.loop,
            [
                (message.body, "" if receiver is None else receiver.path)
                for message, receiver in run.conversation
            ],
        )
    )


# -- sync handlers on threads that ask, and async ones that do


class Till(GenAgent):
    """A counter that is read and written by messages."""

    value: int = 0

    def get(self, message: Message) -> str:
        return str(self.value)

    def put(self, message: Message) -> str:
        self.value = int(message.body)
        return "put"


class Clerk(GenAgent):
    """Reads the counter and writes it, on a thread."""

    def step(self, message: Message) -> str:
        read = self.ask("till", Message("", method="get"))
        assert read is not None
        self.ask("till", Message(str(int(read.body) + 1), method="put"))
        return f"{self.name} {read.body} {self.random.randint(1, 1000)}"


class AsyncClerk(GenAgent):
    async def astep(self, message: Message) -> str:
        read = await self.aask("till", Message("", method="get"))
        assert read is not None
        await self.aask("till", Message(str(int(read.body) + 1), method="put"))
        return f"{self.name} {read.body} {self.random.randint(1, 1000)}"


def asks(runtime: Deterministic) -> str:
    net = GenNetwork(
        name="shop",
        agents=[
            Till(),
            Clerk(name="a"),
            AsyncClerk(name="b"),
            Clerk(name="c"),
            AsyncClerk(name="d"),
        ],
        entry=["a", "b", "c", "d"],
    )
    run = net.run("go", runtime=runtime)
    return fingerprint(run) + str(net["till"].value)


def circles(runtime: Deterministic) -> str:
    """Asks that would close a circle, from threads and coroutines."""

    class Friend(GenAgent):
        other: str

        def step(self, message: Message) -> str:
            try:
                reply = self.ask(self.other, "you?")
            except DeliveryError as error:
                return f"{self.name}: {type(error).__name__}"
            return f"{self.name}: {'' if reply is None else reply.body}"

    class AsyncFriend(GenAgent):
        other: str

        async def astep(self, message: Message) -> str:
            try:
                reply = await self.aask(self.other, "you?")
            except DeliveryError as error:
                return f"{self.name}: {type(error).__name__}"
            return f"{self.name}: {'' if reply is None else reply.body}"

    net = GenNetwork(
        name="ring",
        agents=[
            Friend(name="a", other="b"),
            AsyncFriend(name="b", other="c"),
            Friend(name="c", other="a"),
        ],
        entry=["a", "b", "c"],
    )
    return fingerprint(net.run("go", runtime=runtime))


# -- time


class Clock(GenAgent):
    """Every word of asyncio that takes time, and timers."""

    ticks: int = 0

    async def astep(self, message: Message) -> str:
        async def nap(seconds: float) -> float:
            await asyncio.sleep(seconds)
            self.emit("nap", f"{self.name} {seconds}")
            return seconds

        waits = [self.random.random() * 10 for _ in range(3)]
        naps = await asyncio.gather(*map(nap, waits))
        try:
            await asyncio.wait_for(asyncio.Event().wait(), naps[0])
        except TimeoutError:
            self.emit("nap", f"{self.name} is late")
        try:
            async with asyncio.timeout(3):
                await nap(naps[1])
        except TimeoutError:
            self.emit("nap", f"{self.name} has no time")
        done, pending = await asyncio.wait(
            [asyncio.ensure_future(nap(each)) for each in (1, 2, 3)], timeout=2.5
        )
        for task in pending:
            task.cancel()
        timer = self.schedule(1, Message("tick", method="tick"), every=2)
        self.schedule(9, "once")
        if message.body != "once":
            await self.sleep(6)
        timer.cancel()
        return f"{self.name} {self.now().isoformat()} {len(done)} {len(pending)} {self.ticks}"

    def tick(self, message: Message) -> None:
        self.ticks += 1


class Sleepy(GenAgent):
    """Answers later than some wait."""

    async def astep(self, message: Message) -> str:
        await self.sleep(self.random.choice([1, 2, 3, 4]))
        return f"late {message.body}"


class Impatient(GenAgent):
    def step(self, message: Message) -> Generator[str]:
        for number in range(3):
            try:
                reply = self.ask("sleepy", f"{self.name} {number}", timeout=2.5)
            except AskTimeout:
                yield f"{self.name} gave up"
            else:
                yield f"{self.name} {'' if reply is None else reply.body}"


def clocks(runtime: Deterministic) -> str:
    net = GenNetwork(
        name="time",
        agents=[
            Clock(name="a"),
            Clock(name="b"),
            Sleepy(),
            Impatient(name="c"),
            Impatient(name="d"),
        ],
        entry=["a", "b", "c", "d"],
        expose=["nap"],
    )
    return fingerprint(net.run(Message("once", method="step"), runtime=runtime, timeout=60))


# -- generators, streams


class Sync(GenAgent):
    def step(self, message: Message) -> Generator[str]:
        for number in range(3):
            self.emit("said", f"{self.name} {number}")
            yield f"{self.name} {number}"


class Async(GenAgent):
    async def astep(self, message: Message) -> AsyncGenerator[str]:
        for number in range(3):
            await self.sleep(self.random.choice([0, 1]))
            self.emit("said", f"{self.name} {number}")
            yield f"{self.name} {number}"


class Listener(GenAgent):
    heard: list[str] = Field(default_factory=list)

    def said(self, message: Message) -> None:
        self.heard.append(message.body)


def streams(runtime: Deterministic) -> str:
    speakers = [Sync(name="a"), Async(name="b"), Sync(name="c"), Async(name="d")]
    net = GenNetwork(
        name="talk",
        agents=[*speakers, Listener()],
        edges=[(each, "said", "listener") for each in "abcd"],
        entry=["a", "b", "c", "d"],
    )
    stream = net.stream("go", runtime=runtime)
    seen = [message.body for message in stream]
    parts = [fingerprint(stream.run), repr(seen), repr(net["listener"].heard)]
    with net.start(runtime=runtime):
        parts.append(repr([reply.body for reply in net["b"].ref.stream("go")]))
        parts.append(repr([reply.body for reply in net["a"].ref.stream("go")]))
    return "".join(parts) + runtime.trace


# -- typed messages


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Thing(BaseModel):
    tags: frozenset[str]
    weight: float


class Parcel(Message):
    tags: set[str]
    pairs: set[tuple[str, int]]
    notes: dict[str, set[str]]
    things: list[Thing]
    colour: Colour


WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"]


class Packer(GenAgent):
    def step(self, message: Message) -> None:
        words = self.random.sample(WORDS, 6)
        self.emit(
            "parcel",
            Parcel(
                f"from {self.name}",
                tags=set(words),
                pairs={(word, len(word)) for word in words},
                notes={words[0]: set(words[:3]), words[1]: set(words[3:])},
                things=[Thing(tags=frozenset(words), weight=self.random.random())],
                colour=self.random.choice(list(Colour)),
            ),
        )


class Store(GenAgent):
    tags: set[str] = Field(default_factory=set)
    first: str = ""

    def parcel(self, message: Parcel) -> None:
        self.first = self.first or message.body
        self.tags |= message.tags
        self.emit("stored", message)


def parcels(runtime: Deterministic) -> str:
    net = GenNetwork(
        name="post",
        agents=[*(Packer(name=f"p{number}") for number in range(4)), Store(name="s")],
        edges=[(f"p{number}", "parcel", "s") for number in range(4)],
        entry=[f"p{number}" for number in range(4)],
        expose=["stored"],
    )
    return fingerprint(net.run("go", runtime=runtime)) + str(net["s"].first)


# -- failures and restarts


class Fragile(GenAgent):
    count: int = 0
    log: list[str] = Field(default_factory=list)

    def on_start(self) -> None:
        self.log.append("start")

    def on_stop(self) -> None:
        self.emit("gone", f"{self.name} {self.count} {self.log}")

    def on_failure(self, kind: Any, error: Any, traceback: Any) -> None:
        self.emit("hurt", f"{self.name} {kind.__name__}")

    def step(self, message: Message) -> str:
        self.count += 1
        self.log.append(message.body)
        if self.random.random() < 0.4:
            kind = self.random.choice([ValueError, LookupError, SystemExit])
            raise kind(message.body)
        if int(message.body):
            self.emit("step", str(int(message.body) - 1))
        return f"{self.name} {self.count}"


class AsyncFragile(Fragile):
    async def astep(self, message: Message) -> str:
        await self.sleep(0.5)
        return super().step(message)


def by_kind(error: BaseException) -> Any:
    return "restart" if isinstance(error, ValueError) else "resume"


def failures(runtime: Deterministic) -> str:
    def team(name: str, **options: Any) -> GenNetwork:
        return GenNetwork(
            name=name,
            agents=[Fragile(name="a"), AsyncFragile(name="b"), Fragile(name="c")],
            edges=[("a", "step", "b"), ("b", "step", "c"), ("c", "step", "a")],
            entry=["a", "b"],
            expose=["hurt", "gone"],
            supervision=Supervision(**options),
        )

    net = GenNetwork(
        name="firm",
        agents=[
            team("one", directive="restart", max_restarts=3, window_s=2),
            team("all", directive="restart", strategy="all_for_one"),
            team("rest", directive=by_kind, strategy="rest_for_one", max_restarts=2),
            team("stop", directive="stop"),
        ],
        entry=["one", "all", "rest", "stop"],
        expose=["hurt", "gone"],
    )
    return fingerprint(net.run("4", runtime=runtime, max_messages=200))


# -- networks in networks, filters, changes while it runs


class Worker(GenAgent):
    blocking: ClassVar[bool] = False

    def step(self, message: Message) -> None:
        left = int(message.body)
        if left:
            self.emit(self.random.choice(["step", "news"]), str(left - 1))

    news = step


def even(message: Message) -> bool:
    return message.body.isdigit() and int(message.body) % 2 == 0


def nested(runtime: Deterministic) -> str:
    def office(name: str) -> GenNetwork:
        net = GenNetwork(
            name=name,
            agents=[Worker(name="x"), Worker(name="y"), Listener(name="z")],
            edges=[("x", "step", "y"), ("y", "step", "x")],
            entry=["x", "y"],
            expose=["news"],
        )
        return net.link("x", "news", "y", where=even)

    net = GenNetwork(
        name="firm",
        agents=[office("north"), office("south"), office("west")],
        edges=[
            ("north", "news", "south"),
            ("south", "news", "west"),
            ("west", "news", "north"),
        ],
        entry=["north", "south"],
        expose=["news"],
    )
    return fingerprint(net.run(Message("5", method="step"), runtime=runtime, max_messages=150))


class Builder(GenAgent):
    """Changes its network while it runs."""

    made: int = 0

    def step(self, message: Message) -> str | None:
        net = self.network
        assert net is not None
        left = int(message.body)
        match self.random.randint(0, 4):
            case 0:
                self.made += 1
                net.add(Worker(name=f"{self.name}{self.made}"))
                net.link(self.name, "step", f"{self.name}{self.made}")
                net.link(f"{self.name}{self.made}", "news", "a")
            case 1 if self.made:
                net.remove(f"{self.name}{self.made}")
                self.made -= 1
            case 2:
                net.link(self.name, "step", self.random.choice("abc"))
            case 3:
                for u, event, v in list(net.edges):  # type: ignore[misc]
                    if u == self.name:
                        net.unlink(u, event, v)
                        break
            case _:
                self.send(Message(str(max(0, left - 2)), receiver="b"))
        if left:
            self.emit("step", str(left - 1))
        return f"{self.name} {self.made}"

    news = step


def rewiring(runtime: Deterministic) -> str:
    net = GenNetwork(
        name="site",
        agents=[Builder(name=each) for each in "abc"],
        edges=[("a", "step", "b"), ("b", "step", "c"), ("c", "step", "a")],
        entry=["a", "b", "c"],
    )
    run = net.run("5", runtime=runtime, max_messages=120)
    return fingerprint(run) + repr(list(net.edges))


# -- contract net


class Bidder(GenAgent):
    async def cfp(self, message: Cfp) -> Propose | Refuse | None:
        await self.sleep(self.random.choice([1, 5, 20]))
        if self.random.random() < 0.2:
            return Refuse.reply(message, body="no")
        return Propose.reply(message, price=float(self.random.randint(1, 5)))

    async def accept_proposal(self, message: AcceptProposal) -> Inform | Failure:
        await self.sleep(self.random.choice([1, 10, 50]))
        if self.random.random() < 0.3:
            return Failure.reply(message, body="broken")
        return Inform.reply(message, body=f"done by {self.name}")


class SyncBidder(GenAgent):
    def cfp(self, message: Cfp) -> Propose:
        return Propose.reply(message, price=float(self.random.randint(1, 5)))

    def accept_proposal(self, message: AcceptProposal) -> str:
        if self.random.random() < 0.3:
            raise ValueError
        return f"done by {self.name}"


def contracts(runtime: Deterministic) -> str:
    town = GenNetwork(
        name="town",
        agents=[
            GenAgent(name="manager"),
            *(Bidder(name=f"b{number}") for number in range(3)),
            *(SyncBidder(name=f"s{number}") for number in range(2)),
        ],
    )
    net = ContractNet(town, initiator="manager", deadline=10, result_deadline=30)
    outcome = net.run("Paint the shed.", runtime=runtime)
    winner = None if outcome.winner is None else str(outcome.winner)
    result = None if outcome.result is None else told([outcome.result])
    return repr((outcome.status, winner, result, runtime.trace))


# -- limits


def limits(runtime: Deterministic) -> str:
    def ring() -> GenNetwork:
        return GenNetwork(
            name="ring",
            agents=[
                Worker(name="a"),
                Worker(name="b"),
                Sync(name="c"),
                Async(name="d"),
                Clock(name="e"),
            ],
            edges=[
                (u, event, v)
                for event in ("step", "news")
                for u, v in ("ab", "ba", "ac", "bd", "ce", "ea")
            ],
            entry=["a", "b", "c", "d", "e"],
        )

    parts = [
        ring().run("20", runtime=runtime, max_messages=17),
        ring().run("20", runtime=runtime, timeout=3),
        ring().run("20", runtime=runtime, max_hops=4),
        ring().run("20", runtime=runtime, max_repeats=2, max_messages=100),
    ]
    return "".join(map(fingerprint, parts))


PROGRAMS: dict[str, Program] = {
    "asks": asks,
    "circles": circles,
    "clocks": clocks,
    "streams": streams,
    "parcels": parcels,
    "failures": failures,
    "nested": nested,
    "rewiring": rewiring,
    "contracts": contracts,
    "limits": limits,
}


def main(first: str, last: str, *names: str) -> None:
    """Print what is to be equal of each program, under each seed from first to last."""
    logging.disable(logging.CRITICAL)
    write = sys.stdout.write
    for name in names or PROGRAMS:
        for seed in range(int(first), int(last)):
            text = PROGRAMS[name](Deterministic(seed)).encode()
            write(f"{name} {seed} {hashlib.blake2b(text, digest_size=8).hexdigest()}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
