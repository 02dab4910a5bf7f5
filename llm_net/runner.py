"""How a handler or hook is run: in place, as a task of the loop, or on a thread.

Floor 2. Knows nothing of mailboxes and runs; it is told what to do with each item that the call
gives, and with its end, and tells these things on the engine's thread.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from pydantic import BaseModel

from llm_net.context import AUTHOR
from llm_net.engine import Engine
from llm_net.errors import UsageError, is_interrupt
from llm_net.turn import Turn

__all__ = [
    "Item",
    "Over",
    "nonsense",
    "run_after_all",
    "run_in_place",
    "run_in_task",
    "run_on_thread",
]

Item = Callable[[Turn, Any], None]
"""What to do with something that the call returned or yielded; may raise if it is nonsense."""

Over = Callable[[Turn, BaseException | None], None]
"""What to do when the call is over; with what it raised, if it did."""

# Started eagerly, where Python can, a handler that does not wait costs no round of the loop.
EAGERLY: dict[str, Any] = {"eager_start": True} if sys.version_info >= (3, 12) else {}


def run_in_place(call: Callable[[], Any], turn: Turn, item: Item) -> BaseException | None:
    """Run a sync call that promises not to block; gives what it raised.

    Raises:
        KeyboardInterrupt: If the user interrupts the program.
    """
    AUTHOR.set(turn)
    try:
        value = call()
        if value is not None:
            if inspect.isgenerator(value):
                for each in value:
                    item(turn, each)
            else:
                _refuse_unawaited(value)
                item(turn, value)
    except BaseException as raised:
        if is_interrupt(raised):
            raise
        return raised  # one agent's SystemExit is not the others'
    return None


def run_in_task(
    call: Callable[[], Any], turn: Turn, item: Item, over: Over, engine: Engine
) -> None:
    """Run an async call on the engine's loop; the turn can be cancelled by its task."""
    AUTHOR.set(turn)
    engine.held += 1
    done = False

    async def drive() -> None:
        nonlocal done
        raised: BaseException | None = None
        try:
            value = call()
            if inspect.iscoroutine(value):
                value = await value
            if inspect.isasyncgen(value):
                try:
                    async for each in value:
                        if turn.abandoned:
                            break
                        item(turn, each)
                finally:
                    await value.aclose()  # its cleanup belongs to this turn, not to the collector
            elif inspect.isgenerator(value):
                for each in value:
                    item(turn, each)
            elif value is not None:
                item(turn, value)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it ends this turn only
            raised = error
        done = True
        over(turn, raised)

    def ended(task: asyncio.Task[None]) -> None:
        engine.held -= 1
        if not done:  # cancelled before its first step
            over(turn, asyncio.CancelledError(f"{task.get_name()} was cancelled"))

    task: asyncio.Task[None] = asyncio.Task(drive(), loop=engine.loop, **EAGERLY)
    if task.done():
        ended(task)
    else:
        turn.task = task
        task.add_done_callback(ended)


def run_on_thread(
    call: Callable[[], Any], turn: Turn, item: Item, over: Over, engine: Engine
) -> None:
    """Run a sync call that may block on a thread of its own."""
    AUTHOR.set(turn)
    turn.threaded = True
    engine.held += 1
    context = contextvars.copy_context()

    def give(value: Any) -> None:
        if not isinstance(value, (str, BaseModel)) and value is not None:
            raise nonsense(value)  # here, so that the handler's own frame is in the traceback
        engine.post(partial(wanted, value))

    def wanted(value: Any) -> None:
        if not turn.abandoned:
            AUTHOR.set(turn)  # what is made of the value on the engine's thread is the turn's, too
            item(turn, value)
            AUTHOR.set(None)

    def run() -> None:
        value = call()
        if inspect.isgenerator(value):
            for each in value:
                if turn.abandoned:
                    value.close()
                    return
                give(each)
        elif value is not None:
            _refuse_unawaited(value)
            give(value)

    def returned(raised: BaseException | None) -> None:
        engine.held -= 1
        over(turn, raised)

    def job(rest: Callable[[], None]) -> None:
        raised: BaseException | None = None
        try:
            context.run(run)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it ends this turn only
            raised = error
        rest()
        engine.post(partial(returned, raised))

    engine.workers.submit(job)


def run_after_all(call: Callable[[], Any], turn: Turn) -> BaseException | None:
    """Run a last hook where the engine has closed: its thread returned late; gives what it raised.

    It runs on that thread, and an async one on a loop of its own.
    """

    async def to_the_end() -> None:
        value = call()
        if inspect.isawaitable(value):
            await value

    AUTHOR.set(turn)
    try:
        asyncio.run(to_the_end())
    except BaseException as raised:  # noqa: BLE001 - whatever it is, the agent is gone
        return raised
    return None


def nonsense(value: Any) -> UsageError:
    """The error for something that cannot be sent."""
    return UsageError(
        f"{value!r:.80} is a {type(value).__name__}, which is nothing that can be sent: give None, "
        "a text, a pydantic model or a Message."
    )


def _refuse_unawaited(value: Any) -> None:
    if inspect.iscoroutine(value):
        value.close()
    elif not inspect.isasyncgen(value):
        return
    raise UsageError(
        "A sync handler returned a coroutine or an async generator instead of its result. "
        "Declare the handler with `async def`."
    )
