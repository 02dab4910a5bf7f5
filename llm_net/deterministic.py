"""A runtime in which a seed decides everything: order, time, ids and luck.

Floor 2. One scheduler takes one step at a time: a turn, a timer, the return of an ask. Where more
than one step is possible, a schedule chooses; when none is, virtual time jumps to the next timer.
Sync handlers that may block get threads as everywhere, but a thread runs only while it holds the
turn, and an ask hands the turn on.

The invariant: the same program under the same seed makes the same steps, byte for byte, on every
Python and under every hash seed.

Source: the simulation of FoundationDB (Zhou et al., SIGMOD 2021), Coyote, trio's mock clock.
"""

from __future__ import annotations

import asyncio
import copy
import random
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future as OutsideFuture
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from llm_net.context import THREAD_LIMIT
from llm_net.engine import Engine, Signal, close_loop
from llm_net.errors import NonDeterminismError, UsageError
from llm_net.guard import guarded
from llm_net.runtime import Runtime
from llm_net.schedules import Fifo, Random, Schedule
from llm_net.trace import Trace
from llm_net.turn import author
from llm_net.virtual_time import VirtualLoop
from llm_net.workers import Workers

if TYPE_CHECKING:
    from llm_net.instrument import Instrument

__all__ = ["Deterministic"]

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
"""When virtual time begins."""


class Deterministic(Runtime):
    """A runtime on virtual time, in which a seed decides every order.

    ```python
    from llm_net import Deterministic, GenAgent, GenNetwork

    class Dice(GenAgent):
        async def astep(self, message):
            await self.sleep(3600)
            return str(self.random.randint(1, 6))

    game = GenNetwork(name="game", agents=[Dice()], entry="dice")
    runs = [game.run("roll", runtime=Deterministic(7)) for _ in range(2)]
    assert runs[0].trace == runs[1].trace
    ```

    One turn runs at a time, sync handlers too; a sync ask hands the turn on until it is answered.
    `asyncio.sleep`, `wait_for` and `gather` take virtual time, which jumps when all is idle. Calls
    of models start at once and run side by side; when nothing else can run, all that are out are
    waited for, and their answers let in in the order of the calls, at no virtual time.

    Attributes:
        seed: Where order, ids and every agent's `random` come from.
        schedule: What decides where there is a choice; by default drawn from the seed.
        strict: Whether a handler that reaches for the real clock, real randomness or something
            that no agent, timer or model call brings gets a `NonDeterminismError`. Best effort:
            what C code reads by itself, `datetime.now()` for one, is not seen.
    """

    engine: Scheduler

    def __init__(
        self,
        seed: int | random.Random = 0,
        *,
        schedule: Schedule | None = None,
        strict: bool = False,
        instruments: Iterable[Instrument] = (),
        ask_timeout: float | None = 300,
        thread_limit: int = THREAD_LIMIT,
    ) -> None:
        """Set the seed and the options; nothing is started.

        Args:
            seed: A number, or a source of random numbers (hypothesis's `st.randoms()`, for one,
                which then shrinks the order of steps).
            schedule: What decides the order instead of the seed; see `llm_net.testing`.
            strict: Refuse what is not deterministic, as far as it can be seen.
            instruments: What observes delivery.
            ask_timeout: Virtual seconds an ask waits unless it says otherwise; None is for ever.
            thread_limit: How many messages a thread remembers besides its root.

        Raises:
            UsageError: If an option has a value that cannot work.
        """
        if isinstance(seed, random.Random):
            source, number = seed, seed.getrandbits(32)
        elif isinstance(seed, int) and not isinstance(seed, bool):
            source, number = random.Random(seed), seed  # noqa: S311 - for order, not for secrets
        else:
            msg = f"Deterministic({seed!r}): give a whole number, or a random.Random."
            raise UsageError(msg)
        self.schedule: Schedule = schedule or Random(source)
        self.strict = strict
        self._ids = 0
        self._prefix = f"d{number & 0xFFFFFFFF:08x}"
        super().__init__(
            "inline",
            instruments=instruments,
            ask_timeout=ask_timeout,
            thread_limit=thread_limit,
            seed=number,
        )
        self.tracing = Trace(self.time)
        self.instruments = (self.tracing, *self.instruments)

    def _make_engine(self, host: Any) -> Engine:  # noqa: ARG002 - there is one only
        return Scheduler(self)

    @property
    def trace(self) -> str:
        """The last link of the hash chain over all that happened, as hex digits."""
        return self.tracing.digest

    def state(self) -> dict[str, Any]:
        """Where the runtime stands: its clock, ids, luck and trace; no agents, no messages.

        What `go_on` takes, in a runtime made like this one. It pickles if the schedule does.
        """
        return {
            "clock": self.engine.clock(),
            "ids": self._ids,
            "schedule": copy.deepcopy(self.schedule),
            "trace": self.trace,
        }

    def go_on(self, state: Mapping[str, Any]) -> None:
        """Stand where another runtime stood; before the first start.

        Args:
            state: What `state` gave there.
        """
        self.engine.set_clock(state["clock"])
        self._ids = state["ids"]
        self.schedule = copy.deepcopy(state["schedule"])
        self.tracing.go_on(state["trace"])

    def time(self) -> float:
        """Virtual seconds since the runtime's first start."""
        return self.engine.clock()

    def new_id(self) -> str:
        """The id of the next message written in this runtime."""
        self._ids += 1
        return f"{self._prefix}-{self._ids}"

    def now(self) -> datetime:
        """The virtual time, as a date: it begins in the year 2000."""
        return EPOCH + timedelta(seconds=self.engine.clock())


class _Step:
    """Something that can happen next; an option of the schedule."""

    __slots__ = ("_do", "key", "receiver")

    def __init__(self, key: str, receiver: str, do: Callable[[], object]) -> None:
        self.key = key
        self.receiver = receiver
        self._do = do

    def serve(self) -> bool:
        self._do()
        return True


class Seat(Signal):
    """Where a thread waits until it is given the turn."""

    __slots__ = ("offered", "owner", "parked", "scheduler", "turn")

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__(scheduler)
        self.scheduler = scheduler
        self.parked = False
        self.offered = False
        self.owner = ""
        self.turn = threading.Lock()
        self.turn.acquire()

    def set(self) -> None:
        """There may be news for whoever sits here: it may go on, when the schedule says so."""
        if self.parked:
            if not self.offered:
                self.offered = True
                self.scheduler.offer(f"resume {self.owner}", self.owner, self.resume)
        else:
            super().set()

    def resume(self) -> None:
        """Give the turn to the thread that sits here, and wait until it hands it on."""
        self.offered = False
        self.scheduler.lend(self.turn.release)


class _Crew(Workers):
    """Threads of which one runs at a time, and the scheduler waits meanwhile."""

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__()
        self._scheduler = scheduler

    def submit(self, job: Callable[[Callable[[], None]], None]) -> None:
        """Run the job until it ends or waits for something."""
        scheduler = self._scheduler

        def on_board(rest: Callable[[], None]) -> None:
            scheduler.crew.add(threading.get_ident())
            try:
                job(rest)
            finally:
                scheduler.crew.discard(threading.get_ident())
                scheduler.hand_back()

        scheduler.lend(partial(super().submit, on_board))


class Scheduler(Engine):
    """The engine of a deterministic runtime: pumped by whoever waits, one step at a time."""

    patient = True
    eager = False  # as on every Python

    def __init__(self, runtime: Deterministic) -> None:
        super().__init__("inline")
        self.ready: list[Any] = []  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleVariableOverride]
        self.awake = True
        self.crew: set[int] = set()
        self._runtime = runtime
        self._back = threading.Semaphore(0)
        self._lent = False
        self._broken = False
        self._start = 0.0

    # -- what the runtime asks

    def clock(self) -> float:
        """Virtual seconds since the first start."""
        loop = self.loop
        return self._start if loop is None else loop.time()

    def set_clock(self, seconds: float) -> None:
        """Begin at this time; before the first start."""
        self._start = seconds

    @property
    def _virtual(self) -> VirtualLoop:
        assert isinstance(self.loop, VirtualLoop)
        return self.loop

    def open(self) -> None:
        """Be ready to serve."""
        with self._opened:
            if self.loop is None:
                loop = VirtualLoop(strict=self._runtime.strict)  # type: ignore[abstract]
                loop.jump(self._start)
                loop.owner = _owner
                self.loop = loop
                self.workers = _Crew(self)

    def close(self) -> None:
        """Serve no more."""
        self._start = self.clock()
        super().close()

    @property
    def still(self) -> bool:
        """Whether nothing moves while the calling thread looks; a thread of ours has the turn."""
        return super().still or threading.get_ident() in self.crew

    def call_later(self, delay: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        """Make this call in so many virtual seconds; by the owner."""
        if self.loop is None:
            return super().call_later(delay, call)  # which refuses it
        # A copy: a timer fires while the scheduler is in the context itself.
        return self.loop.call_later(delay, call, context=self.context.copy())

    def event(self) -> Signal:
        """What to `wait` with."""
        return Seat(self)

    def post(self, call: Callable[[], object]) -> None:
        """Have the owner make this call, after those posted before; from any thread."""
        loop = self.loop
        self._posted.append(call)
        if loop is None:
            self._admit()
        elif isinstance(loop, VirtualLoop):
            loop.wake()

    def wake(self) -> None:
        """Ready steps are looked at before every step."""

    def interrupt(self) -> None:
        """Whether all is done is looked at before every step."""

    def serve_until(self, pending: Any) -> None:
        """Nothing is served out of order."""

    # -- options

    def offer(self, key: str, receiver: str, do: Callable[[], object]) -> None:
        """Let this be one of the next steps."""
        self.ready.append(_Step(key, receiver, do))

    # -- one thread at a time

    def lend(self, give: Callable[[], object]) -> None:
        """Give the turn to another thread, and wait until it comes back."""
        self._lent = True
        give()
        self._take_back()

    def _take_back(self) -> None:
        if self._lent:
            self._back.acquire()
            self._lent = False

    def hand_back(self) -> None:
        """Give the turn back to the scheduler; by the thread that has it."""
        self._back.release()

    def wait(self, done: Callable[[], bool], event: Signal, timeout: float | None) -> bool:
        """Block the calling thread until `done()`, virtual seconds at most."""
        if threading.get_ident() not in self.crew or not isinstance(event, Seat):
            return super().wait(done, event, timeout)
        if timeout is None:
            self._sit(done, event)
            return True
        expired: list[bool] = []

        def expire() -> None:
            expired.append(True)
            event.set()

        timers: list[asyncio.TimerHandle] = []
        self.post(lambda: timers.append(self.call_later(timeout, expire)))
        self._sit(lambda: done() or bool(expired), event)

        def call_off() -> None:
            timers[0].cancel()

        self.post(call_off)
        return done()

    def _sit(self, done: Callable[[], bool], seat: Seat) -> None:
        """Hand the turn on until `done()`; on a thread that has it."""
        seat.owner = _owner()
        while not done():
            seat.parked = True
            self.hand_back()
            seat.turn.acquire()
            seat.parked = False

    def cancel(self, task: asyncio.Task[Any], path: str) -> None:
        """Cancel the task of a turn, when it is its turn.

        One at a time, each to its end: how many rounds a cancelled `wait_for` takes is another
        matter on every Python.
        """
        self.offer(f"cancel {path}", path, task.cancel)

    def pass_on(self) -> None:
        """Let others go on, if the schedule says so; by the thread that has the turn."""
        seat = Seat(self)
        self.post(seat.set)
        self._sit(iter((False, True)).__next__, seat)

    def wait_outside(self, answer: OutsideFuture[Any]) -> None:
        """Let others go on while a thread of ours waits for the world outside."""
        if threading.get_ident() not in self.crew:
            return
        seat = Seat(self)
        # Not an option among others: answers are let in in the order of asking.
        self.post(lambda: self._virtual.call_outside(answer, seat.resume))
        # Even if it is there already: how fast it was is not for this run to see.
        self._sit(iter((False, True)).__next__, seat)

    # -- steps

    def _pump(self, done: Callable[[], bool], deadline: float | None) -> None:
        loop = self.loop
        if not isinstance(loop, VirtualLoop):
            return
        self.thread = threading.get_ident()
        self.looping = True
        loop.enter()
        before = asyncio._get_running_loop()  # noqa: SLF001 - asyncio's own words for loops
        asyncio._set_running_loop(loop)  # noqa: SLF001
        try:
            with guarded(self._runtime.strict):
                self._take_back()  # an interrupt may have left a thread with the turn
                self.context.run(self._steps, loop, done, deadline)
        finally:
            asyncio._set_running_loop(before)  # noqa: SLF001
            loop.leave()
            self.looping = False
            self.thread = None
            if self.loop is not loop and not loop.is_closed():
                close_loop(loop)

    def _steps(self, loop: VirtualLoop, done: Callable[[], bool], deadline: float | None) -> None:
        choose = Fifo().choose if self._broken else self._runtime.schedule.choose
        ready = self.ready
        while True:
            if self._posted:
                self._admit()
            loop.settle()
            if done() or self.loop is not loop:
                return
            if self._posted:
                continue
            if not ready:
                if not self._pass_time(loop, deadline):
                    return
            elif len(ready) == 1:
                ready.pop().serve()
            else:
                try:
                    step = ready.pop(choose(ready))
                except BaseException:
                    self._broken = True  # what is left, the stop that follows, comes in FIFO order
                    raise
                step.serve()

    def _pass_time(self, loop: VirtualLoop, deadline: float | None) -> bool:
        """Nothing can run now: wait for the world, or jump; False at the deadline."""
        when = loop.next_time()
        if loop.outside:
            loop.wait_outside()
        elif when is not None and (deadline is None or when <= deadline):
            loop.jump(when)
            for timer in loop.due():
                self.offer(f"timer {timer.owner}", timer.owner, timer.run)
        elif deadline is not None:
            loop.jump(deadline)
            return False
        elif not loop.polled:
            self._stalled(loop)
        return True

    def _stalled(self, loop: VirtualLoop) -> None:
        """Only something from outside of the run can help: wait for it, or refuse to."""
        runtime = self._runtime
        if not runtime.strict:
            loop.wait_for_news()
            return
        stuck = [
            (cell, turn)
            for root in runtime.roots
            for cell in root.tree()
            for turn in cell.open
            if turn.task is not None and not turn.waits
        ]
        if not stuck:
            raise UsageError(
                "Nothing is left to happen in this deterministic run, and what is waited for has "
                "not happened: no message is queued, no timer set, no model asked."
            )
        for cell, turn in stuck:
            turn.break_off(
                NonDeterminismError(
                    f"A handler of {cell.node.path!r} waits for something that no agent, timer or "
                    "model call of this run brings, so no seed decides when it comes. Await "
                    "messages, self.sleep() or a model; or let strict=False wait for it."
                )
            )


def _owner() -> str:
    """The path of the agent in whose turn this is."""
    turn = author()
    return "" if turn is None or turn.cell is None else turn.cell.node.path
