"""What stands around a model costs: 1,000 agents ask at once, behind caps of 1,000 and of 100.

The model is an async function that sleeps 50 ms. Ideal is the least that any way of keeping to the
cap takes: 50 ms for each full or last house. `around` is the way through `ModuleLLM`, budgets,
ledgers and limits; `bare` awaits the function itself behind an `asyncio.Semaphore`, so what it
loses is the event loop's. Then the processor time of one call, without a wait: what limits and
budget add to a call, and what a call through LiteLLM takes with us and without us (its mocked
response: all of its work, and no network). Rounds alternate; medians are printed. Run:
`python benchmarks/models.py`.
"""

from __future__ import annotations

import asyncio
import math
import statistics
import time
from collections.abc import Awaitable, Callable

from llm_net import ModuleLLM, Request
from llm_net.llm.budget import Budget
from llm_net.llm.limits import Limited, Limits
from llm_net.llm.metered import Metered, Priced
from llm_net.llm.model import Completion, Model, Usage

AGENTS = 1000
WAIT_S = 0.05
CAPS = (1000, 100)
ROUNDS = 7
CALLS = 20_000
LITELLM_CALLS = 100
ASKED = Request(messages=({"role": "user", "content": "What is your price? " * 10},))
ANSWER = Completion(text="40", cost=0.0, usage=Usage(prompt_tokens=50, completion_tokens=1))


class Stub:
    """An answer after 50 ms, or at once; counts who is inside."""

    name = "stub"

    def __init__(self, wait_s: float) -> None:
        self.wait_s = wait_s
        self.inside = self.most = 0

    def complete(self, request: Request) -> Completion:
        return ANSWER

    async def acomplete(self, request: Request) -> Completion:
        if not self.wait_s:
            return ANSWER
        self.inside += 1
        self.most = max(self.most, self.inside)
        await asyncio.sleep(self.wait_s)
        self.inside -= 1
        return ANSWER


def around(stub: Stub, cap: int) -> Model:
    """The stub behind limits and a budget."""
    limited = Limited(stub, Limits(max_concurrency=cap, retries=2))
    return Metered(Priced(limited, "stub"), budget=Budget(calls=10**9, tokens=10**12))


async def timed(ask: Callable[[], Awaitable[object]]) -> float:
    """Seconds until all agents have their answer."""
    start = time.perf_counter()
    await asyncio.gather(*(ask() for _ in range(AGENTS)))
    return time.perf_counter() - start


def one_round(cap: int) -> tuple[float, float, int]:
    """Seconds bare, seconds around, and how many were inside at once."""
    stub = Stub(WAIT_S)
    llm = ModuleLLM(around(stub, cap))

    async def bare() -> float:
        room = asyncio.Semaphore(cap)
        plain = Stub(WAIT_S)

        async def ask() -> None:
            async with room:
                await plain.acomplete(ASKED)

        return await timed(ask)

    async def ours() -> float:
        return await timed(lambda: llm.agenerate(ASKED.prompt))

    return asyncio.run(bare()), asyncio.run(ours()), stub.most


def cost_us(model: Model) -> tuple[float, float]:
    """Microseconds of processor time for a call, blocking and awaiting."""
    start = time.process_time()
    for _ in range(CALLS):
        model.complete(ASKED)
    blocking = time.process_time() - start

    async def many() -> float:
        start = time.process_time()
        for _ in range(CALLS):
            await model.acomplete(ASKED)
        return time.process_time() - start

    return blocking / CALLS * 1e6, asyncio.run(many()) / CALLS * 1e6


async def through_litellm() -> tuple[float, float]:
    """Microseconds of processor time for a call by `ModuleLLM`, and by LiteLLM's own function."""
    import litellm  # noqa: PLC0415 - it takes seconds

    name, key, answer = "openai/gpt-4o-mini", "none", {"mock_response": "40"}
    llm = ModuleLLM(name, api_key=key, params=answer)
    messages = [dict(message) for message in ASKED.messages]

    async def ours() -> object:
        return await llm.agenerate(ASKED.prompt)

    async def theirs() -> object:
        complete: Callable[..., Awaitable[object]] = litellm.acompletion
        return await complete(model=name, messages=messages, api_key=key, **answer)

    async def cpu_us(ask: Callable[[], Awaitable[object]]) -> float:
        start = time.process_time()
        for _ in range(LITELLM_CALLS):
            await ask()
        return (time.process_time() - start) / LITELLM_CALLS * 1e6

    await cpu_us(theirs), await cpu_us(ours)
    rounds = [(await cpu_us(ours), await cpu_us(theirs)) for _ in range(ROUNDS)]
    ours_us, theirs_us = map(statistics.median, zip(*rounds, strict=True))
    return ours_us, theirs_us


def main() -> None:
    """Print the ratios."""
    for cap in CAPS:
        ideal = math.ceil(AGENTS / cap) * WAIT_S
        rounds = [one_round(cap) for _ in range(ROUNDS)]
        bare, ours = (
            statistics.median(column) / ideal for column in list(zip(*rounds, strict=True))[:2]
        )
        most = {most for *_, most in rounds}
        print(
            f"{AGENTS} agents, cap {cap}: {ours:.2f} x ideal (a bare semaphore {bare:.2f}), "
            f"most in flight {sorted(most)}"
        )
    plain, wrapped = cost_us(Stub(0)), cost_us(around(Stub(0), 100))
    extra = [after - before for before, after in zip(plain, wrapped, strict=True)]
    print(f"a call costs {extra[0]:.1f} us more, awaited {extra[1]:.1f} us")
    ours, theirs = asyncio.run(through_litellm())
    print(f"through LiteLLM {ours:.0f} us, {ours / theirs:.2f} x LiteLLM's own {theirs:.0f} us")


if __name__ == "__main__":
    main()
