"""The threads and event loops on which agents are stepped: as few as needed, kept for later steps.

Bridge, floor 0. An event loop lasts as long as the process, so that what an agent keeps open in it
(a connection, a lock) is still good in the next step. A turn that activates agents itself waits for
them, and so does the loop it runs in; therefore every depth of nesting has a loop of its own.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from queue import Empty, SimpleQueue

__all__ = ["Loop", "loop_at", "submit"]

IDLE_S = 10.0
Job = Callable[[], object]

_idle: list[SimpleQueue[Job]] = []
_loops: dict[int, Loop] = {}
_lock = threading.Lock()
_numbers = count(1)


def submit(job: Job) -> None:
    """Run a job, which does not raise, on a thread; there are as many as there are jobs."""
    try:
        jobs = _idle.pop()
    except IndexError:
        jobs = SimpleQueue[Job]()
        # The name says that the thread is ours, and what is raised there nobody's keyboard. It is
        # made without the job, since a thread holds what it was made with as long as it lives.
        name = f"llm_net-stepping-{next(_numbers)}"
        threading.Thread(target=_work, args=(jobs,), name=name, daemon=True).start()
    jobs.put(job)


def _work(jobs: SimpleQueue[Job]) -> None:
    job: Job | None = jobs.get()
    while job is not None:
        job()
        job = None  # what it holds is not held while this thread is idle
        _idle.append(jobs)
        try:
            job = jobs.get(timeout=IDLE_S)
        except Empty:
            try:
                _idle.remove(jobs)
            except ValueError:
                job = jobs.get()  # taken off the list in this moment: a job is on its way


class Loop:
    """An event loop with a thread of its own."""

    def __init__(self, depth: int) -> None:
        self.loop = asyncio.new_event_loop()
        # Agents wait for each other, also those in `asyncio.to_thread`: no bound that matters.
        executor = ThreadPoolExecutor(1 << 16, thread_name_prefix="llm_net-stepping-blocking")
        self.loop.set_default_executor(executor)
        self.thread = threading.Thread(
            target=self.loop.run_forever, name=f"llm_net-stepping-loop-{depth}", daemon=True
        )
        self.thread.start()

    @property
    def is_here(self) -> bool:
        """Whether this is its thread."""
        return threading.current_thread() is self.thread

    def close(self) -> None:
        """End the loop, if nothing keeps its thread busy."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(timeout=1)
        if not self.thread.is_alive():
            self.loop.close()


def loop_at(depth: int) -> Loop:
    """The loop for activations at this depth of nesting; another if that is the one we are in."""
    with _lock:
        while depth in _loops and _loops[depth].is_here:
            depth += 1  # we were told wrong: somebody ran us without the context of the turn
        if depth not in _loops:
            _loops[depth] = Loop(depth)
        return _loops[depth]


def _forget() -> None:
    # A forked child has copies of these, and none of the threads.
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()
    _idle.clear()
    _loops.clear()


def _close() -> None:
    for each in _loops.values():
        with contextlib.suppress(RuntimeError):
            each.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
atexit.register(_close)
