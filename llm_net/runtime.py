"""A runtime: the options that agents live under, their engine, and what became of their messages.

Floor 2. Knows cells only as its roots and by what they count.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import weakref
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from llm_net.context import AUTHOR, THREAD_LIMIT, process_id
from llm_net.engine import Engine, Host
from llm_net.errors import (
    AgentStopped,
    DeliveryError,
    LLMNetError,
    MailboxFull,
    NoHandler,
    UsageError,
    is_number,
)
from llm_net.mailbox import DeadLetter, Envelope, Reason
from llm_net.scope import Scope, Statistics, total
from llm_net.turn import Desk

if TYPE_CHECKING:
    from llm_net.instrument import Instrument
    from llm_net.message import Message

__all__ = ["Runtime", "no_handler", "running_runtime", "shared_runtime"]

log = logging.getLogger("llm_net")

T = TypeVar("T")

KEPT = 1000
"""How many dead letters and failures outside of runs are remembered."""


class Runtime:
    """Where agents run, and under which options.

    ```python
    from llm_net import Runtime

    runtime = Runtime(host="inline", ask_timeout=30)
    ```

    A runtime may serve several agents and networks, one after the other or at once. Its threads
    exist only while one of them is live.

    Attributes:
        host: `thread` (an event loop on a thread of its own; work goes on while the program does
            something else), `loop` (the event loop that runs where the first agent is started), or
            `inline` (work goes on only while somebody waits: for an ask, a run or a stop).
        ask_timeout: Seconds an ask waits for its reply unless it says otherwise; None is for ever.
        thread_limit: How many messages a thread remembers besides its root.
        instruments: What observes delivery.
        seed: Seeds every agent's `random`, together with its path; None draws from the system.
    """

    def __init__(
        self,
        host: Host = "thread",
        *,
        instruments: Iterable[Instrument] = (),
        ask_timeout: float | None = 300,
        thread_limit: int = THREAD_LIMIT,
        seed: int | None = None,
    ) -> None:
        """Set the options; nothing is started.

        Raises:
            UsageError: If an option has a value that cannot work.
        """
        if ask_timeout is not None and not (is_number(ask_timeout) and ask_timeout > 0):
            msg = f"ask_timeout={ask_timeout!r} is no time to wait: give seconds above 0, or None."
            raise UsageError(msg)
        if not isinstance(thread_limit, int) or thread_limit < 1:
            msg = f"thread_limit={thread_limit!r} would forget every message: give 1 or more."
            raise UsageError(msg)
        self.engine = self._make_engine(host)
        self.ask_timeout = ask_timeout
        self.thread_limit = thread_limit
        self.seed = seed
        self.instruments: tuple[Instrument, ...] = tuple(instruments)
        self.world = Scope(keep=KEPT)
        self.desk = Desk(self)
        self.engine.context.run(AUTHOR.set, self.desk)
        self.version = 0
        """Counts the changes of edges, listeners, borders and lives: they make routes stale."""
        self.transits: dict[Any, None] = {}
        """The messages under way on edges that take time."""
        self.bounded = False
        """Whether some mailbox here has a bound, so that whoever sends may have to wait."""
        self._past = Statistics()
        self._scopes: dict[Scope, None] = {}
        self._roots: dict[Any, None] = {}
        self._lock = threading.Lock()

    def _make_engine(self, host: Host) -> Engine:
        return Engine(host)

    @property
    def trace(self) -> str | None:
        """The last link of the trace of a deterministic runtime; others keep none."""
        return None

    @property
    def roots(self) -> tuple[Any, ...]:
        """The cells of the agents that were started here by themselves."""
        return tuple(self._roots)

    @property
    def host(self) -> Host:
        """Who drives the engine."""
        return self.engine.host

    @property
    def dead_letters(self) -> tuple[DeadLetter, ...]:
        """The latest messages that nobody took, outside of runs."""
        return tuple(self.world.dead_letters)

    def statistics(self) -> Statistics:
        """The counts of everything sent in this runtime so far, runs included.

        Counted on the engine's thread, so that they add up: sent = delivered + queued + dead.
        """
        return self.read(self._count)

    def read(self, look: Callable[[], T]) -> T:
        """What `look` gives on the owner's thread, where nothing moves meanwhile."""
        engine = self.engine
        if engine.still:
            return look()
        seen: list[T] = []
        event = threading.Event()

        def see() -> None:
            seen.append(look())
            event.set()

        engine.post(see)
        while not event.wait(0.05):
            if engine.closed:  # between the look and the post
                return look()
        return seen[0]

    def _count(self) -> Statistics:
        counts = total((self._past, *(each.statistics() for each in [self.world, *self._scopes])))
        queued = len(self.transits) + sum(
            cell.queued() for root in list(self._roots) for cell in root.tree()
        )
        return replace(counts, queued=queued)  # counted where they wait, not reckoned from the rest

    # -- for cells and runs

    def enter(self, root: Any) -> None:
        """A root agent goes live here."""
        with self._lock:
            self.engine.open()
            self._roots[root] = None

    def leave(self, root: Any) -> None:
        """A root agent is no longer live; with the last one the engine closes."""
        with self._lock:
            self._roots.pop(root, None)
            if not self._roots:
                for transit in list(self.transits):
                    transit.die(Reason.STOPPED)
                self.engine.close()

    def root(self, name: str) -> Any:
        """The root cell of this name, or None."""
        return next((root for root in self._roots if root.node.name == name), None)

    def follow(self, scope: Scope) -> None:
        """Count this scope among the runtime's."""
        self._scopes[scope] = None

    def forget(self, scope: Scope) -> None:
        """The scope's run is over; keep its counts."""
        scope.past = True
        if scope in self._scopes:
            del self._scopes[scope]
            self._past = total((self._past, scope.statistics()))

    def discard(self, scope: Scope) -> None:
        """Take what is left of an ended scope out of every mailbox, and cancel its turns."""
        for transit in list(self.transits):
            if transit.scope is scope:
                transit.die(scope.reason)
        for root in list(self._roots):
            for cell in root.tree():
                cell.discard(scope)

    # Functions, not methods that call them: every message that is written asks for both.
    new_id: Callable[[], str] = staticmethod(process_id)
    """The id of the next message written in this runtime."""
    now: Callable[[], datetime] = staticmethod(partial(datetime.now, UTC))
    """The time on this runtime's clock, aware, in UTC."""

    def random(self, path: str) -> random.Random:
        """The random source of the agent with this path."""
        if self.seed is None:
            return random.Random()  # noqa: S311 - for behaviour, not for secrets
        return random.Random(f"{self.seed}:{path}")  # noqa: S311

    def bury(
        self,
        envelope: Envelope,
        reason: str,
        receiver: str,
        *,
        counted: bool = True,
        told: bool = False,
    ) -> None:
        """Make this message a dead letter.

        Args:
            envelope: The message, with its scope and whoever waits for an answer.
            reason: One of `Reason`, or the name of the limit that ended the run.
            receiver: The path it was meant for.
            counted: Whether it was counted as sent before.
            told: Whether whoever asked has been told already.
        """
        scope = envelope.scope
        if not counted:
            scope.sent += 1
        scope.dead += 1
        letter = DeadLetter(envelope.message, str(reason), receiver)
        scope.dead_letters.append(letter)
        log.debug("dead letter (%s) for %r: %r", reason, receiver, envelope.message)
        self.observe("drop", letter)
        if envelope.sink is not None and not told:
            envelope.sink.ended(_undelivered(letter))

    def observe(self, hook: str, *args: object) -> None:
        """Call this hook of every instrument."""
        for instrument in self.instruments:
            try:
                getattr(instrument, hook)(*args)
            except Exception:
                log.exception("The instrument %r raised in its hook %r", instrument, hook)


def no_handler(message: Message, path: str) -> NoHandler:
    """The error for a message that no handler is declared for."""
    return NoHandler(
        f"The agent {path!r} has no handler for the method {message.method!r} with a "
        f"{type(message).__name__}: it needs a public method {message.method!r} "
        f"(or an async 'a{message.method}') with one parameter called `message`, "
        "or an `unhandled` of its own.",
        path=path,
        message=message,
    )


def _undelivered(letter: DeadLetter) -> LLMNetError:
    message, path = letter.message, letter.receiver
    match letter.reason:
        case Reason.STOPPED:
            msg = (
                f"The agent {path!r} stopped before it came to the message {message.id} "
                f"({message.method!r}). Start it again, or ask another."
            )
            return AgentStopped(msg)
        case Reason.NO_HANDLER:
            return no_handler(message, path)
        case Reason.OVERFLOW:
            msg = (
                f"The mailbox of {path!r} is full, so the message {message.id} "
                f"({message.method!r}) was not taken. Ask less at a time, or give the agent a "
                "larger Mailbox(capacity=…), or overflow='wait'."
            )
            return MailboxFull(msg)
        case _:
            msg = f"The message {message.id} to {path!r} was not delivered: {letter.reason}."
            return DeliveryError(msg)


_shared: list[Runtime] = []
_on_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Runtime]
_on_loop = weakref.WeakKeyDictionary()


def shared_runtime() -> Runtime:
    """The runtime of sync words that name none: one engine thread for all of them."""
    if not _shared:
        _shared.append(Runtime("thread"))
    return _shared[0]


def running_runtime() -> Runtime:
    """The runtime of async words that name none: one for each running event loop.

    Raises:
        UsageError: If no event loop runs here.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        msg = "No event loop runs here: the async words belong into an `async def`."
        raise UsageError(msg) from None
    return _on_loop.setdefault(loop, Runtime("loop"))
