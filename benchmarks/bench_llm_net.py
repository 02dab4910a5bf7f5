"""Five workloads, one JSON line each: `python bench_llm_net.py W1 [--scale x] [--n agents]`.

W1: a ring of 100 agents passes one token, then 100 tokens. W2: one emit to 1,000 listeners, again
and again. W3: asks, one after the other. W4: agents that do nothing. W5: agents that each wait
50 ms at the same time. The same work is done with plain Pykka in `bench_pykka.py`.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import threading
import time
from collections.abc import Callable
from typing import Any, ClassVar

from llm_net import GenAgent, GenNetwork, Message, Runtime

RING = 100
LISTENERS = 1000
BODY = "hello"


def memory_kb() -> int:
    """The process's resident memory, in kB; Linux only."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


class Passing(GenAgent):
    blocking: ClassVar[bool] = False

    def step(self, message: Message) -> None:
        self.emit("step", message.body)


class Building(GenAgent):
    blocking: ClassVar[bool] = False

    def step(self, message: Message) -> None:
        self.emit("step", Message(message.body))


class Awaiting(GenAgent):
    async def astep(self, message: Message) -> None:
        self.emit("step", message.body)


class Source(GenAgent):
    blocking: ClassVar[bool] = False
    rounds: int = 1

    def step(self, message: Message) -> None:
        for _ in range(self.rounds):
            self.emit("news", BODY)


class Hearing(GenAgent):
    blocking: ClassVar[bool] = False
    heard: int = 0

    def news(self, message: Message) -> None:
        self.heard += 1


class Echo(GenAgent):
    blocking: ClassVar[bool] = False

    def step(self, message: Message) -> str:
        return message.body


class Sleeper(GenAgent):
    async def astep(self, message: Message) -> None:
        await self.sleep(0.05)


def ring(kind: type[GenAgent], tokens: int, hops: int) -> float:
    """Hops per second."""
    names = [f"a{index}" for index in range(RING)]
    network = GenNetwork(
        name="ring",
        agents=[kind(name=name) for name in names],
        edges=[(name, "step", names[(index + 1) % RING]) for index, name in enumerate(names)],
        entry=names[:tokens],
    )
    start = time.perf_counter()
    network.run(BODY, max_messages=hops)
    return hops / (time.perf_counter() - start)


def w1(scale: float, _count: int) -> dict[str, Any]:
    hops = int(100_000 * scale)
    kinds = {"": Passing, "_built": Building, "_async": Awaiting}
    return {
        f"hops_s_{tokens}{name}": round(ring(kind, tokens, hops))
        for name, kind in kinds.items()
        for tokens in (1, 100)
    }


def w2(scale: float, _count: int) -> dict[str, Any]:
    rounds = max(1, int(50 * scale))
    names = [f"l{index}" for index in range(LISTENERS)]
    network = GenNetwork(
        name="fan",
        agents=[Source(rounds=rounds), *(Hearing(name=name) for name in names)],
        edges=[("source", "news", name) for name in names],
        entry="source",
    )
    start = time.perf_counter()
    run = network.run("go")
    took = time.perf_counter() - start
    return {"deliveries_s": round(run.statistics.delivered / took)}


def latencies(ask: Callable[[], Any], count: int) -> dict[str, float]:
    """Asks per second, and the median and 99th percentile in microseconds."""
    times: list[float] = []
    start = time.perf_counter()
    for _ in range(count):
        before = time.perf_counter()
        ask()
        times.append(time.perf_counter() - before)
    rate = count / (time.perf_counter() - start)
    times.sort()
    return {
        "asks_s": round(rate),
        "p50_us": round(times[count // 2] * 1e6, 2),
        "p99_us": round(times[int(count * 0.99)] * 1e6, 2),
    }


def w3(scale: float, _count: int) -> dict[str, Any]:
    count = int(10_000 * scale)
    out: dict[str, Any] = {}
    with Echo().start(runtime=Runtime("inline")) as ref:
        out["inline"] = latencies(lambda: ref.ask(BODY), count)
    with Echo().start(runtime=Runtime("thread")) as ref:
        out["thread"] = latencies(lambda: ref.ask(BODY), count)

    async def inside() -> dict[str, float]:
        async with Echo().astart() as ref:
            times: list[float] = []
            for _ in range(count):
                before = time.perf_counter()
                await ref.aask(BODY)
                times.append(time.perf_counter() - before)
            times.sort()
            return {"p50_us": round(times[count // 2] * 1e6, 2)}

    out["loop"] = asyncio.run(inside())
    return out


def w4(_scale: float, count: int) -> dict[str, Any]:
    count = count or 1000
    out: dict[str, Any] = {"n": count}
    before, start = memory_kb(), time.perf_counter()
    refs = [Echo().start() for _ in range(count)]
    out["us_per_agent"] = round((time.perf_counter() - start) / count * 1e6, 2)
    out["kb_per_agent"] = round((memory_kb() - before) / count, 2)
    start = time.perf_counter()
    for ref in refs:
        ref.stop(block=False)
    refs[-1].actor_stopped.wait()
    out["stop_s"] = round(time.perf_counter() - start, 3)
    before, start = memory_kb(), time.perf_counter()
    network = GenNetwork(name="many", agents=[Echo(name=f"e{index}") for index in range(count)])
    with network.start():
        out["member_us_per_agent"] = round((time.perf_counter() - start) / count * 1e6, 2)
        out["member_kb_per_agent"] = round((memory_kb() - before) / count, 2)
        out["threads"] = threading.active_count()
    return out


def w5(_scale: float, count: int) -> dict[str, Any]:
    count = count or 1000
    names = [f"s{index}" for index in range(count)]
    network = GenNetwork(
        name="dormitory", agents=[Sleeper(name=name) for name in names], entry=names
    )
    with network.start() as ref:
        ref.ask(BODY)  # once, so that what is made at first use is made
        start = time.perf_counter()
        ref.ask(BODY)
        took = time.perf_counter() - start
    return {"n": count, "wall_ms": round(took * 1e3, 1), "x_ideal": round(took / 0.05, 3)}


WORKLOADS = {"W1": w1, "W2": w2, "W3": w3, "W4": w4, "W5": w5}


def main() -> None:
    """Run one workload and print its line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workload", choices=sorted(WORKLOADS))
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies message counts")
    parser.add_argument("--n", type=int, default=0, help="agents, for W4 and W5")
    options = parser.parse_args()
    gc.collect()
    result = WORKLOADS[options.workload](options.scale, options.n)
    print(json.dumps({"peer": "llm_net", "w": options.workload, **result}))


if __name__ == "__main__":
    main()
