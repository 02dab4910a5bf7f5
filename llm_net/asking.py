"""Asks between agents: begun on the engine's thread, refused in a circle, limited in time.

Floor 2.
"""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from llm_net.asks import Ask, Stream
from llm_net.circles import circle_of
from llm_net.errors import AskCycle, AskTimeout, UsageError
from llm_net.speech import accept
from llm_net.turn import Turn, current_turn

if TYPE_CHECKING:
    from llm_net.cell import Cell
    from llm_net.engine import Engine
    from llm_net.message import Message
    from llm_net.node import Node

__all__ = ["aask_from", "answer_to", "ask_from", "late", "limit", "no_entry", "wake_here", "watch"]


def ask_from(cell: Cell, receiver: Any, message: Message, timeout: float | None) -> Message | None:
    """Ask from a handler on a thread, and block it until the reply."""
    if cell.engine.owned:
        raise UsageError(
            f"ask() would block the event loop that {cell.node.path!r} and others live on. "
            "Make the handler async and use `await self.aask(…)`, or let sync handlers run on "
            "threads (blocking = True)."
        )
    turn = current_turn()
    ask = Ask()
    event = cell.engine.event()
    ask.wake = event.set
    cell.engine.post(partial(_begin, cell, turn, ask, receiver, message, timeout))
    cell.engine.wait(lambda: ask.done, event, None)
    return ask.result()


async def aask_from(
    cell: Cell, receiver: Any, message: Message, timeout: float | None
) -> Message | None:
    """Ask from an async handler, and await the reply."""
    turn = current_turn()
    ask = Ask()
    cell.engine.run(partial(_begin, cell, turn, ask, receiver, message, timeout))
    return await answer_to(ask, cell.engine)


async def answer_to(ask: Ask, engine: Engine) -> Message | None:
    """Await the reply in a coroutine, whether it lives on the engine's loop or on another.

    Raises:
        LLMNetError: What failed instead.
    """
    if engine.owned and not ask.done:
        engine.serve_until(ask)
    if not ask.done:
        future = wake_here(ask)
        if ask.done and not future.done():
            future.set_result(None)  # settled between the look and the wake
        try:
            await future
        except asyncio.CancelledError:
            engine.run(partial(ask.give_up, AskTimeout("The asker was cancelled.")))
            raise
    return ask.result()


def _begin(  # noqa: PLR0917 - the parts of one ask, posted as one call
    cell: Cell,
    turn: Turn | None,
    ask: Ask,
    receiver: Any,
    message: Message,
    timeout: float | None,
) -> None:
    try:
        node = cell.node.find(receiver)
        ask.targets = _doors(node, message)
        _wait_in(turn, ask)
        accept(node, message, turn, sender=cell, sink=ask)
        if node.cell is not None and node.cell.engine is not cell.engine:
            node.cell.engine.attend(lambda: ask.done)
    except Exception as error:  # noqa: BLE001 - the asker, who waits elsewhere, gets it
        ask.give_up(error)
        return
    limit(cell.engine, ask, message, node, timeout)


def _doors(node: Node, message: Message) -> tuple[Cell, ...]:
    doors = node.doors(message.method)
    if node.is_network and node.is_live and not doors:
        raise no_entry(node.path)
    return doors


def no_entry(path: str) -> UsageError:
    """The error for asking a network in which nobody takes the message."""
    return UsageError(
        f"The network {path!r} has no entry, so nobody in it would take the message. "
        "Give it entry=…, or ask one of its agents: network['name'].ref."
    )


def watch(turn: Turn, waiting: Ask | Stream) -> None:
    """A turn waits for something that was asked before; by the owner."""
    if not waiting.done:
        try:
            _wait_in(turn, waiting)
        except AskCycle as circle:
            waiting.give_up(circle)


def _wait_in(turn: Turn | None, waiting: Ask | Stream) -> None:
    """Note that the turn waits for this.

    Raises:
        AskCycle: If it would wait for ever.
    """
    if turn is not None and turn.envelope is not None and waiting.turn is None:
        _refuse_circle(turn.cell, waiting)
        waiting.turn = turn
        turn.wait_for(waiting)


def _refuse_circle(cell: Cell, ask: Ask | Stream) -> None:
    """Raise if the asked agents cannot answer before a turn of this one is over.

    Raises:
        AskCycle: Names the agents in the circle.
    """
    circle = circle_of(cell, ask)
    if circle is not None:
        msg = (
            f"The ask would never be answered: {' waits for '.join(map(repr, circle))}, and each "
            "of them serves one message at a time. Send a message instead of asking, or set "
            "`concurrency` on one of the classes."
        )
        raise AskCycle(msg, circle=circle)


def limit(engine: Engine, ask: Ask, message: Message, node: Node, timeout: float | None) -> None:
    """Let an ask expire on the runtime's clock; by the owner."""
    if timeout is None or ask.done:
        return
    engine.held += 1

    def expire() -> None:
        ask.give_up(late(message, node.path, timeout))

    timer = engine.call_later(timeout, expire)

    def settled() -> None:
        timer.cancel()
        engine.held -= 1

    ask.when_done = settled


def late(message: Message, path: str, timeout: float) -> AskTimeout:
    """The error of an asker who has waited long enough."""
    return AskTimeout(
        f"No reply from {path!r} to the message {message.id} ({message.method!r}) within "
        f"{timeout:g} s. Give the ask a longer timeout=, or see what keeps the agent busy."
    )


def wake_here(waking: Ask | Stream) -> asyncio.Future[None]:
    """A future of the running loop that is done when there is news, whatever thread brings it."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    here = threading.get_ident()

    def settle() -> None:
        if not future.done():
            future.set_result(None)

    def wake() -> None:
        if threading.get_ident() == here:
            settle()
        elif not loop.is_closed():
            loop.call_soon_threadsafe(settle)

    waking.wake = wake
    return future
