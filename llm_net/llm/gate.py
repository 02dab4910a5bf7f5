"""A door through which so many may be at once: callers on any thread and in any event loop.

Model tower, floor 0. `asyncio.Semaphore` belongs to one loop and `threading.Semaphore` blocks it,
so neither can count the calls of a process. Invariant: as long as somebody stands in line, no place
is free; who leaves hands the place to the first in line, and wakes nobody else.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from llm_net.llm.serial import Serial

__all__ = ["Enter", "Gate"]

Wake = Callable[[], bool]
"""Tells who stands in line that the place is theirs; False if nobody is there any more."""


class Gate:
    """Lets `places` callers in at once, first come, first served."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._serial = Serial()
        # Ordered by coming; one who gives up leaves the middle of the line as cheaply as its head.
        self._line: OrderedDict[object, Wake] = OrderedDict()

    def enter(self, timeout: float | None) -> bool:
        """Wait for a place, blocking; False if none came within the time."""
        if self._enter_free():
            return True
        mine = threading.Lock()
        mine.acquire()

        def wake() -> bool:
            mine.release()
            return True

        if self._line_up(mine, wake):
            return True
        try:
            if mine.acquire(timeout=-1 if timeout is None else max(timeout, 0)):
                return True
        except BaseException:  # interrupted from the keyboard
            self._serial.soon(partial(self._abandon, mine))
            raise
        return not self._give_up(mine)

    async def aenter(self, timeout: float | None) -> bool:
        """Await a place; False if none came within the time."""
        if self._enter_free():
            return True
        loop = asyncio.get_running_loop()
        mine: asyncio.Future[None] = loop.create_future()
        if self._line_up(mine, partial(_tell, loop, mine)):
            return True
        try:
            # Not wait_for: whether the place came although the time is over, the line knows best.
            await asyncio.wait((mine,), timeout=timeout) if timeout is not None else await mine
        except BaseException:  # cancelled, or closed by the garbage collector
            self._serial.soon(partial(self._abandon, mine))
            raise
        return mine.done() or not self._give_up(mine)

    def leave(self) -> None:
        """Hand the place on."""
        self._serial.soon(self._hand_on)

    def _hand_on(self) -> None:
        while self._line:
            _, wake = self._line.popitem(last=False)
            if wake():
                return
        self._free += 1

    def _enter_free(self) -> bool:
        with self._serial:
            if not self._free:
                return False
            self._free -= 1
            return True

    def _line_up(self, who: object, wake: Wake) -> bool:
        """Stand in line; True if a place came free meanwhile."""
        with self._serial:
            if self._free:
                self._free -= 1
                return True
            self._line[who] = wake
            return False

    def _give_up(self, who: object) -> bool:
        """Leave the line; False if the place has come."""
        with self._serial:
            return self._line.pop(who, None) is not None

    def _abandon(self, who: object) -> None:
        if self._line.pop(who, None) is None:
            self._hand_on()


@dataclass(frozen=True, slots=True)
class Enter:
    """A step: wait for a place at a gate; gives whether it came in time."""

    gate: Gate
    timeout: float | None

    def run(self) -> bool:
        """Wait, blocking."""
        return self.gate.enter(self.timeout)

    async def arun(self) -> bool:
        """Await it."""
        return await self.gate.aenter(self.timeout)


def _tell(loop: asyncio.AbstractEventLoop, mine: asyncio.Future[None]) -> bool:
    def wake() -> None:
        if not mine.done():
            mine.set_result(None)

    if asyncio._get_running_loop() is loop:  # noqa: SLF001 - unlike the public word, it never raises
        wake()
        return True
    try:
        loop.call_soon_threadsafe(wake)
    except RuntimeError:  # that loop has closed
        return False
    return True
