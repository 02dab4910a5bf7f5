"""Routing beside a plain model: networkx graphs and dicts that say who hears what."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import networkx as nx
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from pydantic import Field

from llm_net import (
    DeadLetter,
    Envelope,
    GenAgent,
    GenNetwork,
    Instrument,
    Message,
    Runtime,
    Statistics,
    UnknownAgent,
    UsageError,
)
from tests.strategies import (
    EVENTS,
    METHODS,
    AgentSpec,
    Change,
    EdgeSpec,
    Emit,
    NetSpec,
    Send,
    Sieve,
    networks,
    programs,
)

Kind = Literal["inline", "blocking", "async"]
Host = Literal["inline", "thread"]
COMBINATIONS: list[tuple[Host, Kind]] = [
    ("inline", "inline"),
    ("inline", "blocking"),
    ("inline", "async"),
    ("thread", "inline"),
    ("thread", "blocking"),
    ("thread", "async"),
]
MOST = 150
"""Messages that a random program may cause; more are not drawn."""


def passes(sieve: Sieve, method: str, hops: int) -> bool:
    match sieve:
        case "all":
            return True
        case "none":
            return False
        case "even":
            return hops % 2 == 0
        case "step only":
            return method == "step"


# -- the model: dicts and graphs, and nothing of llm_net


@dataclass
class ModelAgent:
    name: str
    acts: list[Emit | Send] = field(default_factory=list)
    answers: bool = False
    above: ModelNet | None = None

    @property
    def path(self) -> str:
        return self.name if self.above is None else f"{self.above.path}/{self.name}"

    def doors(self, method: str) -> list[ModelAgent]:
        return [self]

    def handles(self, method: str) -> bool:
        return method in {"step", "news"}


@dataclass
class ModelNet(ModelAgent):
    members: dict[str, ModelAgent] = field(default_factory=dict)
    graph: nx.MultiDiGraph[str] = field(default_factory=nx.MultiDiGraph)
    entry: list[str] = field(default_factory=list)
    expose: set[str] = field(default_factory=set)
    own: bool = False
    linked: int = 0

    def handles(self, method: str) -> bool:
        return self.own and method == "note"

    def doors(self, method: str) -> list[ModelAgent]:
        if self.handles(method):
            return [self]
        return [
            door
            for name in self.entry
            if name in self.members
            for door in self.members[name].doors(method)
        ]

    def link(self, u: str, event: str, v: str, sieve: Sieve) -> None:
        if self.graph.has_edge(u, v, key=event):
            self.graph.edges[u, v, event]["sieve"] = sieve
        else:
            self.linked += 1
            self.graph.add_edge(u, v, key=event, sieve=sieve, place=self.linked)

    def heard(self, u: str, event: str) -> list[tuple[str, Sieve]]:
        edges = [
            (data["place"], v, data["sieve"])
            for _, v, key, data in self.graph.out_edges(u, keys=True, data=True)
            if key == event
        ]
        return [(v, sieve) for _, v, sieve in sorted(edges)]

    def find(self, path: str) -> ModelAgent | None:
        name, _, rest = path.partition("/")
        member = self.members.get(name)
        if member is None or not rest:
            return member
        return member.find(rest) if isinstance(member, ModelNet) else None

    def everyone(self) -> Iterator[ModelAgent]:
        yield self
        for member in self.members.values():
            if isinstance(member, ModelNet):
                yield from member.everyone()
            else:
                yield member


def root_of(agent: ModelAgent) -> ModelAgent:
    return agent if agent.above is None else root_of(agent.above)


def resolve(sender: ModelAgent, path: str) -> ModelAgent | None:
    """Seen from the sender's network downwards, then as a full path."""
    if sender.above is not None:
        found = sender.above.find(path)
        if found is not None:
            return found
    root = root_of(sender)
    name, _, rest = path.partition("/")
    if name != root.name:
        return None
    if not rest:
        return root
    return root.find(rest) if isinstance(root, ModelNet) else None


@dataclass
class Way:
    """Where one emit goes: receivers in order, each alive or a border without entry."""

    receivers: list[tuple[str, bool]]
    leaves: bool


def way(agent: ModelAgent, event: str, method: str, hops: int) -> Way:
    receivers: list[tuple[str, bool]] = []
    here = agent
    while here.above is not None:
        above = here.above
        for v, sieve in above.heard(here.name, event):
            if passes(sieve, method, hops):
                member = above.members[v]
                doors = member.doors(method)
                receivers.extend((door.path, True) for door in doors)
                if not doors:
                    receivers.append((member.path, False))
        if event not in above.expose:
            return Way(receivers, leaves=False)
        here = above
    return Way(receivers, leaves=isinstance(here, ModelNet))


@dataclass
class Outcome:
    """What a run must come to."""

    handled: Counter[tuple[Any, ...]] = field(default_factory=Counter)
    outputs: Counter[tuple[str, str]] = field(default_factory=Counter)
    dead: Counter[tuple[str, str]] = field(default_factory=Counter)
    sent: int = 0
    delivered: int = 0


def simulate(  # noqa: C901, PLR0912, PLR0915 - one rule of delivery after the other
    root: ModelNet, target: ModelAgent, method: str, hops: int
) -> Outcome | None:
    """The outcome of a run; None if it would be too long."""
    outcome = Outcome()
    agents = {agent.path: agent for agent in root.everyone()}
    # (receiver, sender, method, hops left, overheard, the address spoken to)
    todo: list[tuple[str, str | None, str, int, bool, str]] = []

    def address(node: ModelAgent, sender: str | None, wanted: str, left: int) -> None:
        doors = node.doors(wanted)
        outcome.sent += max(1, len(doors))
        if not doors:
            outcome.dead["no_entry", node.path] += 1
        todo.extend((door.path, sender, wanted, left, False, node.path) for door in doors)

    def emit(agent: ModelAgent, event: str, wanted: str, left: int) -> None:
        going = way(agent, event, wanted, left)
        for path, alive in going.receivers:
            outcome.sent += 1
            if alive:
                todo.append((path, agent.path, wanted, left, True, path))
            else:
                outcome.dead["no_entry", path] += 1
        if going.leaves:
            outcome.sent += 1
            outcome.delivered += 1
            outcome.outputs[agent.path, wanted] += 1

    address(target, None, method, hops)
    while todo:
        if outcome.sent > MOST:
            return None
        path, sender, method, left, overheard, spoken_to = todo.pop()
        agent = agents[path]
        if not agent.handles(method):
            if method == "response":
                outcome.delivered += 1
            else:
                outcome.dead["no_handler", path] += 1
            continue
        outcome.delivered += 1
        outcome.handled[path, sender, method, left, overheard] += 1
        if left == 0:
            continue
        for act in agent.acts:
            if isinstance(act, Emit):
                emit(agent, act.event, act.method, left - 1)
            else:
                node = resolve(agent, act.to)
                if node is None:
                    outcome.sent += 1
                    outcome.dead["no_receiver", act.to] += 1
                else:
                    address(node, agent.path, act.method, left - 1)
        if agent.answers:
            if overheard:
                emit(agent, "response", "response", left - 1)
            elif sender is None:
                outcome.sent += 1
                outcome.delivered += 1
                outcome.outputs[spoken_to, "response"] += 1
            else:
                address(agents[sender], spoken_to, "response", left - 1)
    return outcome if outcome.sent <= MOST else None


def model_of(spec: NetSpec) -> ModelNet:
    net = ModelNet(spec.name, spec.acts, own=spec.own, entry=spec.entry, expose=spec.expose)
    for member in spec.members:
        inner = (
            model_of(member)
            if isinstance(member, NetSpec)
            else ModelAgent(member.name, member.acts, member.answers)
        )
        inner.above = net
        net.members[inner.name] = inner
        net.graph.add_node(inner.name)
    for edge in spec.edges:
        net.link(edge.u, edge.event, edge.v, edge.sieve)
    return net


# -- the thing itself

Handled = tuple[str, str | None, str, int, bool]


class Log(Instrument):
    """What handlers and the runtime say that happened."""

    def __init__(self) -> None:
        self.handled: list[Handled] = []
        self.numbers: dict[tuple[str, str | None], list[int]] = defaultdict(list)
        self.counts: list[Statistics] = []
        self.runtime: Runtime | None = None
        self.ways: dict[str, list[tuple[str, bool]]] = defaultdict(list)
        self.messages: dict[str, Message] = {}
        self.sends: dict[tuple[str, str], list[str]] = defaultdict(list)
        self.delivers: dict[tuple[str, str], list[str]] = defaultdict(list)

    def send(self, envelope: Envelope, receiver: str) -> None:
        message = envelope.message
        if receiver:
            self.ways[message.id].append((receiver, True))
            self.sends[str(message.sender), receiver].append(message.id)
        self.messages[message.id] = message

    def deliver(self, envelope: Envelope, receiver: str) -> None:
        if receiver:
            self.delivers[str(envelope.message.sender), receiver].append(envelope.message.id)

    def drop(self, letter: DeadLetter) -> None:
        if letter.reason == "no_entry":
            self.ways[letter.message.id].append((letter.receiver, False))
        self.messages[letter.message.id] = letter.message


LOG = Log()


def perform(agent: Any, message: Message) -> str | None:
    """What every handler here does: note the message, then act as described."""
    data = json.loads(message.body)
    sender = None if message.sender is None else message.sender.path
    overheard = message.receiver is None
    LOG.handled.append((agent.path, sender, message.method, data["hops"], overheard))
    if "number" in data:
        LOG.numbers[agent.path, sender].append(data["number"])
    if LOG.runtime is not None and len(LOG.counts) < 20:
        LOG.counts.append(LOG.runtime.statistics())
    left = data["hops"] - 1
    if left < 0:
        return None
    for act in agent.acts:
        if isinstance(act, Emit):
            agent.emit(act.event, Message(agent.body(left, act.event), method=act.method))
        else:
            agent.send(Message(agent.body(left), method=act.method, receiver=act.to))
    return agent.body(left, "response", number=False) if agent.answers else None


class Actor(GenAgent):
    """Does what its description says with every message that has hops to go."""

    acts: list[Any] = Field(default_factory=list)
    answers: bool = False
    written: int = 0

    def body(self, hops: int, event: str = "", *, number: bool = True) -> str:
        data: dict[str, Any] = {"hops": hops, "event": event}
        if number:
            self.written += 1
            data["number"] = self.written
        return json.dumps(data)

    def helper(self, one: Any, two: Any) -> None:
        raise AssertionError("no handler has two parameters")

    def _secret(self, message: Message) -> None:
        raise AssertionError("no handler is private")


class InlineActor(Actor):
    blocking: ClassVar[bool] = False

    def step(self, message: Message) -> str | None:
        return perform(self, message)

    def news(self, message: Message) -> str | None:
        return perform(self, message)


class BlockingActor(Actor):
    def step(self, message: Message) -> str | None:
        return perform(self, message)

    def news(self, message: Message) -> str | None:
        return perform(self, message)


class AsyncActor(Actor):
    async def astep(self, message: Message) -> str | None:
        await self.sleep(0)
        return perform(self, message)

    async def anews(self, message: Message) -> str | None:
        return perform(self, message)


class OwnInline(GenNetwork):
    blocking: ClassVar[bool] = False
    acts: list[Any] = Field(default_factory=list)
    answers: bool = False
    written: int = 0

    body = Actor.body

    def note(self, message: Message) -> str | None:
        return perform(self, message)


class OwnBlocking(GenNetwork):
    acts: list[Any] = Field(default_factory=list)
    answers: bool = False
    written: int = 0

    body = Actor.body

    def note(self, message: Message) -> str | None:
        return perform(self, message)


class OwnAsync(GenNetwork):
    acts: list[Any] = Field(default_factory=list)
    answers: bool = False
    written: int = 0

    body = Actor.body

    async def anote(self, message: Message) -> str | None:
        return perform(self, message)


AGENTS: dict[Kind, Any] = {
    "inline": InlineActor,
    "blocking": BlockingActor,
    "async": AsyncActor,
}
NETWORKS: dict[Kind, Any] = {"inline": OwnInline, "blocking": OwnBlocking, "async": OwnAsync}


def sieve_of(sieve: Sieve) -> Callable[[Message], bool]:
    def where(message: Message) -> bool:
        return passes(sieve, message.method, json.loads(message.body)["hops"])

    return where


def build(spec: NetSpec, kind: Kind) -> GenNetwork:
    options: dict[str, Any] = {"acts": spec.acts} if spec.own else {}
    net: GenNetwork = (NETWORKS[kind] if spec.own else GenNetwork)(
        name=spec.name,
        agents=[
            build(member, kind)
            if isinstance(member, NetSpec)
            else AGENTS[kind](name=member.name, acts=member.acts, answers=member.answers)
            for member in spec.members
        ],
        entry=spec.entry,
        expose=spec.expose,
        **options,
    )
    for edge in spec.edges:
        link(net, edge)
    return net


def link(net: GenNetwork, edge: EdgeSpec) -> None:
    net.link(edge.u, edge.event, edge.v, where=sieve_of(edge.sieve), sieve=edge.sieve)


def listening(runtime: Runtime) -> Log:
    global LOG  # noqa: PLW0603 - handlers are methods of classes and see no test
    LOG = Log()
    LOG.runtime = runtime
    runtime.instruments = (LOG,)
    return LOG


# -- the properties

QUICK = settings(
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@pytest.mark.parametrize(("host", "kind"), COMBINATIONS)
@QUICK
@given(spec=networks(), method=st.sampled_from(["step", "news", "note"]), hops=st.integers(0, 3))
def test_every_message_reaches_exactly_those_whom_the_graphs_name(
    host: Host, kind: Kind, spec: NetSpec, method: str, hops: int
) -> None:
    model = model_of(spec)
    assume(model.doors(method))
    expected = simulate(model, model, method, hops)
    assume(expected is not None)
    assert expected is not None
    net = build(spec, kind)
    runtime = Runtime(host)
    log = listening(runtime)
    run = net.run(Message(json.dumps({"hops": hops}), method=method), runtime=runtime)

    # Who, what, how often.
    assert Counter(log.handled) == expected.handled
    assert not run.failures
    assert run.ended == "idle"
    # Borders: what left the outermost network, and nothing else.
    assert Counter((str(m.sender), m.method) for m in run.outputs) == expected.outputs
    assert Counter((d.reason, d.receiver) for d in run.dead_letters) == expected.dead
    # Conservation, at every moment that a handler saw and at the end.
    counts = run.statistics
    assert (counts.sent, counts.delivered) == (expected.sent, expected.delivered)
    assert counts.queued == 0
    assert counts.dead == sum(expected.dead.values())
    for seen in log.counts:
        assert seen.sent == seen.delivered + seen.queued + seen.dead
    total = runtime.statistics()
    assert (total.sent, total.delivered, total.dead) == (counts.sent, counts.delivered, counts.dead)
    # Order: per sender and receiver, and of each emit along its edges.
    for pair, numbers in log.numbers.items():
        assert numbers == sorted(numbers), pair
    for between, ids in log.delivers.items():
        sent = log.sends[between]
        kept = set(ids)
        assert ids == [number for number in sent if number in kept], between
    agents = {agent.path: agent for agent in model.everyone()}
    for number, receivers in log.ways.items():
        message = log.messages[number]
        data = json.loads(message.body)
        if message.receiver is None and message.sender is not None:
            agent = agents[message.sender.path]
            going = way(agent, data["event"], message.method, data["hops"])
            assert receivers == going.receivers


@pytest.mark.parametrize("kind", ["inline", "blocking", "async"])
@QUICK
@given(spec=networks(), path=st.sampled_from(["a", "b/a", "root", "a/a/a", "root/b", "ghost"]))
def test_a_run_goes_to_the_receiver_that_its_message_names(
    kind: Kind, spec: NetSpec, path: str
) -> None:
    model = model_of(spec)
    target = model.find(path) or resolve(model, path)
    net = build(spec, kind)
    runtime = Runtime("inline")
    log = listening(runtime)
    message = Message(json.dumps({"hops": 1}), receiver=path)
    if target is None:
        with pytest.raises(UnknownAgent):
            net.run(message, runtime=runtime)
    elif not target.doors("step"):
        with pytest.raises(UsageError):
            net.run(message, runtime=runtime)
    else:
        expected = simulate(model, target, "step", 1)
        assume(expected is not None)
        assert expected is not None
        run = net.run(message, runtime=runtime)
        assert Counter(log.handled) == expected.handled
        assert Counter((d.reason, d.receiver) for d in run.dead_letters) == expected.dead


TEXTS = st.text(max_size=20) | st.sampled_from(
    [
        *METHODS,
        "<call>",
        "__init__",
        "__class__",
        "perform",
        "body",
        "acts",
        "run",
        "start",
        "stop",
        "emit",
        "send",
        "on_start",
        "aon_stop",
        "unhandled",
        "model_copy",
        "astep",
        "anews",
        "_node",
        "name",
    ]
)


@pytest.mark.parametrize("kind", ["inline", "blocking", "async"])
@settings(max_examples=60)
@given(method=TEXTS, receiver=st.none() | st.text(min_size=1, max_size=12))
def test_nothing_reaches_an_undeclared_handler_whatever_the_message_says(
    kind: Kind, method: str, receiver: str | None
) -> None:
    declared = {"step", "news"} | ({"astep", "anews"} if kind == "async" else set())
    net = build(NetSpec("root", [AgentSpec("a")], entry=["a"]), kind)
    before = net.model_dump()
    runtime = Runtime("inline")
    log = listening(runtime)
    message = Message(json.dumps({"hops": 0}), method=method, receiver=receiver)
    try:
        run = net.run(message, runtime=runtime)
    except UnknownAgent:
        assert receiver not in {None, "a", "root", "root/a"}
        return
    assert not run.failures
    if method in declared:
        assert len(log.handled) == 1
    elif method == "response":
        assert run.statistics.delivered == 1
    else:
        assert log.handled == []
        assert [letter.reason for letter in run.dead_letters] == ["no_handler"]
    assert run.statistics.queued == 0
    assert net.model_dump() == before


@settings(max_examples=60)
@given(receiver=st.text(min_size=1, max_size=12), method=TEXTS)
def test_whatever_text_stands_as_receiver_a_message_reaches_who_is_there_or_dies(
    receiver: str, method: str
) -> None:
    spec = NetSpec("root", [AgentSpec("a", [Send(receiver, method)]), AgentSpec("b")], entry=["a"])
    runtime = Runtime("inline")
    log = listening(runtime)
    run = build(spec, "inline").run(json.dumps({"hops": 1}), runtime=runtime)
    assert not run.failures
    assert run.statistics.queued == 0
    here = receiver in {"a", "b", "root", "root/a", "root/b"}
    if not here:
        assert [(d.reason, d.receiver) for d in run.dead_letters] == [("no_receiver", receiver)]
    assert len(log.handled) == 1 + (here and method in {"step", "news"})


# -- changes while it runs


class Beside:
    """A nest of networks, the model beside it, and every change made to both."""

    def __init__(self, spec: NetSpec, host: Host, kind: Kind) -> None:
        self.kind = kind
        self.net = build(spec, kind)
        self.model = model_of(spec)
        self.runtime = Runtime(host)
        self.live = False
        self.made = 0

    def nets(self) -> list[tuple[ModelNet, GenNetwork]]:
        found: list[tuple[ModelNet, GenNetwork]] = []
        for agent in self.model.everyone():
            if isinstance(agent, ModelNet):
                real = self.net[agent.path]
                assert isinstance(real, GenNetwork)
                found.append((agent, real))
        return found

    def start(self) -> None:
        if not self.live and not any(
            set(model.entry) - set(model.members) for model, _ in self.nets()
        ):
            self.net.start(runtime=self.runtime)
            self.live = True

    def stop(self) -> None:
        if self.live:
            self.net.ref.stop()
            self.live = False

    def do(self, deed: Callable[[], Any], where: str) -> None:
        """Do it from outside, or in a handler of some agent that is neither changed nor gone."""
        if where == "inside" and self.live and "hand" in self.net:
            DEEDS.append(deed)
            run = self.net.run(Message('{"hops": 0}', method="do", receiver="hand"))
            assert not run.failures, run.failures
            assert not DEEDS
        else:
            deed()

    def change(self, change: Change) -> None:
        """Change both; what is heard is compared before and after, so that no old way is kept."""
        self.probe(change)
        self._change(change)
        self.probe(change)

    def probe(self, change: Change) -> None:
        """Every agent that the change is near to emits the event."""
        if self.live and change.kind not in {"emit", "start", "stop"}:
            model, _ = self.nets()[change.net % len(self.nets())]
            for agent in list(model.everyone())[1:5]:
                if agent.name != "hand":
                    self.emit(agent, change.event)

    def _change(self, change: Change) -> None:  # noqa: PLR0912 - one branch for each kind
        model, net = self.nets()[change.net % len(self.nets())]
        names = [name for name in model.members if name != "hand"]
        if change.kind == "start":
            self.start()
        elif change.kind == "stop":
            self.stop()
        elif change.kind == "add":
            if len(names) < 4:
                self.made += 1
                self.add(model, net, f"m{self.made}", change, nested=change.u % 3 == 0)
        elif change.kind == "entry":
            chosen = names[: change.u % 3]
            model.entry = chosen
            self.do(lambda: setattr(net, "entry", chosen), change.where)
        elif change.kind == "expose":
            events = set(EVENTS[: change.u % 4])
            model.expose = events
            self.do(lambda: setattr(net, "expose", events), change.where)
        elif names:
            u, v = names[change.u % len(names)], names[change.v % len(names)]
            if change.kind == "link":
                model.link(u, change.event, v, change.sieve)
                edge = EdgeSpec(u, change.event, v, change.sieve)
                self.do(lambda: link(net, edge), change.where)
            elif change.kind == "unlink":
                if model.graph.has_edge(u, v, key=change.event):
                    model.graph.remove_edge(u, v, key=change.event)
                    self.do(lambda: net.unlink(u, change.event, v), change.where)
                else:
                    with pytest.raises(UsageError):
                        net.unlink(u, change.event, v)
            elif change.kind == "remove":
                self.remove(model, net, u, change.where)
            else:
                self.emit(model.members[u], change.event)

    def add(
        self, model: ModelNet, net: GenNetwork, name: str, change: Change, *, nested: bool
    ) -> None:
        agent: GenAgent = AGENTS[self.kind](name=name)
        twin = ModelAgent(name)
        if nested:
            inside = AgentSpec("deep")
            spec = NetSpec(name, [inside], entry=["deep"], expose=set(EVENTS[:1]))
            agent, twin = build(spec, self.kind), model_of(spec)
        twin.above = model
        model.members[name] = twin
        model.graph.add_node(name)
        self.do(lambda: net.add(agent), change.where)
        assert agent.__node__().is_live is self.live

    def remove(self, model: ModelNet, net: GenNetwork, name: str, where: str) -> None:
        gone = net[name]
        del model.members[name]
        model.graph.remove_node(name)
        self.do(lambda: net.remove(name), where)
        assert gone.path == name
        assert gone.network is None
        if self.live:
            gone.ref.stop()
            assert not gone.ref.is_alive()

    def emit(self, agent: ModelAgent, event: str) -> None:
        """An agent emits: who hears it, in which order, and whether it leaves."""
        if isinstance(agent, ModelNet):
            return
        real: Any = self.net[agent.path]
        for hops, method in [(0, "step"), (1, "note")]:
            going = way(agent, event, method, hops)
            real.acts = [Emit(event, method)]
            agents = [each for each in self.model.everyone() if not isinstance(each, ModelNet)]
            log = listening(self.runtime)
            if any(set(m.entry) - set(m.members) for m, _ in self.nets()):
                return
            start = Message(json.dumps({"hops": hops + 1}), receiver=agent.path, method="step")
            options: dict[str, Any] = {} if self.live else {"runtime": self.runtime}
            others = {each.path: self.net[each.path] for each in agents if each is not agent}
            kept = {path: other.acts for path, other in others.items()}
            for other in others.values():
                other.acts = []
            run = self.net.run(start, max_hops=1, **options)
            for path, other in others.items():
                other.acts = kept[path]
            real.acts = []
            first = [
                receivers
                for number, receivers in log.ways.items()
                if log.messages[number].receiver is None
                and log.messages[number].sender == agent.path
                and json.loads(log.messages[number].body)["hops"] == hops
            ]
            assert first == ([going.receivers] if going.receivers else [])
            assert len(run.outputs) >= going.leaves
            assert run.statistics.queued == 0

    def check(self) -> None:
        """The graph tells the truth, and cannot be written."""
        for model, net in self.nets():
            assert set(net.graph.nodes) == set(model.members) == set(net.directory)
            assert list(net.directory) == list(model.members)
            real = {(u, k, v): d["sieve"] for u, v, k, d in net.graph.edges(keys=True, data=True)}
            mine = {(u, k, v): d["sieve"] for u, v, k, d in model.graph.edges(keys=True, data=True)}
            assert real == mine
            assert net.entry == tuple(model.entry)
            assert net.expose == model.expose
            with pytest.raises(nx.NetworkXError):
                net.graph.add_node("intruder")
            for name in model.members:
                assert net[name].path == model.members[name].path
                assert net[name].__node__().is_live is self.live
        if self.live:
            counts = self.runtime.statistics()
            assert counts.sent == counts.delivered + counts.queued + counts.dead


DEEDS: list[Callable[[], Any]] = []


class InlineHand(GenAgent):
    blocking: ClassVar[bool] = False

    acts: list[Any] = Field(default_factory=list)

    def do(self, message: Message) -> None:
        DEEDS.pop()()


class BlockingHand(GenAgent):
    acts: list[Any] = Field(default_factory=list)

    def do(self, message: Message) -> None:
        DEEDS.pop()()


class AsyncHand(GenAgent):
    acts: list[Any] = Field(default_factory=list)

    async def ado(self, message: Message) -> None:
        await self.sleep(0)
        DEEDS.pop()()


HANDS: dict[Kind, Any] = {"inline": InlineHand, "blocking": BlockingHand, "async": AsyncHand}


def plain(spec: NetSpec) -> NetSpec:
    """The same nest, whose agents do nothing by themselves."""
    return NetSpec(
        spec.name,
        [
            plain(member) if isinstance(member, NetSpec) else AgentSpec(member.name)
            for member in spec.members
        ],
        spec.edges,
        spec.entry,
        spec.expose,
        spec.own,
    )


def beside(spec: NetSpec, host: Host, kind: Kind) -> Beside:
    both = Beside(plain(spec), host, kind)
    both.net.add(HANDS[kind](name="hand"))
    both.model.members["hand"] = hand = ModelAgent("hand")
    hand.above = both.model
    both.model.graph.add_node("hand")
    return both


@pytest.mark.parametrize(("host", "kind"), COMBINATIONS)
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(spec=networks(depth=3), program=programs(20), live=st.booleans())
def test_any_program_of_changes_leaves_the_network_like_its_model(
    host: Host,
    kind: Kind,
    spec: NetSpec,
    program: list[Change],
    live: bool,  # noqa: FBT001
) -> None:
    DEEDS.clear()
    both = beside(spec, host, kind)
    if live:
        both.start()
    try:
        for change in program:
            both.change(change)
            both.check()
    finally:
        both.stop()


numbers = st.integers(0, 11)


class RewiringMachine(RuleBasedStateMachine):
    """A nest of networks beside dicts and graphs, changed at every moment of its life."""

    host: ClassVar[Host] = "inline"
    kind: ClassVar[Kind] = "inline"

    @initialize(spec=networks(depth=2))
    def begin(self, spec: NetSpec) -> None:
        DEEDS.clear()
        self.both = beside(spec, self.host, self.kind)

    def apply(self, kind: Any, where: Any, numbers: tuple[int, int, int], **more: Any) -> None:
        event, sieve = more.get("event", "news"), more.get("sieve", "all")
        self.both.change(Change(kind, where, *numbers, event, sieve))

    where = st.sampled_from(["outside", "inside"])
    three = st.tuples(numbers, numbers, numbers)

    @rule(
        where=where,
        n=three,
        event=st.sampled_from(EVENTS),
        sieve=st.sampled_from(["all", "none", "even", "step only"]),
    )
    def link(self, where: str, n: tuple[int, int, int], event: str, sieve: str) -> None:
        self.apply("link", where, n, event=event, sieve=sieve)

    @rule(where=where, n=three, event=st.sampled_from(EVENTS))
    def unlink(self, where: str, n: tuple[int, int, int], event: str) -> None:
        self.apply("unlink", where, n, event=event)

    @rule(where=where, n=three)
    def add(self, where: str, n: tuple[int, int, int]) -> None:
        self.apply("add", where, n)

    @rule(where=where, n=three)
    def remove(self, where: str, n: tuple[int, int, int]) -> None:
        self.apply("remove", where, n)

    @rule(where=where, n=three)
    def change_entry(self, where: str, n: tuple[int, int, int]) -> None:
        self.apply("entry", where, n)

    @rule(where=where, n=three)
    def change_borders(self, where: str, n: tuple[int, int, int]) -> None:
        self.apply("expose", where, n)

    @rule(n=three, event=st.sampled_from(EVENTS))
    def emit(self, n: tuple[int, int, int], event: str) -> None:
        self.apply("emit", "outside", n, event=event)

    @precondition(lambda self: not self.both.live)
    @rule()
    def start(self) -> None:
        self.both.start()

    @precondition(lambda self: self.both.live)
    @rule()
    def stop(self) -> None:
        self.both.stop()

    @precondition(lambda self: not self.both.live)
    @rule()
    def go_on_with_a_copy(self) -> None:
        self.both.net = self.both.net.model_copy(deep=True)

    @invariant()
    def the_network_is_like_its_model(self) -> None:
        if hasattr(self, "both"):
            self.both.check()

    def teardown(self) -> None:
        if hasattr(self, "both"):
            self.both.stop()


class ThreadedRewiringMachine(RewiringMachine):
    host = "thread"
    kind = "blocking"


class AsyncRewiringMachine(RewiringMachine):
    host = "thread"
    kind = "async"


STATEFUL = settings(
    max_examples=30, stateful_step_count=25, suppress_health_check=[HealthCheck.too_slow]
)
TestRewiring = RewiringMachine.TestCase
TestRewiring.settings = STATEFUL
TestThreadedRewiring = ThreadedRewiringMachine.TestCase
TestThreadedRewiring.settings = STATEFUL
TestAsyncRewiring = AsyncRewiringMachine.TestCase
TestAsyncRewiring.settings = STATEFUL
