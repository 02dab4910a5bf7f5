"""The workloads with llm_net, one JSON line each: `python bench_llm_net.py W1 [--scale x] [--n x]`.

W1: a ring of 100 agents passes one token, then 100 tokens. W2: one emit to 1,000 listeners, again
and again. W3: asks, one after the other. W4: agents that do nothing. W5: 1,000 async handlers that
wait 50 ms at the same time. W6: sync handlers on threads. W7: messages across nested networks.
W8: steps of the deterministic scheduler. `bench_pykka.py`, `bench_autogen.py` and
`bench_langgraph.py` do the same work, where their library can.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any, ClassVar

from measure import (
    BODY,
    LISTENERS,
    RING,
    WAIT_S,
    WAITS,
    Figures,
    Size,
    alatencies,
    grow,
    latencies,
    main,
    named,
    now,
    one_core,
    waiting,
)

from llm_net import AgentRef, GenAgent, GenNetwork, Message, Runtime

DEPTHS = (1, 8, 64)


class Tally:
    """A count, as the other libraries' messages and actors carry one.

    No field of the agent's own, for pydantic takes as long to assign to a field as all of them take
    to count.
    """

    __slots__ = ("left",)

    def __init__(self, left: int = 0) -> None:
        self.left = left


class Passing(GenAgent):
    """Passes the token on while hops are left: a bare text, from a sync handler in the loop."""

    blocking: ClassVar[bool] = False
    hops: Tally

    def step(self, message: Message) -> None:
        if self.hops.left:
            self.hops.left -= 1
            self.emit("step", message.body)


class Building(GenAgent):
    """Passes on a message that it builds itself."""

    blocking: ClassVar[bool] = False
    hops: Tally

    def step(self, message: Message) -> None:
        if self.hops.left:
            self.hops.left -= 1
            self.emit("step", Message(message.body))


class AsyncPassing(GenAgent):
    hops: Tally

    async def astep(self, message: Message) -> None:
        if self.hops.left:
            self.hops.left -= 1
            self.emit("step", message.body)


class AsyncBuilding(GenAgent):
    hops: Tally

    async def astep(self, message: Message) -> None:
        if self.hops.left:
            self.hops.left -= 1
            self.emit("step", Message(message.body))


class ThreadPassing(GenAgent):
    """Passes the token on from a handler that may block, so it runs on a thread."""

    hops: Tally

    def step(self, message: Message) -> None:
        if self.hops.left:
            self.hops.left -= 1
            self.emit("step", message.body)


class Source(GenAgent):
    """Emits as often as the message says."""

    blocking: ClassVar[bool] = False

    def step(self, message: Message) -> None:
        for _ in range(int(message.body)):
            self.emit("news", BODY)


class Hearing(GenAgent):
    blocking: ClassVar[bool] = False
    heard: Tally

    def news(self, message: Message) -> None:
        self.heard.left -= 1


class AsyncHearing(GenAgent):
    heard: Tally

    async def anews(self, message: Message) -> None:
        self.heard.left -= 1


class ThreadHearing(GenAgent):
    def news(self, message: Message) -> None:
        pass


class Working(GenAgent):
    """Blocks its thread for a millisecond."""

    def news(self, message: Message) -> None:
        time.sleep(0.001)


class Echo(GenAgent):
    blocking: ClassVar[bool] = False

    def step(self, message: Message) -> str:
        return message.body


class Sleeper(GenAgent):
    async def astep(self, message: Message) -> None:
        await self.sleep(WAIT_S)


class ThreadSleeper(GenAgent):
    def step(self, message: Message) -> None:
        time.sleep(WAIT_S)


def crowd(kind: type[GenAgent], count: int, **fields: Any) -> list[GenAgent]:
    """So many agents of a kind."""
    return [kind(name=f"a{index}", **fields) for index in range(count)]


def pass_round(network: GenNetwork, tallies: list[Tally], laps: int, **options: Any) -> float:
    """Let every agent pass tokens on so many times; gives hops per second."""
    for tally in tallies:
        tally.left = laps
    hops, tokens = laps * len(tallies), len(network.entry)
    start = now()
    run = network.run(BODY, **options)
    took = now() - start
    assert run.statistics.delivered == hops + tokens, run.statistics
    return round(hops / took)


def circle(agents: list[GenAgent], tokens: int) -> GenNetwork:
    """A network in which each hears the one before it, and so many are entries."""
    names = [agent.name for agent in agents]
    edges = [(name, "step", names[(index + 1) % len(names)]) for index, name in enumerate(names)]
    return GenNetwork(name="ring", agents=agents, edges=edges, entry=names[:tokens])


def ring_of(kind: type[GenAgent], count: int, tokens: int) -> tuple[GenNetwork, list[Tally]]:
    """A ring of agents of this kind, and their tallies."""
    tallies = [Tally() for _ in range(count)]
    agents = [kind(name=f"a{index}", hops=tally) for index, tally in enumerate(tallies)]
    return circle(agents, tokens), tallies


def ring(kind: type[GenAgent], tokens: int, hops: int) -> float:
    """Hops per second round a ring of this kind."""
    network, tallies = ring_of(kind, RING, tokens)
    with network.start(runtime=Runtime("inline")):
        pass_round(network, tallies, 1)
        return pass_round(network, tallies, hops // RING)


def fan(listeners: list[GenAgent], rounds: int) -> float:
    """Deliveries per second when one agent emits to these, so many times."""
    edges = [("source", "news", agent.name) for agent in listeners]
    network = GenNetwork(name="fan", agents=[Source(), *listeners], edges=edges, entry="source")
    with network.start(runtime=Runtime("inline")):
        network.run("1")
        start = now()
        run = network.run(str(rounds))
        took = now() - start
    count = rounds * len(listeners)
    assert run.statistics.delivered == count + 1, run.statistics
    return round(count / took)


def dormitory(kind: type[GenAgent], count: int) -> Figures:
    """How long it takes until all have waited at the same time."""
    sleepers = crowd(kind, count)
    names = [agent.name for agent in sleepers]
    network = GenNetwork(name="dormitory", agents=sleepers, entry=names)
    times: list[float] = []
    with network.start(runtime=Runtime("inline")):
        for _ in range(WAITS):
            start = now()
            run = network.run(BODY)
            times.append(now() - start)
            assert run.statistics.delivered == count, run.statistics
    return waiting(count, times)


async def bare(count: int) -> Figures:
    """The same with nothing but asyncio's tasks: what cannot be beaten."""
    if sys.version_info >= (3, 12):
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    times: list[float] = []
    for _ in range(WAITS):
        start = now()
        await asyncio.gather(*(asyncio.create_task(asyncio.sleep(WAIT_S)) for _ in range(count)))
        times.append(now() - start)
    return waiting(count, times)


def nest(agent: GenAgent, depth: int, name: str = "nest") -> GenAgent:
    """The agent with so many networks around it, each its only way in and out."""
    for _ in range(depth):
        agent = GenNetwork(name=name, agents=[agent], entry=agent.name, expose=["step"])
    return agent


def w1(size: Size) -> Figures:
    kinds = {
        "": Passing,
        "_built": Building,
        "_async": AsyncPassing,
        "_async_built": AsyncBuilding,
    }
    return {
        f"hops_s_{tokens}{name}": ring(kind, tokens, size.of(200_000))
        for tokens in (1, 100)
        for name, kind in kinds.items()
    }


def w2(size: Size) -> Figures:
    rounds = size.of(200)
    return {
        "deliveries_s": fan(crowd(Hearing, LISTENERS, heard=Tally()), rounds),
        "deliveries_s_async": fan(crowd(AsyncHearing, LISTENERS, heard=Tally()), rounds),
    }


def w3(size: Size) -> Figures:
    count = size.of(20_000)
    with Echo().start(runtime=Runtime("inline")) as ref:
        out = latencies(lambda: ref.ask(BODY), count)

    async def inside() -> Figures:
        async with Echo().astart() as ref:
            return await alatencies(lambda: ref.aask(BODY), count)

    out |= named("loop", asyncio.run(inside()))
    with Echo().start(runtime=Runtime("thread")) as ref:
        out |= named("free", latencies(lambda: ref.ask(BODY), count // 4))
    with one_core(), Echo().start(runtime=Runtime("thread")) as ref:
        out |= named("pinned", latencies(lambda: ref.ask(BODY), count // 4))
    return out


def w4(size: Size) -> Figures:
    count = size.n or 10_000

    def roots() -> list[AgentRef]:
        refs = [Echo().start() for _ in range(count)]
        refs[-1].ask(BODY)  # all have begun once the last one answers
        return refs

    def members() -> AgentRef:
        agents = crowd(Echo, count)
        ref = GenNetwork(name="many", agents=agents).start()
        agents[-1].ref.ask(BODY)
        return ref

    refs, us, kb = grow(count, roots)
    out: Figures = {"n": count, "us_per_agent": us, "kb_per_agent": kb}

    # Beside the others, which are live still: else these would live in the room they left.
    network, us, kb = grow(count, members)
    out |= {"member_us_per_agent": us, "member_kb_per_agent": kb}
    start = now()
    for ref in refs:
        ref.stop(block=False)
    refs[-1].actor_stopped.wait()
    out["stop_s"] = round(now() - start, 3)
    network.stop()
    return out


def w5(size: Size) -> Figures:
    count = size.n or 1000
    floor = asyncio.run(bare(count))["x_ideal"]
    return {**dormitory(Sleeper, count), "asyncio_x_ideal": floor}


def w6(size: Size) -> Figures:
    return {
        "hops_s_1": ring(ThreadPassing, 1, size.of(20_000)),
        "hops_s_100": ring(ThreadPassing, 100, size.of(20_000)),
        "deliveries_s": fan(crowd(ThreadHearing, LISTENERS), size.of(20)),
        "blocked_s": fan(crowd(Working, RING), size.of(100)),
        **dormitory(ThreadSleeper, size.n or 1000),
    }


def w7(size: Size) -> Figures:
    out: Figures = {}
    for depth in DEPTHS:
        with nest(Echo(), depth).start(runtime=Runtime("inline")) as ref:
            out[f"ask_us_{depth}"] = latencies(lambda ref=ref: ref.ask(BODY), size.of(5_000))[
                "p50_us"
            ]
        tallies = [Tally(), Tally()]
        pair = zip("ab", tallies, strict=True)
        network = circle([nest(Passing(hops=tally), depth, name) for name, tally in pair], 1)
        with network.start(runtime=Runtime("inline")):
            pass_round(network, tallies, 1)
            out[f"hops_s_{depth}"] = pass_round(network, tallies, size.of(50_000))
    first, last = DEPTHS[0], DEPTHS[-1]
    out["deep_ask"] = round(out[f"ask_us_{last}"] / out[f"ask_us_{first}"], 3)
    out["deep_hop"] = round(out[f"hops_s_{first}"] / out[f"hops_s_{last}"], 3)
    return out


def w8(size: Size) -> Figures:
    try:
        from llm_net import Deterministic  # noqa: PLC0415
    except ImportError:
        return {"skipped": "llm_net has no Deterministic yet"}
    laps = size.of(10_000)
    out: Figures = {}
    for name, kind in {"": Passing, "_async": AsyncPassing}.items():
        network, tallies = ring_of(kind, 10, 1)
        out[f"steps_s{name}"] = pass_round(network, tallies, laps, runtime=Deterministic(1))
    return out


WORKLOADS = {"W1": w1, "W2": w2, "W3": w3, "W4": w4, "W5": w5, "W6": w6, "W7": w7, "W8": w8}

if __name__ == "__main__":
    main("llm_net", WORKLOADS)
