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
Job = Callable[[Callable[[], None]], None]

_numbers = count(1)


class _Worker:
    def __init__(self, pool: Workers) -> None:
        self.jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._pool = pool
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
                    self._pool.idle.remove(self)
                except ValueError:
                    continue  # the engine took us off the list: a job is on its way
                return
            if job is None:
                return
            job(self._rest)

    def _rest(self) -> None:
        if self._pool.closed:
            self.jobs.put(None)
        else:
            self._pool.idle.append(self)


class Workers:
    """A pool that grows with need.

    Attributes:
        idle: Who waits for a job, the latest last: it is the next to get one.
        closed: Whether there will be no more jobs.
    """

    def __init__(self) -> None:
        self.idle: list[_Worker] = []
        self.closed = False
        self._all: list[_Worker] = []

    def submit(self, job: Job) -> None:
        """Run the job on a thread; by the owner of the engine only.

        The job must not raise. It is given a function to call when it is about to end, before it
        reports its result: the next job then finds this thread idle instead of starting another.
        """
        try:
            worker = self.idle.pop()
        except IndexError:
            self._all = [worker for worker in self._all if worker.thread.is_alive()]
            worker = _Worker(self)
            self._all.append(worker)
        worker.jobs.put(job)

    def close(self) -> None:
        """End the idle threads and wait for them; a busy one ends when its handler returns."""
        self.closed = True
        self.rest()

    def rest(self) -> None:
        """End the idle threads and wait for them; new ones are started when there are jobs."""
        resting: list[_Worker] = []
        while self.idle:
            worker = self.idle.pop()
            worker.jobs.put(None)
            resting.append(worker)
        for worker in resting:
            worker.thread.join()
