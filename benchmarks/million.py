"""How many agents can do nothing at once: `python million.py [COUNT] [--networks N]`.

A million by default, in a thousand networks; `--networks 0` starts each by itself. One of them is
asked something at the end. A million take some five gigabytes.
"""

from __future__ import annotations

import argparse
import json
import random
import threading

from bench_llm_net import Echo
from measure import Figures, grow, now

from llm_net import AgentRef, GenNetwork, Message


def by_themselves(count: int) -> Figures:
    """So many agents that are started one by one."""

    def start_all() -> list[AgentRef]:
        refs = [Echo().start() for _ in range(count)]
        refs[-1].ask("awake?")
        return refs

    refs, us, kb = grow(count, start_all)
    answer = random.choice(refs).ask("awake?")  # noqa: S311
    out: Figures = {"us_per_agent": us, "kb_per_agent": kb, "answer": answer and answer.body}
    out["threads"] = threading.active_count()
    start = now()
    for ref in refs:
        ref.stop(block=False)
    refs[-1].actor_stopped.wait()
    return out | {"stop_s": round(now() - start, 1)}


def in_networks(count: int, networks: int) -> Figures:
    """So many agents, evenly in so many networks, all of these in one."""
    each = count // networks

    def build() -> GenNetwork:
        return GenNetwork(
            name="world",
            agents=[
                GenNetwork(name=f"n{number}", agents=[Echo(name=f"a{i}") for i in range(each)])
                for number in range(networks)
            ],
        )

    world, built_us, built_kb = grow(count, build)

    def someone() -> Message | None:
        name = f"n{random.randrange(networks)}/a{random.randrange(each)}"  # noqa: S311
        answer: Message | None = world[name].ref.ask("awake?")
        return answer

    def start_all() -> AgentRef:
        ref = world.start()
        someone()
        return ref

    ref, us, kb = grow(count, start_all)
    start = now()
    answer = someone()
    out: Figures = {
        "networks": networks,
        "built_us_per_agent": built_us,
        "us_per_agent": round(built_us + us, 2),
        "kb_per_agent": round(built_kb + kb, 3),
        "ask_us": round((now() - start) * 1e6),
        "answer": answer and answer.body,
        "threads": threading.active_count(),
    }
    start = now()
    ref.stop()
    return out | {"stop_s": round(now() - start, 1)}


def main() -> None:
    """Start them, and print what they took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int, nargs="?", default=1_000_000)
    parser.add_argument("--networks", type=int, default=1000)
    options = parser.parse_args()
    start = now()
    if options.networks:
        figures = in_networks(options.count, options.networks)
    else:
        figures = by_themselves(options.count)
    print(json.dumps({"n": options.count, **figures, "wall_s": round(now() - start, 1)}))


if __name__ == "__main__":
    main()
