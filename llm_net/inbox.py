"""The inbox of an event-loop actor: what waits there, and the actor's life, which it leads.

Floor 2. The engine serves it. Sync code of the actor runs on a thread of its class, `async def`
code as a task of the engine's loop; an idle actor is data.

Invariant: one message at a time, in the order in which they were put. Whoever holds an actor, the
engine's owner or the one thread or task that it was handed to, is alone with it; all that others do
is to append an envelope, and to post a notice if nobody is going to look. Every envelope that
carries a future gets one answer: what is put after the end gets it from whoever puts it.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import sys
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from queue import Full
from types import FunctionType
from typing import TYPE_CHECKING, Any, TypeGuard, cast

import pykka
from pykka.messages import (
    ProxyCall,
    ProxyGetAttr,
    ProxySetAttr,
    _ActorStop,  # pyright: ignore[reportPrivateUsage]
)

from llm_net.crew import Crew, crew_of
from llm_net.handlers import is_async
from llm_net.registry import unregister

if TYPE_CHECKING:
    from pykka._envelope import Envelope

__all__ = ["Inbox", "log"]

log = logging.getLogger("pykka")
"""Pykka's actors log there, and so do these."""

QUANTUM = 64
"""Messages an actor may handle in the loop before others get their turn."""

RETRY_S = 0.1
"""How soon an actor is tried again for which the machine had no thread."""

COROUTINE = 0x80  # inspect.CO_COROUTINE: `async def`

# Started eagerly, where Python can, a method that does not wait costs no round of the loop.
EAGERLY: dict[str, Any] = {"eager_start": True} if sys.version_info >= (3, 12) else {}

STOPPED = "_llm_net_stopped"
"""Marks a BaseException that has stopped an actor: where it goes on to, it is a mere failure."""

Then = Callable[[Any, BaseException | None], None]
"""What is to be done with what the actor's code gave, or raised."""

Awaited = tuple[Coroutine[Any, Any, Any], Then]
"""What of a step is left to await."""

_events = threading.Lock()


class Inbox:
    """An actor's mailbox and life.

    Attributes:
        stopped: Whether the actor is no longer alive.
    """

    __slots__ = (
        "_actor",
        "_busy",
        "_context",
        "_crew",
        "_event",
        "_mail",
        "_name",
        "_noticed",
        "_over",
        "_task",
        "_todo",
        "stopped",
    )

    _crew: Crew

    def __init__(self) -> None:
        self.stopped = False
        self._mail: deque[Envelope[Any]] = deque()
        self._actor: Any = None  # while it lives: a reference to one that stopped holds nothing
        # As with a thread of its own: context variables are the actor's, from message to message.
        self._context = contextvars.Context()
        self._todo: tuple[Callable[[], Any], Then] | None = None  # a hook, before the next message
        self._task: asyncio.Task[None] | None = None  # the loop alone would not keep it
        self._noticed = False  # whether somebody will look at the mail without being told
        self._busy = False  # whether the actor stands in line, or is in somebody's hands
        self._over = False  # whether there is nobody left to answer what is put
        self._event: threading.Event | None = None
        self._name = ""

    # -- any thread

    def put(self, envelope: Envelope[Any], /) -> None:
        """Accept a message; one that comes too late is answered at once."""
        self._mail.append(envelope)
        if self._over:
            self._bury()
        elif not self._noticed and self._actor is not None:
            self._notify()

    def get(self) -> Envelope[Any]:
        """Take the next message; for whoever holds the actor.

        Raises:
            IndexError: If there is none: nothing here waits for a message.
        """
        return self._mail.popleft()

    def empty(self) -> bool:
        """Whether no message waits."""
        return not self._mail

    def qsize(self) -> int:
        """How many messages wait."""
        return len(self._mail)

    def event(self) -> threading.Event:
        """Set once the actor is no longer alive; made when it is asked for."""
        with _events:
            if self._event is None:
                self._event = threading.Event()
        if self.stopped:
            self._event.set()
        return self._event

    def begin(self, actor: Any) -> None:
        """Begin the actor's life."""
        kind = cast("Any", type(actor))
        event = cast("dict[str, Any]", vars(actor)).get("actor_stopped")
        self._event = event or self._event  # Pykka's own __init__ makes one
        self._crew = crew_of(kind, daemon=kind.use_daemon_thread)
        self._crew.join(self, waits=kind.blocking or not kind.use_daemon_thread)
        self._next(actor, "on_start")
        self._actor = actor  # from here on, whoever puts a message gives notice of it
        if self._mail or self._todo is not None:
            self._notify()

    def retire(self) -> None:
        """The actor is no longer alive; by whoever holds it."""
        if self.stopped:
            return
        unregister(self._actor.actor_ref)
        self.stopped = True
        with _events:
            event = self._event
        if event is not None:
            event.set()

    def _notify(self) -> None:
        self._noticed = True
        self._crew.engine.run(self._notice)

    def _bury(self) -> None:
        while True:
            try:
                envelope = self._mail.popleft()
            except IndexError:
                return
            if envelope.reply_to is None:
                continue
            with suppress(Full):  # answered by somebody else
                if isinstance(envelope.message, _ActorStop):
                    envelope.reply_to.set(None)
                else:
                    dead = pykka.ActorDeadError(f"{self._name} stopped before handling the message")
                    envelope.reply_to.set_exception((type(dead), dead, None))

    # -- the engine's owner

    light = False  # it runs the actor's code in the loop

    def _notice(self) -> None:
        if self._over:
            self._bury()
        elif not self._busy:
            self._busy = True
            self._line_up()

    def _line_up(self) -> None:
        engine = self._crew.engine
        engine.ready.append(self)
        if not engine.awake:
            engine.wake()

    def serve(self) -> bool:
        """Handle what waits, or hand the actor to who can; always True, for the loop runs here."""
        quantum = QUANTUM
        while self._has_step():
            if not quantum:
                self._line_up()
                return True
            quantum -= 1
            if not self._suits_loop():
                self._hand_over()
                return True
            awaited = self._context.run(self._step)
            if awaited is not None and not self._await(*awaited):
                return True
        if self.stopped:
            self._end()
        else:
            self._busy = self._noticed = False
            if self._mail:  # put before the flag fell
                self._notify()
        return True

    def _suits_loop(self) -> bool:
        """Whether the next step does not block the loop."""
        kind = cast("Any", type(self._actor))
        if not kind.blocking:
            return True
        if self._todo is not None:
            return is_async(self._todo[0])
        message = self._mail[0].message
        if isinstance(message, ProxyCall):
            if len(message.attr_path) != 1:
                return False
            name = message.attr_path[0]
        elif isinstance(message, (_ActorStop, ProxyGetAttr, ProxySetAttr)):
            return isinstance(message, _ActorStop)
        else:
            name = "on_receive"
        # What the class does not tell goes to a thread, and comes back if it is to be awaited.
        method = None if name in vars(self._actor) else getattr(kind, name, None)
        return isinstance(method, FunctionType) and bool(method.__code__.co_flags & COROUTINE)

    def _hand_over(self) -> None:
        try:
            self._crew.submit(self._work)
        except RuntimeError as error:
            log.error("No thread for %s (%s); trying again", self._actor, error)  # noqa: TRY400
            self._crew.engine.call_later(RETRY_S, self._line_up)

    def _await(self, coroutine: Coroutine[Any, Any, Any], then: Then) -> bool:
        """Await the rest of a step; False if that is not done at once."""
        engine = self._crew.engine
        task = asyncio.Task(
            _drive(coroutine, then), loop=engine.loop, context=self._context, **EAGERLY
        )
        if task.done():
            return True
        engine.held += 1
        self._task = task
        task.add_done_callback(partial(self._awaited, coroutine, then))
        return False

    def _awaited(
        self, coroutine: Coroutine[Any, Any, Any], then: Then, task: asyncio.Task[None]
    ) -> None:
        self._crew.engine.held -= 1
        self._task = None
        if task.cancelled():  # before its first step, so that it could not say so itself
            coroutine.close()
            then(None, asyncio.CancelledError(f"{task.get_name()} was cancelled"))
        self._line_up()

    def _worked(self, awaited: Awaited | None) -> None:
        if awaited is None or self._await(*awaited):
            self.serve()

    def _end(self) -> None:
        actor, self._actor = self._actor, None
        self._name = str(actor.actor_ref)
        self._crew.leave(self)  # first, so that who waits for the end finds no thread left
        self._over = True
        self._bury()

    # -- whoever holds the actor: the engine's owner, or a thread of the crew

    def _work(self, rest: Callable[[], None]) -> None:
        """Take one step after the other, on a thread, until one is left to await."""
        awaited = None
        try:
            while awaited is None and self._has_step():
                awaited = self._context.run(self._step)
            rest()
        finally:
            self._crew.engine.post(partial(self._worked, awaited))

    def _has_step(self) -> bool:
        return self._todo is not None or (not self.stopped and bool(self._mail))

    def _step(self) -> Awaited | None:
        """Run a hook, or handle a message; gives what is left to await of it."""
        call: Callable[[], Any]
        then: Then
        if self._todo is not None:
            (call, then), self._todo = self._todo, None
        else:
            envelope = self.get()
            if isinstance(envelope.message, _ActorStop):
                self._stop(envelope)
                return None
            call = partial(self._actor._handle_receive, envelope.message)  # noqa: SLF001 - a seam
            then = partial(self._answer, envelope)
        try:
            value = call()
        except BaseException as raised:  # noqa: BLE001 - one actor's SystemExit is not the others'
            then(None, raised)
            return None
        if _is_to_await(value):
            return value, then
        then(value, None)
        return None

    def _answer(self, envelope: Envelope[Any], value: Any, raised: BaseException | None) -> None:
        """A message has been handled, well or badly."""
        reply = envelope.reply_to
        with suppress(Full):  # answered by somebody else
            if raised is not None:
                self._fail(raised, reply)
            elif reply is not None:
                reply.set(value)

    def _fail(self, raised: BaseException, reply: pykka.Future[Any] | None) -> None:
        actor = self._actor
        info = (type(raised), raised, raised.__traceback__)
        try:
            if not isinstance(raised, (Exception, asyncio.CancelledError)) and (
                STOPPED not in vars(raised)
            ):
                vars(raised)[STOPPED] = True
                log.error("%r in %s stops that actor, and no other:", raised, actor, exc_info=info)
                self.retire()
                self._next(actor, "on_stop")
            elif reply is None:
                actor._handle_failure(*info)  # noqa: SLF001 - a seam
                self._next(actor, "on_failure", *info)
            else:
                log.info("Exception returned from %s to caller:", actor, exc_info=info)
        finally:
            if reply is not None:
                reply.set_exception(info)

    def _stop(self, envelope: Envelope[Any]) -> None:
        self.retire()
        log.debug("Stopped %s", self._actor)
        self._mail.appendleft(envelope)  # to be answered when all is over
        self._next(self._actor, "on_stop")

    def _next(self, actor: Any, name: str, *arguments: Any) -> None:
        """Have this hook of the actor run before anything else, if it has one."""
        hook = getattr(actor, name)
        if getattr(hook, "__func__", None) is not getattr(pykka.Actor, name):
            call = partial(hook, *arguments) if arguments else hook
            self._todo = (call, partial(_hooked, actor))


def _is_to_await(value: Any) -> TypeGuard[Coroutine[Any, Any, Any]]:
    return isinstance(value, Coroutine)  # no other awaitable: a future is a value like any other


def _hooked(actor: Any, _value: Any, raised: BaseException | None) -> None:
    if raised is not None:
        actor._handle_failure(type(raised), raised, raised.__traceback__)  # noqa: SLF001 - a seam


async def _drive(coroutine: Coroutine[Any, Any, Any], then: Then) -> None:
    try:
        value = await coroutine
    except BaseException as raised:  # noqa: BLE001 - one actor's SystemExit is not the others'
        then(None, raised)
    else:
        then(value, None)
