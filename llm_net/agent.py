"""The agent: a pydantic model whose fields are its state and whose methods are its handlers.

Floor 3. An agent is data and behaviour; how it runs is the cell's business.
"""

from __future__ import annotations

import asyncio
import copy
import inspect
import random
from collections.abc import Callable, Generator
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator

from llm_net.address import Address
from llm_net.errors import UsageError
from llm_net.handlers import (
    HOOKS,
    Behaviour,
    behaviour_of,
    defining_names,
    refuse_reserved,
)
from llm_net.life import go_live
from llm_net.mailbox import Mailbox
from llm_net.message import Message, Role, snake_case
from llm_net.node import TOPOLOGY, Cancellable, Ear, Node, Voice
from llm_net.ref import DEFAULT, AgentRef, Default, as_message
from llm_net.runtime import Runtime, no_handler, running_runtime, shared_runtime
from llm_net.scope import Statistics
from llm_net.supervision import Supervision

if TYPE_CHECKING:
    from llm_net.network import GenNetwork
    from llm_net.routing import Listener

__all__ = ["LIBRARY", "GenAgent", "Starting", "check_name"]

LIBRARY: set[type] = set()
"""The classes of this package that users derive agents from; messages never reach their names."""

HOOK_NAMES = frozenset({*HOOKS, *(f"a{hook}" for hook in HOOKS), "unhandled", "aunhandled"})


def check_name(name: str) -> str:
    """The name, if it can be one step of a path.

    Raises:
        ValueError: If it cannot.
    """
    if not name or "/" in name or name in {".", ".."}:
        msg = (
            f"{name!r} is no name: it is one step of a path as in 'firm/sales/worker', "
            "so it must not be empty, '.' or '..', and must not contain '/'"
        )
        raise ValueError(msg)
    return name


class GenAgent(BaseModel):
    """An actor: it holds state, answers messages one at a time, and emits events.

    Fields are the state. A public method with one parameter besides `self`, called `message` or
    annotated as one, is a handler: a message reaches it by naming it. Method `m` goes to `am` if
    that is async, else to `m`. What a handler returns or yields is the reply if the message was
    addressed to the agent, and is emitted if it was overheard along an edge.

    ```python
    from llm_net import GenAgent, Message

    class Counter(GenAgent):
        count: int = 0

        def step(self, message: Message) -> str:
            self.count += 1
            return f"{self.count}: {message.body}"

    with Counter(name="counter").start() as counter:
        print(counter.ask("hello").body)
    ```

    Async handlers share the event loop. Sync handlers run on threads, for they may block, unless
    the class says `blocking = False`.

    Constructing an agent starts nothing. Override `on_start`, `on_stop` and
    `on_failure(kind, error, traceback)`, or their async twins `aon_start` and so on, for the
    beginning, the end, and turns that raised.

    Attributes:
        name: Unique within its network, without `/`. Default: the class's name in snake case.
        role: The role of the messages it writes.
        description: What it is for. Default: the class's docstring.
        supervision: What answers its failures; default: what its network says for its members.
        mailbox: The bound of its mailbox; default: what its network says for its members, or none.
        blocking: Whether the sync handlers of this class may block, and so run on threads.
        concurrency: How many messages an agent of this class handles at once.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")
    __slots__ = ("__weakref__", "_node")

    blocking: ClassVar[bool] = True
    concurrency: ClassVar[int] = 1

    name: str = Field(default="gen_agent", frozen=True)
    role: Role = Role.ASSISTANT
    description: str = ""
    supervision: Supervision | None = Field(default=None, exclude=True, repr=False)
    mailbox: Mailbox | None = Field(default=None, exclude=True, repr=False)

    # A slot, which neither pydantic nor a type checker is to take for a field.
    _node: ClassVar[Node]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:  # noqa: ARG004 - pydantic's __init__ has them
        """Give the agent its place; so copies and unpickled agents have one of their own, too."""
        agent = super().__new__(cls)
        _set_node(agent, cls._make_node(agent))
        return agent

    def __init_subclass__(cls, **kwargs: Any) -> None:
        # Runs before pydantic collects the fields, so these defaults are simply in place.
        super().__init_subclass__(**kwargs)
        ours = cls.__module__ in _OURS
        doc = "" if ours else inspect.cleandoc(cls.__dict__.get("__doc__") or "")
        own = dict(vars(cls).get("__annotations__", {}))
        for field, default in (("name", snake_case(cls.__name__)), ("description", doc)):
            if field not in cls.__dict__ and default:
                own.setdefault(field, "str")
                setattr(cls, field, default)
        cls.__annotations__ = own
        if isinstance(vars(cls).get("role"), str):
            cls.role = Role(vars(cls)["role"])
        cls._names_ = defining_names()
        if not ours:
            refuse_reserved(cls, frozenset(LIBRARY), HOOK_NAMES)

    _names_: ClassVar[dict[str, Any]] = {}

    @field_validator("name")
    @classmethod
    def _name_is_a_step_of_a_path(cls, name: str) -> str:
        return check_name(name)

    @classmethod
    def _behaviour(cls) -> Behaviour:
        behaviour: Behaviour | None = cls.__dict__.get("_behaviour_")
        if behaviour is None:
            behaviour = behaviour_of(
                cls,
                frozenset(LIBRARY),
                cls._names_,
                blocking=cls.blocking,
                concurrency=cls.concurrency,
            )
            type.__setattr__(cls, "_behaviour_", behaviour)
        return behaviour

    @classmethod
    def _make_node(cls, agent: Any) -> Node:
        return Node(agent, cls._behaviour())

    def __node__(self) -> Node:
        """The agent's place; for the package."""
        return self._node

    def __address__(self) -> Address:
        return self._node.address

    # -- where it stands

    @property
    def path(self) -> str:
        """From the outermost network's name downwards, as in `firm/sales/worker`."""
        return self._node.path

    @property
    def network(self) -> GenNetwork | None:
        """The network that the agent is a member of."""
        parent = self._node.parent
        return None if parent is None else parent.agent

    @property
    def ref(self) -> AgentRef:
        """The reference of the live agent, or of its latest life.

        Raises:
            UsageError: If it was never started.
        """
        return self._node.ref

    def now(self) -> datetime:
        """The time on the runtime's clock, aware, in UTC."""
        cell = self._node.cell
        return datetime.now(UTC) if cell is None else cell.runtime.now()

    @property
    def random(self) -> random.Random:
        """The agent's own random source, seeded by its runtime's seed and its path."""
        node = self._node
        if node.random is None:
            node.random = (
                random.Random()  # noqa: S311 - for behaviour, not for secrets
                if node.cell is None
                else node.cell.runtime.random(node.path)
            )
        return node.random

    def statistics(self) -> Statistics:
        """The counts of the present life: what the agent sent, and what came to it."""
        cell = self._node.cell
        if cell is None:
            return Statistics()
        return cell.runtime.read(cell.statistics)

    # -- life

    def start(self, *, runtime: Runtime | None = None) -> AgentRef:
        """Make this very object live: its fields can be read while it runs, and after.

        Args:
            runtime: Where it runs. Default: one that all such agents share, whose event loop has a
                thread of its own.

        Returns:
            A reference; as a context manager it stops the agent at the end.

        Raises:
            UsageError: If the agent is live, or a member of a network.
        """
        return go_live(self._node, runtime or shared_runtime())

    def astart(self, *, runtime: Runtime | None = None) -> Starting:
        """Start on the running event loop: `await agent.astart()`, or `async with agent.astart()`.

        Raises:
            UsageError: As `start`; and if no event loop runs here.
        """
        return Starting(lambda: self.start(runtime=runtime or running_runtime()))

    def stop(self, *, drain: bool = True) -> None:
        """Ask the agent to stop, and go on; `ref.stop()` waits for it.

        Args:
            drain: Whether messages that were sent before are still handled.

        Raises:
            UsageError: If it is not live.
        """
        self._voice()
        self._node.ref.stop(block=False, drain=drain)

    # -- speaking, from a handler

    def _voice(self) -> Voice:
        """What takes the words said by this agent: its cell's, or a test's."""
        voice = self._node.cell or self._node.stand_in
        if voice is not None:
            return voice
        raise UsageError(
            f"The agent {self.path!r} is not live, so it cannot send, emit or ask. "
            "Start it, or the network it belongs to; to test a handler by calling it, use "
            "llm_net.testing.collect(agent)."
        )

    def send(self, message: Message | str) -> None:
        """Send a message to its receiver.

        Without a receiver, or with `reply_to` set to the handled message, it is the reply.

        Raises:
            UsageError: If the agent is not live, or this is no message.
        """
        self._voice().send(message)

    async def asend(self, message: Message | str) -> None:
        """Send a message, and wait until a mailbox that is full has taken it; see `send`.

        Raises:
            MailboxFull: If the mailbox refuses, or a circle of full mailboxes would never move.
        """
        await self._voice().asend(message)

    def emit(self, event: str, what: Message | str) -> None:
        """Let everybody who listens to this event of ours hear a message.

        Once along each edge of the event, in the order in which these were first linked.

        Args:
            event: The event's name.
            what: A message, which keeps its own `method`, or a text, whose method is the event.

        Raises:
            UsageError: If the agent is not live, or this is no message.
        """
        cell = self._node.cell
        (self._voice() if cell is None else cell).emit(event, what)

    async def aemit(self, event: str, what: Message | str) -> None:
        """Emit, and wait until all full mailboxes have taken it; see `emit` and `asend`."""
        await self._voice().aemit(event, what)

    def ask(
        self,
        receiver: AgentRef | Address | GenAgent | str,
        message: Message | str,
        *,
        timeout: float | Default | None = DEFAULT,
    ) -> Message | None:
        """Ask another agent, from a sync handler on a thread, and block until the reply.

        Args:
            receiver: A reference, an agent, or a path, seen from the own network or a full one.
            message: A message, or a text for the body of one.
            timeout: Seconds; None is for ever. Default: the runtime's `ask_timeout`.

        Returns:
            The first reply, or None if the turn ended without one.

        Raises:
            UsageError: If the agent is not live, or the handler runs in the event loop.
            UnknownAgent: If nobody has that path.
            HandlerError: If the handler that was to answer raised.
            AskTimeout: If no reply came in time.
            AskCycle: If the ask would close a circle of asks.
            AgentStopped: If the receiver has stopped, or stops before it comes to the message.
        """
        return self._voice().ask(receiver, as_message(message), self._seconds(timeout))

    async def aask(
        self,
        receiver: AgentRef | Address | GenAgent | str,
        message: Message | str,
        *,
        timeout: float | Default | None = DEFAULT,
    ) -> Message | None:
        """Ask another agent, from an async handler, and await the reply; see `ask`."""
        voice = self._voice()
        return await voice.aask(receiver, as_message(message), self._seconds(timeout))

    def _seconds(self, timeout: float | Default | None) -> float | None:
        if not isinstance(timeout, Default):
            return timeout
        cell = self._node.cell
        return None if cell is None else cell.runtime.ask_timeout

    def schedule(
        self, delay: float, message: Message | str, every: float | None = None
    ) -> Cancellable:
        """Send a message later, on the runtime's clock; to oneself, if it has no receiver.

        Args:
            delay: Seconds until it is sent.
            message: A message, or a text for the body of one.
            every: Seconds until it is sent again, and again; None sends it once.

        Returns:
            A timer with `cancel()`.

        Raises:
            UsageError: If the agent is not live, or a time is no time.
        """
        if not delay >= 0 or (every is not None and not every > 0):
            msg = (
                f"schedule(delay={delay}, every={every}): give seconds, a delay of 0 or more, "
                "and a period above 0."
            )
            raise UsageError(msg)
        return self._voice().schedule(delay, message, every)

    def watch(self, other: AgentRef | Address | GenAgent | str) -> None:
        """Get a `Terminated` message when another agent is gone: stopped, removed, or given up.

        Once, however often it is watched; at once, if it is not live. A handler `terminated` takes
        it.

        Raises:
            UsageError: If this agent is not live.
            UnknownAgent: If nobody has that path.
        """
        self._voice().watch(other)

    def unwatch(self, other: AgentRef | Address | GenAgent | str) -> None:
        """Watch another agent no more.

        Raises:
            UsageError: If this agent is not live.
            UnknownAgent: If nobody has that path.
        """
        self._voice().unwatch(other)

    async def sleep(self, seconds: float) -> None:
        """Wait on the runtime's clock, in an async handler."""
        await asyncio.sleep(seconds)

    def unhandled(self, message: Message) -> Any:
        """Take a message that no handler is declared for; override it to do something about it.

        Not overridden, such a message is an error to its asker, else a dead letter.
        """
        # Reached only from an override that passes on what it does not want, either.
        raise no_handler(message, self.path)

    # -- listening

    def on(self, event: str, listener: Listener | GenAgent | AgentRef) -> None:
        """Let a function, or another agent, hear an event of this one; before or after the start.

        A function is called with the message, in the event loop; an async one becomes a task of
        the run. An agent gets the message as along an edge.
        """
        self._node.listen(event, _ear(listener))

    def once(self, event: str, listener: Listener) -> None:
        """Let a function hear an event of this agent one time."""
        self._node.listen(event, _ear(listener, once=True))

    def remove_listener(self, event: str, listener: Listener | GenAgent | AgentRef) -> None:
        """Let a function, or an agent, no longer hear an event of this agent.

        Raises:
            UsageError: If it does not listen to that event.
        """
        if not self._node.unlisten(event, _ear(listener)):
            msg = f"{listener!r} does not listen to the event {event!r} of {self.path!r}."
            raise UsageError(msg)

    def listen(self, other: GenAgent | AgentRef | Address | str, event: str) -> None:
        """Hear an event of another agent, without an edge of a network.

        Raises:
            UnknownAgent: If nobody has that path.
        """
        self._node.find(other).listen(event, Ear(node=self._node))

    # -- copies

    def __copy__(self) -> Self:
        return self._complete(super().__copy__())

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        # As pydantic's, but known to what it holds: a field may lead back to its agent.
        memo = {} if memo is None else memo
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        private = self.__pydantic_private__
        state = {
            "__dict__": copy.deepcopy(self.__dict__, memo),
            "__pydantic_extra__": None,
            "__pydantic_fields_set__": set(self.__pydantic_fields_set__),
            "__pydantic_private__": None if private is None else copy.deepcopy(private, memo),
        }
        for name, value in state.items():
            object.__setattr__(twin, name, value)
        return self._complete(twin)

    def _complete(self, copy: Self) -> Self:
        """Give the copy the functions that listen here; agents that listen stay with this one."""
        with TOPOLOGY:
            for event, ears in self._node.ears.items():
                for ear in ears:
                    if ear.call is not None:
                        copy.__node__().listen(event, Ear(call=ear.call, once=ear.once))
        return copy


class Starting:
    """A start to come: await it, or enter it with `async with`."""

    def __init__(self, start: Callable[[], AgentRef]) -> None:
        self._start = start
        self._ref: AgentRef | None = None

    def __await__(self) -> Generator[Any, None, AgentRef]:
        return self._now().__await__()

    async def _now(self) -> AgentRef:
        return self._start()

    async def __aenter__(self) -> AgentRef:
        self._ref = self._start()
        return self._ref

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._ref is not None
        await self._ref.astop(drain=kind is None)


def _ear(listener: Any, *, once: bool = False) -> Ear:
    if isinstance(listener, GenAgent):
        return Ear(node=listener.__node__())
    if isinstance(listener, AgentRef):
        target = listener.__address__().target
        if isinstance(target, Node):
            return Ear(node=target)
    if not callable(listener):
        msg = (
            f"{listener!r} cannot listen: give a function of the message, an agent or a reference."
        )
        raise UsageError(msg)
    return Ear(call=listener, once=once)


# The slot's own setter: pydantic's assignment knows only fields.
_set_node: Callable[[Any, Node], None] = GenAgent.__dict__["_node"].__set__
_OURS = {"llm_net.agent", "llm_net.network", "llm_net.mind_agent"}
LIBRARY.update({GenAgent, BaseModel})
