"""The engine: the one thread that owns mailboxes, counts and turns, and the loop it drives.

Floor 1. Invariant: whatever delivery touches is touched by the owner's thread only; every other
thread posts a call. The owner is the loop's thread (hosts `thread` and `loop`) or whoever pumps
(host `inline`).
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Literal, Protocol

from llm_net.errors import UsageError
from llm_net.parking import Parking, new_loop
from llm_net.workers import Workers

__all__ = ["Engine", "Host", "Pending", "Ready", "Signal", "blocks_itself", "close_loop"]

log = logging.getLogger("llm_net")

Host = Literal["thread", "loop", "inline"]

# Sockets and timers get a turn at least this often, whatever the flood of messages.
SLICE_S = 0.001
GRACE_S = 1.0
"""Seconds in which a thread that has closed the engine tells those who wait."""
LOOKS = 8
"""Cells served between two looks at the clock."""
NESTED = 8
"""How deep coroutines that wait may serve inside of each other."""


class Ready(Protocol):
    """A cell with mail; `serve` begins turns, or says False: it needs the running loop."""

    @property
    def light(self) -> bool:
        """Whether a thread that stands in for the loop's may serve it."""
        ...

    def serve(self) -> bool:
        """Begin turns; False if the next one needs the running loop, or its thread."""
        ...


class Light:
    """A call to the engine that may need nothing but the engine's own data."""

    __slots__ = ()

    @property
    def light(self) -> bool:
        """Whether it does: no loop, and no code of the user's; asked right before the call."""
        raise NotImplementedError

    def __call__(self) -> object:
        """Make it."""
        raise NotImplementedError


class Pending(Protocol):
    """Something that is waited for."""

    @property
    def done(self) -> bool:
        """Whether it is there."""
        ...


class Engine:
    """Drives cells on an asyncio event loop.

    Attributes:
        host: Who drives: a thread of the engine's own, the loop that ran already, or a pump.
        loop: The event loop, once open.
        thread: The owner's thread id while there is one, else None.
        ready: The cells that have mail, in the order in which they got it.
        awake: Whether the ready cells will be served without a further call to `wake`.
        held: Tasks, timers and worker turns that only the running loop can bring on.
        context: The context in which the owner makes turns.
        deputized: Whether the owner is a thread that stands in for the loop's: it may touch
            whatever an owner may, but the loop, and run nothing of the user's.
        patient: Whether handlers on threads are waited for, however long they take.
    """

    patient = False
    eager = sys.version_info >= (3, 12)
    """Whether tasks take their first step at once: one that never waits costs no round then."""

    def __init__(self, host: Host) -> None:
        if host not in ("thread", "loop", "inline"):
            msg = f"host={host!r} is no host: give 'thread', 'loop' or 'inline'."
            raise UsageError(msg)
        self.host: Host = host
        self.loop: asyncio.AbstractEventLoop | None = None
        self.thread: int | None = None
        self.ready: deque[Ready] = deque()
        self.awake = False
        self.held = 0
        self.looping = False
        self.deputized = False
        self.workers = Workers()
        self._parking: Parking | None = None
        self._own: threading.Thread | None = None
        self._posted: deque[Callable[[], object]] = deque()
        self._signalled = False
        """Whether the loop has been told that calls were posted, and has not come to it yet."""
        self._due = False
        """Whether the loop is to serve in its next round; one request is enough."""
        self._opened = threading.Lock()
        # Held by whoever makes posted calls: the engine's own thread as long as it lives, or, while
        # the engine is closed, a thread that posts.
        self._admitting = threading.RLock()
        self._pumping = threading.Lock()
        self._waiting: set[Signal] = set()
        # The engine's turns set context variables; they must not leak into the caller's context.
        self.context = contextvars.copy_context()
        self._depth = 0

    # -- life

    def open(self) -> None:
        """Be ready to serve: take the running loop, or make one and, for `thread`, start it.

        Raises:
            UsageError: If the host is `loop` and no loop runs here.
        """
        with self._opened:
            if self.loop is not None:
                if self.host == "loop" and self.loop.is_closed():
                    self.loop = None  # the program ran another loop before; start over on this one
                else:
                    return
            self.workers = Workers()
            self._signalled = self._due = False
            if self.host == "loop":
                try:
                    self.loop = asyncio.get_running_loop()
                except RuntimeError:
                    msg = (
                        "Runtime(host='loop') was started where no event loop runs. Start it in "
                        "one (await agent.astart()), or use host='thread'."
                    )
                    raise UsageError(msg) from None
                self.thread = threading.get_ident()
                self.looping = True
            else:
                self.loop, self._parking = new_loop()
                if self.host == "thread":
                    self._own = threading.Thread(
                        target=self._run_own, args=(self.loop,), name="llm_net-engine", daemon=True
                    )
                    self._own.start()

    def close(self) -> None:
        """Serve no more; end the threads and the loop that are the engine's own."""
        with self._opened:
            loop, self.loop = self.loop, None
            self.workers.close()
            if loop is None:
                return
            if self.host == "thread":
                loop.call_soon_threadsafe(loop.stop)
            elif self.host == "loop":
                self.thread = None
                self.looping = False
            elif self.thread is None:
                close_loop(loop)
            elif self.looping:
                loop.stop()  # and whoever pumps closes it on leaving

    def join(self) -> None:
        """Wait until the thread of a closed engine has ended, unless we are that thread."""
        own = self._own
        if self.loop is None and own is not None and own is not threading.current_thread():
            own.join()

    def _run_own(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._admitting:  # the thread before this one may still be at the end of its work
            self.thread = threading.get_ident()
            self.looping = True
            try:
                while self.loop is loop:
                    # SystemExit in a task leaves run_forever; one agent's exit is not the engine's.
                    with contextlib.suppress(SystemExit, KeyboardInterrupt):
                        loop.call_soon(self._drain, context=self.context)
                        loop.run_forever()
                if self.loop is None:
                    self._admit()
            finally:
                # Even if the engine has been opened again: another thread may get this one's id.
                self.looping = False
                self.thread = None
                close_loop(loop)

    # -- calls from anywhere

    @property
    def closed(self) -> bool:
        """Whether the engine is not open."""
        return self.loop is None

    @property
    def owned(self) -> bool:
        """Whether the calling thread is the owner's."""
        return threading.get_ident() == self.thread

    @property
    def still(self) -> bool:
        """Whether nothing moves while the calling thread looks."""
        return self.owned or self.loop is None or self.thread is None

    def post(self, call: Callable[[], object]) -> None:
        """Have the owner make this call, after those posted before; from any thread."""
        self._posted.append(call)
        self._announce()

    def _announce(self) -> None:
        """See to it that posted calls are made."""
        # Whoever stands in for the owner looks again after it has left.
        if not (self._signalled or self.deputized):
            loop = self.loop
            if self.host == "inline" and self.thread is None and loop is not None:
                return  # nobody pumps, and the next pump looks first
            signalled = False
            try:
                self._signalled = True
                signalled = loop is not None and self._signal(loop)
            finally:
                if not signalled:  # interrupted, perhaps: the next call is to signal again
                    self._signalled = False
            if not signalled:
                self._admit_closed()

    def _signal(self, loop: asyncio.AbstractEventLoop) -> bool:
        try:
            loop.call_soon_threadsafe(self._look, context=self.context)
        except RuntimeError:  # closed between the look and the call
            return False
        return True

    def _admit_closed(self) -> None:
        """Make what was posted to a closed engine, or leave it to the owner if one comes."""
        while self._posted:
            loop = self.loop
            if loop is not None and self._signal(loop):
                return
            # The owner that was may have looked for calls for the last time, and not be gone yet.
            if self._admitting.acquire(timeout=0.01):
                try:
                    if self.loop is None:
                        self._admit()
                finally:
                    self._admitting.release()

    def settle(self, call: Light) -> None:
        """As `post`, by a thread with nothing else to do: while the owner sleeps, it stands in."""
        parking = self._parking
        if parking is None:
            self.post(call)
            return
        self._posted.append(call)
        if not parking.stand_in(self._deputize) or self._posted or self.ready:
            self._announce()

    def _deputize(self) -> None:
        """Be the owner, as far as that needs no loop, until the loop's thread wants to go on."""
        if self.loop is None:
            return
        owner, self.thread = self.thread, threading.get_ident()
        self.awake = self.deputized = True
        try:
            self.context.run(self._serve_lightly)
        except Exception:
            log.exception("A call to the engine raised; the engine goes on")
        finally:
            self.awake = bool(self.ready)
            self.deputized = False
            self.thread = owner

    def _serve_lightly(self) -> None:
        """Make calls and serve cells, up to the first that needs more than the engine's data."""
        posted, ready, parking = self._posted, self.ready, self._parking
        while parking is not None and parking.asleep:
            if posted:
                call = posted[0]
                if not isinstance(call, Light) or not call.light:
                    return
                posted.popleft()
                call()
            elif not ready or not ready[0].light:
                return
            else:
                cell = ready.popleft()
                if not cell.serve():
                    ready.appendleft(cell)
                    return

    def run(self, call: Callable[[], object]) -> None:
        """Make this call now if we are the owner, else post it."""
        if self.owned:
            call()
        else:
            self.post(call)

    def wait(self, done: Callable[[], bool], event: Signal, timeout: float | None) -> bool:
        """Block the calling thread until `done()`; `event` is set when that may have changed.

        Returns:
            Whether it is done; False if `timeout` seconds passed before.

        Raises:
            UsageError: If the caller is the engine's own loop, which would wait for itself.
        """
        if self.owned:
            raise blocks_itself()
        deadline = self._deadline(timeout)
        if self.host == "inline" and _loop_runs_here():
            # A loop cannot run inside another one on the same thread: pump on a thread beside it.
            outcome: list[bool] = []
            helper = threading.Thread(
                target=lambda: outcome.append(self._wait(done, event, deadline)),
                name="llm_net-pump",
                daemon=True,
            )
            helper.start()
            helper.join()
            return outcome[0] if outcome else False
        return self._wait(done, event, deadline)

    def clock(self) -> float:
        """Seconds, on the clock by which this engine waits."""
        return time.monotonic()

    def _deadline(self, timeout: float | None) -> float | None:
        return None if timeout is None else self.clock() + timeout

    def attend(self, done: Callable[[], bool]) -> None:
        """See to it that an inline engine is pumped until `done()`, though nobody waits here."""
        if self.host == "inline" and not self.closed:
            event = self.event()
            threading.Thread(
                target=self._wait, args=(done, event, None), name="llm_net-pump", daemon=True
            ).start()

    async def wait_beside(
        self, done: Callable[[], bool], event: Signal, timeout: float | None
    ) -> bool:
        """As `wait`, for a coroutine of a loop that runs elsewhere."""
        return await asyncio.to_thread(self._wait, done, event, self._deadline(timeout))

    def _wait(self, done: Callable[[], bool], event: Signal, deadline: float | None) -> bool:
        self._waiting.add(event)
        try:
            while not done():
                if deadline is not None and self.clock() >= deadline:
                    return False
                if self.host == "inline" and self.loop is None:
                    # Closed by another thread, which is about to say what came of it.
                    event.wait(GRACE_S)
                    if not done():
                        raise UsageError(
                            "The runtime has stopped, so there is nothing to wait for."
                        )
                    continue
                if self.host == "inline" and self._pumping.acquire(blocking=False):
                    try:
                        self._pump(done, deadline)
                    finally:
                        self._pumping.release()
                        if len(self._waiting) > 1:
                            for other in list(self._waiting):
                                other.set()  # somebody else may have to pump on
                    continue
                event.wait(None if deadline is None else deadline - self.clock())
            return True
        finally:
            self._waiting.discard(event)

    def event(self) -> Signal:
        """What to `wait` with."""
        return Signal(self)

    # -- the owner

    def wake(self) -> None:
        """See to it that ready cells are served; by the owner."""
        self.awake = True
        if self.looping:
            self._drain_soon()

    def _drain_soon(self) -> None:
        if self.loop is not None and not self._due:
            self.loop.call_soon(self._drain, context=self.context)
            self._due = True

    def cancel(self, task: asyncio.Task[Any], path: str) -> None:  # noqa: ARG002 - some name it
        """Cancel the task of a turn; by the owner."""
        task.cancel()

    def pass_on(self) -> None:
        """Let others go on, where a thread of ours could hold them up."""

    def wait_outside(self, answer: Future[Any]) -> None:
        """Let others go on while a thread waits for the world outside; elsewhere they do anyhow."""

    def interrupt(self) -> None:
        """Let a pump that runs the loop look whether it is done; by the owner."""
        if self.host == "inline" and self.looping and self.loop is not None:
            if self.deputized:
                self.loop.call_soon_threadsafe(self.loop.stop)
            else:
                self.loop.stop()

    def call_later(self, delay: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        """Make this call in `delay` seconds of the loop's clock; by the owner."""
        loop = self.loop
        if loop is None:
            msg = "The runtime has stopped, so nothing can be scheduled on it any more."
            raise UsageError(msg)
        return loop.call_later(delay, call, context=self.context)

    def _pump(self, done: Callable[[], bool], deadline: float | None) -> None:
        """Serve as the owner until `done()` or the deadline."""
        loop = self.loop
        if loop is None:
            return  # closed since the look; the next look says so
        self.thread = threading.get_ident()
        try:
            while not done() and self.loop is loop:
                if deadline is not None and self.clock() >= deadline:
                    return
                # While only sync handlers that do not block are at work, the loop is not needed,
                # and entering it costs more than an ask.
                if not self.held and self.context.run(self._serve):
                    continue
                if not done() and self.loop is loop:
                    self._run_loop(loop, deadline)
        finally:
            self.thread = None
            if self.loop is not loop and not loop.is_closed():
                close_loop(loop)

    def _run_loop(self, loop: asyncio.AbstractEventLoop, deadline: float | None) -> None:
        self.looping = True
        self.context.run(self._admit)  # what was posted comes before what waits in the loop
        timer = None
        if deadline is not None:
            timer = loop.call_later(max(0.0, deadline - time.monotonic()), loop.stop)
        self._drain_soon()
        try:
            loop.run_forever()
        finally:
            self.looping = False
            if timer is not None:
                timer.cancel()

    def _drain(self) -> None:
        """Serve for a slice of time; the loop calls it."""
        self._due = False
        if self.looping and self._serve():
            self._drain_soon()

    def _look(self) -> None:
        """Calls have been posted; the loop calls it."""
        self._signalled = False
        if not self._due:
            self._drain()

    def serve_until(self, pending: Pending) -> None:
        """Serve before a coroutine of the owner's loop suspends, for what it waits for may be near.

        By the owner, and for a slice of time at most. Inside of each other a few times only: a long
        chain of asks is not to become a deep stack.
        """
        if self._depth < NESTED and self.looping:
            self._depth += 1
            try:
                self.context.copy().run(self._serve, pending)
            finally:
                self._depth -= 1

    def _serve(self, pending: Pending | None = None) -> bool:
        """Serve ready cells for a slice of time, or until nothing is pending.

        Returns:
            Whether more is left that can be served now.
        """
        if self._posted:
            self._admit()
        ready = self.ready
        self.awake = True
        until = time.monotonic() + SLICE_S
        served = 0
        while ready:
            cell = ready.popleft()
            if not cell.serve():
                # Its next turn needs the running loop, and the pump has not entered it yet.
                ready.appendleft(cell)
                return False
            if pending is not None and pending.done:
                break
            served += 1
            if not served % LOOKS and time.monotonic() > until:
                break
        if ready or self._posted:
            if pending is not None:
                self._drain_soon()
            return True
        self.awake = False
        return False

    def _admit(self) -> None:
        posted = self._posted
        try:
            while posted:
                try:
                    call = posted.popleft()
                except IndexError:
                    return
                try:
                    call()
                except Exception:
                    log.exception("A call to the engine raised; the engine goes on")
        finally:
            if posted:
                self.awake = True  # interrupted: whoever drives the engine is to come back


_LOOK_S = 0.25
"""Seconds between two looks for a signal: one that comes while Python begins to wait for a lock is
not seen before the wait is over."""


class Signal:
    """Wakes the one thread that waits with it; a lock, for an event of `threading` costs more.

    Setting it lets a pump look whether it is done, too.
    """

    __slots__ = ("_engine", "_lock")

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._lock.acquire()

    def set(self) -> None:
        """There may be news; any thread."""
        with contextlib.suppress(RuntimeError):  # set twice: the news are still to be read
            self._lock.release()
        self._engine.interrupt()

    def wait(self, timeout: float | None) -> None:
        """Wait for news, seconds at most."""
        end = float("inf") if timeout is None else time.monotonic() + timeout
        while (left := end - time.monotonic()) > 0:
            if self._lock.acquire(timeout=min(left, _LOOK_S)):
                return


def blocks_itself() -> UsageError:
    """The error for a call that would wait for its own thread."""
    return UsageError(
        "A blocking call on the event loop that the agent itself lives on would wait for ever. "
        "Use the async word instead: `await ref.aask(…)`, `await network.arun(…)`."
    )


def _loop_runs_here() -> bool:
    return asyncio._get_running_loop() is not None  # noqa: SLF001 - asyncio's own word for libraries


def close_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Close a loop of our own, and what lives on it."""
    if _loop_runs_here():  # where another loop runs, ours cannot
        closer = threading.Thread(target=close_loop, args=(loop,), name="llm_net-closer")
        closer.start()
        closer.join()
        return
    try:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
