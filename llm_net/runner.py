"""How a handler or hook is run: in place, as a task of the loop, or on a thread.

Floor 2. Knows nothing of mailboxes and runs; it is told what to do with each item that the call
gives, and with its end, and tells these things on the engine's thread.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import sys
from collections.abc import Awaitable, Callable, Coroutine
from types import CoroutineType
from typing import Any, cast

from pydantic import BaseModel

from llm_net.context import AUTHOR
from llm_net.engine import Engine, Light
from llm_net.errors import UsageError, is_interrupt
from llm_net.turn import Turn

__all__ = [
    "Item",
    "Over",
    "give_all",
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


def run_in_place(call: Callable[[], Any], turn: Turn, item: Item) -> BaseException | None:
    """Run a sync hook that promises not to block; gives what it raised.

    Raises:
        KeyboardInterrupt: If the user interrupts the program.
    """
    before = AUTHOR.get()
    AUTHOR.set(turn)
    try:
        value = call()
        if value is not None:
            give_all(turn, value, item)
    except BaseException as raised:
        if is_interrupt(raised):
            raise
        return raised  # one agent's SystemExit is not the others'
    finally:
        AUTHOR.set(before)
    return None


def give_all(turn: Turn, value: Any, item: Item) -> None:
    """Hand on what a sync call returned: one thing, or what a generator yields, piece by piece.

    Raises:
        UsageError: If it is a coroutine, which the call forgot to await.
    """
    if inspect.isgenerator(value):
        for each in value:
            item(turn, each)
    else:
        _refuse_unawaited(value)
        item(turn, value)


def run_in_task(  # noqa: PLR0917 - called for every awaited message, and keywords cost
    call: Callable[..., Any],
    given: tuple[Any, ...],
    turn: Turn,
    item: Item,
    over: Over,
    engine: Engine,
) -> None:
    """Run an async call on the engine's loop; the turn can be cancelled by its task."""
    task = _start(_drive(call, given, turn, item, over), engine)
    if task.done():
        return
    engine.held += 1
    turn.task = task

    def ended(task: asyncio.Task[None]) -> None:
        engine.held -= 1
        if task.cancelled():  # before its first step
            over(turn, asyncio.CancelledError("The turn was cancelled before it began."))

    task.add_done_callback(ended)


def _start(coroutine: Coroutine[Any, Any, None], engine: Engine) -> asyncio.Task[None]:
    # One name for all: to make one for each costs as much as an await.
    if sys.version_info >= (3, 12) and engine.eager:
        return asyncio.Task(coroutine, loop=engine.loop, name="llm_net turn", eager_start=True)
    return asyncio.Task(coroutine, loop=engine.loop, name="llm_net turn")


async def _drive(
    call: Callable[..., Any], given: tuple[Any, ...], turn: Turn, item: Item, over: Over
) -> None:
    """Make the call, hand on what it gives, and tell its end."""
    AUTHOR.set(turn)  # in the task's own context
    raised: BaseException | None = None
    try:
        value: Any = call(*given)
        if isinstance(value, CoroutineType):
            value = await cast("Awaitable[Any]", value)
        if value is None:
            pass
        elif inspect.isasyncgen(value):
            try:
                async for each in value:
                    if turn.abandoned:
                        break
                    item(turn, each)
            finally:
                await value.aclose()  # its cleanup belongs to this turn, not to the collector
        elif inspect.isawaitable(value):
            item(turn, await value)
        else:
            give_all(turn, value, item)
    except BaseException as error:  # noqa: BLE001 - whatever it is, it ends this turn only
        raised = turn.broken or error
    over(turn, raised)


def run_on_thread(  # noqa: PLR0917 - as run_in_task
    call: Callable[..., Any],
    given: tuple[Any, ...],
    turn: Turn,
    item: Item,
    over: Over,
    engine: Engine,
) -> None:
    """Run a sync call that may block on a thread of its own."""
    turn.threaded = True
    engine.held += 1
    engine.workers.submit(_Job(call, given, turn, item, over, engine).work)


class _Job(Light):
    """A sync call on a thread; the engine is called with it when it has ended."""

    __slots__ = ("_call", "_context", "_engine", "_given", "_item", "_over", "_raised", "_turn")

    def __init__(  # noqa: PLR0917 - as run_in_task
        self,
        call: Callable[..., Any],
        given: tuple[Any, ...],
        turn: Turn,
        item: Item,
        over: Over,
        engine: Engine,
    ) -> None:
        self._call = call
        self._given = given
        self._turn = turn
        self._item = item
        self._over = over
        self._engine = engine
        self._context = contextvars.copy_context()
        self._raised: BaseException | None = None

    def work(self, rest: Callable[[], None]) -> None:
        """Make the call, on the thread; `rest` says that the thread is free."""
        try:
            self._context.run(self._run)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it ends this turn only
            self._raised = error
        rest()
        self._engine.settle(self)

    @property
    def light(self) -> bool:
        """Whether the turn ends well, with nobody to tell it to."""
        return self._raised is None and self._turn.light

    def __call__(self) -> None:
        self._engine.held -= 1
        self._over(self._turn, self._raised)

    def _run(self) -> None:
        turn = self._turn
        AUTHOR.set(turn)
        value = self._call(*self._given)
        if inspect.isgenerator(value):
            for each in value:
                if turn.abandoned:
                    value.close()
                    return
                self._give(each)
                self._engine.pass_on()
        elif value is not None:
            _refuse_unawaited(value)
            self._give(value)

    def _give(self, value: Any) -> None:
        if not isinstance(value, (str, BaseModel)) and value is not None:
            raise nonsense(value)  # here, so that the handler's own frame is in the traceback
        self._engine.post(_Gift(self._turn, value, self._item))


class _Gift(Light):
    """What a call on a thread has given."""

    __slots__ = ("_item", "_turn", "_value")

    def __init__(self, turn: Turn, value: Any, item: Item) -> None:
        self._turn = turn
        self._value = value
        self._item = item

    @property
    def light(self) -> bool:
        """Whether all that is to be done is to hand it to who waits for it."""
        return type(self._value) is str and self._turn.is_asked

    def __call__(self) -> None:
        turn = self._turn
        if not turn.abandoned:
            before = AUTHOR.get()
            AUTHOR.set(turn)  # what is made of the value on the engine's thread is the turn's, too
            try:
                self._item(turn, self._value)
            finally:
                AUTHOR.set(before)


def run_after_all(call: Callable[[], Any], turn: Turn) -> BaseException | None:
    """Run a last hook where the engine has closed: its thread returned late; gives what it raised.

    It runs on that thread, and an async one on a loop of its own.
    """

    async def to_the_end() -> None:
        value = call()
        if inspect.isawaitable(value):
            await value

    before = AUTHOR.get()
    AUTHOR.set(turn)
    try:
        asyncio.run(to_the_end())
    except BaseException as raised:  # noqa: BLE001 - whatever it is, the agent is gone
        return raised
    finally:
        AUTHOR.set(before)
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
