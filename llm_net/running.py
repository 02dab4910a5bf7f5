"""A run under way: begun, waited for, and ended, in any host, from threads and from coroutines.

Floor 3. What is waited for is the scope of the run; what a run has started, it stops.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from functools import partial

from llm_net.address import Address
from llm_net.errors import UsageError
from llm_net.life import go_live
from llm_net.message import Message
from llm_net.node import Node
from llm_net.runtime import Runtime
from llm_net.scope import Limits, Scope

__all__ = ["Conversation", "Launch", "Running"]

PROGRESS_S = 0.2
"""Seconds between two lines of progress."""

GRACE_S = 0.2
"""Seconds that a run which is over waits for handlers on threads, which nothing can interrupt."""

Launch = Callable[[Scope, Runtime], None]
"""Sets out the first messages of a run; by the owner of the engine."""

Conversation = tuple[tuple[Message, Address | None], ...]
"""Messages with their receivers; None is the world outside."""


class Running:
    """One run under way; nothing is started before it is waited for."""

    def __init__(
        self,
        node: Node,
        runtime: Runtime | None,
        limits: Limits,
        launch: Launch,
        leave: Callable[[], None] | None = None,
    ) -> None:
        """Prepare a run.

        Args:
            node: The network, or agent, that runs.
            runtime: Where it runs if it is not live; None chooses by the words used.
            limits: What ends it.
            launch: How it begins.
            leave: What is to be done when it ends, however it does; by the owner of the engine.
        """
        self._node = node
        self._agent = node.agent  # held, so that a run of a network that nobody else holds goes on
        self._launch = launch
        self._do_leave = leave or _nothing
        self._wanted = runtime
        self._runtime: Runtime | None = None
        self._starts = False
        self._begun = False
        self._ended = False
        self._timer: asyncio.TimerHandle | None = None
        self._changed: Callable[[], None] = _nothing
        self.scope = Scope(limits)
        self.scope.keep_record()

    @property
    def over(self) -> bool:
        """Whether nothing more will come of it."""
        return self._begun and (self.scope.quiet or self.scope.ended is not None)

    @property
    def trace(self) -> str | None:
        """The last link of the trace, where the runtime keeps one."""
        return None if self._runtime is None else self._runtime.trace

    def stir(self) -> None:
        """Let whoever waits look again."""
        self._changed()

    # -- on the caller's thread

    def run(self, *, progress: bool = False, until: Callable[[], bool] | None = None) -> None:
        """Begin if need be, and wait for the end, or until something else is true."""
        runtime = self._start(_host_of_sync_words)
        event = runtime.engine.event()
        self._changed = event.set
        self._set_out(runtime)
        done = partial(self._reached, until)
        while not runtime.engine.wait(done, event, PROGRESS_S if progress else None):
            self._show_progress()
        if progress and self.over:
            self._show_progress(end="\n")

    def finish(self) -> None:
        """End the run and, if it started the network, stop that; as often as you like."""
        runtime = self._runtime
        if runtime is None or self._ended:
            return
        event = runtime.engine.event()
        runtime.engine.run(partial(self._end, runtime, event.set))
        runtime.engine.wait(self._stopped, event, None)
        # Handlers on threads that nobody waits for mostly return in a moment; then nothing is left.
        runtime.engine.wait(self._gone, event, GRACE_S)
        self._leave(runtime)

    # -- on the running loop

    async def arun(
        self, *, progress: bool = False, until: Callable[[], bool] | None = None
    ) -> None:
        """Begin if need be, and await the end, or until something else is true."""
        runtime = self._start(_host_of_async_words)
        if runtime.host == "inline":  # somebody has to pump it, and it cannot be this loop
            await asyncio.to_thread(self.run, progress=progress, until=until)
            return
        event = _LoopEvent()
        self._changed = event.set
        self._set_out(runtime)
        while not self._reached(until):
            await event.wait(PROGRESS_S if progress else None)
            if progress:
                self._show_progress()
        if progress and self.over:
            self._show_progress(end="\n")

    async def afinish(self) -> None:
        """As `finish`, on the running loop."""
        runtime = self._runtime
        if runtime is None or self._ended:
            return
        if runtime.host == "inline":
            await asyncio.to_thread(self.finish)
            return
        event = _LoopEvent()
        runtime.engine.run(partial(self._end, runtime, event.set))
        while not self._stopped():
            await event.wait(None)
        if not self._gone():
            await event.wait(GRACE_S)
        self._leave(runtime)

    # -- what both do

    def _reached(self, until: Callable[[], bool] | None) -> bool:
        return self.over or (until is not None and until())

    def _start(self, host: Callable[[], Runtime]) -> Runtime:
        if self._runtime is not None:
            return self._runtime
        cell = self._node.cell
        if cell is None:
            runtime = self._wanted or host()
            go_live(self._node, runtime, self.scope)
            self._starts = True
        elif cell.stopping is not None:
            waits = f"; it waits for {', '.join(busy)}" if (busy := cell.busy()) else ""
            msg = (
                f"The network {self._node.path!r} is being stopped{waits}. Run it again when it "
                "has stopped, or run a copy (model_copy(deep=True))."
            )
            raise UsageError(msg)
        else:
            runtime = cell.runtime
        self._runtime = runtime
        return runtime

    def _set_out(self, runtime: Runtime) -> None:
        if not self._begun:
            runtime.engine.run(partial(self._begin, runtime))

    def _begin(self, runtime: Runtime) -> None:
        """By the owner: set the first messages out."""
        scope = self.scope
        self._begun = True
        runtime.follow(scope)
        scope.changed = self.stir
        if scope.limits.timeout is not None:
            runtime.engine.held += 1
            end = partial(scope.end, "timeout")
            self._timer = runtime.engine.call_later(scope.limits.timeout, end)
        self._launch(scope, runtime)
        self.stir()

    def _end(self, runtime: Runtime, changed: Callable[[], None]) -> None:
        """By the owner: let nothing of the run go on."""
        scope = self.scope
        self._ended = True
        self._changed = changed
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            runtime.engine.held -= 1
        self._do_leave()
        if not self.over:
            scope.end("closed")  # whoever waited was interrupted, or reads on no more
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
        if not self._ended:
            return False
        cell = self._node.cell
        if self._starts:
            return cell is None or cell.over()
        return self.scope.quiet or cell is None or cell.idles(self.scope)

    def _gone(self) -> bool:
        """Whether what the run has started has stopped, to the last thread."""
        return not self._starts or self._node.cell is None

    def _leave(self, runtime: Runtime) -> None:
        cell = self._node.cell
        if self._starts:
            if cell is not None:
                runtime.leave(cell)  # only handlers that have not returned hold it
            runtime.engine.join()
        runtime.forget(self.scope)
        self.scope.changed = None
        self.scope.tap = None

    def _show_progress(self, end: str = "\r") -> None:
        scope = self.scope
        sys.stderr.write(
            f"{self._node.name}: {scope.delivered} messages delivered, "
            f"{scope.open} under way, {len(scope.failures)} failures{end}"
        )
        sys.stderr.flush()


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


def _host_of_sync_words() -> Runtime:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return Runtime("inline")
    return Runtime("thread")


def _host_of_async_words() -> Runtime:
    return Runtime("loop")


def _nothing() -> None:
    """Nobody waits."""
