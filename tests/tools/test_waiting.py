"""Tools in a deterministic run: async ones, from every kind of handler, in the order of calling."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import ClassVar

import pytest

from llm_net import Deterministic, GenAgent, GenNetwork, Message
from llm_net.tools.manager import ToolManager
from llm_net.tools.waiting import from_other_loop


async def far(word: str) -> str:
    """Ask somebody whose loop is another."""
    future: Future[str] = Future()
    threading.Thread(target=future.set_result, args=(word.upper(),)).start()
    return await from_other_loop(future)


MANAGER = ToolManager([far])


class Waits(GenAgent):
    """Its handler awaits the tool."""

    async def step(self, message: Message) -> str:
        return (await MANAGER.arun("far", {"word": message.body})).text


class Blocks(GenAgent):
    """Its handler blocks, on a thread."""

    def step(self, message: Message) -> str:
        return MANAGER.run("far", {"word": message.body}).text


class BlocksTheLoop(GenAgent):
    """Its handler blocks, in the loop itself."""

    blocking: ClassVar[bool] = False

    def step(self, message: Message) -> str:
        return MANAGER.run("far", {"word": message.body}).text


class BlocksWhileAwaiting(GenAgent):
    """As it should not be done."""

    async def step(self, message: Message) -> str:
        return MANAGER.run("far", {"word": message.body}).text


@pytest.mark.parametrize("kind", [Waits, Blocks, BlocksTheLoop, BlocksWhileAwaiting])
def test_every_kind_of_handler_may_run_async_tools_in_a_deterministic_run(
    kind: type[GenAgent],
) -> None:
    def run() -> tuple[list[str], str | None]:
        names = ["a", "b", "c"]
        net = GenNetwork(name="net", agents=[kind(name=name) for name in names], entry=names)
        result = net.run(Message("tea"), runtime=Deterministic(7))
        assert not result.failures
        return [each.body for each in result.outputs], result.trace

    first = run()
    assert first[0] == ["TEA"] * 3
    assert run() == first


class FarAway:
    """Three calls, answered in the reverse order."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Future[str]]] = []

    async def ask(self, word: str) -> str:
        """Ask."""
        future: Future[str] = Future()
        self.calls.append((word, future))
        if len(self.calls) == 3:
            threading.Thread(target=self.answer).start()
        return await from_other_loop(future)

    def answer(self) -> None:
        for word, future in reversed(self.calls):
            future.set_result(word.upper())


class Asks(GenAgent):
    manager: ToolManager

    async def step(self, message: Message) -> str:
        return (await self.manager.arun("ask", {"word": self.name})).text


def test_answers_from_other_loops_come_back_in_the_order_of_the_calls() -> None:
    away = FarAway()
    manager = ToolManager([away.ask])
    names = ["a", "b", "c"]
    agents = [Asks(name=name, manager=manager) for name in names]
    result = GenNetwork(name="net", agents=agents, entry=names).run(
        Message("tea"), runtime=Deterministic(7)
    )
    assert [each.body for each in result.outputs] == [word.upper() for word, _ in away.calls]
