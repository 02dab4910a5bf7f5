"""A node: an agent's place in the tree of networks, and whether it is live there.

Floor 2. The agent is what it does, the cell is how it runs, the node is where it stands: name,
network above, address, listeners. The network's own node, with the graph, is in `topology`.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Iterator
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

from llm_net.address import Address
from llm_net.errors import UnknownAgent, UsageError
from llm_net.mailbox import Reason
from llm_net.routing import Filter, Leg, Listener, Route

if TYPE_CHECKING:
    from llm_net.cell import Cell
    from llm_net.channel import Channel
    from llm_net.handlers import Behaviour
    from llm_net.mailbox import Mailbox
    from llm_net.message import Message
    from llm_net.ref import AgentRef
    from llm_net.supervision import Supervision
    from llm_net.topology import NetworkNode

__all__ = ["TOPOLOGY", "Cancellable", "Ear", "Node", "Voice", "leg_to", "next_order"]

TOPOLOGY = threading.RLock()
"""Held while a graph changes and while routes are compiled: any thread may rewire what is live."""

_order = itertools.count()


def next_order() -> int:
    """The place of a new edge or listener among all others."""
    return next(_order)


class Cancellable(Protocol):
    """A timer: something that can be called off."""

    def cancel(self) -> None:
        """Call it off; as often as you like."""
        ...


class Voice(Protocol):
    """What takes the words that a handler says: its cell, or a test."""

    def send(self, message: Message | str) -> object:
        """Take a message to its receiver."""
        ...

    async def asend(self, message: Message | str) -> None:
        """Take a message to its receiver, and wait for room there."""
        ...

    def emit(self, event: str, what: Message | str) -> object:
        """Take an event to whoever listens."""
        ...

    async def aemit(self, event: str, what: Message | str) -> None:
        """Take an event to whoever listens, and wait for room there."""
        ...

    def ask(self, receiver: Any, message: Message, timeout: float | None) -> Message | None:
        """Take a question to the receiver, and block for the reply."""
        ...

    async def aask(self, receiver: Any, message: Message, timeout: float | None) -> Message | None:
        """Take a question to the receiver, and await the reply."""
        ...

    def watch(self, other: Any) -> None:
        """Be told when another agent is gone."""
        ...

    def unwatch(self, other: Any) -> None:
        """Be told no more."""
        ...

    def schedule(self, delay: float, message: Message | str, every: float | None) -> Cancellable:
        """Take a message for later."""
        ...


class Ear:
    """One listener of an event: a function, or another agent's node.

    Attributes:
        call: The function, if it is one.
        node: The agent's node, if it is one.
        once: Whether the function is called one time only.
        order: Its place among all edges and listeners, by when it was first linked.
    """

    __slots__ = ("call", "node", "once", "order")

    def __init__(
        self, *, call: Listener | None = None, node: Node | None = None, once: bool = False
    ) -> None:
        self.call = call
        self.node = node
        self.once = once
        self.order = next_order()


class Node:
    """Where one agent stands.

    Attributes:
        behaviour: What its class can do.
        cell: The cell that runs it, while it is live.
        last_ref: The reference of its present or latest life.
        ears: Who listens to its events besides the network's edges.
    """

    __slots__ = (
        "__weakref__",
        "_agent",
        "_parent",
        "_place",
        "behaviour",
        "cell",
        "ears",
        "last_ref",
        "random",
        "stand_in",
    )

    def __init__(self, agent: Any, behaviour: Behaviour) -> None:
        self._agent = weakref.ref(agent)
        self._place: Address | None = None
        self.behaviour = behaviour
        self._parent: NetworkNode | None = None
        self.cell: Cell | None = None
        self.last_ref: AgentRef | None = None
        self.random: Random | None = None
        """The agent's own random source, made when it is first asked for."""
        self.stand_in: Voice | None = None
        """Takes what a handler sends where it is called without a runtime, in tests."""
        self.ears: dict[str, list[Ear]] = {}

    @property
    def agent(self) -> Any:
        """The agent itself.

        Raises:
            UsageError: If nothing holds it any more.
        """
        agent = self._agent()
        if agent is None:
            msg = "The agent of this node is gone: nothing holds it any more."
            raise UsageError(msg)
        return agent

    @property
    def parent(self) -> NetworkNode | None:
        """The node of the network it is a member of; one that nobody holds any more is none."""
        above = self._parent
        return above if above is not None and above.exists else None

    @property
    def has_joined(self) -> bool:
        """Whether it was made a member of a network, even of one that is gone."""
        return self._parent is not None

    def join(self, network: NetworkNode | None) -> None:
        """Become a member of this network, or of none."""
        self._parent = network
        self.moved()

    @property
    def exists(self) -> bool:
        """Whether the agent is still held by somebody."""
        return self._agent() is not None

    @property
    def kind(self) -> type[Any]:
        """The agent's class."""
        return type(self.agent)  # pyright: ignore[reportUnknownVariableType]

    @property
    def name(self) -> str:
        """The agent's name, unique within its network."""
        return self.agent.name  # type: ignore[no-any-return]

    @property
    def path(self) -> str:
        """From the outermost network's name downwards."""
        return self.address.path

    @property
    def address(self) -> Address:
        """The address that its messages bear."""
        place = self._place
        if place is None:
            with TOPOLOGY:  # or a path that was read before a move would be kept after it
                path = "/".join(reversed([node.name for node in self.upwards()]))
                place = self._place = Address(path, self)
        return place

    @property
    def ref(self) -> AgentRef:
        """The reference of the live agent, or of its latest life.

        Raises:
            UsageError: If it was never started.
        """
        if self.cell is not None:
            ref: AgentRef = self.cell.ref
            return ref
        if self.last_ref is None:
            msg = (
                f"The agent {self.path!r} has not been started, so it has no reference. "
                "Start it, or the network it belongs to."
            )
            raise UsageError(msg)
        return self.last_ref

    @property
    def is_live(self) -> bool:
        """Whether the agent runs."""
        return self.cell is not None

    @property
    def why_closed(self) -> str:
        """Why a message that found no cell behind this node is dead."""
        stopping = self.cell is None or self.cell.stopping is not None
        return Reason.STOPPED if stopping else Reason.NO_ENTRY

    @property
    def supervision(self) -> Supervision | None:
        """What answers failures of this agent: its own setting, else its network's for members."""
        own: Supervision | None = self.agent.supervision
        if own is not None or self.parent is None:
            return own
        return self.parent.for_members

    @property
    def mailbox(self) -> Mailbox | None:
        """The bound of the agent's mailbox: its own, else its network's for members."""
        bound: Mailbox | None = self.agent.mailbox
        if bound is None and self.parent is not None:
            bound = self.parent.agent.mailbox
        return None if bound is None or bound.capacity is None else bound

    def upwards(self) -> Iterator[Node]:
        """This node, its network's, and so on to the outermost."""
        node: Node | None = self
        while node is not None:
            yield node
            node = node.parent

    def root(self) -> Node:
        """The outermost network, or the node itself if it is in none."""
        *_, outermost = self.upwards()
        return outermost

    def moved(self) -> None:
        """The path has changed."""
        self._place = None

    # -- finding others

    def look_up(self, path: str) -> Node | None:
        """The node of a path: seen from the agent's network downwards, else as a full path."""
        if self.parent is not None:
            found = self.parent.below(path)
            if found is not None:
                return found
        return self.by_full_path(path)

    def by_full_path(self, path: str) -> Node | None:
        """The node of a path from the outermost network's name, here or in the same runtime."""
        first, step, rest = path.partition("/")
        outermost = self.root()
        if outermost.name != first:
            cell = self.cell or outermost.cell
            root = None if cell is None else cell.runtime.root(first)
            if root is None:
                return None
            outermost = root.node
        return outermost.below(rest) if step else outermost

    def below(self, path: str) -> Node | None:  # noqa: ARG002 - a network looks
        """The node of a path that starts at a member of this network; an agent has none."""
        return None

    def bound(self, address: Address) -> Address:
        """An address that was read from JSON as one that leads to an agent, if there is one."""
        if address.bound:
            return address
        found = self.look_up(address.path)
        return address if found is None else found.address

    def find(self, receiver: Any) -> Node:
        """The node of a receiver: a reference, an address, an agent, or a path as text.

        Raises:
            UnknownAgent: If nobody has that path.
            UsageError: If it is nothing of the kind.
        """
        try:
            address = Address.of(receiver)
        except ValueError as error:
            msg = f"No receiver: {error}."
            raise UsageError(msg) from None
        target = address.target
        node = target if isinstance(target, Node) else self.look_up(address.path)
        if node is None:
            raise self.unknown(address.path)
        return node

    def inside(self, receiver: Address | str) -> Node:
        """The node of a path seen from this network downwards, else a full path.

        Raises:
            UnknownAgent: If nobody has that path.
        """
        if isinstance(receiver, Address):
            if isinstance(receiver.target, Node):
                return receiver.target
            receiver = receiver.path
        node = self.below(receiver) or self.by_full_path(receiver)
        if node is None:
            raise self.unknown(receiver)
        return node

    def has(self, path: str) -> bool:
        """Whether somebody has this path."""
        return (self.below(path) or self.by_full_path(path)) is not None

    def takes(self, method: str) -> bool:  # noqa: ARG002 - a network looks
        """Whether a message to this node reaches somebody, once it is live."""
        return True

    def handles(self, method: str) -> bool:
        """Whether a handler is declared for this method; for a network, in it or its entries."""
        return method in self.behaviour.handlers

    def unknown(self, path: str) -> UnknownAgent:
        """The error for a path that nobody has; names the nearest that somebody has."""
        import difflib  # noqa: PLC0415 - only needed for the text of an error

        known = [node.path for node in self.root().everyone()]
        close = difflib.get_close_matches(path, [*known, *(p.split("/")[-1] for p in known)], n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        return UnknownAgent(
            f"No agent at {path!r}, seen from {self.path!r}.{hint} Check the path, or look it up "
            "with network.directory or network.find(…)."
        )

    def everyone(self) -> Iterator[Node]:
        """This node and all below it, depth first; without recursion, for nests may be deep."""
        stack: list[Node] = [self]
        while stack:
            node = stack.pop()
            yield node
            stack.extend(reversed(node.inner()))

    def inner(self) -> list[Node]:
        """The nodes right below; an agent has none."""
        return []

    # -- where messages go

    def doors(self, method: str) -> tuple[Cell, ...]:  # noqa: ARG002 - a network looks
        """The cells that take a message which is addressed to this node."""
        return () if self.cell is None else (self.cell,)

    def compile_route(self, event: str) -> Route:
        """Who hears this event of this node, all borders considered."""
        legs: list[Leg] = []
        listeners: list[Listener] = []
        node: Node = self
        with TOPOLOGY:
            while True:
                above = node.parent
                ears = node.ears.get(event, ())
                ways = [
                    (ear.order, Leg(ear.node, None, None))
                    for ear in ears
                    if ear.node is not None and ear.node.exists
                ]
                if above is not None:
                    ways.extend(above.legs_from(node.name, event))
                legs.extend(leg for _, leg in sorted(ways, key=lambda way: way[0]))
                listeners.extend(
                    partial(node.call_once, event, ear) if ear.once else ear.call
                    for ear in ears
                    if ear.call is not None
                )
                if above is None or event not in above.expose:
                    leaves = above is None and node.is_network
                    return Route(tuple(legs), tuple(listeners), leaves=leaves)
                node = above

    @property
    def is_network(self) -> bool:
        """Whether there is a graph below."""
        return False

    @property
    def chooses(self) -> bool:
        """Whether who takes a message depends on its method."""
        return False

    def listen(self, event: str, ear: Ear) -> None:
        """Add a listener to an event of this node."""
        with TOPOLOGY:
            self.ears.setdefault(event, []).append(ear)
            self.changed()

    def unlisten(self, event: str, listener: Ear) -> bool:
        """Remove a function or node from the listeners; whether it was one."""
        with TOPOLOGY:
            ears = self.ears.get(event, [])
            for ear in ears:
                if ear.call == listener.call and ear.node is listener.node:
                    ears.remove(ear)
                    self.changed()
                    return True
            return False

    def call_once(self, event: str, ear: Ear, message: Message) -> Any:
        """Call a function that listens one time, unless it has been called already."""
        with TOPOLOGY:
            ears = self.ears.get(event, [])
            if ear not in ears or ear.call is None:
                return None
            ears.remove(ear)
            self.changed()
        return ear.call(message)

    def changed(self) -> None:
        """Edges, listeners or borders have changed: routes must be compiled anew."""
        if self.cell is not None:
            self.cell.runtime.version += 1


def leg_to(node: Node, *, where: Filter | None = None, channel: Channel | None = None) -> Leg:
    """The leg that ends at this node."""
    return Leg(node, where, None if node.chooses else node.doors(""), channel)
