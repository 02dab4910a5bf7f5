"""Room for Python's garbage collector while many agents plan at the same time.

Bridge, floor 0. It looks at all young objects each time 700 have been made (2,000 since Python
3.13), and a plan under way is about 50. So while a thousand plans begin it goes through all of them
again and again, and then through the whole process, and finds nothing: this took as long as all
else of the step. With room for what the plans hold it still runs, and is bounded, but not for them.
"""

from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import Generator

__all__ = ["OBJECTS_PER_AGENT", "room_for"]

OBJECTS_PER_AGENT = 100
"""Young objects that each agent may make before they are looked at."""


class _Room:
    """Shared by all activations of the process: the collector is."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.open = 0
        self.before = 0
        self.given = 0


_room = _Room()


@contextlib.contextmanager
def room_for(agents: int) -> Generator[None]:
    """Let the collector wait for so many agents' objects, as long as the block lasts.

    The threshold of the youngest generation is raised, never lowered, and put back at the end of
    the last block, unless somebody else has set it meanwhile. A collector that is switched off
    stays off.
    """
    with _room.lock:
        young, *older = gc.get_threshold()
        if not _room.open:
            _room.before = _room.given = young
        _room.open += 1
        wanted = agents * OBJECTS_PER_AGENT
        if 0 < young == _room.given < wanted:
            _room.given = wanted
            gc.set_threshold(wanted, *older)
    try:
        yield
    finally:
        with _room.lock:
            _room.open -= 1
            young, *older = gc.get_threshold()
            if not _room.open and young == _room.given:
                gc.set_threshold(_room.before, *older)
