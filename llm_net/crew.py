"""The threads of one class of event-loop actors, and what keeps the engine open for its actors.

Floor 2. As in `workers`, there are as many threads as there are calls that block at this moment:
a bound would let actors that ask each other wait for a thread that the asker holds.

Invariant: while an actor of the class lives, the engine is open, and at least one thread of the
class's name exists, if the class wants one: ready to run the actors' sync code, and, unless it is a
daemon, keeping the program from ending, as Pykka's actors do. When the last actor has gone, all of
them have ended.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from itertools import count
from queue import Empty, SimpleQueue
from types import SimpleNamespace
from typing import Any

from llm_net.runtime import shared_runtime

__all__ = ["Crew", "crew_of"]

IDLE_S = 10.0
Job = Callable[[], None]

_numbers = count()


class _Hand:
    """One thread of a crew."""

    def __init__(self, crew: Crew, patience: float | None) -> None:
        self.jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._idle = crew.idle
        self._patience = patience
        self.thread = threading.Thread(
            target=self._run, name=f"{crew.name}-{next(_numbers)}", daemon=crew.daemon
        )
        self.thread.start()

    def _run(self) -> None:
        while True:
            try:
                job = self.jobs.get(timeout=self._patience)
            except Empty:
                try:
                    self._idle.remove(self)
                except ValueError:
                    continue  # taken off the list: a job is on its way
                return
            if job is None:
                return
            job()


class Crew:
    """The threads of one class, and its live actors.

    Attributes:
        name: The class's name, which the threads' names begin with.
        daemon: Whether the program may end while actors of the class live.
        idle: The threads that wait for a job.
        node: Says to the runtime, which asks its roots, that this one has no name.
    """

    node = SimpleNamespace(name=None)

    def __init__(self, name: str, *, daemon: bool) -> None:
        self.name = name
        self.daemon = daemon
        self.idle: list[_Hand] = []
        self.runtime = shared_runtime()
        self.engine = self.runtime.engine
        self._lock = threading.Lock()
        self._members: set[Any] = set()

    def tree(self) -> tuple[()]:
        """The cells that the runtime is to count: none, for these messages are Pykka's."""
        return ()

    def join(self, member: Any, *, waits: bool) -> None:
        """An actor begins to live; any thread.

        Args:
            member: What is to be held until it leaves.
            waits: Whether a thread is to be there from the beginning.
        """
        with self._lock:
            if not self._members:
                self.runtime.enter(self)
                try:
                    if waits:
                        self.idle.append(_Hand(self, None))
                except BaseException:
                    self.runtime.leave(self)
                    raise
            self._members.add(member)

    def leave(self, member: Any) -> None:
        """An actor has gone, and its sync code has returned; by the engine's owner."""
        with self._lock:
            self._members.remove(member)
            if self._members:
                return
            ending: list[_Hand] = []
            while self.idle:
                hand = self.idle.pop()
                hand.jobs.put(None)
                ending.append(hand)
            for hand in ending:
                hand.thread.join()
            self.runtime.leave(self)

    def submit(self, job: Callable[[Callable[[], None]], None]) -> None:
        """Run the job on a thread; by the engine's owner.

        The job must not raise. It is given a function to call when it is about to end, before it
        reports its result: the next job then finds this thread idle instead of starting another.
        """
        try:
            hand = self.idle.pop()
        except IndexError:
            hand = _Hand(self, IDLE_S)
        hand.jobs.put(lambda: job(lambda: self.idle.append(hand)))


_crews: weakref.WeakKeyDictionary[type, dict[bool, Crew]] = weakref.WeakKeyDictionary()
_founding = threading.Lock()


def crew_of(kind: type, *, daemon: bool) -> Crew:
    """The one crew of this class; a class whose threads' kind is changed later gets another."""
    with _founding:
        crews = _crews.setdefault(kind, {})
        crew = crews.get(daemon)
        if crew is None:
            crew = crews[daemon] = Crew(kind.__name__, daemon=daemon)
        return crew
