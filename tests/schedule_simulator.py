"""A few actors in one loop, for tests of schedules: lanes, one pick per step, and seeded races.

It keeps what `llm_net.schedules` asks of a scheduler, and nothing else: the options are the heads
of the lanes whose receiver is idle and the handlers to be resumed, oldest first; a step with one
option is no choice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle

from llm_net.schedules import Schedule

__all__ = [
    "Handler",
    "Head",
    "Program",
    "Simulator",
    "lost_update",
    "overtaken",
    "relays",
    "three_events",
]

Handler = Callable[[str, str], Generator[None] | None]
"""Takes sender and body. In a generator, each `yield` lets others go first."""


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a lane, or a handler to be resumed."""

    key: str
    receiver: str


class Simulator:
    """Delivers messages one by one, in the order of a schedule."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.handlers: dict[str, Handler] = {}
        self.lanes: dict[Head, deque[tuple[str, str]]] = {}
        self.suspended: dict[str, Generator[None]] = {}
        self.ready: dict[Head, None] = {}
        """What could come next, in the order in which it became so; busy receivers included."""
        self.log: list[tuple[str, str, str]] = []
        """Every step: the option's key, its receiver, the message's body."""

    def send(self, sender: str, receiver: str, body: str = "") -> None:
        head = Head(f"{sender}>{receiver}", receiver)
        self.lanes.setdefault(head, deque()).append((sender, body))
        self.ready.setdefault(head)

    def options(self) -> list[Head]:
        return [
            head
            for head in self.ready
            if head.receiver not in self.suspended or head.key.startswith("resume ")
        ]

    def run(self, limit: int = 10_000) -> None:
        while options := self.options():
            index = self.schedule.choose(options) if len(options) > 1 else 0
            self._step(options[index])
            assert len(self.log) <= limit, f"not over after {limit} steps"

    def _step(self, head: Head) -> None:
        path = head.receiver
        del self.ready[head]
        if path in self.suspended:
            self.log.append((head.key, path, ""))
            handling: Generator[None] | None = self.suspended.pop(path)
        else:
            lane = self.lanes[head]
            sender, body = lane.popleft()
            self.log.append((head.key, path, body))
            handling = self.handlers[path](sender, body)
            if lane:
                self.ready[head] = None
        if handling is not None and next(handling, "over") is None:
            self.suspended[path] = handling
            self.ready[Head(f"resume {path}", path)] = None


Program = Callable[[Simulator], None]


def lost_update(*, head_start: int = 0, noise: int = 0) -> Program:
    """Two clients read an account and write it back, one higher: each on its own, or one is lost.

    Args:
        head_start: How many messages the second client writes to itself before it begins.
        noise: How many pairs of actors play ping-pong meanwhile.
    """

    def program(sim: Simulator) -> None:
        values = [0]

        def store(sender: str, body: str) -> None:
            if body == "get":
                sim.send("store", sender, f"value {values[-1]}")
            else:
                values.append(int(body.removeprefix("set ")))

        def client(path: str) -> Handler:
            def handle(sender: str, body: str) -> None:
                word, number = body.split()
                if word == "value":
                    sim.send(path, "store", f"set {int(number) + 1}")
                elif int(number) > 0:
                    sim.send(path, path, f"wait {int(number) - 1}")
                else:
                    sim.send(path, "store", "get")

            return handle

        sim.handlers |= {"store": store, "a": client("a"), "b": client("b")}
        sim.send("world", "a", "wait 0")
        sim.send("world", "b", f"wait {head_start}")
        for number in range(noise):
            _ping_pong(sim, f"ping{number}", f"pong{number}", 6)
        sim.run()
        assert values[-1] == 2, f"an update is lost: {values}"

    return program


def _ping_pong(sim: Simulator, ping: str, pong: str, rounds: int) -> None:
    def player(path: str) -> Handler:
        def handle(sender: str, body: str) -> None:
            if int(body) > 0:
                sim.send(path, pong if path == ping else ping, str(int(body) - 1))

        return handle

    sim.handlers |= {ping: player(ping), pong: player(pong)}
    sim.send("world", ping, str(rounds))


def overtaken(length: int) -> Program:
    """A chain of messages, this long, may not come in before the one message of a fast actor."""

    def program(sim: Simulator) -> None:
        heard: list[str] = []

        def slow(sender: str, body: str) -> None:
            if int(body) > 0:
                sim.send("slow", "slow", str(int(body) - 1))
            else:
                sim.send("slow", "store")

        sim.handlers["slow"] = slow
        sim.handlers["fast"] = lambda sender, body: sim.send("fast", "store")
        sim.handlers["store"] = lambda sender, body: heard.append(sender)
        sim.send("world", "fast")
        sim.send("world", "slow", str(length))
        sim.run()
        assert heard == ["fast", "slow"], f"overtaken: {heard}"

    return program


def three_events(*, hops: int = 1) -> Program:
    """A lease that is renewed, then used, then expires may not be heard of the other way round.

    Args:
        hops: How many messages to itself the second waits before it speaks; the third waits twice
            as many.
    """

    def program(sim: Simulator) -> None:
        heard: list[str] = []

        def speaker(path: str) -> Handler:
            def handle(sender: str, body: str) -> None:
                if int(body) > 0:
                    sim.send(path, path, str(int(body) - 1))
                else:
                    sim.send(path, "lease")

            return handle

        sim.handlers["lease"] = lambda sender, body: heard.append(sender)
        for number, path in enumerate(["renew", "use", "expire"]):
            sim.handlers[path] = speaker(path)
            sim.send("world", path, str(number * hops))
        sim.run()
        assert heard != ["expire", "use", "renew"], f"used without a lease: {heard}"

    return program


Step = tuple[tuple[int, ...], bool]
"""To whom a handler sends, by number, and whether it pauses between."""


def relays(script: Sequence[Sequence[Step]], letters: Sequence[tuple[int, int]]) -> Program:
    """A program without a bug: actors that pass messages on until these have no hops left.

    Args:
        script: For each actor, what it does with its messages, one after the other.
        letters: To whom the world writes, by number, with so many hops to go.
    """

    def program(sim: Simulator) -> None:
        def actor(path: str, steps: Iterator[Step]) -> Handler:
            def handle(sender: str, body: str) -> Generator[None] | None:
                numbers, pauses = next(steps)
                hops = int(body)
                receivers = [str(number % len(script)) for number in numbers if hops > 0]
                if pauses:
                    return send_slowly(path, receivers, hops - 1)
                for receiver in receivers:
                    sim.send(path, receiver, str(hops - 1))
                return None

            return handle

        def send_slowly(path: str, receivers: Sequence[str], hops: int) -> Generator[None]:
            for receiver in receivers:
                yield
                sim.send(path, receiver, str(hops))

        for number, steps in enumerate(script):
            sim.handlers[str(number)] = actor(str(number), cycle(steps))
        for place, (number, hops) in enumerate(letters):
            sim.send(f"world{place}", str(number % len(script)), str(hops))
        sim.run()

    return program
