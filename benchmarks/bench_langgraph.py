"""The workloads of `bench_llm_net.py` with LangGraph: a hop is a node's execution.

Compiled once, without a checkpointer; each workload in that of the ways we tried (static edges,
`Command`, `Send`; sync and async) which was fastest. One token is one node a superstep, a hundred
tokens are a hundred. There is no idle agent to speak of, so there is no W4.
"""

from __future__ import annotations

import asyncio
import itertools
import operator
import os
from collections.abc import Callable
from typing import Annotated, Any, TypedDict

os.environ["LANGSMITH_TRACING"] = "false"

from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, RunnableConfig, Send
from measure import (
    BODY,
    LISTENERS,
    RING,
    WAIT_S,
    WAITS,
    Figures,
    Size,
    latencies,
    main,
    now,
    waiting,
)

DEPTHS = (1, 8)


class Token(TypedDict):
    body: str
    left: int


def later(_: int, left: int) -> int:
    """What the last of several nodes wrote."""
    return left


class Tokens(TypedDict):
    left: Annotated[int, later]


class Count(TypedDict):
    done: Annotated[int, operator.add]


def steps(count: int) -> RunnableConfig:
    """Leave to make so many supersteps, which by default are 25 at most."""
    return {"recursion_limit": count + RING}


def one_token() -> Any:
    """A ring along edges; after each lap a look whether hops are left."""
    graph = StateGraph(Token)
    names = [f"a{index}" for index in range(RING)]
    for name in names:
        graph.add_node(name, lambda state: {"left": state["left"] - 1})
    for name, after in itertools.pairwise(names):
        graph.add_edge(name, after)
    graph.add_edge(START, names[0])
    graph.add_conditional_edges(
        names[-1], lambda state: names[0] if state["left"] > 0 else END, [names[0], END]
    )
    return graph.compile()


def many_tokens() -> Any:
    """A ring in which every node is at work in each superstep."""
    graph = StateGraph(Tokens)

    def passing(after: str) -> Callable[[Tokens], Command[str]]:
        def node(state: Tokens) -> Command[str]:
            left = state["left"]
            return Command(goto=after if left else END, update={"left": left - 1})

        return node

    for index in range(RING):
        after = f"a{(index + 1) % RING}"
        graph.add_node(f"a{index}", passing(after), destinations=(after, END))
        graph.add_edge(START, f"a{index}")
    return graph.compile()


def fan(count: int, work: Callable[[Count], Any]) -> Any:
    """One node that sends to so many executions of another."""
    graph = StateGraph(Count)
    graph.add_node("source", lambda _: {"done": 0})
    graph.add_node("work", work)
    graph.add_edge(START, "source")
    graph.add_conditional_edges(
        "source", lambda _: [Send("work", {"done": 0}) for _ in range(count)], ["work"]
    )
    return graph.compile()


def nest(depth: int) -> Any:
    """A node that answers, within so many graphs."""
    graph = StateGraph(Token)
    graph.add_node("echo", lambda state: {"left": state["left"]})
    graph.add_edge(START, "echo")
    compiled: Any = graph.compile()
    for _ in range(depth - 1):
        graph = StateGraph(Token)
        graph.add_node("inner", compiled)
        graph.add_edge(START, "inner")
        compiled = graph.compile()
    return compiled


def w1(size: Size) -> Figures:
    hops = max(RING, size.of(2_000) // RING * RING)
    graph = one_token()
    graph.invoke({"body": BODY, "left": RING}, steps(RING))
    start = now()
    end = graph.invoke({"body": BODY, "left": hops}, steps(hops))
    out: Figures = {"hops_s_1": round(hops / (now() - start))}
    assert end["left"] == 0, end
    laps = size.of(40)
    graph = many_tokens()
    graph.invoke({"left": 2}, steps(2))
    start = now()
    graph.invoke({"left": laps}, steps(laps))
    out["hops_s_100"] = round(laps * RING / (now() - start))
    return out


def w2(size: Size) -> Figures:
    async def work(_: Count) -> Count:
        return {"done": 1}

    rounds = size.of(3)
    graph = fan(LISTENERS, work)

    async def run() -> float:
        await graph.ainvoke({"done": 0})
        start = now()
        for _ in range(rounds):
            end = await graph.ainvoke({"done": 0})
            assert end["done"] == LISTENERS, end
        return now() - start

    return {"deliveries_s": round(rounds * LISTENERS / asyncio.run(run()))}


def w3(size: Size) -> Figures:
    graph = nest(1)
    return latencies(lambda: graph.invoke({"body": BODY, "left": 0}), size.of(1_000))


def w5(size: Size) -> Figures:
    async def work(_: Count) -> Count:
        await asyncio.sleep(WAIT_S)
        return {"done": 1}

    count = size.n or 1000
    graph = fan(count, work)

    async def run() -> list[float]:
        times: list[float] = []
        for _ in range(WAITS):
            start = now()
            await graph.ainvoke({"done": 0})
            times.append(now() - start)
        return times

    return waiting(count, asyncio.run(run()))


def w7(size: Size) -> Figures:
    out: Figures = {}
    for depth in DEPTHS:
        graph = nest(depth)
        asked = latencies(lambda graph=graph: graph.invoke({"body": BODY, "left": 0}), size.of(500))
        out[f"ask_us_{depth}"] = asked["p50_us"]
    return out


WORKLOADS = {"W1": w1, "W2": w2, "W3": w3, "W5": w5, "W7": w7}

if __name__ == "__main__":
    main("langgraph", WORKLOADS)
