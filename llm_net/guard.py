"""Told so: handlers of a strict deterministic run that reach for a real clock or for luck.

Floor 2. Only while such a run goes on, and only for code that runs in one of its turns, the
functions of `time`, `random`, `uuid` and `os` that no seed decides raise. Everybody else's calls
pass through, and those of the standard library itself (logging writes the time of its records).

Best effort: what C code reads by itself, `datetime.now()` for one, is not seen, nor is a function
that was imported by its name before.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
import uuid
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from llm_net.errors import NonDeterminismError
from llm_net.turn import current_turn

__all__ = ["guarded"]

CLOCKS = "time time_ns monotonic monotonic_ns perf_counter perf_counter_ns sleep"
LUCK = (
    "random randint randrange uniform choice choices sample shuffle gauss normalvariate "
    "expovariate betavariate triangular getrandbits randbytes"
)
WATCHED: tuple[tuple[ModuleType, str, str], ...] = (
    (time, CLOCKS, "self.now() and `await self.sleep(…)`"),
    (random, LUCK, "self.random"),
    (uuid, "uuid1 uuid4", "self.random, or the ids of messages"),
    (os, "urandom", "self.random"),
)

_lock = threading.Lock()
_entered = 0
_originals: list[tuple[ModuleType, str, Any]] = []


@contextmanager
def guarded(strict: bool) -> Generator[None, None, None]:  # noqa: FBT001 - the one argument
    """Watch while a strict run is driven."""
    if not strict:
        yield
        return
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _entered  # noqa: PLW0603 - several strict runs share one watch
    with _lock:
        _entered += 1
        if _entered == 1:
            for module, names, instead in WATCHED:
                for name in names.split():
                    original = getattr(module, name)
                    _originals.append((module, name, original))
                    setattr(module, name, _watched(f"{module.__name__}.{name}", original, instead))


def _leave() -> None:
    global _entered  # noqa: PLW0603
    with _lock:
        _entered -= 1
        if _entered == 0:
            while _originals:
                module, name, original = _originals.pop()
                setattr(module, name, original)


def _watched(name: str, original: Callable[..., Any], instead: str) -> Callable[..., Any]:
    def watched(*args: Any, **kwargs: Any) -> Any:
        turn = current_turn()
        # Threads that work for a turn elsewhere, a model's for one, are free to look at the clock.
        if (
            turn is not None
            and getattr(turn.runtime, "strict", False)
            and turn.runtime.engine.still
        ):
            caller = sys._getframe(1).f_globals.get("__name__", "")  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
            package = caller.partition(".")[0]
            ours = package in sys.stdlib_module_names or package == "llm_net"
            if not ours or package == "__main__":
                path = turn.cell.node.path
                raise NonDeterminismError(
                    f"A handler of {path!r} calls {name}(), which no seed decides, in a strict "
                    f"deterministic run. Use {instead}."
                )
        return original(*args, **kwargs)

    return watched
