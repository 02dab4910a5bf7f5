"""The network: a multigraph of agents, and an agent itself.

Floor 4. A network adds no step to the way of a message: what crosses its border goes straight to
the agents inside, or on to those that listen outside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from copy import deepcopy
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self, cast

from pydantic import SerializationInfo, SerializerFunctionWrapHandler, model_serializer

from llm_net.agent import LIBRARY, GenAgent, check_name
from llm_net.diagram import Box, flow_chart
from llm_net.directory import Directory
from llm_net.errors import UsageError
from llm_net.life import join_live
from llm_net.message import Message
from llm_net.node import TOPOLOGY, Ear, Node
from llm_net.routing import Filter
from llm_net.run import AsyncRunStream, Run, RunStream, launch_message
from llm_net.running import Running
from llm_net.runtime import Runtime
from llm_net.scope import Limits, Statistics, total
from llm_net.svg import network_svg
from llm_net.topology import NetworkNode, names

__all__ = ["GenNetwork"]

if TYPE_CHECKING:
    import networkx as nx

    from llm_net.llm.budget import Budget
    from llm_net.llm.estimate import Estimate

_OWN_FIELDS: ContextVar[bool] = ContextVar("llm_net_own_fields", default=False)

Edge = tuple[str, str, str] | tuple[str, str, str, Mapping[str, Any]]


class GenNetwork(GenAgent):
    """A multigraph of agents: an edge (u, event, v) lets v hear this event of u.

    A network is an agent, so networks nest without end. A message to it goes to its entries; an
    event that it exposes leaves it as its own. Members, edges and borders may change while it runs.

    ```python
    from llm_net import GenAgent, GenNetwork

    class Writer(GenAgent):
        blocking = False

        def step(self, message):
            self.emit("draft", f"A poem about {message.body}.")

    class Editor(GenAgent):
        blocking = False

        def draft(self, message):
            self.emit("done", message.body.upper())

    desk = GenNetwork(
        name="desk",
        agents=[Writer(), Editor()],
        edges=[("writer", "draft", "editor")],
        entry="writer",
        expose=["done"],
    )
    print(desk.run("salt").outputs[0].body)
    ```
    """

    def __init__(
        self,
        *,
        agents: Iterable[GenAgent] = (),
        edges: Iterable[Edge] = (),
        entry: str | Iterable[str] | None = None,
        expose: Iterable[str] = (),
        budgets: Mapping[str, Budget] | None = None,
        **data: Any,
    ) -> None:
        """Build a network; nothing is started.

        Args:
            agents: The members; networks among them nest.
            edges: As (u, event, v), or (u, event, v, attributes); names of members.
            entry: The member, or members, that take the messages to the network.
            expose: The events of members that leave the network as its own.
            budgets: What the model calls of agents in here may cost, by their paths from here, as
                `sales` or `sales/worker`; `.` is for all.
            **data: `name`, `description`, `role`, the fields of a subclass, and `supervision`,
                which answers failures of members without one of their own.

        Raises:
            UsageError: If two agents have one name, or one is a member of another network.
            UnknownAgent: If an edge leads to a stranger.
            pydantic.ValidationError: If a field is unknown or has a wrong value.
        """
        super().__init__(**data)
        self.entry = entry
        self.expose = expose
        self.budgets = budgets or {}
        self.add(*agents)
        for u, event, v, *attributes in edges:
            self.link(u, event, v, **(dict(attributes[0]) if attributes else {}))

    @classmethod
    def _make_node(cls, agent: Any) -> Node:
        return NetworkNode(agent, cls._behaviour())

    @property
    def _place(self) -> NetworkNode:
        return cast("NetworkNode", self._node)

    def __node__(self) -> NetworkNode:
        """The network's place; for the package."""
        return self._place

    # -- members, edges, borders

    @property
    def graph(self) -> nx.MultiDiGraph[str]:
        """A read-only view of the direct members and their edges: node = name, key = event."""
        return self._place.graph.copy(as_view=True)

    @property
    def directory(self) -> Directory[Any]:
        """The direct members by name, in the order in which they were added."""
        return Directory(self._place)

    if TYPE_CHECKING:
        # What a type checker is to see of the constructor, for subclasses with fields, too.
        agents: Iterable[GenAgent] = ()
        edges: Iterable[Edge] = ()
        entry: str | Iterable[str] | None = None
        expose: str | Iterable[str] = ()
        budgets: Mapping[str, Budget] = {}
    else:

        @property
        def agents(self) -> tuple[GenAgent, ...]:
            """The direct members, in the order in which they were added."""
            return tuple(self._place.agents.values())

        @property
        def edges(self) -> tuple[Edge, ...]:
            """The edges as (u, event, v), in the order in which they were first linked."""
            return tuple(self._place.edges())

        @property
        def entry(self) -> tuple[str, ...]:
            """The members that take the messages to the network, in this order."""
            return self._place.entry

        @entry.setter
        def entry(self, value: str | Iterable[str] | None) -> None:
            with TOPOLOGY:
                self._place.entry = names(value)
                self._place.changed()

        @property
        def expose(self) -> frozenset[str]:
            """The events of direct members that leave the network as its own."""
            return self._place.expose

        @expose.setter
        def expose(self, value: str | Iterable[str]) -> None:
            with TOPOLOGY:
                self._place.expose = frozenset(names(value))
                self._place.changed()

        @property
        def budgets(self) -> Mapping[str, Budget]:
            """What agents in here may spend, by their paths from here; `.` is for all."""
            return MappingProxyType(self._place.budgets)

        @budgets.setter
        def budgets(self, value: Mapping[str, Budget]) -> None:
            self._place.budgets = dict(value)

    def add(self, *agents: GenAgent) -> Self:
        """Make agents members; in a live network they go live.

        Raises:
            UsageError: If a name is taken, or an agent is live or in a network already.
        """
        for agent in agents:
            if not isinstance(agent, GenAgent):
                msg = f"{agent!r:.80} is no agent, so it cannot be a member of {self.path!r}."
                raise UsageError(msg)
            node = agent.__node__()
            self._place.add(agent, node)
            try:
                join_live(node, self._place)
            except UsageError:
                self._place.remove(node.name)
                raise
        return self

    def remove(self, agent: GenAgent | str) -> GenAgent:
        """Take a member and its edges out, and give it back.

        If it is live, it handles the messages it has, then stops.

        Raises:
            UnknownAgent: If there is no such member.
        """
        removed: GenAgent = self._place.remove(self._name(agent))
        cell = removed.__node__().cell
        if cell is not None:
            cell.engine.run(cell.stop_in_order)
        return removed

    def move(self, agent: GenAgent | str, to: GenNetwork) -> GenAgent:
        """Make a member a member of another network, and give it back.

        Its edges here are gone, and its path is another. If it is live it stays so, with its state,
        its mailbox and its open turns; what was sent to it arrives.

        Args:
            agent: The member, or its name.
            to: The network it goes to; live in the same runtime if this one is, else not live.

        Raises:
            UnknownAgent: If there is no such member.
            UsageError: If the name is taken there, if it would become a member of itself, or if one
                of the networks is live and the other is not, or lives in another runtime.
        """
        node = self._place.member(self._name(agent))
        moved: GenAgent = self._place.hand_over(node, to.__node__())
        return moved

    def link(
        self,
        u: str | GenAgent,
        event: str,
        v: str | GenAgent,
        *,
        where: Filter | None = None,
        **attributes: Any,
    ) -> Self:
        """Let v hear this event of u. Linking again updates the attributes and keeps the place.

        Args:
            u: The member that emits.
            event: The event's name.
            v: The member that hears.
            where: Only messages for which this function is true pass.
            **attributes: What else is to stand at the edge, in `network.graph`. Three have a
                meaning: `latency` (seconds that each message is under way, on the runtime's clock,
                or a function that draws them from a `random.Random`; the edge keeps its order),
                `loss` (the probability with which a message is lost; a dead letter, `loss`) and
                `capacity` (how many may be under way at once; more are dead letters, `overflow`).

        Raises:
            UnknownAgent: If one of them is no member.
            UsageError: If the event is no text, the filter no function, or an attribute with a
                meaning has a value without one.
        """
        self._place.link(self._name(u), event, self._name(v), where, attributes)
        return self

    def unlink(self, u: str | GenAgent, event: str, v: str | GenAgent) -> Self:
        """Let v no longer hear this event of u.

        Raises:
            UsageError: If there is no such edge.
        """
        self._place.unlink(self._name(u), event, self._name(v))
        return self

    def _name(self, agent: str | GenAgent) -> str:
        """The name of a member, which may be given itself."""
        if isinstance(agent, str):
            return agent
        name: str = agent.name
        if self._place.agents.get(name) is not agent:
            raise self._place.unknown(agent.path)
        return name

    @classmethod
    def from_graph(
        cls, graph: nx.Graph[Any], agent: GenAgent | Callable[[str], GenAgent], **options: Any
    ) -> Self:
        """A network with an agent at every node of a graph.

        An edge's event is its key if that is a text, else its attribute `event`, else `step`;
        an undirected edge becomes two.

        Args:
            graph: Any networkx graph; its nodes become names.
            agent: Copied for each node, or a function of the node's name that makes one.
            **options: As for the constructor: name, entry, expose, …

        Raises:
            UsageError: If the function gives no agent, or two nodes have one name.
        """
        network = cls(**options)
        for node in graph.nodes:
            name = check_name(str(node))
            member = agent.model_copy(deep=True) if isinstance(agent, GenAgent) else agent(name)
            if not isinstance(member, GenAgent):
                msg = f"from_graph: agent({name!r}) gave {member!r:.80}, which is no agent."
                raise UsageError(msg)
            vars(member)["name"] = name  # it is frozen, and this object is still ours alone
            network.add(member)
        for u, v, key, data in _edges(graph):
            attributes = {str(name): value for name, value in data.items() if name != "event"}
            event = key if isinstance(key, str) else str(data.get("event", "step"))
            where = attributes.pop("where", None)
            place = network.__node__()
            place.link(str(u), event, str(v), where, attributes)
            if not graph.is_directed() and u != v:
                place.link(str(v), event, str(u), where, attributes)
        return network

    # -- finding

    def __getitem__(self, path: str) -> Any:
        """The agent at a path: seen from this network downwards, else a full path.

        Typed as Any, for its class is known to who built the network, and to nobody else.

        Raises:
            UnknownAgent: If nobody has that path (it is a KeyError).
        """
        return self._place.inside(path).agent

    def __contains__(self, path: object) -> bool:
        return isinstance(path, str) and self._place.has(path)

    def find(
        self, *, method: str | None = None, receives: type[Message] | None = None
    ) -> list[GenAgent]:
        """The agents on all levels that have a handler for a method, or for a class of messages.

        Args:
            method: The name a message would bear.
            receives: A class of messages: a handler for its default method takes it.
        """
        if receives is not None and method is None:
            method = receives.model_fields["method"].default
        return [
            node.agent
            for node in self._place.everyone()
            if node is not self._place and _takes(node, method, receives)
        ]

    # -- running

    def run(
        self,
        message: Message | str,
        *,
        runtime: Runtime | None = None,
        max_messages: int | None = None,
        max_hops: int | None = None,
        timeout: float | None = None,
        budget: Budget | None = None,
        max_repeats: int | None = None,
        progress: bool = False,
    ) -> Run:
        """Start, deliver a message, wait until all is quiet, stop.

        A network that is live already is neither started nor stopped. Failing agents do not raise
        here; they stand in `Run.failures`.

        Args:
            message: For the entries; one with a receiver goes there instead.
            runtime: Where to run. Default: on this thread, or on one of its own if an event loop
                runs here.
            max_messages: End the run after so many deliveries.
            max_hops: End it when so many messages have caused each other in a row.
            timeout: End it after so many seconds.
            budget: What the model calls of this run may cost; a call that could cost more than is
                left is not made, and ends the run.
            max_repeats: End it when a message was caused so often by one with the same sender,
                receiver, method and body.
            progress: Show on standard error how far it is.

        Raises:
            UsageError: If the network has no entry, or cannot be started.
            UnknownAgent: If the message's receiver is nobody here.
        """
        limits = Limits(max_messages, max_hops, max_repeats, timeout, budget)
        running = Running(self._place, runtime, limits, launch_message(self._place, message))
        try:
            running.run(progress=progress)
        finally:
            running.finish()
        return Run.of(running)

    async def arun(
        self,
        message: Message | str,
        *,
        runtime: Runtime | None = None,
        max_messages: int | None = None,
        max_hops: int | None = None,
        timeout: float | None = None,
        budget: Budget | None = None,
        max_repeats: int | None = None,
        progress: bool = False,
    ) -> Run:
        """As `run`, on the running event loop."""
        limits = Limits(max_messages, max_hops, max_repeats, timeout, budget)
        running = Running(self._place, runtime, limits, launch_message(self._place, message))
        try:
            await running.arun(progress=progress)
        finally:
            await running.afinish()
        return Run.of(running)

    def stream(
        self,
        message: Message | str,
        *,
        runtime: Runtime | None = None,
        max_messages: int | None = None,
        max_hops: int | None = None,
        timeout: float | None = None,
        budget: Budget | None = None,
        max_repeats: int | None = None,
    ) -> RunStream:
        """As `run`, but iterate over every message when it is sent; `.run` then has the outcome."""
        limits = Limits(max_messages, max_hops, max_repeats, timeout, budget)
        return RunStream(
            Running(self._place, runtime, limits, launch_message(self._place, message))
        )

    def astream(
        self,
        message: Message | str,
        *,
        runtime: Runtime | None = None,
        max_messages: int | None = None,
        max_hops: int | None = None,
        timeout: float | None = None,
        budget: Budget | None = None,
        max_repeats: int | None = None,
    ) -> AsyncRunStream:
        """As `stream`, on the running event loop."""
        limits = Limits(max_messages, max_hops, max_repeats, timeout, budget)
        return AsyncRunStream(
            Running(self._place, runtime, limits, launch_message(self._place, message))
        )

    def estimate(
        self,
        message: Message | str,
        *,
        times: float = 1,
        budget: Budget | None = None,
        runtime: Runtime | None = None,
    ) -> Estimate:
        """What so many runs would take, judged by one that is really made.

        A copy of the network runs, so its models are really asked, and paid; nothing else of this
        network changes.

        Args:
            message: What it is run with.
            times: For how many runs.
            budget: What the run that is made may cost; None for no limit.
            runtime: Where it is made.

        Returns:
            Calls, tokens, dollars and seconds, without limits of any kind.
        """
        from llm_net.llm.budget import Budget as Account  # noqa: PLC0415 - only if money is asked for
        from llm_net.llm.estimate import Estimate as Guess  # noqa: PLC0415

        paid = Account() if budget is None else budget
        self.model_copy(deep=True).run(message, runtime=runtime, budget=paid)
        return Guess.from_ledger(paid.ledger, times)

    def statistics(self) -> Statistics:
        """The counts of all agents in the network, and its own, in their present life."""
        cell = self._node.cell
        if cell is None:
            return Statistics()
        return cell.runtime.read(lambda: total(each.statistics() for each in cell.tree()))

    # -- state

    @model_serializer(mode="wrap")
    def _dump(
        self, handler: SerializerFunctionWrapHandler, info: SerializationInfo
    ) -> dict[str, Any]:
        data: dict[str, Any] = handler(self)
        if _OWN_FIELDS.get():
            return data
        # Level by level rather than by recursion, for nests may be deep.
        token = _OWN_FIELDS.set(True)
        try:
            levels: list[tuple[GenNetwork, dict[str, Any]]] = [(self, data)]
            while levels:
                network, dump = levels.pop()
                inside: dict[str, Any] = {}
                dump["agents"] = inside
                for name, agent in network.directory.items():
                    inside[name] = agent.model_dump(mode=info.mode)
                    if isinstance(agent, GenNetwork):
                        levels.append((agent, inside[name]))
        finally:
            _OWN_FIELDS.reset(token)
        return data

    def restore(self, dump: Mapping[str, Any]) -> Self:
        """Put the fields of a `model_dump` back into a network built by the same code.

        Raises:
            UsageError: If the network is live, or the dump is of other agents.
            pydantic.ValidationError: If a value does not fit its field.
        """
        if self._node.is_live:
            msg = f"The network {self.path!r} is live. Stop it, then restore its fields."
            raise UsageError(msg)
        # All values are validated before the first is put, so that a refusal changes nothing.
        valid: list[tuple[GenAgent, dict[str, Any]]] = []
        levels: list[tuple[GenAgent, Mapping[str, Any]]] = [(self, dump)]
        while levels:
            agent, fields = levels.pop()
            nested = isinstance(agent, GenNetwork)
            inside: Mapping[str, Any] = fields.get("agents", {}) if nested else {}
            members: Mapping[str, Any] = agent.directory if isinstance(agent, GenNetwork) else {}
            if set(inside) != set(members):
                strange = ", ".join(map(repr, sorted(set(inside) ^ set(members))))
                raise UsageError(
                    f"The dump and the network {agent.path!r} differ in the agents {strange}. "
                    "Restore into a network built by the same code."
                )
            own = {name: value for name, value in fields.items() if not nested or name != "agents"}
            valid.append((agent, _validated(agent, own)))
            levels.extend((members[name], inside[name]) for name in members)
        for agent, values in valid:
            vars(agent).update(values)
        return self

    def _complete(self, copy: Self) -> Self:  # pyright: ignore[reportIncompatibleMethodOverride] - Self
        copy = super()._complete(copy)
        mine = self._place
        theirs = copy._place  # noqa: SLF001 - another object of this class
        if theirs.agents:
            return copy
        theirs.entry, theirs.expose = mine.entry, mine.expose
        theirs.budgets = deepcopy(mine.budgets)
        for agent in mine.agents.values():
            copy.add(agent.model_copy(deep=True))
        for u, event, v in mine.edges():
            attributes = dict(mine.graph.edges[u, v, event])
            copy.link(u, event, v, **attributes)
        _listen_again(mine, theirs)
        return copy

    def __getstate__(self) -> dict[Any, Any]:
        """What a pickle holds: fields, members, edges and borders; no listeners from outside."""
        place = self._place
        edges = [
            (u, event, v, dict(place.graph.edges[u, v, event])) for u, event, v in place.edges()
        ]
        inside = {
            "agents": tuple(place.agents.values()),
            "edges": edges,
            "entry": place.entry,
            "expose": place.expose,
            "budgets": place.budgets,
        }
        return {**super().__getstate__(), "__network__": inside}

    def __setstate__(self, state: dict[Any, Any]) -> None:
        inside = state["__network__"]
        super().__setstate__({key: each for key, each in state.items() if key != "__network__"})
        self.entry, self.expose = inside["entry"], inside["expose"]
        self.budgets = inside["budgets"]
        self.add(*inside["agents"])
        for u, event, v, attributes in inside["edges"]:
            self.link(u, event, v, **attributes)

    # -- pictures

    def to_mermaid(self) -> str:
        """The network as a Mermaid flow chart; nested networks are subgraphs."""
        return flow_chart(_box(self._place))

    def to_svg(self) -> str:
        """The network as an SVG picture that a browser opens."""
        return network_svg(_box(self._place))


def _takes(node: Node, method: str | None, receives: type[Message] | None) -> bool:
    handler = node.behaviour.handlers.get(method or "")
    if handler is None:
        return False
    return receives is None or handler.accepts is None or issubclass(receives, handler.accepts)


def _edges(graph: nx.Graph[Any]) -> Iterator[tuple[Any, Any, Any, dict[str, Any]]]:
    if graph.is_multigraph():
        yield from cast("nx.MultiGraph[Any]", graph).edges(keys=True, data=True)
    else:
        for u, v, data in graph.edges(data=True):
            yield u, v, None, data


def _validated(agent: GenAgent, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The values as the agent's fields hold them.

    Raises:
        UsageError: If one is no field of the agent.
        pydantic.ValidationError: If a value does not fit its field.
    """
    kind = type(agent)
    probe = kind.model_construct(**agent.__dict__)
    for name, value in fields.items():
        if name not in kind.model_fields:
            msg = f"The dump has a field {name!r} that {agent.path!r} has not."
            raise UsageError(msg)
        if name == "name" and value == agent.name:
            continue  # frozen, and the same
        kind.__pydantic_validator__.validate_assignment(probe, name, value)
    return {name: getattr(probe, name) for name in fields}


def _listen_again(mine: NetworkNode, theirs: NetworkNode) -> None:
    """Let those in a copy listen to each other as those in the original do.

    Only across its members; what listens within one of them was seen to when that was copied.
    """
    members = {id(node): node for node in mine.inner()}

    def member_of(node: Node) -> Node | None:
        return next((above for above in node.upwards() if id(above) in members), None)

    def twin_of(node: Node) -> NetworkNode | Node:
        return theirs if node is mine else theirs.inside(node.path.removeprefix(prefix))

    prefix = f"{mine.path}/"
    for node in mine.everyone():
        for event, ears in node.ears.items():
            for ear in ears:
                if ear.node is None or mine not in ear.node.upwards():
                    continue
                branch = member_of(node)
                if branch is member_of(ear.node) and branch is not None and branch.is_network:
                    continue
                twin_of(node).listen(event, Ear(node=twin_of(ear.node)))


def _box(node: Node, *, entry: bool = False) -> Box:
    if not isinstance(node, NetworkNode):
        return Box(node.name, entry=entry)
    return Box(
        node.name,
        entry=entry,
        inside=[_box(inner, entry=inner.name in node.entry) for inner in node.inner()],
        edges=node.edges(),
        exposes=tuple(sorted(node.expose)),
        network=True,
    )


LIBRARY.add(GenNetwork)
