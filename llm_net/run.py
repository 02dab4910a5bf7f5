"""Runs: deliver a message, wait until the network is quiet, say what came of it.

Floor 3. A run has a scope of its own; so it knows its own outcome even where others run beside it.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from dataclasses import dataclass
from functools import partial

from llm_net.address import Address
from llm_net.asks import Outputs
from llm_net.diagram import sequence_diagram
from llm_net.errors import HandlerError, UsageError
from llm_net.life import go_live
from llm_net.mailbox import DeadLetter
from llm_net.message import Message
from llm_net.node import Node
from llm_net.ref import as_message
from llm_net.runtime import Runtime
from llm_net.scope import Limits, Scope, Statistics
from llm_net.speech import accept
from llm_net.svg import sequence_svg

__all__ = ["AsyncRunStream", "Launch", "Run", "RunStream", "Running", "launch_message"]

PROGRESS_S = 0.2
"""Seconds between two lines of progress."""


@dataclass(frozen=True)
class Run:
    """What came of a run.

    Attributes:
        outputs: Replies to the run's own message, and events that the outermost network exposes,
            in the order in which they left.
        dead_letters: The messages that nobody took, each with its reason.
        failures: The errors of turns that raised, each with path, message and cause.
        statistics: The counts; sent = delivered + dead, and nothing is queued any more.
        ended: `idle`, `failure` (past the outermost network), or the limit that ended it, as in
            `max_messages`.
        trace: The last link of a deterministic run's hash chain, in hex; None for other runs.
        loop: The paths round the loop that `max_repeats` found, else empty.
    """

    outputs: tuple[Message, ...]
    dead_letters: tuple[DeadLetter, ...]
    failures: tuple[HandlerError, ...]
    statistics: Statistics
    ended: str
    trace: str | None = None
    loop: tuple[str, ...] = ()
    conversation: tuple[tuple[Message, Address | None], ...] = ()
    """The first messages, each with its receiver; None is the world outside."""

    def to_mermaid(self) -> str:
        """The run's sequence diagram, in Mermaid; at most its first 500 messages."""
        return sequence_diagram(self.conversation, total=self.statistics.sent)

    def to_svg(self) -> str:
        """The run's sequence diagram, as an SVG picture; at most its first 500 messages."""
        return sequence_svg(self.conversation)


Launch = Callable[[Scope, Runtime], None]
"""Sets out the first messages of a run; by the owner of the engine."""


class Running:
    """One run under way: begins it, waits for it, ends it, in any host."""

    def __init__(self, node: Node, runtime: Runtime | None, limits: Limits, launch: Launch) -> None:
        """Nothing is started yet."""
        self._node = node
        self._launch = launch
        self._starts = node.cell is None
        self._runtime = runtime
        self._scope = Scope(limits)
        self._scope.record = []
        self._begun = False
        self._timer: asyncio.TimerHandle | None = None
        self._changed: Callable[[], None] = _nothing

    @property
    def over(self) -> bool:
        """Whether nothing more will come of it."""
        scope = self._scope
        return self._begun and (scope.quiet or scope.ended is not None)

    def tap(self, listener: Callable[[Message], None]) -> None:
        """Hear every message when it is sent."""
        self._scope.tap = listener

    # -- on the caller's thread

    def run(self, *, progress: bool = False, until: Callable[[], bool] | None = None) -> None:
        """Begin if need be, and wait for the end, or until something else is true."""
        runtime = self._start(_host_of_sync_words)
        engine = runtime.engine
        event = engine.event()
        self._changed = event.set
        if not self._begun:
            engine.run(self._begin)
        done = (lambda: self.over) if until is None else (lambda: self.over or until())
        while not engine.wait(done, event, PROGRESS_S if progress else None):
            self._show_progress()
        if progress and self.over:
            self._show_progress(end="\n")

    def finish(self) -> Run:
        """End the run and, if it started the network, stop that."""
        runtime = self._runtime
        assert runtime is not None
        engine = runtime.engine
        event = engine.event()
        engine.run(partial(self._end, event.set))
        engine.wait(self._stopped, event, None)
        return self._result()

    # -- on the running loop

    async def arun(
        self, *, progress: bool = False, until: Callable[[], bool] | None = None
    ) -> None:
        """Begin if need be, and await the end, or until something else is true."""
        runtime = self._start(_host_of_async_words)
        event = _LoopEvent()
        self._changed = event.set
        if not self._begun:
            runtime.engine.run(self._begin)
        while not (self.over or (until is not None and until())):
            await event.wait(PROGRESS_S if progress else None)
            if progress:
                self._show_progress()
        if progress and self.over:
            self._show_progress(end="\n")

    async def afinish(self) -> Run:
        """As `finish`, on the running loop."""
        runtime = self._runtime
        assert runtime is not None
        event = _LoopEvent()
        runtime.engine.run(partial(self._end, event.set))
        while not self._stopped():
            await event.wait(None)
        return self._result()

    def abort(self) -> None:
        """End the run without a result: the caller was interrupted."""
        if self._runtime is not None:
            self._scope.end("closed")
            self.finish()

    async def aabort(self) -> None:
        """As `abort`, on the running loop."""
        if self._runtime is not None:
            self._scope.end("closed")
            await self.afinish()

    # -- what both do

    def _start(self, host: Callable[[], Runtime]) -> Runtime:
        if self._runtime is None or not self._starts:
            cell = self._node.cell
            self._runtime = cell.runtime if cell is not None else self._runtime or host()
        if self._starts and self._node.cell is None and not self._begun:
            go_live(self._node, self._runtime)
        return self._runtime

    def _begin(self) -> None:
        """By the owner: set the message out."""
        runtime = self._runtime
        scope = self._scope
        assert runtime is not None
        self._begun = True
        runtime.follow(scope)
        scope.changed = self.stir
        if scope.limits.timeout is not None:
            runtime.engine.held += 1
            self._timer = runtime.engine.call_later(
                scope.limits.timeout, partial(scope.end, "timeout")
            )
        self._launch(scope, runtime)
        self._changed()

    def stir(self) -> None:
        """Let whoever waits look again."""
        self._changed()

    def _end(self, changed: Callable[[], None]) -> None:
        """By the owner: let nothing of the run go on."""
        runtime = self._runtime
        scope = self._scope
        assert runtime is not None
        self._changed = changed
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            runtime.engine.held -= 1
        if self._begun and not scope.quiet and scope.ended is None:
            scope.end("closed")  # the reader of a stream has left
        if scope.ended is not None:
            runtime.discard(scope)
        cell = self._node.cell
        if self._starts and cell is not None:
            cell.when_over.append(changed)
            if scope.ended is not None:
                cell.stop_now(scope.reason)
            else:
                cell.stop_in_order()
        changed()

    def _stopped(self) -> bool:
        """Whether all is over but handlers on threads, which nothing can interrupt."""
        cell = self._node.cell
        if not self._starts:
            return self._scope.quiet or cell is None or cell.idles(self._scope)
        return cell is None or cell.over()

    def _result(self) -> Run:
        runtime = self._runtime
        scope = self._scope
        assert runtime is not None
        cell = self._node.cell
        if self._starts and cell is not None:
            runtime.leave(cell)  # only handlers that have not returned hold it
        if self._starts:
            runtime.engine.join()
        runtime.forget(scope)
        scope.changed = None
        return Run(
            outputs=tuple(scope.outputs),
            dead_letters=tuple(scope.dead_letters),
            failures=tuple(scope.failures),
            statistics=scope.statistics(),
            ended=scope.ended or "idle",
            loop=scope.loop,
            conversation=tuple(scope.record or ()),
        )

    def _show_progress(self, end: str = "\r") -> None:
        scope = self._scope
        sys.stderr.write(
            f"{self._node.name}: {scope.delivered} messages delivered, "
            f"{scope.open} under way, {len(scope.failures)} failures{end}"
        )
        sys.stderr.flush()


class RunStream:
    """Iterates over every message of a run as it is sent; then `run` says what came of it."""

    def __init__(self, running: Running, *, progress: bool = False) -> None:
        self._running = running
        self._progress = progress
        self._sent: deque[Message] = deque()
        self._result: Run | None = None
        self._messages = self._iterate()
        running.tap(self._hear)

    def _hear(self, message: Message) -> None:
        self._sent.append(message)
        self._running.stir()

    def _iterate(self) -> Generator[Message, None, None]:
        running = self._running
        try:
            while True:
                running.run(progress=self._progress, until=lambda: bool(self._sent))
                while self._sent:
                    yield self._sent.popleft()
                if running.over:
                    return
        finally:
            self._result = running.finish()

    def __iter__(self) -> Iterator[Message]:
        return self

    def __next__(self) -> Message:
        return next(self._messages)

    def close(self) -> None:
        """End the run, if it has begun and is not over."""
        self._messages.close()

    @property
    def run(self) -> Run:
        """What came of the run.

        Raises:
            UsageError: If it is not over yet.
        """
        return _ended(self._result)


class AsyncRunStream:
    """As `RunStream`, on the running event loop: `async for message in network.astream(…)`."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._sent: deque[Message] = deque()
        self._result: Run | None = None
        self._messages = self._iterate()
        running.tap(self._hear)

    def _hear(self, message: Message) -> None:
        self._sent.append(message)
        self._running.stir()

    async def _iterate(self) -> AsyncGenerator[Message, None]:
        running = self._running
        try:
            while True:
                await running.arun(until=lambda: bool(self._sent))
                while self._sent:
                    yield self._sent.popleft()
                if running.over:
                    return
        finally:
            self._result = await running.afinish()

    def __aiter__(self) -> AsyncIterator[Message]:
        return self

    async def __anext__(self) -> Message:
        return await anext(self._messages)

    async def aclose(self) -> None:
        """End the run, if it has begun and is not over."""
        await self._messages.aclose()

    @property
    def run(self) -> Run:
        """What came of the run.

        Raises:
            UsageError: If it is not over yet.
        """
        return _ended(self._result)


class _LoopEvent:
    """Wakes a coroutine of the loop that made it, from any thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()
        self._thread = threading.get_ident()

    def set(self) -> None:
        if threading.get_ident() == self._thread:
            self._event.set()
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._event.set)

    async def wait(self, timeout: float | None) -> None:
        if timeout is None:
            await self._event.wait()
        else:
            try:
                await asyncio.wait_for(self._event.wait(), timeout)
            except TimeoutError:
                return
        self._event.clear()


def launch_message(node: Node, message: Message | str) -> Launch:
    """Begin a run with a message: to its receiver, else to the network's entries.

    Raises:
        UsageError: If the network has no entry for the message.
        UnknownAgent: If the message's receiver is nobody here.
    """
    message = as_message(message)
    target = node
    if message.receiver is not None:
        target = node.inside(message.receiver)
    elif not node.takes(message.method):
        msg = (
            f"The network {node.path!r} has no entry, so nobody in it would take the message. "
            "Give it entry=…, or the message a receiver: Message(…, receiver='name')."
        )
        raise UsageError(msg)

    def launch(scope: Scope, runtime: Runtime) -> None:
        accept(target, message, None, sink=Outputs(scope), scope=scope, runtime=runtime)

    return launch


def _host_of_sync_words() -> Runtime:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return Runtime("inline")
    return Runtime("thread")


def _host_of_async_words() -> Runtime:
    return Runtime("loop")


def _ended(result: Run | None) -> Run:
    if result is None:
        msg = "The run is not over: iterate to the end, or close() the stream."
        raise UsageError(msg)
    return result


def _nothing() -> None:
    """Nobody waits."""
