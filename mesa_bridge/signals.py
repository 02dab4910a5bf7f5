"""Signals: one side waits, once, and the other opens, from whatever thread.

Bridge, floor 0.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Protocol

__all__ = ["Awaiting", "Blocking", "Calling", "Signal"]


class Signal(Protocol):
    """Something that one side waits for, once, and the other opens, from any thread."""

    def open(self) -> None:
        """Let the other side go on; again does nothing."""
        ...


class Blocking(Signal):
    """A signal for which a thread waits."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()  # a third of an Event's price
        self._lock.acquire()

    def open(self) -> None:
        """Let the other side go on; again does nothing."""
        with contextlib.suppress(RuntimeError):
            self._lock.release()

    def wait(self) -> None:
        """Block until it is open."""
        self._lock.acquire()


class Awaiting(Signal):
    """A signal for which a coroutine waits, in the event loop in which it is made."""

    __slots__ = ("_is_open", "_loop", "_thread", "_waiter")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._is_open = False
        self._waiter: asyncio.Future[None] | None = None

    def open(self) -> None:
        """Let the other side go on; again does nothing."""
        if threading.get_ident() == self._thread:
            self._open_here()
        else:
            with contextlib.suppress(RuntimeError):  # a loop of the agent's own, closed by now
                self._loop.call_soon_threadsafe(self._open_here)

    def warm(self) -> None:
        """Let the event loop look soon whether this is open; only in its thread.

        Opening wakes who waits in the next turn of the loop. Where many are to be opened one after
        the other, each when the one before has gone on, warming all first makes that one turn for
        all and not one for each.
        """
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _open_here(self) -> None:
        self._is_open = True
        self.warm()

    async def wait(self) -> asyncio.CancelledError | None:
        """Wait until it is open, also if cancelled meanwhile; that is given back, to be raised.

        A timeout of the agent's own must not set its code free while it is another's turn.
        """
        cancelled: asyncio.CancelledError | None = None
        while not self._is_open:
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            except asyncio.CancelledError as error:
                cancelled = error
        return cancelled


class Calling(Signal):
    """A signal that calls a function in an event loop; at once, if opened in its thread."""

    __slots__ = ("_function", "_loop", "_thread")

    def __init__(self, loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
        self._loop = loop
        self._thread = threading.get_ident()
        self._function = function

    def open(self) -> None:
        """Let the other side go on; again does nothing."""
        if threading.get_ident() == self._thread:
            self._function()
        else:
            self._loop.call_soon_threadsafe(self._function)
