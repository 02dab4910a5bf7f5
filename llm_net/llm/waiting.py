"""How a model call is waited for: in blocking code, in any event loop, no longer than allowed.

Model tower, floor 0. Blocking calls get threads, made per call: a model call takes milliseconds at
least, so a thread costs nothing beside it, nested calls never starve for want of a free worker, and
being a daemon, a call that hangs does not keep the process from ending.

Network clients get one event loop in the background, whoever asks. Their connections then survive
the short-lived loops of `asyncio.run`, a running loop (Jupyter) is no obstacle to blocking code,
and timeouts are true seconds even if the caller's loop runs on virtual time.
"""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import os
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from llm_net.context import AUTHOR
from llm_net.errors import ModelCallError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

__all__ = [
    "acall",
    "await_future",
    "call",
    "in_background",
    "in_thread",
    "run_coroutine",
    "wait",
    "within",
]

T = TypeVar("T")

_background: dict[int, asyncio.AbstractEventLoop] = {}
_background_lock = threading.Lock()


def in_thread(function: Callable[[], T]) -> Future[T]:
    """Call `function` in a thread of its own, in a copy of the caller's context."""
    future: Future[T] = Future()
    context = contextvars.copy_context()

    def work() -> None:
        if not future.set_running_or_notify_cancel():
            return  # nobody waits any more
        try:
            result = context.run(function)
        except BaseException as error:  # noqa: BLE001 - raised again where the result is taken
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=work, name="llm_net-model-call", daemon=True).start()
    return future


def in_background(coroutine: Coroutine[Any, Any, T]) -> Future[T]:
    """Run a coroutine on the background loop; cancelling the future cancels it."""
    return asyncio.run_coroutine_threadsafe(coroutine, _background_loop())


def _background_loop() -> asyncio.AbstractEventLoop:
    process = os.getpid()  # a forked child has a copy of the loop, and no thread that drives it
    with _background_lock:
        loop = _background.get(process)
        if loop is None:
            loop = asyncio.new_event_loop()
            thread = threading.Thread(target=loop.run_forever, name="llm_net-models", daemon=True)
            thread.start()
            _background[process] = loop
            atexit.register(_stop, process, loop, thread)
        return loop


def _stop(process: int, loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    if process == os.getpid():
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=1)


async def within(answer: Awaitable[T], *, timeout: float | None, who: str) -> T:
    """Await an answer, but no longer than `timeout` seconds of this loop's time.

    Raises:
        ModelCallError: If the time is over.
    """
    limit = asyncio.timeout(timeout)
    try:
        async with limit:
            return await answer
    except TimeoutError:
        if not limit.expired():  # the answer itself is a TimeoutError
            raise
    raise _too_late(who, timeout)


def wait(future: Future[T], *, timeout: float | None, who: str) -> T:
    """Block until a future is done, but no longer than `timeout` seconds.

    Raises:
        ModelCallError: If the time is over.
    """
    author = AUTHOR.get()
    if author is not None:
        author.wait_outside(future)
    try:
        return future.result(timeout)
    except TimeoutError:
        if future.done():  # the answer itself is a TimeoutError
            raise
    finally:
        future.cancel()  # late, or interrupted from the keyboard: nobody waits any more
    raise _too_late(who, timeout)


async def await_future(future: Future[T], *, timeout: float | None, who: str) -> T:
    """Await a future, but no longer than `timeout` true seconds.

    Raises:
        ModelCallError: If the time is over.
    """
    if timeout is not None:

        async def limited() -> T:
            return await within(asyncio.wrap_future(future), timeout=timeout, who=who)

        return await _await_here(in_background(limited()))
    return await _await_here(future)


async def _await_here(future: Future[T]) -> T:
    """Await a future in whatever loop; one on virtual time lets answers in in order of asking."""
    in_order: Callable[[Future[T]], Awaitable[T]] | None
    in_order = getattr(asyncio.get_running_loop(), "from_outside", None)
    return await (asyncio.wrap_future(future) if in_order is None else in_order(future))


def call(function: Callable[[], T], *, timeout: float | None, who: str) -> T:
    """Make a blocking call; with a timeout, in a thread, so that the wait can end before it."""
    author = AUTHOR.get()
    if timeout is None and (author is None or not author.one_at_a_time):
        return function()
    return wait(in_thread(function), timeout=timeout, who=who)


async def acall(function: Callable[[], T], *, timeout: float | None, who: str) -> T:
    """Make a blocking call beside the event loop."""
    return await await_future(in_thread(function), timeout=timeout, who=who)


def run_coroutine(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run somebody's coroutine to its end from blocking code, also beside a running loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    return in_thread(lambda: asyncio.run(coroutine)).result()


def _too_late(who: str, timeout: float | None) -> ModelCallError:
    error = ModelCallError(
        f"{who} gave no answer within {timeout:g} s, the timeout of this call. "
        "If one comes later, it is thrown away. "
        "Raise timeout=, or ask for less (a shorter prompt, a smaller max_tokens=)."
    )
    error.passing = True
    return error
