"""Threads for handlers that may block.

Floor 1. As many as there are handlers that block at this moment: a bound would let handlers that
ask each other wait for a thread that the asker holds. An idle thread ends after some seconds.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import count
from queue import Empty, SimpleQueue

__all__ = ["Workers"]

IDLE_S = 10.0
Job = Callable[[], None]

_numbers = count(1)


class _Worker:
    def __init__(self, idle: list[_Worker]) -> None:
        self.jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._idle = idle
        # A daemon, so that a handler which never returns cannot hold the process.
        self.thread = threading.Thread(
            target=self._run, name=f"llm_net-worker-{next(_numbers)}", daemon=True
        )
        self.thread.start()

    def _run(self) -> None:
        while True:
            try:
                job = self.jobs.get(timeout=IDLE_S)
            except Empty:
                try:
                    self._idle.remove(self)
                except ValueError:
                    continue  # the engine took us off the list: a job is on its way
                return
            if job is None:
                return
            job()


class Workers:
    """A pool that grows with need."""

    def __init__(self) -> None:
        self._idle: list[_Worker] = []
        self._all: list[_Worker] = []
        self._closed = False

    def submit(self, job: Callable[[Callable[[], None]], None]) -> None:
        """Run the job on a thread; called by the engine's thread only.

        The job must not raise. It is given a function to call when it is about to end, before it
        reports its result: the next job then finds this thread idle instead of starting another.
        """
        try:
            worker = self._idle.pop()
        except IndexError:
            self._all = [worker for worker in self._all if worker.thread.is_alive()]
            worker = _Worker(self._idle)
            self._all.append(worker)
        worker.jobs.put(lambda: job(lambda: self._rest(worker)))

    def close(self) -> None:
        """End the idle threads and wait for them; a busy one ends when its handler returns."""
        self._closed = True
        resting: list[_Worker] = []
        while self._idle:
            worker = self._idle.pop()
            worker.jobs.put(None)
            resting.append(worker)
        for worker in resting:
            worker.thread.join()

    def _rest(self, worker: _Worker) -> None:
        if self._closed:
            worker.jobs.put(None)
        else:
            self._idle.append(worker)
