"""The future of an `EventLoopActor`: cheap to make, to block on and to await.

Floor 2. Keeps to the contract of `pykka.ThreadingFuture`, and adds what an event loop needs.

Invariant: it is settled once, by any thread; `await` never blocks the loop it runs on, and `get()`
never blocks the loop that the actors live on.
"""

from __future__ import annotations

import asyncio
import queue
import sys
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar, cast

import pykka

from llm_net.errors import UsageError
from llm_net.runtime import shared_runtime

__all__ = ["EventLoopFuture", "after", "refuse_to_block"]

T = TypeVar("T")
Wake = Callable[[], None]


class EventLoopFuture(pykka.Future[T]):
    """The answer to come: `get()` blocks for it, `await` awaits it in any running event loop."""

    _sources: tuple[pykka.Future[Any], ...] = ()
    """What the get hook waits for, if that is known."""

    def __init__(self) -> None:
        super().__init__()
        # No Condition: most futures are settled before anybody blocks, or are awaited.
        self._guard = threading.Lock()
        self._outcome: tuple[Any, Any] | None = None
        self._waiting: list[Wake] | None = None

    # -- Pykka's contract

    def get(self, *, timeout: float | None = None) -> Any:
        """Block until the answer is there.

        Raises:
            pykka.Timeout: If it takes longer than `timeout` seconds.
            UsageError: If this would block the event loop that the actors live on.
        """
        if self._get_hook is not None:
            if not self._acquire(self._guard, timeout):
                raise pykka.Timeout(f"{timeout} seconds")
            try:
                return super().get(timeout=timeout)
            finally:
                self._guard.release()
        if self._outcome is None:
            gate = threading.Lock()
            gate.acquire()
            if self._wake(gate.release):
                try:
                    self._acquire(gate, timeout)
                finally:
                    self._forget(gate.release)
        return self._result(timeout)

    def set(self, value: T | None = None) -> None:
        """The answer is there.

        Raises:
            queue.Full: If there is one already, or a get hook that gives it.
        """
        self._settle((value, None))

    def set_exception(self, exc_info: Any = None) -> None:
        """The answer is an exception: this one, or the one being handled.

        Raises:
            queue.Full: If there is an answer already, or a get hook that gives it.
        """
        info = exc_info or sys.exc_info()
        if info[0] is None:
            msg = "set_exception() was called without an exception, and none is being handled."
            raise UsageError(msg)
        self._settle((None, info))

    def set_get_hook(self, func: Callable[[float | None], T]) -> None:
        """Have the answer be made by this function when it is first asked for.

        Raises:
            queue.Full: If there is an answer already.
        """
        with self._guard:
            if self._outcome is not None:
                raise queue.Full
            super().set_get_hook(func)

    def filter(self, func: Callable[[Any], bool]) -> pykka.Future[Iterable[Any]]:
        """See `pykka.Future.filter`."""
        return after(cast("Any", super()).filter(func), self)

    def join(self, *futures: pykka.Future[Any]) -> pykka.Future[Iterable[Any]]:
        """See `pykka.Future.join`."""
        return after(super().join(*futures), self, *futures)

    def map(self, func: Callable[[T], Any]) -> pykka.Future[Any]:
        """See `pykka.Future.map`."""
        return after(super().map(func), self)

    def reduce(self, func: Callable[[Any, Any], Any], *args: Any) -> pykka.Future[Any]:
        """See `pykka.Future.reduce`."""
        return after(cast("Any", super()).reduce(func, *args), self)

    # -- await

    def __await__(self) -> Generator[Any, None, T]:
        if not _loop_runs_here():
            return super().__await__()  # somebody else's scheduler: as with any Pykka future
        return self._answer().__await__()

    __iter__ = __await__

    async def _answer(self) -> Any:
        if self._get_hook is not None:
            if not self._sources:
                return await _beside(self.get)  # nobody knows how long a foreign hook blocks
            for source in self._sources:
                with suppress(Exception):  # the hook meets it again, and knows what to do with it
                    await (source if isinstance(source, EventLoopFuture) else _beside(source.get))
        elif self._outcome is None:
            loop = asyncio.get_running_loop()
            woken = loop.create_future()
            wake = partial(_tell, loop, woken)
            if self._wake(wake):
                try:
                    await woken
                finally:
                    self._forget(wake)
        return self.get()

    # -- settling

    def _settle(self, outcome: tuple[Any, Any]) -> None:
        if self._get_hook is not None:
            raise queue.Full
        with self._guard:
            if self._outcome is not None:
                raise queue.Full
            self._outcome = outcome
            waiting, self._waiting = self._waiting, None
        for wake in waiting or ():
            wake()

    def _wake(self, wake: Wake) -> bool:
        """Have this called once the answer is there; False if it is there already."""
        with self._guard:
            if self._outcome is not None:
                return False
            if self._waiting is None:
                self._waiting = []
            self._waiting.append(wake)
            return True

    def _forget(self, wake: Wake) -> None:
        with self._guard:
            if self._waiting and wake in self._waiting:
                self._waiting.remove(wake)

    def _acquire(self, lock: threading.Lock, timeout: float | None) -> bool:
        """Wait for the lock, but never on the loop that the actors live on."""
        if lock.acquire(blocking=False):
            return True
        refuse_to_block()
        return lock.acquire(timeout=-1 if timeout is None else max(0.0, timeout))

    def _result(self, timeout: float | None) -> Any:
        if self._outcome is None:
            raise pykka.Timeout(f"{timeout} seconds")
        value, info = self._outcome
        if info is None:
            return value
        kind, error, trace = info
        # The traceback as it was set: else it would grow with each get.
        raise (kind() if error is None else error).with_traceback(trace)


def after(future: pykka.Future[T], *sources: pykka.Future[Any]) -> pykka.Future[T]:
    """Say what the future's get hook waits for, so that it can be awaited without a thread."""
    if isinstance(future, EventLoopFuture):
        future._sources = sources  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return future


def refuse_to_block() -> None:
    """Refuse to block the loop that the actors live on.

    Raises:
        UsageError: If this is that loop.
    """
    if shared_runtime().engine.owned:
        raise UsageError(
            "A blocking get() on the event loop that the actors live on would wait for ever: "
            "whoever is to answer needs that loop. Await the future instead "
            "(`await ref.ask(…, block=False)`, `await proxy.method()`), or let the class's sync "
            "methods run on threads (blocking = True)."
        )


async def _beside(call: Callable[[], T]) -> T:
    """What a blocking call gives, made on a thread of its own: a bounded pool could dead-lock."""
    made: EventLoopFuture[T] = EventLoopFuture()

    def run() -> None:
        try:
            made.set(call())
        except BaseException:  # noqa: BLE001 - whoever awaits gets it
            made.set_exception()

    threading.Thread(target=run, name="llm_net-await", daemon=True).start()
    return await made


def _tell(loop: asyncio.AbstractEventLoop, woken: asyncio.Future[None]) -> None:
    """Wake what awaits on this loop; any thread."""

    def wake() -> None:
        if not woken.done():
            woken.set_result(None)

    if asyncio._get_running_loop() is loop:  # noqa: SLF001 - unlike the public word, it never raises
        wake()
    else:
        with suppress(RuntimeError):  # that loop has closed: nobody awaits there any more
            loop.call_soon_threadsafe(wake)


def _loop_runs_here() -> bool:
    return asyncio._get_running_loop() is not None  # noqa: SLF001
