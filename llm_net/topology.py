"""The node of a network: its members, their edges, its entries and what it exposes.

Floor 2. The graph is the truth; routes are compiled from it and forgotten when it changes.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from llm_net.channel import KEYS, Channel
from llm_net.errors import UsageError
from llm_net.node import TOPOLOGY, Node, leg_to, next_order
from llm_net.routing import Filter, Leg

if TYPE_CHECKING:
    import networkx as nx

    from llm_net.cell import Cell
    from llm_net.handlers import Behaviour
    from llm_net.llm.budget import Budget
    from llm_net.mailbox import Mailbox
    from llm_net.supervision import Supervision

__all__ = ["NetworkNode"]


class _Fixed(dict[str, Any]):
    """Attributes that those who look at the graph cannot change."""

    def _refuse(self, *_: Any, **__: Any) -> Any:
        msg = "A network's graph is for reading: change edges with network.link and unlink."
        raise TypeError(msg)

    __setitem__ = __delitem__ = __ior__ = _refuse
    setdefault = pop = popitem = clear = _refuse  # pyright: ignore[reportAssignmentType]

    def update(self, *changes: Any, **more: Any) -> None:
        """Refuse a change; networkx itself updates with nothing."""
        if more or any(changes):
            self._refuse()


@functools.cache
def _graph_class() -> type[nx.MultiDiGraph[str]]:
    """A multigraph whose attributes are fixed.

    networkx takes longer to import than the rest of the package, so it is imported with the first
    network, not with the package.
    """
    import networkx as nx  # noqa: PLC0415

    factories = ("node_attr_dict_factory", "edge_attr_dict_factory", "graph_attr_dict_factory")
    return type("FixedMultiDiGraph", (nx.MultiDiGraph,), dict.fromkeys(factories, _Fixed))


class NetworkNode(Node):
    """Where a network stands, and what stands in it.

    Attributes:
        graph: Members by name, edges by event; what the user sees of it is a read-only view.
        members: The members' nodes, by name, in the order in which they were added.
        agents: The members themselves, likewise.
        entry: The names of the members that take messages to the network.
        expose: The events of members that leave the network as its own.
        budgets: What agents inside may spend, by their paths from here; `.` is the network.
    """

    __slots__ = (
        "_channels",
        "_filters",
        "_orders",
        "agents",
        "budgets",
        "entry",
        "expose",
        "graph",
        "members",
    )

    def __init__(self, agent: Any, behaviour: Behaviour) -> None:
        super().__init__(agent, behaviour)
        self.graph: nx.MultiDiGraph[str] = _graph_class()()
        self.members: dict[str, Node] = {}
        self.agents: dict[str, Any] = {}
        self.entry: tuple[str, ...] = ()
        self.expose: frozenset[str] = frozenset()
        self.budgets: dict[str, Budget] = {}
        self._orders: dict[tuple[str, str], dict[str, int]] = {}
        self._filters: dict[tuple[str, str, str], Filter] = {}
        self._channels: dict[tuple[str, str, str], Channel] = {}

    @property
    def for_members(self) -> Supervision | None:
        """What answers failures of members without a supervision of their own."""
        return self.agent.supervision  # type: ignore[no-any-return]

    @property
    def supervision(self) -> Supervision | None:
        """What answers failures of the network as a whole: the network above."""
        return None if self.parent is None else self.parent.for_members

    @property
    def mailbox(self) -> Mailbox | None:
        """The bound of the network's own mailbox: the network above says."""
        bound = None if self.parent is None else self.parent.agent.mailbox
        return None if bound is None or bound.capacity is None else bound

    @property
    def is_network(self) -> bool:
        """A network has a graph."""
        return True

    @property
    def chooses(self) -> bool:
        """A network whose class has handlers takes some messages itself."""
        if len(self.behaviour.handlers) > 1 or self.behaviour.unhandled:
            return True  # the one that every class has is for proxies
        return any(self.members[name].chooses for name in self.entry if name in self.members)

    def moved(self) -> None:
        """The path has changed, and with it those of all below."""
        for node in self.everyone():
            Node.moved(node)

    # -- members and edges

    def add(self, agent: Any, node: Node) -> None:
        """Make an agent a member.

        Raises:
            UsageError: If the name is taken, or the agent is live or in a network already.
        """
        with TOPOLOGY:
            name = node.name
            if node.has_joined:
                where = "a network" if node.parent is None else repr(node.parent.path)
                msg = (
                    f"The agent {name!r} is already a member of {where}. One object "
                    "belongs to one network; model_copy(deep=True) gives another."
                )
                raise UsageError(msg)
            if node.cell is not None:
                msg = f"The agent {name!r} is live by itself. Stop it, then add it."
                raise UsageError(msg)
            if any(above is node for above in self.upwards()):
                msg = f"The network {name!r} cannot be a member of itself."
                raise UsageError(msg)
            self.refuse_taken(name)
            self.members[name] = node
            self.agents[name] = agent
            self.graph.add_node(name)
            node.join(self)
            self.changed()

    def refuse_taken(self, name: str) -> None:
        """Refuse a second member of this name.

        Raises:
            UsageError: If there is one.
        """
        if name in self.members:
            msg = (
                f"The network {self.path!r} already has a member {name!r}. "
                "Give the second one another name=."
            )
            raise UsageError(msg)

    def hand_over(self, node: Node, to: NetworkNode) -> Any:
        """Make a member a member of another network; gives its agent.

        Raises:
            UsageError: If it cannot be one.
        """
        name = node.name
        with TOPOLOGY:
            if any(above is node for above in to.upwards()):
                msg = f"The network {name!r} cannot be a member of itself, nor of one inside it."
                raise UsageError(msg)
            to.refuse_taken(name)
            here, there = self.cell, to.cell
            if (here is None) != (there is None) or (
                here is not None and there is not None and here.runtime is not there.runtime
            ):
                msg = (
                    f"{node.path!r} cannot move to {to.path!r}: both networks must be live in one "
                    "runtime, or neither be live. Start the other one, or remove and add the agent."
                )
                raise UsageError(msg)
            agent = self.remove(name)
            to.members[name] = node
            to.agents[name] = agent
            to.graph.add_node(name)
            node.join(to)
            to.changed()
        cell = node.cell
        if cell is not None and there is not None:
            cell.engine.run(partial(cell.move_below, there))
        return agent

    def remove(self, name: str) -> Any:
        """Take a member and its edges out; gives its agent.

        Raises:
            UnknownAgent: If there is no such member.
        """
        with TOPOLOGY:
            node = self.member(name)
            agent = self.agents.pop(name)
            del self.members[name]
            self.graph.remove_node(name)
            self._orders = {
                key: {v: order for v, order in heard.items() if v != name}
                for key, heard in self._orders.items()
                if key[0] != name
            }
            self._filters = {
                key: where for key, where in self._filters.items() if name not in (key[0], key[2])
            }
            self._channels = {
                key: way for key, way in self._channels.items() if name not in (key[0], key[2])
            }
            node.join(None)
            self.changed()
            return agent

    def member(self, name: str) -> Node:
        """The node of a direct member.

        Raises:
            UnknownAgent: If there is no such member.
        """
        try:
            return self.members[name]
        except KeyError:
            raise self.unknown(name) from None

    def link(
        self, u: str, event: str, v: str, where: Filter | None, attributes: dict[str, Any]
    ) -> None:
        """Let v hear this event of u; again: update its attributes and keep its place.

        Raises:
            UnknownAgent: If u or v is no direct member.
            UsageError: If the event is no text, or the filter no function.
        """
        with TOPOLOGY:
            self.member(u)
            self.member(v)
            if not isinstance(event, str) or not event:
                msg = (
                    f"The event of an edge is a text, as in link('a', 'news', 'b'), not {event!r}."
                )
                raise UsageError(msg)
            if where is not None and not callable(where):
                msg = f"where={where!r} is no filter: give a function of the message."
                raise UsageError(msg)
            held = self.graph.edges[u, v, event] if self.graph.has_edge(u, v, event) else {}
            channel = Channel.of(f"edge {u!r} {event!r} {v!r}", {**held, **attributes})
            self._orders.setdefault((u, event), {}).setdefault(v, next_order())
            if channel is not None and not attributes.keys().isdisjoint(KEYS):
                self._channels[u, event, v] = channel
            if where is not None:
                self._filters[u, event, v] = where
                attributes = {"where": where, **attributes}
            self.graph.add_edge(u, v, key=event)
            edge: dict[str, Any] = self.graph.edges[u, v, event]
            dict.update(edge, attributes)  # pyright: ignore[reportUnknownMemberType]
            self.changed()

    def unlink(self, u: str, event: str, v: str) -> None:
        """Let v no longer hear this event of u.

        Raises:
            UsageError: If there is no such edge.
        """
        with TOPOLOGY:
            if not self.graph.has_edge(u, v, key=event):
                msg = f"There is no edge ({u!r}, {event!r}, {v!r}) in {self.path!r} to unlink."
                raise UsageError(msg)
            self.graph.remove_edge(u, v, key=event)
            del self._orders[u, event][v]
            self._filters.pop((u, event, v), None)
            self._channels.pop((u, event, v), None)
            self.changed()

    def edges(self) -> list[tuple[str, str, str]]:
        """All edges as (u, event, v), in the order in which they were first linked."""
        ordered = [
            (order, (u, event, v))
            for (u, event), heard in self._orders.items()
            for v, order in heard.items()
        ]
        return [edge for _, edge in sorted(ordered)]

    def legs_from(self, name: str, event: str) -> Iterator[tuple[int, Leg]]:
        """The legs along a member's edges of this event, each with its place in the order."""
        for v, order in self._orders.get((name, event), {}).items():
            where = self._filters.get((name, event, v))
            channel = self._channels.get((name, event, v))
            yield order, leg_to(self.members[v], where=where, channel=channel)

    # -- finding and entering

    def below(self, path: str) -> Node | None:
        """The node of a path that starts at a member."""
        name, step, rest = path.partition("/")
        if name not in self.members:
            return None
        node = self.members[name]
        return node.below(rest) if step else node

    def look_up(self, path: str) -> Node | None:
        """The node of a path: seen from inside the network first."""
        return self.below(path) or super().look_up(path)

    def inner(self) -> list[Node]:
        """The members' nodes."""
        return list(self.members.values())

    def doors(self, method: str) -> tuple[Cell, ...]:
        """The cells that take a message to the network: its own for a handler, or entries'."""
        cell = self.cell
        if cell is None:
            return ()
        known = cell.entries
        if known is None or known[0] != cell.runtime.version:
            # Where the method matters, names come from outside: to keep them would fill the memory.
            version = cell.runtime.version
            known = cell.entries = (version, None if self.chooses else self._find_doors(method))
        return self._find_doors(method) if known[1] is None else known[1]

    def _find_doors(self, method: str) -> tuple[Cell, ...]:
        if self.cell is None:
            return ()
        if method in self.behaviour.handlers or self.behaviour.unhandled is not None:
            return (self.cell,)
        cells: list[Cell] = []
        for name in self.entry:
            if name in self.members:
                cells.extend(self.members[name].doors(method))
        return tuple(cells)

    def takes(self, method: str) -> bool:
        """Whether the network has a handler for it, or an entry that takes it."""
        if method in self.behaviour.handlers or self.behaviour.unhandled is not None:
            return True
        self.check_entry()
        return any(self.members[name].takes(method) for name in self.entry)

    def handles(self, method: str) -> bool:
        """Whether the network itself or one of its entries declares a handler for this method."""
        if method in self.behaviour.handlers:
            return True
        return any(
            self.members[name].handles(method) for name in self.entry if name in self.members
        )

    def check_entry(self) -> None:
        """Refuse entries that are no members.

        Raises:
            UsageError: If one is not.
        """
        for name in self.entry:
            if name not in self.members:
                msg = (
                    f"The network {self.path!r} has the entry {name!r}, which is none of its "
                    f"members ({', '.join(map(repr, self.members)) or 'it has none'}). "
                    "Add that agent, or name another entry."
                )
                raise UsageError(msg)


def names(value: str | Iterable[str] | None) -> tuple[str, ...]:
    """A name, or several, or none, as a tuple."""
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(dict.fromkeys(value))
