"""An event loop on virtual time: it never waits, and does nothing by itself.

Floor 1. Whoever drives it decides: `settle` runs what is due at once, `due` takes the timers of the
next moment, `jump` moves the clock there. Nothing in it depends on the machine: no selector, no
sockets, no real clock, no set and no hash order. So `asyncio.sleep`, `wait_for`, `timeout`,
`gather`, queues and locks work, and take no real time.

What other threads bring (answers of models, mostly) is let in where the driver says, in the order
in which it was asked for.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future as OutsideFuture
from typing import Any, NoReturn, TypeVar

from llm_net.errors import NonDeterminismError, UsageError

__all__ = ["Due", "VirtualLoop"]

log = logging.getLogger("llm_net")

T = TypeVar("T")

ROUNDS = 10_000
"""Rounds of callbacks without an end, before time moves on: somebody polls with `sleep(0)`."""


class _Call(asyncio.Handle):
    """A callback to run."""

    def run(self) -> None:
        if not self.cancelled():
            self._run()


class Due(asyncio.TimerHandle):
    """A callback at a time.

    Attributes:
        owner: The path of the agent in whose turn it was set; empty outside of turns.
    """

    owner: str = ""

    def run(self) -> None:
        """Run it, unless it was cancelled."""
        if not self.cancelled():
            self._run()


class VirtualLoop(asyncio.AbstractEventLoop):
    """The event loop under a deterministic runtime.

    Attributes:
        strict: Whether to refuse what is not deterministic.
        owner: Called for the path of the agent in whose turn a timer is set.
    """

    def __init__(self, *, strict: bool) -> None:
        self.strict = strict
        self.owner: Callable[[], str] = str
        self._now = 0.0
        self._soon: deque[_Call] = deque()
        self._timers: list[tuple[float, int, Due]] = []
        self._numbers = 0
        self._from_threads: deque[_Call] = deque()
        self._news = threading.Event()
        self._out: list[tuple[OutsideFuture[Any], Callable[[], None]]] = []
        self._running = False
        self._stopping = False
        self._closed = False
        self._handler: Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object] | None = None

    # -- for whoever drives it

    def settle(self) -> None:
        """Run all callbacks that are due at once, and those that they add."""
        soon = self._soon
        threads = self._from_threads
        for _ in range(ROUNDS):
            while threads:
                soon.append(threads.popleft())
            if not soon:
                return
            for _ in range(len(soon)):
                soon.popleft().run()

    @property
    def polled(self) -> bool:
        """Whether callbacks add callbacks without an end, so that only time can help."""
        return bool(self._soon)

    def next_time(self) -> float | None:
        """When the next timer is due, in seconds; None without one."""
        timers = self._timers
        while timers and timers[0][2].cancelled():
            heapq.heappop(timers)
        return timers[0][0] if timers else None

    def jump(self, when: float) -> None:
        """Make it that time, if it is not later already."""
        self._now = max(self._now, when)

    def due(self) -> list[Due]:
        """Take the timers whose time has come, in the order in which they were set."""
        found: list[Due] = []
        while (when := self.next_time()) is not None and when <= self._now:
            found.append(heapq.heappop(self._timers)[2])
        return found

    @property
    def outside(self) -> bool:
        """Whether calls to the world outside are out."""
        return bool(self._out)

    def wait_outside(self) -> None:
        """Wait, really, for all calls that are out, and let the answers in, in order of asking."""
        out, self._out = self._out, []
        for answer, _ in out:
            _wait(answer)
        for _, let_in in out:
            let_in()

    def wait_for_news(self, timeout: float | None = None) -> None:
        """Wait, really, until another thread calls."""
        if not self._from_threads:
            self._news.wait(timeout)
        self._news.clear()

    def wake(self) -> None:
        """There are news; any thread."""
        self._news.set()

    def call_outside(self, answer: OutsideFuture[Any], let_in: Callable[[], None]) -> None:
        """Wait for this answer when nothing else can run, then let it in."""
        self._out.append((answer, let_in))

    async def from_outside(self, answer: OutsideFuture[T]) -> T:
        """Await what another thread computes; let in in order of asking, at no virtual time."""
        future: asyncio.Future[None] = self.create_future()

        def let_in() -> None:
            if not future.done():
                future.set_result(None)

        self.call_outside(answer, let_in)
        try:
            await future
        except asyncio.CancelledError:
            answer.cancel()
            raise
        return answer.result()

    # -- what asyncio asks of a loop

    def time(self) -> float:
        """Virtual seconds since the beginning."""
        return self._now

    def call_soon(  # type: ignore[override]
        self,
        callback: Callable[..., Any],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        """Call it at the next `settle`."""
        call = _Call(callback, args, self, context)
        self._soon.append(call)
        return call

    def call_soon_threadsafe(  # type: ignore[override]
        self,
        callback: Callable[..., Any],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        """As `call_soon`; any thread."""
        call = _Call(callback, args, self, context)
        self._from_threads.append(call)
        self._news.set()
        return call

    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[..., Any],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Call it in so many virtual seconds."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., Any],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Call it at this virtual time."""
        timer = Due(when, callback, args, self, context)
        timer.owner = self.owner()
        self._numbers += 1
        heapq.heappush(self._timers, (when, self._numbers, timer))
        return timer

    def create_future(self) -> asyncio.Future[Any]:
        """A future of this loop."""
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Any,
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
        **_: Any,  # an eager start is a matter of speed, and a newer Python's
    ) -> asyncio.Task[Any]:
        """A task of this loop."""
        return asyncio.Task(coro, loop=self, name=name, context=context)

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Call it on a thread of its own, and let the result in when nothing else can run.

        Raises:
            NonDeterminismError: In strict mode.
        """
        if self.strict:
            raise NonDeterminismError(
                f"A handler wants {func!r:.80} to run on a real thread, whose end no seed decides. "
                "Call it directly, or make it a model call; or let strict=False allow it."
            )
        answer: OutsideFuture[T] = OutsideFuture()

        def work() -> None:
            try:
                answer.set_result(func(*args))
            except BaseException as error:  # noqa: BLE001 - raised again where it is awaited
                answer.set_exception(error)

        if executor is None:
            threading.Thread(target=work, name="llm_net-outside", daemon=True).start()
        else:
            executor.submit(work)
        return self.create_task(self.from_outside(answer))

    # -- the life of a loop, for closing it and for whoever runs it by itself

    def run_forever(self) -> None:
        """Run, jumping from timer to timer, until `stop`."""
        before = asyncio._get_running_loop()  # noqa: SLF001 - asyncio's own word for loops
        asyncio._set_running_loop(self)  # noqa: SLF001
        self._running = True
        self._stopping = False
        try:
            while True:
                self.settle()
                if self._stopping:
                    return
                if self._out:
                    self.wait_outside()
                elif (when := self.next_time()) is not None:
                    self.jump(when)
                    for timer in self.due():
                        timer.run()
                else:
                    self.wait_for_news()
        finally:
            self._running = False
            asyncio._set_running_loop(before)  # noqa: SLF001

    def run_until_complete(self, future: Any) -> Any:
        """Run until this is done; gives its result."""
        task = asyncio.ensure_future(future, loop=self)

        def stop(_: object) -> None:
            self.stop()

        task.add_done_callback(stop)
        self.run_forever()
        return task.result()

    def enter(self) -> None:
        """Somebody drives it on this thread from now on."""
        self._running = True

    def leave(self) -> None:
        """Nobody drives it any more."""
        self._running = False

    def stop(self) -> None:
        """Let `run_forever` return."""
        self._stopping = True

    def is_running(self) -> bool:
        """Whether somebody drives it."""
        return self._running

    def is_closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    def close(self) -> None:
        """Forget everything."""
        self._closed = True
        self._soon.clear()
        self._timers.clear()
        self._out.clear()

    async def shutdown_asyncgens(self) -> None:
        """The runtime closes the generators of its handlers itself."""

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """There is none."""

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Cancelled timers are passed over when their time comes."""

    def get_debug(self) -> bool:
        """Never."""
        return False

    def set_debug(self, enabled: bool) -> None:  # noqa: FBT001 - asyncio's signature
        """There is no debug mode."""

    def get_exception_handler(self) -> Any:
        """What was set."""
        return self._handler

    def set_exception_handler(self, handler: Any) -> None:
        """As any loop's."""
        self._handler = handler

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """Log it."""
        error = context.get("exception")
        log.error("%s", context.get("message", "Unhandled error in a callback"), exc_info=error)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """As any loop's."""
        if self._handler is None:
            self.default_exception_handler(context)
        else:
            self._handler(self, context)


def _wait(answer: OutsideFuture[Any]) -> None:
    done = threading.Event()
    answer.add_done_callback(lambda _: done.set())
    done.wait()


def _refusal(name: str) -> Callable[..., NoReturn]:
    def refuse(self: VirtualLoop, *_: Any, **__: Any) -> NoReturn:
        kind = NonDeterminismError if self.strict else UsageError
        raise kind(
            f"A handler wants {name}() of the event loop, and a loop on virtual time has no "
            "sockets, files, processes and signals. Reach the world by a model call, or from a "
            "thread (await asyncio.to_thread(…)); or run on another runtime."
        )

    refuse.__name__ = name
    return refuse


for _name in (
    "add_reader",
    "add_signal_handler",
    "connect_read_pipe",
    "connect_write_pipe",
    "create_connection",
    "create_datagram_endpoint",
    "create_server",
    "create_unix_connection",
    "create_unix_server",
    "getaddrinfo",
    "getnameinfo",
    "remove_reader",
    "sendfile",
    "sock_accept",
    "sock_connect",
    "sock_recv",
    "sock_recv_into",
    "sock_sendall",
    "start_tls",
    "subprocess_exec",
    "subprocess_shell",
):
    setattr(VirtualLoop, _name, _refusal(_name))
