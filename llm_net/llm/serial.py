"""One at a time, for state that finalizers change too.

Model tower, floor 0. Whoever leaves a stream, or a coroutine that nobody awaits any more, without
closing it, has it closed by the garbage collector: its `finally` then runs in the middle of
whatever the thread was doing. If that was under a plain lock, and the `finally` wants the lock, the
thread waits for itself for ever; under a re-entrant one, it changes what is being changed.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

__all__ = ["Serial"]


class Serial:
    """A lock (`with serial:`), and a door for those who must not wait for it (`soon`).

    What `soon` is given runs at once if the lock is free, else as soon as it is: whoever has it
    runs it on leaving, and whoever takes it next, before anything else. Only code that never runs
    in a finalizer may take the lock itself.
    """

    __slots__ = ("_lock", "_waiting")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[Callable[[], object]] = deque()

    def soon(self, call: Callable[[], object]) -> None:
        """Run this under the lock, soon; it must not raise."""
        self._waiting.append(call)
        self._settle()

    def __enter__(self) -> None:
        self._lock.acquire()
        self._run()

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        self._settle()

    def _settle(self) -> None:
        # Again after each release: what came while it was held was left to us.
        while self._waiting and self._lock.acquire(blocking=False):
            try:
                self._run()
            finally:
                self._lock.release()

    def _run(self) -> None:
        while self._waiting:
            self._waiting.popleft()()
