"""What the benchmarks share: sizes, clocks, and the one JSON line that each of them prints."""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, NamedTuple

RING = 100
LISTENERS = 1000
WAIT_S = 0.05
WAITS = 6
BODY = "hello"

Figures = dict[str, Any]
now = time.perf_counter


class Size(NamedTuple):
    """How much work is asked for.

    Attributes:
        scale: Multiplies counts of messages.
        n: Agents, where their number is what is varied; 0 for what the workload says.
    """

    scale: float
    n: int

    def of(self, count: int) -> int:
        """So many of these, scaled; one at least."""
        return max(1, int(count * self.scale))


Workload = Callable[[Size], Figures]


def memory_kb() -> int:
    """The process's resident memory, in kB; Linux only."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def grow(count: int, make: Callable[[], Any]) -> tuple[Any, float, float]:
    """What `make` makes for `count` agents, and the microseconds and kB that each took."""
    gc.collect()
    before, start = memory_kb(), now()
    made = make()
    took = now() - start
    gc.collect()
    return made, round(took / count * 1e6, 2), round((memory_kb() - before) / count, 3)


def latencies(ask: Callable[[], Any], count: int) -> Figures:
    """Asks per second, their median and 99th percentile in microseconds; after a warm-up."""
    for _ in range(count // 10):
        ask()
    times: list[float] = []
    for _ in range(count):
        start = now()
        ask()
        times.append(now() - start)
    return _summary(times)


async def alatencies(ask: Callable[[], Awaitable[Any]], count: int) -> Figures:
    """As `latencies`, inside a running loop."""
    for _ in range(count // 10):
        await ask()
    times: list[float] = []
    for _ in range(count):
        start = now()
        await ask()
        times.append(now() - start)
    return _summary(times)


def _summary(times: list[float]) -> Figures:
    times.sort()
    return {
        "asks_s": round(len(times) / sum(times)),
        "p50_us": round(times[len(times) // 2] * 1e6, 2),
        "p99_us": round(times[int(len(times) * 0.99)] * 1e6, 2),
    }


def named(prefix: str, figures: Mapping[str, Any]) -> Figures:
    """The figures under longer names."""
    return {f"{prefix}_{name}": value for name, value in figures.items()}


def waiting(count: int, times: list[float]) -> Figures:
    """The figures of `count` waits of `WAIT_S` at the same time, made again and again.

    `first_` is the first time, when what is made at first use is made; the rest are the others'
    median.
    """
    took = statistics.median(times[1:])
    return {
        "n": count,
        "wall_ms": round(took * 1e3, 1),
        "x_ideal": round(took / WAIT_S, 3),
        "first_x_ideal": round(times[0] / WAIT_S, 3),
    }


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Keep this thread, and those it starts meanwhile, on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def main(peer: str, workloads: Mapping[str, Workload]) -> None:
    """Run the workload that the command line names, and print its line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("workload", choices=sorted(workloads))
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies message counts")
    parser.add_argument("--n", type=int, default=0, help="agents, for W4 and W5")
    options = parser.parse_args()
    gc.collect()
    start, cpu = now(), time.process_time()
    figures = workloads[options.workload](Size(options.scale, options.n))
    spent = {"wall_s": round(now() - start, 3), "cpu_s": round(time.process_time() - cpu, 3)}
    print(json.dumps({"peer": peer, "w": options.workload, **figures, **spent}))
