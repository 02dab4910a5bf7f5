"""How many agents can do nothing at once: `python idle_agents.py [COUNT]`, 100,000 by default."""

from __future__ import annotations

import sys
import threading
import time

from bench_llm_net import Echo, memory_kb

from llm_net import GenNetwork


def main() -> None:
    """Start that many agents, ask the last one something, and stop them."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    before, start = memory_kb(), time.perf_counter()
    network = GenNetwork(name="many", agents=[Echo(name=f"e{index}") for index in range(count)])
    built = time.perf_counter()
    ref = network.start()
    answer = network[f"e{count - 1}"].ref.ask("awake?")
    started = time.perf_counter()
    size = (memory_kb() - before) / count
    print(f"{count} agents: built in {built - start:.2f} s, live {started - built:.2f} s later")
    print(f"{size:.2f} kB each, {threading.active_count()} threads, and one says {answer.body!r}")
    ref.stop()
    print(f"stopped in {time.perf_counter() - started:.2f} s")


if __name__ == "__main__":
    main()
