"""Where the engine's thread sleeps, and how another thread stands in for it meanwhile.

Floor 1. The thread of an event loop sleeps in its selector. Whoever brings it something to do would
wake it, and that takes two switches of threads. As long as it sleeps, another thread may do it in
its place.

Invariant: the loop's thread leaves the selector only when nobody stands in for it.
"""

from __future__ import annotations

import asyncio
import selectors
import sys
import threading
from collections.abc import Callable

__all__ = ["Parking", "new_loop"]


class Parking(selectors.DefaultSelector):
    """A selector in which a loop's thread sleeps.

    Attributes:
        asleep: Whether it does; it wants to go on as soon as this is False.
    """

    def __init__(self) -> None:
        super().__init__()
        self.asleep = False
        self._deputy = threading.Lock()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait for events; the loop calls it."""
        self.asleep = True
        try:
            return super().select(timeout)
        finally:
            self.asleep = False
            self._until_alone()

    def _until_alone(self) -> None:
        interrupt: KeyboardInterrupt | None = None
        while True:
            try:
                with self._deputy:
                    break
            except KeyboardInterrupt as raised:  # not before we are alone again
                interrupt = raised
        if interrupt is not None:
            raise interrupt

    def stand_in(self, call: Callable[[], None]) -> bool:
        """Make this call while the loop's thread sleeps; False if it does not.

        Any other thread. The call is to end soon after the loop's thread wants to go on.
        """
        if not self.asleep or not self._deputy.acquire(blocking=False):
            return False
        try:
            if not self.asleep:
                return False
            call()
        finally:
            self._deputy.release()
        return True


def new_loop() -> tuple[asyncio.AbstractEventLoop, Parking | None]:
    """An event loop, and where it sleeps; None where loops of the platform do not tell."""
    if sys.platform == "win32":
        return asyncio.new_event_loop(), None
    parking = Parking()
    return asyncio.SelectorEventLoop(parking), parking
