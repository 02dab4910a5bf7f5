"""A Pykka actor without a thread of its own: `EventLoopActor`, in the place of `ThreadingActor`.

Floor 2. Here stand Pykka's seams; the life behind them is the inbox's, its threads are the crew's.

Invariant: whatever Pykka promises of a `ThreadingActor` and its reference holds here too, with one
exception on purpose: a `BaseException` that is no `Exception` (`SystemExit`, `KeyboardInterrupt`)
stops the actor that raised it, never the others. It is logged, and goes to whoever asked.
"""

from __future__ import annotations

import threading
import uuid
import weakref
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar, cast

import pykka
from pykka.messages import _ActorStop  # pyright: ignore[reportPrivateUsage]

from llm_net.errors import UsageError
from llm_net.futures import EventLoopFuture, after, refuse_to_block
from llm_net.inbox import Inbox, log
from llm_net.registry import register, unregister
from llm_net.runtime import shared_runtime

__all__ = ["EventLoopActor", "EventLoopActorRef"]

A = TypeVar("A", bound=pykka.Actor)


class _Late:
    """An attribute that is made when it is first asked for; most actors' never is."""

    def __init__(self, make: Callable[[Any], Any]) -> None:
        self._make = make
        self._name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, thing: Any, owner: type | None = None) -> Any:
        if thing is None:
            return self
        # setdefault is atomic: two threads that ask at once get the same.
        return cast("dict[str, Any]", vars(thing)).setdefault(self._name, self._make(thing))


def _late(make: Callable[[Any], Any]) -> Any:
    return _Late(make)


class EventLoopActorRef(pykka.ActorRef[A]):
    """A reference to an event-loop actor; given by `start`."""

    actor_urn: str = _late(lambda _ref: uuid.uuid4().urn)
    actor_stopped: threading.Event = _late(lambda ref: ref.actor_inbox.event())

    def __init__(self, actor: A) -> None:
        # Not calling Pykka's: it would ask for the UUID and the Event of every actor.
        self._actor_weakref = weakref.ref(actor)
        self.actor_class = type(actor)
        self.actor_inbox = actor.actor_inbox

    def is_alive(self) -> bool:
        """Whether the actor has not stopped."""
        inbox = self.actor_inbox
        return not inbox.stopped if isinstance(inbox, Inbox) else super().is_alive()

    def ask(self, message: Any, *, block: bool = True, timeout: float | None = None) -> Any:
        """See `pykka.ActorRef.ask`.

        Raises:
            UsageError: If this would block the event loop that the actors live on; nothing is sent.
        """
        if block:
            refuse_to_block()
        return super().ask(message, block=block, timeout=timeout)

    def stop(self, *, block: bool = True, timeout: float | None = None) -> Any:
        """See `pykka.ActorRef.stop`.

        Raises:
            UsageError: If this would block the event loop that the actors live on; nothing is sent.
        """
        if block:
            refuse_to_block()
        asked = self.ask(_ActorStop(), block=False)
        stopped = after(EventLoopFuture[bool](), asked)
        stopped.set_get_hook(partial(_was_alive, asked))
        return stopped.get(timeout=timeout) if block else stopped


class EventLoopActor(pykka.Actor):
    """An actor that costs no thread: subclass it as you would `pykka.ThreadingActor`.

    ```python
    from llm_net.event_loop_actor import EventLoopActor

    class Adder(EventLoopActor):
        def add(self, a: int, b: int) -> int:
            return a + b

        async def add_later(self, a: int, b: int) -> int:
            return a + b

    adder = Adder.start().proxy()
    print(adder.add(1, 2).get(), adder.add_later(3, 4).get())
    adder.actor_ref.stop()
    ```

    <!-- output -->
    ```text
    3 7
    ```

    Any method and hook may be `async def`, `on_receive` too. It runs on the event loop that all
    event-loop actors share, and as long as it waits the actor takes no other message. There, await
    what you ask for (`await proxy.method()`, `await ref.ask(message, block=False)`): `get()` would
    block the loop and is refused.

    Context variables are the actor's own, as in Pykka. A thread is not: between two messages it may
    serve another actor of the class, so what belongs to one thread (thread-locals, a connection of
    `sqlite3`) is not to be kept from message to message where the class has several actors.

    Attributes:
        blocking: Whether the sync methods may block. They run on threads then, which bear the
            class's name; as many as there are calls at this moment, and one that waits as long as
            an actor of the class lives. If False, they run on the event loop, which is faster.
        use_daemon_thread: Whether the program may end while actors of the class live, as in Pykka.
    """

    blocking: ClassVar[bool] = True
    use_daemon_thread: ClassVar[bool] = False

    actor_urn: str = _late(lambda actor: actor.actor_ref.actor_urn)
    actor_stopped: threading.Event = _late(lambda actor: actor.actor_ref.actor_stopped)

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        # Not calling Pykka's, for the same reason; an actor that does call it works as well.
        self.actor_inbox = self._create_actor_inbox()
        self._actor_ref = EventLoopActorRef(self)

    @classmethod
    def start(  # pyright: ignore[reportIncompatibleMethodOverride] - it is Pykka's own signature
        cls, *args: Any, **kwargs: Any
    ) -> pykka.ActorRef[Self]:
        """Start an actor; the arguments go to its constructor.

        Raises:
            UsageError: If the constructor does not call the one of this class.
        """
        actor = cls(*args, **kwargs)
        try:
            ref = actor.actor_ref
        except AttributeError:
            msg = (
                f"{cls.__name__}.__init__() has not called super().__init__(), so the actor has no "
                "mailbox. Call it before anything else."
            )
            raise UsageError(msg) from None
        register(ref)
        log.debug("Starting %s", ref)
        try:
            actor._start_actor_loop()
        except BaseException:
            unregister(ref)
            raise
        return ref

    # -- Pykka's seams

    @staticmethod
    def _create_actor_inbox() -> Inbox:
        return Inbox()

    @staticmethod
    def _create_future() -> pykka.Future[Any]:
        return EventLoopFuture()

    def _start_actor_loop(self) -> None:
        assert isinstance(self.actor_inbox, Inbox), "the inbox is what leads the actor's life"
        self.actor_inbox.begin(self)

    def _handle_failure(
        self,
        exception_type: type[BaseException] | None,  # noqa: ARG002 - the exception knows it
        exception_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Log what nobody asked for, and live no longer."""
        log.error(
            "Unhandled exception in %s:",
            self,
            exc_info=exception_value and exception_value.with_traceback(traceback),
        )
        assert isinstance(self.actor_inbox, Inbox), "the inbox is what leads the actor's life"
        self.actor_inbox.retire()

    if TYPE_CHECKING:
        # Pykka declares that its hooks return None; here they may be `async def`. This satisfies
        # pyright; mypy holds a hook against Pykka's declaration as well, and has to be told.
        def on_start(self) -> Any: ...  # noqa: D102
        def on_stop(self) -> Any: ...  # noqa: D102
        def on_failure(  # noqa: D102
            self,
            exception_type: type[BaseException] | None,
            exception_value: BaseException | None,
            traceback: TracebackType | None,
        ) -> Any: ...


def _was_alive(asked: pykka.Future[Any], timeout: float | None) -> bool:
    """Whether there was an actor to stop; with the last one, the engine's thread has ended, too."""
    try:
        asked.get(timeout=timeout)
    except pykka.ActorDeadError:
        return False
    shared_runtime().engine.join()
    return True
