"""References: how the world outside, and other agents, speak to a live agent.

Floor 2. All words may be used from any thread. A reference is a `pykka.ActorRef`; it outlives its
agent, and then says that the agent has stopped.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from enum import Enum
from functools import partial
from types import TracebackType
from typing import Any, Final, Literal, Self, overload

import pykka
from pykka.messages import ProxyCall, ProxyGetAttr, ProxySetAttr

from llm_net.address import Address
from llm_net.asking import aask_from, answer_to, ask_from, late, limit, no_entry, wake_here, watch
from llm_net.asks import Ask, Stream
from llm_net.cell import Cell
from llm_net.engine import Signal, blocks_itself
from llm_net.errors import AgentStopped, AskTimeout, UsageError
from llm_net.handlers import Call
from llm_net.mailbox import Letter, Reason
from llm_net.message import Message
from llm_net.node import Node
from llm_net.speech import Admissions, Answers, accept, and_wait, until_taken, verdict, within
from llm_net.turn import current_turn

__all__ = ["DEFAULT", "AgentRef", "AskFuture", "Default", "as_message"]


class Default(Enum):
    """Stands for a timeout that is not given, since None is one: for ever."""

    DEFAULT = "the runtime's ask_timeout"


DEFAULT: Final = Default.DEFAULT
Timeout = float | Default | None


def as_message(message: Any) -> Message:
    """A message, or a text as the body of one.

    Raises:
        UsageError: If it is neither.
    """
    if isinstance(message, Message):
        return message
    if isinstance(message, str):
        return Message(message)
    msg = (
        f"A {type(message).__name__} ({message!r:.80}) cannot be sent to an agent: "
        "give a Message, or a text for its body."
    )
    raise UsageError(msg)


class AgentRef(pykka.ActorRef[Any]):
    """A reference to a live agent; given by `start`, `agent.ref` and the sender of a message."""

    def __init__(self, cell: Cell) -> None:
        # Pykka's constructor would make an Event, a UUID and a weak reference for each agent.
        self._node: Node = cell.node
        self._cell: Cell | None = cell
        self._runtime = cell.runtime
        self._final: tuple[str, str, type[Any]] | None = None

    # -- what Pykka's users find; what are attributes there are properties of the cell here

    @property
    def actor_class(self) -> type[Any]:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride]
        """The agent's class."""
        return self._cell.node.kind if self._cell is not None else self._last()[2]

    @property
    def actor_urn(self) -> str:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride]
        """A name that no other actor of this process has."""
        return self._cell.actor_urn if self._cell is not None else self._last()[1]

    @property
    def actor_inbox(self) -> Any:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride]
        """The mailbox; only the cell itself may touch it."""
        return () if self._cell is None else self._cell.actor_inbox

    @property
    def actor_stopped(self) -> threading.Event:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride]
        """Set when the agent is no longer live."""
        if self._cell is not None:
            return self._cell.actor_stopped
        stopped = threading.Event()
        stopped.set()
        return stopped

    @property
    def _actor_weakref(self) -> Callable[[], Any]:  # type: ignore[override]
        # A proxy looks at the agent's fields and methods, not at the cell's.
        return lambda: None if self._cell is None else self._cell.agent

    def _last(self) -> tuple[str, str, type[Any]]:
        assert self._final is not None
        return self._final

    def retire(self, cell: Cell) -> None:
        """The agent is no longer live; for its cell."""
        self._final = (cell.node.path, cell.actor_urn, cell.node.kind)
        self._cell = None

    def __address__(self) -> Address:
        return self._node.address

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # An agent that is copied goes on speaking to whom it knows.
        return self

    def __str__(self) -> str:
        return f"{self.actor_class.__name__} ({self.path})"

    def __repr__(self) -> str:
        return f"<AgentRef for {self}>"

    @property
    def path(self) -> str:
        """The agent's path, from the outermost network's name downwards."""
        return self._cell.node.path if self._cell is not None else self._last()[0]

    def is_alive(self) -> bool:
        """Whether the agent is live."""
        return self._cell is not None

    # -- tell

    def tell(self, message: Message | str | Any) -> None:
        """Send a message, and go on.

        Raises:
            AgentStopped: If the agent has stopped; the message is a dead letter, too.
            MailboxFull: If the mailbox refuses it.
            UsageError: If it is nothing that can be sent.
        """
        if isinstance(message, (ProxyCall, ProxyGetAttr, ProxySetAttr)):
            self._call(message, None)
        else:
            self._put(as_message(message))

    def _put(self, message: Message) -> Admissions:
        """Set a message out that nobody waits for; wait for room, if this thread may."""
        call = self._setting_out(self._there(message), message, None)
        engine = self._runtime.engine
        if engine.owned:
            return verdict(call())
        if self._runtime.bounded:
            and_wait(self._runtime, lambda: verdict(call()))
        else:
            engine.post(call)
        return None

    async def atell(self, message: Message | str) -> None:
        """Send a message, and wait until the mailbox, if it is full, has taken it.

        Raises:
            AgentStopped: If the agent has stopped; the message is a dead letter, too.
            MailboxFull: If the mailbox refuses it.
            UsageError: If it is nothing that can be sent.
        """
        engine = self._runtime.engine
        if engine.owned:
            await until_taken(self._put(as_message(message)))
        elif self._runtime.bounded:
            await asyncio.to_thread(self.tell, message)
        else:
            self.tell(message)

    def _send(self, message: Message, sink: Any) -> Cell:
        """Set a message out that somebody waits for; gives the cell it goes to."""
        cell = self._there(message)
        cell.engine.run(self._setting_out(cell, message, sink))
        return cell

    def _there(self, message: Message) -> Cell:
        """The cell that a message goes to.

        Raises:
            AgentStopped: If the agent has stopped; the message is a dead letter.
        """
        cell = self._cell
        if cell is None:
            turn = current_turn()
            here = within(turn, self._runtime)
            scope = self._runtime.world if here is None else here.scope
            lost = Letter(message, scope, 0)
            bury = partial(self._runtime.bury, lost, Reason.STOPPED, self.path, counted=False)
            self._runtime.engine.run(bury)
            msg = f"The agent {self.path!r} has stopped. Start it again to speak to it."
            raise AgentStopped(msg)
        return cell

    def _setting_out(self, cell: Cell, message: Message, sink: Any) -> Callable[[], Answers]:
        """The call, by the owner of the engine, that puts a message into the mailbox."""
        turn = current_turn()
        if turn is not None and turn.runtime is not cell.runtime:
            if message.sender is None:
                message = message.filled(turn.cell.node.address, message.receiver)
            turn = None
        return partial(
            accept,
            cell.node,
            message,
            turn,
            sender=None if turn is None else turn.cell,
            sink=sink,
            runtime=cell.runtime,
        )

    # -- ask

    # Narrower than Pykka's on purpose: an agent is asked messages, and answers with one.
    @overload  # type: ignore[override]
    def ask(
        self, message: Message | str | Any, *, block: Literal[False], timeout: Timeout = ...
    ) -> pykka.Future[Any]: ...
    @overload
    def ask(
        self, message: Message | str, *, block: Literal[True] = ..., timeout: Timeout = ...
    ) -> Message | None: ...
    def ask(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, message: Any, *, block: bool = True, timeout: Timeout = DEFAULT
    ) -> Any:
        """Send a message and wait for the first reply.

        Args:
            message: A message, or a text for the body of one.
            block: False gives a future at once, which can also be awaited.
            timeout: Seconds to wait; None is for ever. Default: the runtime's `ask_timeout`.

        Returns:
            The reply, or None if the turn ended without one.

        Raises:
            HandlerError: If the handler raised; has path, message and cause.
            AskTimeout: If no reply came in time.
            AgentStopped: If the agent has stopped, or stops before it comes to the message.
            AskCycle: If the ask would close a circle of asks.
            UsageError: If the agent lives on the event loop that this would block, or it is a
                network without an entry.
        """
        if isinstance(message, (ProxyCall, ProxyGetAttr, ProxySetAttr)):
            future = AskFuture(self, Ask(), None, raw=True)
            self._call(message, future)
            return future.get() if block else future
        message = as_message(message)
        if not block:
            return self._begin(message, timeout)
        self._refuse_owner()
        turn = current_turn()
        if turn is not None and turn.runtime is self._runtime:
            return ask_from(turn.cell, self, message, self._seconds(timeout))
        engine = self._runtime.engine
        ask = Ask()
        signal = engine.event()
        ask.wake = signal.set
        self._set_out(message, ask)
        seconds = self._seconds(timeout)
        if not engine.wait(lambda: ask.done, signal, seconds):
            error = late(message, self.path, seconds or 0)
            engine.run(partial(ask.give_up, error))
            raise error
        return ask.result()

    async def aask(self, message: Message | str, *, timeout: Timeout = DEFAULT) -> Message | None:
        """Send a message and await the first reply; see `ask`."""
        message = as_message(message)
        seconds = self._seconds(timeout)
        turn = current_turn()
        if turn is not None and turn.runtime is self._runtime:
            return await aask_from(turn.cell, self, message, seconds)
        engine = self._runtime.engine
        if not engine.owned:
            return await self._begin(message, timeout)  # type: ignore[no-any-return]
        ask = Ask()
        self._set_out(message, ask)
        if not ask.done:
            engine.serve_until(ask)
            limit(engine, ask, message, self._node, seconds)
        return await answer_to(ask, engine)

    def _refuse_owner(self) -> None:
        """Refuse to block the loop that the agent lives on, before anything is done.

        Raises:
            UsageError: If this is that loop.
        """
        if self._runtime.engine.owned:
            raise blocks_itself()

    def _seconds(self, timeout: Timeout) -> float | None:
        return self._runtime.ask_timeout if isinstance(timeout, Default) else timeout

    def _begin(self, message: Message, timeout: Timeout) -> AskFuture:
        ask = Ask()
        future = AskFuture(self, ask, self._seconds(timeout), message=message)
        self._set_out(message, ask)
        return future

    def _set_out(self, message: Message, ask: Ask) -> None:
        self._check_entry(message)
        try:
            self._send(message, ask)
        except AgentStopped as stopped:
            ask.give_up(stopped)

    def _check_entry(self, message: Message) -> None:
        cell = self._cell
        if cell is not None and cell.node.is_network and not cell.node.doors(message.method):
            raise no_entry(self.path)

    def _call(self, message: Any, future: AskFuture | None) -> None:
        def run(agent: Any) -> None:
            try:
                value = _apply(agent, message)
            except Exception:
                if future is None:
                    raise
                future.set_exception(sys.exc_info())
            else:
                if future is not None:
                    future.set(value)

        try:
            self._send(Call.of(run), _Lost(future) if future is not None else None)
        except AgentStopped:
            if future is None:
                raise
            future.set_exception(sys.exc_info())

    # -- streams

    def stream(self, message: Message | str, *, timeout: Timeout = DEFAULT) -> Iterator[Message]:
        """Send a message and iterate over all replies of the turn.

        Args:
            message: A message, or a text for the body of one.
            timeout: Seconds to wait for each reply; None is for ever.

        Raises:
            HandlerError: After the replies that came, if the handler raised.
            AskTimeout: If the next reply does not come in time.
        """
        message = as_message(message)
        self._refuse_owner()
        self._check_entry(message)
        stream = Stream()
        event = self._runtime.engine.event()
        stream.wake = event.set
        cell = self._send(message, stream)
        self._watch(stream)
        return self._replies(cell, stream, event, message, self._seconds(timeout))

    def _watch(self, waiting: Ask | Stream) -> None:
        """If a turn of this runtime waits here, let a circle be found."""
        turn = within(current_turn(), self._runtime)
        if turn is not None:
            self._runtime.engine.run(partial(watch, turn, waiting))

    def _replies(
        self,
        cell: Cell,
        stream: Stream,
        event: Signal,
        message: Message,
        timeout: float | None,
    ) -> Iterator[Message]:
        try:
            while True:
                there = cell.engine.wait(
                    lambda: bool(stream.replies) or stream.done, event, timeout
                )
                if not there and timeout is not None:
                    raise late(message, self.path, timeout)
                if not stream.replies:
                    break
                yield stream.replies.popleft()
            if stream.error is not None:
                raise stream.error
        finally:
            cell.engine.run(stream.leave)

    async def astream(
        self, message: Message | str, *, timeout: Timeout = DEFAULT
    ) -> AsyncIterator[Message]:
        """Send a message and iterate over all replies of the turn; see `stream`."""
        message = as_message(message)
        self._check_entry(message)
        stream = Stream()
        seconds = self._seconds(timeout)
        future = wake_here(stream)
        cell = self._send(message, stream)
        self._watch(stream)
        try:
            while True:
                if not stream.replies and not stream.done:
                    try:
                        await asyncio.wait_for(future, seconds)
                    except TimeoutError:
                        raise late(message, self.path, seconds or 0) from None
                    future = wake_here(stream)
                    continue
                if not stream.replies:
                    break
                yield stream.replies.popleft()
            if stream.error is not None:
                raise stream.error
        finally:
            cell.engine.run(stream.leave)

    # -- stop

    @overload  # type: ignore[override]
    def stop(
        self, *, block: Literal[False], timeout: float | None = ..., drain: bool = ...
    ) -> pykka.Future[bool]: ...
    @overload
    def stop(
        self, *, block: Literal[True] = ..., timeout: float | None = ..., drain: bool = ...
    ) -> bool: ...
    def stop(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, *, block: bool = True, timeout: float | None = None, drain: bool = True
    ) -> Any:
        """Stop the agent, and if it is a network, all agents in it.

        Args:
            block: Whether to wait until it has stopped; False gives a future at once.
            timeout: Seconds to wait; None is for ever.
            drain: True handles the messages that were sent before, and lets later ones die. False
                overtakes them: they die, and open async handlers are cancelled. A sync handler on a
                thread cannot be interrupted; its result is discarded, and the agent is stopped when
                it returns.

        Returns:
            Whether the agent was live.

        Raises:
            AskTimeout: If it takes longer than `timeout`; names what has not returned.
        """
        if block:
            self._refuse_owner()
        ask = Ask()
        future = _StopFuture(self, ask, timeout)
        cell = self._cell
        if cell is None:
            ask.give_up(AgentStopped(f"The agent {self.path!r} had stopped before."))
        else:
            cell.engine.run(partial(self._begin_stop, cell, ask, drain=drain))
        return future.get() if block else future

    async def astop(self, *, timeout: float | None = None, drain: bool = True) -> bool:
        """Stop the agent and await its end; see `stop`."""
        return await self.stop(block=False, timeout=timeout, drain=drain)

    def _begin_stop(self, cell: Cell, ask: Ask, *, drain: bool) -> None:
        if cell.stopped:
            ask.give_up(AgentStopped(f"The agent {self.path!r} had stopped before."))
            return
        cell.when_over.append(partial(ask.ended, None))
        if drain:
            cell.stop_in_order()
        else:
            cell.stop_now()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop(drain=kind is None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.astop(drain=kind is None)


class AskFuture(pykka.Future[Any]):
    """The answer to come: `get()` blocks for it, `await` awaits it."""

    def __init__(
        self,
        ref: AgentRef,
        ask: Ask,
        timeout: float | None,
        *,
        message: Message | None = None,
        raw: bool = False,
    ) -> None:
        super().__init__()
        self._ref = ref
        self._engine = ref._runtime.engine  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        self._ask = ask
        self._message = message
        self._timeout = timeout
        self._raw = raw
        self._value: Any = None
        self._event = self._engine.event()
        ask.wake = self._event.set

    def set(self, value: Any = None) -> None:
        """The answer is there."""
        self._value = value
        self._ask.ended(None)

    def set_exception(self, exc_info: Any = None) -> None:
        """The answer is an exception."""
        error: BaseException | None = (exc_info or sys.exc_info())[1]
        assert error is not None, "there is an exception to set"
        self._ask.give_up(error)

    def get(self, *, timeout: float | None = None) -> Any:
        """Block until the answer is there; see `AgentRef.ask` for what it raises."""
        limit = self._timeout if timeout is None else timeout
        self._ref._watch(self._ask)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        if not self._engine.wait(lambda: self._ask.done, self._event, limit):
            error = self._late(limit)
            self._engine.run(partial(self._ask.give_up, error))
            raise error
        return self._result()

    def __await__(self) -> Generator[Any, None, Any]:
        return self._wait().__await__()

    async def _wait(self) -> Any:
        self._ref._watch(self._ask)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        if not self._ask.done and self._engine.host == "inline":
            # Somebody has to pump it, and it cannot be this loop.
            done = await self._engine.wait_beside(
                lambda: self._ask.done, self._event, self._timeout
            )
            if not done:
                error = self._late(self._timeout)
                self._engine.run(partial(self._ask.give_up, error))
                raise error
        elif not self._ask.done:
            future = wake_here(self._ask)
            if self._ask.done and not future.done():
                future.set_result(None)  # settled between the look and the wake
            try:
                await asyncio.wait_for(future, self._timeout)
            except TimeoutError:
                error = self._late(self._timeout)
                self._engine.run(partial(self._ask.give_up, error))
                raise error from None
            except asyncio.CancelledError:
                gone = AskTimeout("The asker was cancelled.")
                self._engine.run(partial(self._ask.give_up, gone))
                raise
        return self._result()

    def _result(self) -> Any:
        reply = self._ask.result()
        return self._value if self._raw else reply

    def _late(self, timeout: float | None) -> AskTimeout:
        if self._message is None:
            return AskTimeout(f"No answer from {self._ref.path!r} within {timeout:g} s.")
        return late(self._message, self._ref.path, timeout or 0)


class _StopFuture(AskFuture):
    """The end of an agent to come."""

    def _result(self) -> bool:
        if isinstance(self._ask.error, AgentStopped):
            return False
        self._engine.join()
        self._ask.result()
        return True

    def _late(self, timeout: float | None) -> AskTimeout:
        cell = self._ref._cell  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        busy = [] if cell is None else cell.busy()
        open_ = [] if cell is None else [c.node.path for c in cell.tree() if c.turns]
        what = (
            f"sync handlers that have not returned: {', '.join(map(repr, busy))}"
            if busy
            else f"agents still at work: {', '.join(map(repr, open_))}"
        )
        return AskTimeout(
            f"{self._ref.path!r} has not stopped within {timeout:g} s; {what}. "
            "Wait longer, or stop with drain=False, which discards what is queued."
        )


class _Lost:
    """Tells the future of a proxy's call that the agent stopped before it."""

    def __init__(self, future: AskFuture) -> None:
        self._future = future
        self.expired = False
        self.light = False
        self.wants = False
        self.targets: tuple[Any, ...] = ()

    def expect(self, count: int) -> None:
        """One turn makes the call."""

    def take(self, reply: Message) -> None:
        """A call has no replies."""

    def ended(self, error: BaseException | None) -> None:
        """The turn is over."""
        if error is not None:
            self._future.set_exception((type(error), error, error.__traceback__))


def _apply(agent: Any, message: Any) -> Any:
    """Do to the agent what a proxy asks for."""
    *above, name = message.attr_path
    target = agent
    for step in above:
        target = getattr(target, step)
    if isinstance(message, ProxySetAttr):
        return setattr(target, name, message.value)
    value = getattr(target, name)
    return value(*message.args, **message.kwargs) if isinstance(message, ProxyCall) else value
