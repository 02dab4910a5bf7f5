"""The workloads of `bench_llm_net.py` with AutoGen's core.

Its single-threaded runtime with tracing switched off; dataclasses as messages; published where
nobody waits for an answer (each agent of a type has a topic's source as its key), sent where one
does.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass

os.environ["AUTOGEN_DISABLE_RUNTIME_TRACING"] = "true"

from autogen_core import (
    AgentId,
    MessageContext,
    RoutedAgent,
    SingleThreadedAgentRuntime,
    TopicId,
    TypeSubscription,
    event,
    rpc,
)
from measure import (
    BODY,
    LISTENERS,
    RING,
    WAIT_S,
    WAITS,
    Figures,
    Size,
    alatencies,
    main,
    now,
    waiting,
)

heard = 0


@dataclass
class Token:
    body: str
    left: int


@dataclass
class Text:
    body: str


class Passing(RoutedAgent):
    """Passes the token on to the next."""

    def __init__(self) -> None:
        super().__init__("passes tokens")
        self.next = TopicId("ring", str((int(self.id.key) + 1) % RING))

    @event
    async def on_token(self, message: Token, ctx: MessageContext) -> None:
        if message.left:
            await self.publish_message(Token(message.body, message.left - 1), self.next)


class Hearing(RoutedAgent):
    @event
    async def on_text(self, message: Text, ctx: MessageContext) -> None:
        global heard  # noqa: PLW0603 - the cheapest count there is
        heard += 1


class Echo(RoutedAgent):
    @rpc
    async def on_text(self, message: Text, ctx: MessageContext) -> Text:
        return message


class Sleeper(RoutedAgent):
    @rpc
    async def on_text(self, message: Text, ctx: MessageContext) -> None:
        await asyncio.sleep(WAIT_S)


async def ring(tokens: int, hops: int) -> float:
    """Hops per second round a ring."""
    runtime = SingleThreadedAgentRuntime(ignore_unhandled_exceptions=False)
    await Passing.register(runtime, "passing", Passing)
    await runtime.add_subscription(TypeSubscription("ring", "passing"))

    async def pass_round(each: int) -> float:
        start = now()
        runtime.start()
        for index in range(tokens):
            await runtime.publish_message(Token(BODY, each), TopicId("ring", str(index)))
        await runtime.stop_when_idle()
        return round(each * tokens / (now() - start))

    await pass_round(RING)
    return await pass_round(hops // tokens)


async def fan(rounds: int) -> float:
    """Deliveries per second to 1,000 agents that hear one topic."""
    runtime = SingleThreadedAgentRuntime(ignore_unhandled_exceptions=False)
    for index in range(LISTENERS):
        kind = f"hearing{index}"
        await Hearing.register(runtime, kind, lambda: Hearing("hears"))
        await runtime.add_subscription(TypeSubscription("news", kind))

    async def publish(times: int) -> float:
        start = now()
        runtime.start()
        for _ in range(times):
            await runtime.publish_message(Text(BODY), TopicId("news", "all"))
        await runtime.stop_when_idle()
        return round(times * LISTENERS / (now() - start))

    await publish(1)
    rate = await publish(rounds)
    assert heard == (rounds + 1) * LISTENERS, heard
    return rate


async def asks(count: int) -> Figures:
    """How long a message takes that is sent and answered."""
    runtime = SingleThreadedAgentRuntime()
    await Echo.register(runtime, "echo", lambda: Echo("echoes"))
    runtime.start()
    receiver = AgentId("echo", "0")
    out = await alatencies(lambda: runtime.send_message(Text(BODY), receiver), count)
    await runtime.stop()
    return out


async def dormitory(count: int) -> Figures:
    """How long it takes until all have waited at the same time."""
    runtime = SingleThreadedAgentRuntime()
    await Sleeper.register(runtime, "sleeper", lambda: Sleeper("sleeps"))
    runtime.start()
    receivers = [AgentId("sleeper", str(index)) for index in range(count)]
    times: list[float] = []
    for _ in range(WAITS):
        start = now()
        await asyncio.gather(*(runtime.send_message(Text(BODY), each) for each in receivers))
        times.append(now() - start)
    await runtime.stop()
    return waiting(count, times)


def w1(size: Size) -> Figures:
    return {f"hops_s_{tokens}": asyncio.run(ring(tokens, size.of(10_000))) for tokens in (1, 100)}


def w2(size: Size) -> Figures:
    return {"deliveries_s": asyncio.run(fan(size.of(10)))}


def w3(size: Size) -> Figures:
    return asyncio.run(asks(size.of(5_000)))


def w5(size: Size) -> Figures:
    return asyncio.run(dormitory(size.n or 1000))


WORKLOADS = {"W1": w1, "W2": w2, "W3": w3, "W5": w5}

if __name__ == "__main__":
    main("autogen-core", WORKLOADS)
