"""Many agents that share a long prompt, with and without the engine's prefix cache.

    python benchmarks/prefix.py --agents 100

Both ways go through `ModuleLLM` to the embedded model. Without the cache only every tenth agent is
asked, since each takes the same time; the ratio is of seconds for each agent.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time

from llm_net import ModuleLLM

SHARED = " ".join(
    f"Rule {number}: on day {number} the market opens at {6 + number % 5}; who comes late waits."
    for number in range(1, 19)
)


async def seconds_each(llm: ModuleLLM, agents: int, *, cache: bool, at_once: int) -> float:
    """Seconds for each agent that asks one short question under the shared prompt."""
    gate = asyncio.Semaphore(at_once)

    async def ask(number: int) -> None:
        async with gate:
            await llm.agenerate(
                f"Agent {number} asks: when do I go?",
                system_prompt=SHARED,
                max_tokens=8,
                cache_prompt=cache,
            )

    begun = time.perf_counter()
    await asyncio.gather(*(ask(number) for number in range(agents)))
    return (time.perf_counter() - begun) / agents


async def main() -> None:
    """Measure in rounds, one way beside the other."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--agents", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--at-once", type=int, default=4)
    given = parser.parse_args()
    llm = ModuleLLM("local/smollm2-135m", temperature=0.0)
    await seconds_each(llm, 4, cache=True, at_once=given.at_once)  # loads the model
    ratios: list[float] = []
    for _ in range(given.rounds):
        few = max(1, given.agents // 10)
        without = await seconds_each(llm, few, cache=False, at_once=given.at_once)
        with_it = await seconds_each(llm, given.agents, cache=True, at_once=given.at_once)
        ratios.append(without / with_it)
        print(f"without {without * 1e3:7.0f} ms, with {with_it * 1e3:6.0f} ms, {ratios[-1]:5.1f} x")
    print(f"median {statistics.median(ratios):.1f} x")


if __name__ == "__main__":
    asyncio.run(main())
