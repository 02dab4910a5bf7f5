"""A network at work for minutes: `python soak.py [--messages 50_000_000] [--seconds 600]`.

A nested network on the thread host, told from outside, whose agents fail and are restarted, ask
each other, set timers and block threads, and which is rewired meanwhile, from a handler and from
another thread. Prints a JSON line now and then, and a verdict at the end: whether the counts added
up at every look, and whether memory, threads and tasks stayed flat once it had warmed up.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import logging
import statistics
import sys
import threading
import time
from typing import Any, ClassVar

from measure import BODY, Figures, memory_kb, now

from llm_net import AgentStopped, GenAgent, GenNetwork, Message, Runtime, Supervision

BATCH = 1000
QUEUED = 10_000
"""How many messages may be queued before the teller waits."""
FAILS_AT = 997
ASKS_AT = 101
BLOCKS_AT = 1009
FLAT_MB = 8.0
FLAT_COUNT = 3


class Intake(GenAgent):
    """Takes the orders, and lets one go to the slow bench now and then."""

    blocking: ClassVar[bool] = False
    taken: int = 0

    def step(self, message: Message) -> None:
        self.taken += 1
        self.emit("part", message.body)
        if self.taken % BLOCKS_AT == 0:
            self.emit("slow", message.body)


class Worker(GenAgent):
    """Fails after so many parts, and counts from zero again once it is restarted."""

    blocking: ClassVar[bool] = False
    parts: int = 0

    def part(self, message: Message) -> None:
        self.parts += 1
        if self.parts >= FAILS_AT:
            raise ValueError(message.body)
        self.emit("done", message.body)


class Asker(GenAgent):
    """An async worker that asks the clerk now and then, and reminds itself of something."""

    parts: int = 0

    async def apart(self, message: Message) -> None:
        self.parts += 1
        if self.parts >= FAILS_AT:
            raise ValueError(message.body)
        if self.parts % ASKS_AT == 0:
            await self.aask("clerk", message.body)
            self.schedule(0.01, Message(method="reminder"))
        self.emit("done", message.body)

    async def areminder(self, message: Message) -> None:
        await self.sleep(0)


class Clerk(GenAgent):
    """Answers, and takes the edge to the spare bench away and puts it back."""

    blocking: ClassVar[bool] = False

    def step(self, message: Message) -> str:
        assert self.network is not None
        wires = self.network.graph
        change = self.network.unlink if wires.has_edge("intake", "spare", "part") else None
        (change or self.network.link)("intake", "part", "spare")
        return message.body


class Slow(GenAgent):
    """Blocks a thread for a moment."""

    def slow(self, message: Message) -> None:
        time.sleep(0.002)
        self.emit("done", message.body)


class Ledger(GenAgent):
    """Hears what is done, and says how many tasks the loop has when it is asked."""

    blocking: ClassVar[bool] = False
    heard: int = 0

    def done(self, message: Message) -> None:
        self.heard += 1

    async def atasks(self, message: Message) -> str:
        return str(len(asyncio.all_tasks()))


def build() -> GenNetwork:
    """The mill: a hall with the benches, three networks deep, and a ledger beside it."""
    restart = Supervision(directive="restart")
    benches = [*(Worker(name=f"worker{index}") for index in range(4)), Worker(name="spare")]
    hall: GenNetwork = GenNetwork(
        name="benches",
        agents=[Intake(), Asker(), Clerk(), Slow(), *benches, Worker(name="hired")],
        edges=[
            *(("intake", "part", bench.name) for bench in benches),
            ("intake", "part", "asker"),
            ("intake", "part", "hired"),
            ("intake", "slow", "slow"),
        ],
        entry="intake",
        expose=["done"],
        supervision=restart,
    )
    for name in ("floor", "hall"):
        hall = GenNetwork(name=name, agents=[hall], entry=hall.name, expose=["done"])
    return GenNetwork(
        name="mill", agents=[hall, Ledger()], edges=[("hall", "done", "ledger")], entry="hall"
    )


class Rewiring(threading.Thread):
    """Dismisses the hired worker, tells it something all the same, and hires another."""

    def __init__(self, benches: GenNetwork) -> None:
        super().__init__(name="rewiring", daemon=True)
        self.changes = 0
        self.over = threading.Event()
        self._benches = benches

    def run(self) -> None:
        """Go on until it is over."""
        benches = self._benches
        while not self.over.wait(0.01):
            dismissed = benches.remove("hired").ref
            with contextlib.suppress(AgentStopped):
                dismissed.tell(BODY)
            benches.add(Worker(name="hired")).link("intake", "part", "hired")
            benches.unlink("intake", "part", "worker0").link("intake", "part", "worker0")
            self.changes += 1


class Soak:
    """The mill at work, and what was seen of it."""

    def __init__(self) -> None:
        self.runtime = Runtime("thread")
        self.mill = build()
        self.rewiring = Rewiring(self.mill["hall/floor/benches"])
        self.looks: list[Figures] = []
        self._start = now()

    def work(self, messages: int, seconds: float, every: float) -> None:
        """Tell orders until so many messages are delivered, or so many seconds are over."""
        with self.mill.start(runtime=self.runtime) as ref:
            ledger = self.mill["ledger"].ref
            self.rewiring.start()
            next_look = now() + every
            while self.counts.delivered < messages and now() - self._start < seconds:
                for _ in range(BATCH):
                    ref.tell(BODY)
                while self.counts.queued > QUEUED:
                    ledger.ask(Message(method="tasks"))
                if now() >= next_look:
                    self.look(int(ledger.ask(Message(method="tasks")).body))
                    next_look = now() + every
            self.rewiring.over.set()
            self.rewiring.join()
            while self.counts.queued:
                time.sleep(0.01)
            self.look(int(ledger.ask(Message(method="tasks")).body))

    @property
    def counts(self) -> Any:
        """The runtime's counts now."""
        return self.runtime.statistics()

    def look(self, tasks: int) -> None:
        """Note how it stands, and print it."""
        run = self.mill.run(BODY).statistics  # a run beside the rest, with accounts of its own
        counts = self.counts
        gc.collect()
        seconds = now() - self._start
        seen: Figures = {
            "seconds": round(seconds, 1),
            "delivered": counts.delivered,
            "per_s": round(counts.delivered / seconds),
            "queued": counts.queued,
            "dead": counts.dead,
            "restarts": counts.restarts,
            "rewired": self.rewiring.changes,
            "adds_up": counts.sent == counts.delivered + counts.queued + counts.dead
            and run.queued == 0
            and run.sent == run.delivered + run.dead,
            "rss_mb": round(memory_kb() / 1024, 1),
            "threads": threading.active_count(),
            "tasks": tasks,
        }
        self.looks.append(seen)
        print(json.dumps(seen), flush=True)

    def verdict(self) -> Figures:
        """Whether it held: the second half of the time beside the first, warm-up left out."""
        warm = self.looks[len(self.looks) // 5 :]
        first, second = warm[: len(warm) // 2], warm[len(warm) // 2 :]

        def grown(name: str, of: Any) -> float:
            return round(of(each[name] for each in second) - of(each[name] for each in first), 1)

        growth_mb = grown("rss_mb", statistics.median)
        threads, tasks = grown("threads", max), grown("tasks", max)
        adds_up = all(each["adds_up"] for each in self.looks)
        return {
            "verdict": "good"
            if adds_up and growth_mb <= FLAT_MB and max(threads, tasks) <= FLAT_COUNT
            else "bad",
            "adds_up": adds_up,
            "rss_growth_mb": growth_mb,
            "threads_more": threads,
            "tasks_more": tasks,
            "delivered": self.looks[-1]["delivered"],
            "seconds": self.looks[-1]["seconds"],
            "restarts": self.looks[-1]["restarts"],
        }


def main() -> None:
    """Work, look, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=50_000_000, help="deliveries")
    parser.add_argument("--seconds", type=float, default=600.0, help="at most")
    parser.add_argument("--every", type=float, default=5.0, help="seconds between two looks")
    options = parser.parse_args()
    logging.getLogger("llm_net").setLevel(logging.CRITICAL)  # the failures are meant to be
    soak = Soak()
    soak.work(options.messages, options.seconds, options.every)
    verdict = soak.verdict()
    print(json.dumps(verdict))
    sys.exit(verdict["verdict"] != "good")


if __name__ == "__main__":
    main()
