"""Networks: members, edges, borders, paths, copies, dumps and pictures."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, ClassVar, TypeVar
from xml.etree import ElementTree as ET

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from llm_net import (
    AgentStopped,
    GenAgent,
    GenNetwork,
    HandlerError,
    Instrument,
    Message,
    Runtime,
    Supervision,
    UnknownAgent,
    UsageError,
)
from tests.waiting import DEADLINE_S, within_deadline

T = TypeVar("T")


class Offer(Message):
    price: float = 0


class Note(BaseModel):
    a: int = 0


class Quiet(GenAgent):
    """Hears, and says nothing."""

    blocking: ClassVar[bool] = False

    heard: list[str] = Field(default_factory=list)
    seen: list[Message] = Field(default_factory=list)

    def step(self, message: Message) -> None:
        self.heard.append(message.body)
        self.seen.append(message)

    def news(self, message: Message) -> None:
        self.step(message)


class Teller(GenAgent):
    """Emits what it is told as the event `news`."""

    blocking: ClassVar[bool] = False

    def step(self, message: Message) -> None:
        self.emit("news", message.body)


class Echo(GenAgent):
    blocking: ClassVar[bool] = False

    def step(self, message: Message) -> str:
        return message.body.upper()


class Forwarder(GenAgent):
    """Sends what it hears to a path."""

    blocking: ClassVar[bool] = False

    to: str = ""

    def step(self, message: Message) -> None:
        self.send(Message(message.body, receiver=self.to))


class Doer(GenAgent):
    """Does in its handler what the test wants done there."""

    blocking: ClassVar[bool] = False

    def do(self, message: Message) -> Any:
        return DEEDS[message.body](self)


class BlockingDoer(GenAgent):
    def do(self, message: Message) -> Any:
        return DEEDS[message.body](self)


DEEDS: dict[str, Callable[[Any], Any]] = {}


def do(net: GenNetwork, name: str, deed: Callable[[Any], Any]) -> Any:
    """Run the deed in a handler of this agent."""
    key = str(len(DEEDS))
    DEEDS[key] = deed
    return net.run(Message(key, method="do", receiver=name))


def pair(**options: Any) -> GenNetwork:
    return GenNetwork(
        name="net",
        agents=[Teller(name="a"), Quiet(name="b")],
        edges=[("a", "news", "b")],
        entry="a",
        **options,
    )


# -- building


@pytest.mark.parametrize("name", ["", ".", "..", "/", "a/b", "/a", "a/"])
def test_a_name_is_one_step_of_a_path(name: str) -> None:
    with pytest.raises(ValueError, match="is no name"):
        Quiet(name=name)
    with pytest.raises(ValueError, match="is no name"):
        GenNetwork(name=name)


def test_the_default_name_is_the_class_in_snake_case() -> None:
    class SalesDesk(GenNetwork):
        """Sells."""

    assert SalesDesk().name == "sales_desk"
    assert SalesDesk().description == "Sells."


def test_two_members_of_one_name_are_refused() -> None:
    with pytest.raises(UsageError, match="already has a member 'x'"):
        GenNetwork(agents=[Quiet(name="x"), Echo(name="x")])
    net = GenNetwork(agents=[Quiet(name="x")])
    with pytest.raises(UsageError):
        net.add(Quiet(name="x"))
    assert list(net.directory) == ["x"]


@pytest.mark.parametrize(
    "edge", [("a", "e", "ghost"), ("ghost", "e", "a"), ("ghost", "e", "ghost")]
)
def test_an_edge_to_a_stranger_is_refused_at_once(edge: tuple[str, str, str]) -> None:
    with pytest.raises(UnknownAgent, match="ghost"):
        GenNetwork(agents=[Quiet(name="a")], edges=[edge])
    net = GenNetwork(agents=[Quiet(name="a")])
    with pytest.raises(UnknownAgent):
        net.link(*edge)
    assert not net.graph.edges


def test_an_edge_to_a_stranger_with_the_name_of_a_member_is_refused() -> None:
    net = pair()
    with pytest.raises((UnknownAgent, UsageError)):
        net.link(Quiet(name="a"), "e", "b")


def test_a_stranger_with_the_name_of_a_member_is_not_removed_in_its_place() -> None:
    net = pair()
    with pytest.raises((UnknownAgent, UsageError)):
        net.remove(Quiet(name="a"))
    assert "a" in net.directory


def test_members_may_be_named_by_the_objects_themselves() -> None:
    a, b = Teller(name="a"), Quiet(name="b")
    net = GenNetwork(agents=[a, b], entry="a").link(a, "news", b)
    net.run("x")
    assert b.heard == ["x"]
    net.unlink(a, "news", b)
    assert net.remove(b) is b


def test_one_object_belongs_to_one_network() -> None:
    agent = Quiet(name="x")
    first = GenNetwork(name="first", agents=[agent])
    with pytest.raises(UsageError, match="first"):
        GenNetwork(name="second", agents=[agent])
    assert first["x"] is agent
    with pytest.raises(UsageError):
        GenNetwork(agents=[(twice := Quiet(name="y")), twice])


def test_a_removed_agent_may_join_another_network() -> None:
    agent = Quiet(name="x")
    first = GenNetwork(name="first", agents=[agent])
    assert first.remove("x") is agent
    second = GenNetwork(name="second", agents=[agent])
    assert agent.path == "second/x"
    assert agent.network is second


def test_a_network_cannot_be_inside_itself() -> None:
    net = GenNetwork(name="net")
    with pytest.raises(UsageError):
        net.add(net)
    inner = GenNetwork(name="inner")
    net.add(GenNetwork(name="middle", agents=[inner]))
    with pytest.raises(UsageError):
        inner.add(net)
    assert list(inner.directory) == []


def test_what_is_no_agent_cannot_be_a_member() -> None:
    stranger: Any = "worker"
    with pytest.raises(UsageError, match="no agent"):
        GenNetwork(agents=[stranger])
    cls: Any = Quiet
    with pytest.raises(UsageError):
        GenNetwork(agents=[cls])


def test_a_live_agent_cannot_become_a_member() -> None:
    agent = Quiet(name="x")
    with agent.start(), pytest.raises(UsageError, match="live"):
        GenNetwork(agents=[agent])


@pytest.mark.parametrize("event", ["", 3, None])
def test_an_event_is_a_text(event: Any) -> None:
    with pytest.raises(UsageError):
        pair().link("a", event, "b")


def test_a_filter_is_a_function() -> None:
    wrong: Any = "yes"
    with pytest.raises(UsageError):
        pair().link("a", "news", "b", where=wrong)


def test_unknown_fields_of_a_network_are_refused() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        GenNetwork(nonsense=1)


def test_edges_may_bear_attributes() -> None:
    net = GenNetwork(
        agents=[Quiet(name="a"), Quiet(name="b")], edges=[("a", "e", "b", {"weight": 3})]
    )
    assert net.graph.edges["a", "b", "e"]["weight"] == 3


# -- the directory, and paths


def firm() -> GenNetwork:
    sales = GenNetwork(name="sales", agents=[Quiet(name="worker"), Echo(name="boss")], entry="boss")
    return GenNetwork(name="firm", agents=[sales, Quiet(name="worker")], entry="sales")


def test_the_directory_holds_the_direct_members_in_the_order_added() -> None:
    net = firm()
    assert list(net.directory) == ["sales", "worker"]
    assert len(net.directory) == 2
    assert net.directory["worker"] is net["worker"]
    assert "boss" not in net.directory
    with pytest.raises(KeyError):
        net.directory["boss"]
    assert not hasattr(net.directory, "__setitem__")


def test_a_path_is_seen_from_the_network_downwards_else_from_the_outermost_name() -> None:
    net = firm()
    inner = net["sales"]
    assert isinstance(inner, GenNetwork)
    assert net["sales/worker"] is inner["worker"]
    assert net["firm/sales/worker"] is inner["worker"]
    assert inner["firm/worker"] is net["worker"]
    assert inner["firm"] is net


@pytest.mark.parametrize(
    "path", ["ghost", "sales/ghost", "worker/x", "/sales", "firm/ghost", "sales//worker", "..", " "]
)
def test_an_unknown_path_raises(path: str) -> None:
    with pytest.raises(UnknownAgent):
        firm()[path]
    assert path not in firm()


def test_an_empty_path_is_unknown_too() -> None:
    with pytest.raises(KeyError):
        firm()[""]


def test_a_member_wins_over_a_full_path() -> None:
    net = GenNetwork(name="x", agents=[GenNetwork(name="x", agents=[Quiet(name="x")])])
    assert net["x"].path == "x/x"
    assert net["x/x"].path == "x/x/x"


def test_paths_follow_when_a_network_joins_another() -> None:
    agent = Quiet(name="a")
    inner = GenNetwork(name="inner", agents=[agent])
    assert agent.path == "inner/a"
    outer = GenNetwork(name="outer", agents=[inner])
    assert agent.path == "outer/inner/a"
    outer.remove(inner)
    assert agent.path == "inner/a"


def test_find_looks_on_all_levels() -> None:
    class Bidder(GenAgent):
        async def acfp(self, message: Message) -> None:
            """Async handlers count under the name without the a."""

        def offer(self, message: Offer) -> None: ...

    class Talker(GenAgent):
        def offer(self, message: Message) -> None: ...

    net = GenNetwork(
        agents=[
            Bidder(name="one"),
            GenNetwork(name="inner", agents=[Bidder(name="two"), Talker(name="three")]),
            Quiet(name="four"),
        ]
    )
    assert [agent.name for agent in net.find(method="cfp")] == ["one", "two"]
    assert [agent.name for agent in net.find(receives=Offer)] == ["one", "two", "three"]
    assert [agent.name for agent in net.find(receives=Message)] == ["four"]
    assert net.find(method="model_dump") == []
    assert net.find(method="emit") == []


def test_find_knows_that_a_handler_takes_only_its_class() -> None:
    class Special(Offer):
        method: str = "offer"

    class Picky(GenAgent):
        def offer(self, message: Special) -> None: ...

    net = GenNetwork(agents=[Picky()])
    assert net.find(receives=Offer) == []
    assert [agent.name for agent in net.find(receives=Special)] == ["picky"]


def test_find_gives_networks_with_handlers_of_their_own() -> None:
    class Office(GenNetwork):
        def cfp(self, message: Message) -> None: ...

    net = GenNetwork(agents=[Office()])
    assert [agent.name for agent in net.find(method="cfp")] == ["office"]


@pytest.mark.parametrize("to", ["quiet", "firm/sub/quiet"])
def test_a_text_is_looked_up_from_the_senders_network(to: str) -> None:
    sub = GenNetwork(name="sub", agents=[Forwarder(to=to), Quiet()], entry="forwarder")
    net = GenNetwork(name="firm", agents=[sub, Quiet()], entry="sub")
    net.run("x")
    assert sub["quiet"].heard == ["x"]
    assert net["quiet"].heard == []


def test_a_text_may_lead_downwards_into_a_network() -> None:
    sub = GenNetwork(name="sub", agents=[Quiet()])
    net = GenNetwork(name="firm", agents=[Forwarder(to="sub/quiet"), sub], entry="forwarder")
    net.run("x")
    assert sub["quiet"].heard == ["x"]


@pytest.mark.parametrize("to", ["ghost", "sub/quiet", "..", "/firm", "firm//sub"])
def test_a_text_that_leads_nowhere_makes_a_dead_letter(to: str) -> None:
    sub = GenNetwork(name="sub", agents=[Forwarder(to=to), Quiet()], entry="forwarder")
    run = GenNetwork(name="firm", agents=[sub], entry="sub").run("x")
    assert [(letter.reason, letter.receiver) for letter in run.dead_letters] == [
        ("no_receiver", to)
    ]
    assert not run.failures


# -- entries


def test_a_message_to_the_network_goes_to_each_entry_in_order() -> None:
    heard: list[str] = []

    class Named(GenAgent):
        blocking: ClassVar[bool] = False

        def step(self, message: Message) -> None:
            heard.append(self.name)

    net = GenNetwork(agents=[Named(name="a"), Named(name="b"), Named(name="c")], entry=["c", "a"])
    run = net.run("x")
    assert heard == ["c", "a"]
    assert run.statistics.sent == run.statistics.delivered == 2


def test_entries_nest() -> None:
    deep = GenNetwork(name="deep", agents=[Echo(name="x"), Echo(name="y")], entry=["y", "x"])
    net = GenNetwork(name="top", agents=[deep, Echo(name="z")], entry=["z", "deep"])
    run = net.run("hi")
    assert [message.body for message in run.outputs] == ["HI", "HI", "HI"]
    assert run.statistics.sent == 6


@pytest.mark.parametrize("depth", [1, 2])
def test_a_network_without_entry_refuses_run_and_ask(depth: int) -> None:
    net = GenNetwork(name="n0", agents=[Echo()])
    for level in range(1, depth):
        net = GenNetwork(name=f"n{level}", agents=[net], entry=f"n{level - 1}")
    with pytest.raises(UsageError, match="no entry"):
        net.run("x")
    with net.start() as ref:
        with pytest.raises(UsageError, match="no entry"):
            ref.ask("x")
        with pytest.raises(UsageError, match="no entry"):
            net.run("x")
        assert net.run(Message("x", receiver="n0/echo")).outputs if depth == 2 else True


def test_telling_a_network_without_entry_makes_a_dead_letter() -> None:
    runtime = Runtime()
    net = GenNetwork(name="net", agents=[Quiet()])
    with net.start(runtime=runtime) as ref:
        ref.tell("x")
    assert [(letter.reason, letter.receiver) for letter in runtime.dead_letters] == [
        ("no_entry", "net")
    ]
    assert runtime.statistics().dead == runtime.statistics().sent == 1


def test_an_edge_to_a_network_without_entry_makes_a_dead_letter() -> None:
    net = GenNetwork(
        name="net",
        agents=[Teller(name="a"), GenNetwork(name="shut", agents=[Quiet()])],
        edges=[("a", "news", "shut")],
        entry="a",
    )
    run = net.run("x")
    assert [(letter.reason, letter.receiver) for letter in run.dead_letters] == [
        ("no_entry", "net/shut")
    ]
    assert run.ended == "idle"


def test_an_entry_that_is_no_member_is_refused_when_it_is_needed() -> None:
    net = GenNetwork(name="net", agents=[Echo()], entry=["echo", "ghost"])
    with pytest.raises(UsageError, match="ghost"):
        net.run("x")
    with pytest.raises(UsageError, match="ghost"):
        net.start()
    net.add(Echo(name="ghost"))
    assert len(net.run("x").outputs) == 2


def test_the_entry_may_change_while_the_network_is_live() -> None:
    net = GenNetwork(name="net", agents=[Quiet(name="a"), Quiet(name="b")], entry="a")
    with net.start():
        net.run("1")
        net.entry = ["b"]
        assert net.entry == ("b",)
        net.run("2")
        net.entry = None
        with pytest.raises(UsageError):
            net.run("3")
    assert net["a"].heard == ["1"]
    assert net["b"].heard == ["2"]


def test_a_change_of_a_nested_entry_reaches_routes_that_were_in_use() -> None:
    inner = GenNetwork(name="inner", agents=[Quiet(name="x"), Quiet(name="y")], entry="x")
    net = GenNetwork(
        name="net", agents=[Teller(name="a"), inner], edges=[("a", "news", "inner")], entry="a"
    )
    with net.start():
        net.run("1")
        inner.entry = "y"
        net.run("2")
        inner.add(Quiet(name="z"))
        inner.entry = ["z", "x"]
        net.run("3")
    heard = {name: agent.heard for name, agent in inner.directory.items()}
    assert heard == {"x": ["1", "3"], "y": ["2"], "z": ["3"]}


def test_a_message_to_a_stopping_network_dies_as_stopped() -> None:
    gate, entered = threading.Event(), threading.Event()

    class Busy(GenAgent):
        def step(self, message: Message) -> None:
            entered.set()
            gate.wait(DEADLINE_S)

    runtime = Runtime()
    net = GenNetwork(name="net", agents=[Quiet(), Busy()], entry="quiet")
    ref = net.start(runtime=runtime)
    net["busy"].ref.tell("x")
    assert entered.wait(DEADLINE_S)
    future = ref.stop(block=False)
    assert net["quiet"].ref.actor_stopped.wait(DEADLINE_S)
    ref.tell("late")
    gate.set()
    future.get()
    assert [letter.reason for letter in runtime.dead_letters] == ["stopped"]


# -- networks with handlers of their own


class Office(GenNetwork):
    blocking: ClassVar[bool] = False

    asked: list[str] = Field(default_factory=list)

    def step(self, message: Message) -> str:
        self.asked.append(message.body)
        return f"office: {message.body}"

    def shout(self, message: Message) -> None:
        self.emit("loud", message.body)

    def tell_inside(self, message: Message) -> None:
        self.send(Message(message.body, receiver=self["quiet"].ref))


def test_a_networks_own_handler_takes_the_message_instead_of_the_entries() -> None:
    net = Office(agents=[Echo(), Quiet()], entry="echo")
    run = net.run("x")
    assert [message.body for message in run.outputs] == ["office: x"]
    assert net.asked == ["x"]
    assert run.statistics.sent == run.statistics.delivered == 2
    assert run.outputs[0].sender == "office"


def test_other_methods_pass_through_to_the_entries() -> None:
    net = Office(agents=[Quiet()], entry="quiet")
    net.run(Message("x", method="news"))
    assert net["quiet"].heard == ["x"]
    assert net.asked == []


def test_a_network_with_a_handler_needs_no_entry_for_it() -> None:
    net = Office(agents=[Quiet()])
    assert net.run("x").outputs[0].body == "office: x"
    with pytest.raises(UsageError):
        net.run(Message("x", method="news"))


def test_unhandled_of_a_network_takes_what_its_handlers_do_not() -> None:
    class Guard(GenNetwork):
        blocking: ClassVar[bool] = False

        def unhandled(self, message: Message) -> str:
            return f"no {message.method}"

    net = Guard(agents=[Echo()], entry="echo")
    assert [message.body for message in net.run("x").outputs] == ["no step"]


def test_an_event_of_the_network_itself_goes_along_its_edges_in_the_network_above() -> None:
    net = GenNetwork(
        name="net",
        agents=[Office(agents=[Quiet(name="inside")]), Quiet(name="outside")],
        edges=[("office", "loud", "outside")],
    )
    seen: list[str] = []
    quiet = net["outside"]
    assert isinstance(quiet, Quiet)
    net["office"].on("loud", lambda message: seen.append(message.body))
    run = net.run(Message("x", method="shout", receiver="office"))
    # A bare text has the event as its method, which Quiet has no handler for.
    assert [letter.reason for letter in run.dead_letters] == ["no_handler"]
    assert seen == ["x"]


def test_a_network_overhears_with_its_own_handler() -> None:
    office = Office(agents=[Echo()], entry="echo")
    net = GenNetwork(
        name="net",
        agents=[Teller(name="a"), office, Quiet()],
        edges=[("a", "news", "office"), ("office", "response", "quiet")],
        entry="a",
    )
    net.link("a", "shout", "office")
    agent = net["a"]
    agent.on("news", lambda message: None)

    class Stepper(GenAgent):
        blocking: ClassVar[bool] = False

        def step(self, message: Message) -> None:
            self.emit("go", Message(message.body))

    net.add(Stepper()).link("stepper", "go", "office")
    run = net.run(Message("x", receiver="stepper"))
    assert office.asked == ["x"]
    # Overheard, its result is emitted, and Quiet takes the bare response silently.
    assert not run.outputs
    assert not run.dead_letters
    assert run.statistics.delivered == 3


def test_a_networks_handler_speaks_to_its_members() -> None:
    net = Office(agents=[Quiet()])
    net.run(Message("x", method="tell_inside"))
    quiet = net["quiet"]
    assert isinstance(quiet, Quiet)
    assert quiet.heard == ["x"]
    assert quiet.seen[0].sender == "office"


def test_turns_of_a_networks_own_handler_and_of_its_members_are_independent() -> None:
    class Asker(GenNetwork):
        async def astep(self, message: Message) -> str:
            reply = await self.aask(self["echo"], message.body)
            assert reply is not None
            return reply.body + "!"

    assert Asker(agents=[Echo()]).run("x").outputs[0].body == "X!"


# -- who a message is from and for


def test_an_addressed_message_gets_its_receiver_and_no_sender_from_outside() -> None:
    net = GenNetwork(name="net", agents=[Quiet()], entry="quiet")
    net.run(Message("x", receiver="quiet"))
    message = net["quiet"].seen[0]
    assert message.receiver == "net/quiet"
    assert message.sender is None


@pytest.mark.parametrize("entry", ["quiet", "sub"])
def test_a_message_to_a_network_keeps_the_networks_address(entry: str) -> None:
    quiet = Quiet()
    inner = GenNetwork(name="sub", agents=[quiet], entry="quiet")
    net = GenNetwork(name="net", agents=[inner, Quiet()], entry=entry)
    net.run("x")
    taker = quiet if entry == "sub" else net["quiet"]
    assert isinstance(taker, Quiet)
    assert taker.seen[0].receiver == "net"


def test_an_overheard_message_has_no_receiver() -> None:
    net = pair()
    net.run("x")
    message = net["b"].seen[0]
    assert message.receiver is None
    assert message.sender == "net/a"


def test_a_given_sender_is_kept_and_a_given_receiver_of_an_emit_steers_nothing() -> None:
    class Liar(GenAgent):
        blocking: ClassVar[bool] = False

        def step(self, message: Message) -> None:
            self.emit("news", Message("x", sender="somebody", receiver="nobody"))

    net = GenNetwork(
        name="net", agents=[Liar(), Quiet()], edges=[("liar", "news", "quiet")], entry="liar"
    )
    run = net.run("go")
    message = net["quiet"].seen[0]
    assert message.sender == "somebody"
    assert message.receiver == "nobody"
    assert not run.dead_letters


def test_a_reply_from_an_entry_bears_the_address_of_the_network_that_was_spoken_to() -> None:
    inner = GenNetwork(name="inner", agents=[Echo()], entry="echo")
    net = GenNetwork(name="net", agents=[inner], entry="inner")
    assert net.run("x").outputs[0].sender == "net"
    assert net.run(Message("x", receiver="inner")).outputs[0].sender == "net/inner"
    assert net.run(Message("x", receiver="inner/echo")).outputs[0].sender == "net/inner/echo"


@pytest.mark.parametrize("way", ["returned", "yielded", "sent", "reply", "typed", "model"])
def test_every_kind_of_reply_from_an_entry_bears_the_networks_address(way: str) -> None:
    class Answer(GenAgent):
        blocking: ClassVar[bool] = False

        def step(self, message: Message) -> Any:
            if way == "returned":
                return Message("a")
            if way == "yielded":
                return (item for item in [Message("a")])
            if way == "sent":
                self.send(Message("a"))
            if way == "reply":
                return message.reply("a")
            if way == "typed":
                return Offer.reply(message, "a", price=3)
            if way == "model":
                return Note(a=1)
            return None

    net = GenNetwork(name="net", agents=[Answer()], entry="answer")
    reply = net.run("x").outputs[0]
    assert reply.sender == "net"
    assert reply.receiver is None
    if way in {"reply", "typed", "model"}:
        assert reply.role == "assistant"


def test_other_messages_of_an_entry_bear_its_own_path() -> None:
    class Both(GenAgent):
        blocking: ClassVar[bool] = False

        def step(self, message: Message) -> str:
            self.emit("news", "n")
            self.send(Message("s", receiver="quiet"))
            return "r"

    net = GenNetwork(
        name="net",
        agents=[Both(), Quiet()],
        edges=[("both", "news", "quiet")],
        entry="both",
        expose=["news"],
    )
    run = net.run("x")
    quiet = net["quiet"]
    assert isinstance(quiet, Quiet)
    assert [str(message.sender) for message in quiet.seen] == ["net/both", "net/both"]
    assert [str(message.sender) for message in run.outputs] == ["net/both", "net"]


def test_an_agent_that_asked_a_network_gets_the_reply_from_the_network() -> None:
    class Asker(GenAgent):
        async def astep(self, message: Message) -> str:
            reply = await self.aask("inner", "hello")
            assert reply is not None
            assert reply.sender == "net/inner"
            assert reply.receiver == "net/asker"
            return reply.body

    inner = GenNetwork(name="inner", agents=[Echo()], entry="echo")
    net = GenNetwork(name="net", agents=[inner, Asker()], entry="asker")
    run = net.run("x")
    assert [message.body for message in run.outputs] == ["HELLO"]
    assert not run.failures


def test_inner_agents_may_be_addressed_from_outside() -> None:
    net = firm()
    with net.start():
        reply = net["sales/boss"].ref.ask("x")
    assert reply is not None
    assert reply.body == "X"


# -- borders


def nested_teller(depth: int, exposed: set[int]) -> GenNetwork:
    """A teller below `depth` networks; those whose level is in the set expose `news`."""
    inner: GenAgent = Teller(name="t")
    for level in range(depth):
        inner = GenNetwork(
            name=f"n{level}",
            agents=[inner, Quiet(name="ear")],
            edges=[(inner.name, "news", "ear")],
            entry=inner.name,
            expose=["news"] if level in exposed else [],
        )
    assert isinstance(inner, GenNetwork)
    return inner


@pytest.mark.parametrize("exposed", [set[int](), {0}, {1}, {0, 1}, {0, 1, 2}, {0, 2}, {1, 2}])
def test_an_event_crosses_each_border_if_and_only_if_it_is_exposed_there(
    exposed: set[int],
) -> None:
    net = nested_teller(3, exposed)
    run = net.run("x")
    reached = 0
    while reached in exposed:
        reached += 1
    inner: GenAgent = net
    for level in reversed(range(3)):
        assert isinstance(inner, GenNetwork)
        ear = inner["ear"]
        assert isinstance(ear, Quiet)
        assert ear.heard == (["x"] if level <= reached else [])
        inner = inner.directory["t" if level == 0 else f"n{level - 1}"]
    assert [message.body for message in run.outputs] == (["x"] if reached == 3 else [])
    assert run.statistics.sent == 1 + min(reached + 1, 3) + (reached == 3)


def test_an_exposed_event_of_a_member_leaves_the_network_once() -> None:
    net = pair(expose=["news", "news"])
    run = net.run("x")
    assert len(run.outputs) == 1
    assert run.outputs[0] is net["b"].seen[0]


def test_a_border_passes_the_same_message_object() -> None:
    net = nested_teller(3, {0, 1, 2})
    run = net.run("x")
    seen = [net["ear"].seen[0], net["n1/ear"].seen[0], net["n1/n0/ear"].seen[0]]
    assert all(message is run.outputs[0] for message in seen)
    assert run.outputs[0].sender == "n2/n1/n0/t"


def test_expose_may_change_while_the_network_is_live() -> None:
    net = pair()
    with net.start():
        assert not net.run("1").outputs
        net.expose = ["news"]
        assert net.expose == {"news"}
        assert [message.body for message in net.run("2").outputs] == ["2"]
        net.expose = []
        assert not net.run("3").outputs


def test_expose_is_about_direct_members_only() -> None:
    inner = pair()
    net = GenNetwork(name="top", agents=[inner], entry="net", expose=["news"])
    assert not net.run("x").outputs


# -- edges


def order_of_hearing(net: GenNetwork) -> list[str]:
    heard: list[str] = []
    for agent in net.directory.values():
        if isinstance(agent, Quiet):
            agent.heard.clear()
    recorder = Recorder()
    net.run("x", runtime=Runtime("inline", instruments=[recorder]))
    heard.extend(
        path.rsplit("/", 1)[1] for method, path in recorder.sent if method == "news" and path
    )
    return heard


class Recorder(Instrument):
    """An instrument that notes what was accepted for whom."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []

    def send(self, envelope: Any, receiver: str) -> None:
        self.sent.append((envelope.message.method, receiver))


def star() -> GenNetwork:
    return GenNetwork(
        name="net",
        agents=[Quiet(name="x"), Quiet(name="y"), Quiet(name="z"), Teller(name="a")],
        edges=[("a", "news", "z"), ("a", "news", "x"), ("a", "news", "y")],
        entry="a",
    )


def test_an_emit_goes_along_its_edges_in_the_order_first_linked() -> None:
    assert order_of_hearing(star()) == ["z", "x", "y"]


def test_linking_again_updates_attributes_and_keeps_the_place() -> None:
    net = star().link("a", "news", "z", weight=1).link("a", "news", "z", colour="red")
    assert net.graph.edges["a", "z", "news"] == {"weight": 1, "colour": "red"}
    assert order_of_hearing(net) == ["z", "x", "y"]


def test_unlinking_and_linking_takes_a_new_place() -> None:
    net = star().unlink("a", "news", "z").link("a", "news", "z")
    assert order_of_hearing(net) == ["x", "y", "z"]


def test_a_member_that_left_and_came_back_takes_a_new_place() -> None:
    net = star()
    net.add(net.remove("z")).link("a", "news", "z")
    assert order_of_hearing(net) == ["x", "y", "z"]


def test_linking_again_may_set_a_filter() -> None:
    net = star().link("a", "news", "z", where=lambda message: message.body != "x")
    assert order_of_hearing(net) == ["x", "y"]


def test_a_filter_goes_when_the_edge_goes() -> None:
    net = star().link("a", "news", "z", where=lambda message: False)
    net.unlink("a", "news", "z").link("a", "news", "z")
    assert order_of_hearing(net) == ["x", "y", "z"]


def test_unlinking_what_is_not_linked_is_refused() -> None:
    net = pair()
    for edge in [("b", "news", "a"), ("a", "other", "b"), ("a", "news", "ghost")]:
        with pytest.raises(UsageError):
            net.unlink(*edge)


def test_parallel_edges_have_different_events() -> None:
    net = pair().link("a", "other", "b")
    assert sorted(net.graph.edges(keys=True)) == [("a", "b", "news"), ("a", "b", "other")]
    net.link("a", "other", "b")
    assert net.graph.number_of_edges() == 2


def test_an_agent_may_hear_itself() -> None:
    class Countdown(GenAgent):
        blocking: ClassVar[bool] = False
        heard: list[str] = Field(default_factory=list)

        def step(self, message: Message) -> None:
            self.heard.append(message.body)
            if message.body != "0":
                self.emit("tick", Message(str(int(message.body) - 1)))

    net = GenNetwork(
        agents=[Countdown()], edges=[("countdown", "tick", "countdown")], entry="countdown"
    )
    net.run("3")
    assert net["countdown"].heard == ["3", "2", "1", "0"]


def test_a_failing_filter_stops_its_own_edge_only_and_is_reported_by_the_run() -> None:
    def wrong(message: Message) -> bool:
        raise RuntimeError("no")

    net = star().link("a", "news", "z", where=wrong)
    run = net.run("x")
    assert net["x"].heard == ["x"]
    assert net["z"].heard == []
    assert [str(failure.__cause__) for failure in run.failures] == ["no"]


@pytest.mark.parametrize("name", ["key", "u_for_edge", "v_for_edge", "weight", "label", "reason"])
def test_an_edge_takes_any_attribute_or_is_not_made(name: str) -> None:
    net = GenNetwork(name="net", agents=[Teller(name="a"), Quiet(name="b")], entry="a")
    try:
        attributes: dict[str, Any] = {name: 1}
        net.link("a", "news", "b", **attributes)
    except (UsageError, TypeError):
        linked = False
    else:
        linked = True
        assert net.graph.edges["a", "b", "news"][name] == 1
    assert net.graph.has_edge("a", "b", "news") is linked
    net.run("x")
    assert net["b"].heard == (["x"] if linked else [])


def test_the_graph_is_a_read_only_view() -> None:
    net = pair()
    view = net.graph
    with pytest.raises(nx.NetworkXError):
        view.add_edge("a", "b", key="x")
    with pytest.raises(nx.NetworkXError):
        view.add_node("c")
    with pytest.raises(nx.NetworkXError):
        view.remove_node("a")
    with pytest.raises(nx.NetworkXError):
        view.remove_edge("a", "b", key="news")
    with pytest.raises(nx.NetworkXError):
        view.clear()
    assert list(view.edges(keys=True)) == [("a", "b", "news")]
    net.link("b", "more", "a")
    assert net.graph.has_edge("b", "a", "more")


def test_what_is_written_into_the_graph_does_not_reach_the_network() -> None:
    net = pair().link("a", "news", "b", weight=1)
    try:
        net.graph.edges["a", "b", "news"]["weight"] = 2
    except (TypeError, nx.NetworkXError):
        return
    assert net.graph.edges["a", "b", "news"]["weight"] == 1


def test_a_nested_network_is_one_node_of_the_graph() -> None:
    assert sorted(firm().graph.nodes) == ["sales", "worker"]


def test_graph_algorithms_read_the_graph() -> None:
    net = star().link("x", "back", "a")
    assert nx.has_path(net.graph, "x", "y")
    assert set(nx.descendants(net.graph, "x")) == {"a", "y", "z"}


# -- from a graph


@pytest.mark.parametrize("kind", [nx.Graph, nx.DiGraph, nx.MultiGraph, nx.MultiDiGraph])
def test_from_graph_takes_every_kind_of_graph(kind: type[Any]) -> None:
    graph = kind()
    graph.add_nodes_from(["a", "b", "c", "alone"])
    graph.add_edge("a", "b")
    graph.add_edge("b", "c", event="news", weight=2)
    graph.add_edge("c", "c")
    net = GenNetwork.from_graph(graph, Quiet(), name="net", entry="a")
    expected = {("a", "b", "step"), ("b", "c", "news"), ("c", "c", "step")}
    if not graph.is_directed():
        expected |= {("b", "a", "step"), ("c", "b", "news")}
    assert set(net.graph.edges(keys=True)) == expected
    assert net.graph.edges["b", "c", "news"]["weight"] == 2
    assert list(net.directory) == ["a", "b", "c", "alone"]
    assert net.entry == ("a",)
    assert len({id(agent) for agent in net.directory.values()}) == 4


def test_a_text_key_is_the_event_and_other_keys_are_not() -> None:
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    graph.add_edge("a", "b", key="x", event="not this")
    graph.add_edge("a", "b", key=7, event="y")
    graph.add_edge("a", "b", key=8)
    net = GenNetwork.from_graph(graph, Quiet())
    assert set(net.graph.edges(keys=True)) == {
        ("a", "b", "x"),
        ("a", "b", "y"),
        ("a", "b", "step"),
    }


def test_from_graph_makes_agents_with_a_function_of_the_name() -> None:
    graph = nx.path_graph(3)

    def agent(name: str) -> GenAgent:
        return Echo() if name == "0" else Quiet(heard=[name])

    net = GenNetwork.from_graph(graph, agent)
    assert isinstance(net["0"], Echo)
    assert [net[name].heard for name in "12"] == [["1"], ["2"]]


def test_from_graph_refuses_a_function_that_gives_no_agent() -> None:
    wrong: Any = lambda name: None  # noqa: E731 - the shortest wrong function
    with pytest.raises(UsageError, match="no agent"):
        GenNetwork.from_graph(nx.path_graph(2), wrong)


def test_from_graph_refuses_one_agent_for_two_nodes() -> None:
    agent = Quiet()
    with pytest.raises(UsageError):
        GenNetwork.from_graph(nx.path_graph(2), lambda name: agent)


def test_from_graph_refuses_two_nodes_of_one_name() -> None:
    graph: nx.Graph[Any] = nx.Graph()
    graph.add_nodes_from([1, "1"])
    with pytest.raises(UsageError):
        GenNetwork.from_graph(graph, Quiet())


@pytest.mark.parametrize("name", ["a/b", "", ".", ".."])
@pytest.mark.parametrize("by", ["copy", "function"])
def test_from_graph_refuses_nodes_that_are_no_names(name: str, by: str) -> None:
    graph: nx.Graph[str] = nx.Graph()
    graph.add_node(name)
    with pytest.raises((ValueError, UsageError)):
        GenNetwork.from_graph(graph, Quiet() if by == "copy" else lambda name: Quiet())


@pytest.mark.parametrize("attribute", ["u", "v", "event", "where", "self", "key", "name"])
def test_from_graph_takes_any_attribute_of_an_edge(attribute: str) -> None:
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_edges_from([("a", "b", {attribute: "text"})])
    try:
        net = GenNetwork.from_graph(graph, Quiet())
    except UsageError:
        return  # it may refuse, if it says so
    event = "text" if attribute == "event" else "step"
    assert list(net.graph.edges(keys=True)) == [("a", "b", event)]


def test_from_graph_does_not_change_the_graph_or_the_agent() -> None:
    graph = nx.path_graph(3)
    agent = Quiet(name="seed", heard=["old"])
    net = GenNetwork.from_graph(graph, agent, entry="0")
    net.run("x")
    assert agent.heard == ["old"]
    assert agent.name == "seed"
    assert net["0"].heard == ["old", "x"]
    assert list(graph.nodes) == [0, 1, 2]


def test_from_graph_copies_a_whole_network_to_each_node() -> None:
    seed = GenNetwork(name="seed", agents=[Echo()], entry="echo")
    net = GenNetwork.from_graph(nx.path_graph(3), seed, entry=["0", "2"])
    assert [message.body for message in net.run("x").outputs] == ["X", "X"]
    assert net["1/echo"].path == "gen_network/1/echo"


# -- changes while it runs


def test_an_agent_added_to_a_live_network_goes_live() -> None:
    net = pair()
    with net.start():
        net.add(Quiet(name="c")).link("a", "news", "c")
        assert net["c"].ref.is_alive()
        net.run("x")
        assert net["c"].heard == ["x"]
    assert not net["c"].ref.is_alive()


def test_a_network_added_to_a_live_network_goes_live_with_all_in_it() -> None:
    net = pair()
    with net.start():
        net.add(firm())
        assert [message.body for message in net.run(Message("x", receiver="firm")).outputs] == ["X"]
        assert net["firm/sales/boss"].path == "net/firm/sales/boss"


def test_a_removed_agent_handles_what_it_has_then_stops() -> None:
    gate, entered = threading.Event(), threading.Event()

    class Slow(GenAgent):
        heard: list[str] = Field(default_factory=list)
        blocking: ClassVar[bool] = True

        def step(self, message: Message) -> None:
            entered.set()
            gate.wait(DEADLINE_S)
            self.heard.append(message.body)

    runtime = Runtime()
    net = GenNetwork(name="net", agents=[Slow()], entry="slow")
    with net.start(runtime=runtime):
        agent = net["slow"]
        assert isinstance(agent, Slow)
        agent.ref.tell("1")
        agent.ref.tell("2")
        assert entered.wait(DEADLINE_S)
        ref = agent.ref
        net.remove("slow")
        with pytest.raises(UnknownAgent):
            net["slow"]
        gate.set()
        assert ref.actor_stopped.wait(DEADLINE_S)
        assert agent.heard == ["1", "2"]
        with pytest.raises(AgentStopped):
            ref.tell("3")
    assert [letter.reason for letter in runtime.dead_letters] == ["stopped"]


def test_a_removed_agent_hears_no_more_along_edges() -> None:
    net = star()
    with net.start():
        gone = net.remove("x")
        net.run("x")
        assert gone.heard == []  # type: ignore[attr-defined]
        assert net["y"].heard == ["x"]


def test_removing_a_stranger_is_refused() -> None:
    with pytest.raises(UnknownAgent):
        pair().remove("ghost")


def test_a_member_may_leave_and_come_back_while_the_network_is_live() -> None:
    net = pair()
    with net.start(runtime=Runtime("inline")):
        gone = net.remove("b")
        gone.ref.stop()
        net.run("1")
        net.add(gone).link("a", "news", "b")
        net.run("2")
    assert gone.heard == ["2"]  # type: ignore[attr-defined]


def test_the_removed_entry_is_missed_by_the_next_run() -> None:
    net = pair()
    with net.start():
        net.remove("a")
        with pytest.raises(UsageError, match="'a'"):
            net.run("x")


def test_a_member_that_cannot_go_live_is_not_added() -> None:
    net = pair()
    wrong = GenNetwork(name="wrong", agents=[Quiet()], entry="ghost")
    with net.start():
        with pytest.raises(UsageError):
            net.add(wrong)
        assert "wrong" not in net.directory
        assert not net.graph.has_node("wrong")
    assert net.run("x").ended == "idle"


@pytest.mark.parametrize("kind", [Doer, BlockingDoer])
@pytest.mark.parametrize("host", ["inline", "thread"])
def test_a_handler_may_rewire_its_own_network(kind: type[GenAgent], host: Any) -> None:
    net = GenNetwork(name="net", agents=[kind(name="a"), Quiet(name="b")])
    runtime = Runtime(host)
    with net.start(runtime=runtime):

        def rewire(agent: GenAgent) -> None:
            network = agent.network
            assert network is not None
            network.add(Quiet(name="c"))
            network.link("a", "news", "b").link("a", "news", "c")
            agent.emit("news", "1")

        do(net, "a", rewire)

        def cut(agent: GenAgent) -> None:
            network = agent.network
            assert network is not None
            network.unlink("a", "news", "b")
            agent.emit("news", "2")

        do(net, "a", cut)
        assert net["b"].heard == ["1"]
        assert net["c"].heard == ["1", "2"]


@pytest.mark.parametrize("kind", [Doer, BlockingDoer])
def test_a_handler_may_remove_another_agent_or_its_own(kind: type[GenAgent]) -> None:
    net = GenNetwork(name="net", agents=[kind(name="a"), kind(name="b")])
    with net.start():
        run = do(net, "a", lambda agent: agent.network.remove("b").name)
        assert [message.body for message in run.outputs] == ["b"]
        run = do(net, "a", lambda agent: agent.network.remove("a").name)
        assert [message.body for message in run.outputs] == ["a"]
        assert list(net.directory) == []
        assert run.statistics.queued == 0


def test_an_emit_goes_along_the_edges_that_were_there_when_it_was_made() -> None:
    """A handler on a thread emits, then unlinks, while the engine is busy with something else."""
    done = threading.Event()

    class Gate(GenAgent):
        blocking: ClassVar[bool] = False

        def do(self, message: Message) -> None:
            done.wait(DEADLINE_S)

    def emit_then_cut(agent: GenAgent) -> None:
        assert agent.network is not None
        agent.emit("news", "x")
        agent.network.unlink("a", "news", "b")
        done.set()

    net = GenNetwork(
        name="net",
        agents=[BlockingDoer(name="a"), Gate(), Quiet(name="b")],
        edges=[("a", "news", "b")],
        entry=["a", "gate"],
    )
    DEEDS["emit_then_cut"] = emit_then_cut
    net.run(Message("emit_then_cut", method="do"))
    assert net["b"].heard == ["x"]


def test_what_was_sent_before_a_removal_arrives() -> None:
    done = threading.Event()

    class Gate(GenAgent):
        blocking: ClassVar[bool] = False

        def do(self, message: Message) -> None:
            done.wait(DEADLINE_S)

    def send_then_remove(agent: GenAgent) -> None:
        assert agent.network is not None
        agent.send(Message("x", receiver="b"))
        agent.network.remove("b")
        done.set()

    net = GenNetwork(
        name="net",
        agents=[BlockingDoer(name="a"), Gate(), quiet := Quiet(name="b")],
        entry=["a", "gate"],
    )
    DEEDS["send_then_remove"] = send_then_remove
    net.run(Message("send_then_remove", method="do"))
    assert quiet.heard == ["x"]


def test_a_network_that_is_stopping_stops_what_a_last_handler_adds() -> None:
    def grow(agent: GenAgent) -> None:
        assert agent.network is not None
        agent.network.add(Quiet(name="late"))

    DEEDS["grow"] = grow
    gate, entered = threading.Event(), threading.Event()

    class Gate(GenAgent):
        def do(self, message: Message) -> None:
            entered.set()
            gate.wait(DEADLINE_S)
            grow(self)

    net = GenNetwork(name="net", agents=[Gate(name="a")])
    ref = net.start(runtime=Runtime())
    net["a"].ref.tell(Message(method="do"))
    assert entered.wait(DEADLINE_S)
    future = ref.stop(block=False)
    gate.set()
    assert within_deadline(future.get) is True
    assert not net["late"].__node__().is_live


@pytest.mark.parametrize("host", ["inline", "thread"])
def test_other_threads_may_rewire_a_live_network(host: Any) -> None:
    net = GenNetwork(name="net", agents=[Teller(name="a")], entry="a")
    runtime = Runtime(host)
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(10):
                name = f"m{number}_{turn}"
                net.add(Quiet(name=name))
                net.link("a", "news", name)
                net.link(name, "back", "a", turn=turn)
                if turn % 2:
                    net.remove(name)
                elif turn % 3:
                    net.unlink("a", "news", name)
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            errors.append(error)

    with net.start(runtime=runtime):
        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        runs = [net.run(str(n)) for n in range(20)]
        for thread in threads:
            thread.join()
        last = net.run("last")
        linked = [v for _, v, event in net.graph.edges(keys=True) if event == "news"]
        assert len(linked) == 8
        for name, agent in net.directory.items():
            if isinstance(agent, Quiet):
                assert ("last" in agent.heard) is (name in linked)
    assert not errors
    assert not last.dead_letters
    assert all(run.statistics.queued == 0 for run in runs)
    total = runtime.statistics()
    assert total.sent == total.delivered + total.dead
    assert total.queued == 0


# -- copies


def test_a_copy_has_copies_of_all_members_and_the_original_is_untouched() -> None:
    net = firm()
    twin = net.model_copy(deep=True)
    assert twin is not net
    assert twin.path == net.path == "firm"
    assert twin["sales/worker"] is not net["sales/worker"]
    assert twin["sales/worker"].path == "firm/sales/worker"
    assert twin["sales"].network is twin
    assert net["sales"].network is net
    assert twin.entry == net.entry
    twin.run(Message("x", receiver="worker"))
    assert twin["worker"].heard == ["x"]
    assert net["worker"].heard == []


def test_a_copy_has_edges_in_their_order_with_filters_and_attributes() -> None:
    net = star().link("a", "news", "z", where=lambda message: True, weight=2)
    net.unlink("a", "news", "x").link("a", "news", "x")
    net.expose = ["news"]
    twin = net.model_copy(deep=True)
    assert order_of_hearing(twin) == ["z", "y", "x"]
    assert twin.graph.edges["a", "z", "news"]["weight"] == 2
    assert twin.expose == {"news"}
    twin.link("a", "news", "z", where=lambda message: False)
    twin.unlink("a", "news", "y")
    twin.remove("x")
    twin.entry, twin.expose = None, []
    assert order_of_hearing(net) == ["z", "y", "x"]
    assert net.expose == {"news"}
    assert net.graph.number_of_edges() == 3


def test_a_copy_has_the_listeners_of_the_original() -> None:
    heard: list[str] = []
    net = pair()
    net["a"].on("news", lambda message: heard.append(message.body))
    net["b"].listen(net["a"], "news")
    twin = net.model_copy(deep=True)
    twin.run("x")
    assert heard == ["x"]
    assert twin["b"].heard == ["x", "x"]
    assert net["b"].heard == []
    net.run("y")
    assert heard == ["x", "y"]
    assert net["b"].heard == ["y", "y"]
    assert twin["b"].heard == ["x", "x"]


def test_a_copy_has_listeners_between_agents_of_different_levels() -> None:
    net = GenNetwork(
        name="top",
        agents=[
            GenNetwork(name="left", agents=[Teller(name="a")], entry="a"),
            GenNetwork(name="right", agents=[Quiet(name="b")]),
        ],
        entry="left",
    )
    net["right/b"].listen(net["left/a"], "news")
    twin = net.model_copy(deep=True)
    twin.run("x")
    assert twin["right/b"].heard == ["x"]
    assert net["right/b"].heard == []


def test_a_copy_has_members_that_listen_to_their_own_network() -> None:
    inner = GenNetwork(name="inner", agents=[Teller(name="a"), Quiet(name="b")], entry="a")
    inner.expose = ["news"]
    inner["b"].listen(inner, "news")
    net = GenNetwork(name="net", agents=[inner], entry="inner")
    net.run("x")
    assert inner["b"].heard == ["x"]
    twin = net.model_copy(deep=True)
    twin.run("y")
    assert twin["inner/b"].heard == ["x", "y"]


def test_a_listener_for_one_time_is_copied_and_each_hears_once() -> None:
    heard: list[str] = []
    net = pair()
    net["a"].once("news", lambda message: heard.append(message.body))
    twin = net.model_copy(deep=True)
    twin.run("twin 1")
    twin.run("twin 2")
    net.run("net 1")
    net.run("net 2")
    assert heard == ["twin 1", "net 1"]


def test_a_copy_of_a_live_network_is_not_live() -> None:
    net = pair()
    with net.start():
        net.run("x")
        twin = net.model_copy(deep=True)
        with pytest.raises(UsageError):
            _ = twin["a"].ref
        twin.run("y")
        assert net["a"].ref.is_alive()
    assert net["b"].heard == ["x"]
    assert twin["b"].heard == ["x", "y"]


def test_a_copy_of_a_network_with_fields_of_its_own_has_them() -> None:
    net = Office(agents=[Echo()], asked=["x"], supervision=Supervision(directive="stop"))
    twin = net.model_copy(deep=True)
    twin.run("y")
    assert twin.asked == ["x", "y"]
    assert net.asked == ["x"]
    assert twin.supervision == net.supervision


# -- dumps


def dumped() -> GenNetwork:
    class Rich(GenAgent):
        blocking: ClassVar[bool] = False
        name: str = "rich"
        when: datetime = datetime(2030, 1, 1, tzinfo=UTC)
        tags: set[str] = Field(default_factory=lambda: {"x"})
        table: dict[int, tuple[int, str]] = Field(default_factory=lambda: {1: (2, "three")})
        count: int = 0

        def step(self, message: Message) -> None:
            self.count += 1
            self.tags.add(message.body)

    return Office(
        name="top",
        agents=[GenNetwork(name="inner", agents=[Rich(), Quiet()], entry="rich"), Rich()],
        entry=["inner", "rich"],
    )


def test_a_dump_holds_every_agents_own_fields_by_name() -> None:
    net = dumped()
    net["inner/rich"].count = 7
    data = net.model_dump()
    assert data["name"] == "top"
    assert data["asked"] == []
    assert set(data["agents"]) == {"inner", "rich"}
    assert data["agents"]["inner"]["agents"]["rich"]["count"] == 7
    assert data["agents"]["rich"]["tags"] == {"x"}
    assert "supervision" not in data


@pytest.mark.parametrize("way", ["python", "json text", "json mode"])
def test_a_dump_is_restored_into_a_network_of_the_same_code(way: str) -> None:
    net = dumped()
    net.run(Message("new", receiver="rich"))
    net.run(Message("deep", receiver="inner"))
    net.run("own")
    if way == "python":
        dump = net.model_dump()
    elif way == "json text":
        dump = json.loads(net.model_dump_json())
    else:
        dump = net.model_dump(mode="json")
    other = dumped()
    assert other.restore(dump) is other
    assert other.model_dump() == net.model_dump()
    other.run(Message("more", receiver="rich"))
    assert other["rich"].count == 2
    assert net["rich"].count == 1


def test_a_restored_network_shares_nothing_with_the_dump() -> None:
    net, other = dumped(), dumped()
    dump = net.model_dump()
    other.restore(dump)
    other.run(Message("new", receiver="rich"))
    assert dump["agents"]["rich"]["tags"] == {"x"}
    assert net["rich"].tags == {"x"}


def test_a_dump_of_other_agents_is_refused() -> None:
    with pytest.raises(UsageError, match="rich"):
        pair().restore(dumped().model_dump())
    dump = dumped().model_dump()
    dump["agents"]["rich"]["stranger"] = 1
    with pytest.raises(UsageError, match="stranger"):
        dumped().restore(dump)


def test_a_value_that_does_not_fit_is_refused() -> None:
    dump = dumped().model_dump()
    dump["agents"]["rich"]["count"] = "many"
    with pytest.raises(ValueError, match="count"):
        dumped().restore(dump)


def test_a_refused_dump_changes_nothing() -> None:
    net = dumped()
    dump = net.model_dump()
    dump["agents"]["inner"]["agents"]["rich"]["count"] = 5
    dump["agents"]["rich"]["count"] = "many"
    before = net.model_dump()
    with pytest.raises(ValueError, match="count"):
        net.restore(dump)
    assert net.model_dump() == before


def test_a_live_network_is_not_restored() -> None:
    net = dumped()
    dump = net.model_dump()
    with net.start(), pytest.raises(UsageError, match="live"):
        net.restore(dump)


# -- pictures

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = [
    '"]; click n "javascript:alert(1)"',
    "<script>alert(1)</script>",
    "a & b <c> 'd'",
    "end",
    "%%{init: {}}%%",
    "#quot;",
    "line\nbreak",
    "🎩",
    "x" * 200,
]


def labels(picture: str) -> list[str]:
    return [text.text or "" for text in ET.fromstring(picture).iter(f"{SVG}text")]


def test_the_pictures_show_members_events_and_borders() -> None:
    net = star()
    net.add(GenNetwork(name="inner", agents=[Quiet(name="deep")], expose=["out"]))
    net.link("a", "extra", "z").link("z", "loop", "z")
    flow = net.to_mermaid()
    shown = labels(net.to_svg())
    assert flow.startswith("flowchart")
    for word in ["a", "x", "y", "z", "deep", "inner"]:
        assert f'"{word}"' in flow
        assert any(word in label for label in shown)
    assert "news, extra" in flow
    assert any("news, extra" in label for label in shown)
    assert flow.count("subgraph") == flow.count("\n    end") + flow.count("\n        end") == 2


def test_pictures_of_an_empty_network_are_well_formed() -> None:
    net = GenNetwork(name="void")
    ET.fromstring(net.to_svg())
    assert "void" in net.to_mermaid()


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_and_events_are_escaped_in_pictures(text: str) -> None:
    name = text.replace("/", "_")
    net = GenNetwork(name=name, agents=[Quiet(name=name), Quiet(name="b")], expose=[text])
    net.link(name, text, "b")
    shown = labels(net.to_svg())
    assert any(name in label or " ".join(name.split()) in label for label in shown)
    flow = net.to_mermaid()
    assert_plain_flow_chart(flow, nodes=2, arrows=1)


def assert_plain_flow_chart(flow: str, *, nodes: int, arrows: int) -> None:
    label = r'"[^"<>\[\](){}|`\n]*"'
    kinds = {
        "head": r"flowchart LR",
        "open": rf"subgraph n[\d_]*\[{label}\]",
        "node": rf"n[\d_]+(\[{label}\]|\(\[{label}\]\))",
        "arrow": rf"n[\d_]* -->\|{label}\| n[\d_]*",
        "out": rf"n[\d_]*_out\(\({label}\)\)|n[\d_]* -\.-> n[\d_]*_out",
        "end": r"end",
    }
    counts = dict.fromkeys(kinds, 0)
    for line in flow.rstrip("\n").split("\n"):
        kind = next((k for k, v in kinds.items() if re.fullmatch(v, line.strip())), None)
        assert kind is not None, line
        counts[kind] += 1
    assert counts["node"] == nodes
    assert counts["arrow"] == arrows
    assert counts["open"] == counts["end"]


NAMES = st.text(min_size=1, max_size=12).filter(lambda t: "/" not in t and t not in {".", ".."})


@settings(max_examples=60)
@given(name=NAMES, event=st.text(min_size=1, max_size=12))
def test_any_name_and_event_gives_well_formed_pictures(name: str, event: str) -> None:
    net = GenNetwork(name="net", agents=[Quiet(name=name)], edges=[(name, event, name)])
    ET.fromstring(net.to_svg().encode("utf-8", "surrogatepass").decode())
    assert_plain_flow_chart(net.to_mermaid(), nodes=1, arrows=1)


# -- depth


def tower(depth: int) -> GenNetwork:
    inner: GenAgent = Teller(name="t")
    for level in range(depth):
        inner = GenNetwork(name=f"n{level}", agents=[inner], entry=inner.name, expose=["news"])
    assert isinstance(inner, GenNetwork)
    return inner


@pytest.mark.parametrize("depth", [64, 300])
@pytest.mark.parametrize("host", ["inline", "thread"])
def test_a_deep_nest_takes_and_gives_messages(depth: int, host: Any) -> None:
    net = tower(depth)
    run = net.run("x", runtime=Runtime(host))
    assert [message.body for message in run.outputs] == ["x"]
    assert run.statistics.sent == run.statistics.delivered == 2
    assert str(run.outputs[0].sender).count("/") == depth


@pytest.mark.parametrize("depth", [64, 300])
def test_a_deep_nest_is_heard_by_whoever_overhears_its_border(depth: int) -> None:
    inner = tower(depth)
    net = GenNetwork(
        name="top",
        agents=[Teller(name="a"), inner, Quiet(name="b")],
        edges=[("a", "news", inner.name), (inner.name, "news", "b")],
        entry=[inner.name, "a"],
    )
    run = net.run("x")
    assert net["b"].heard == ["x"]
    # The teller inside has no handler `news`.
    assert [letter.reason for letter in run.dead_letters] == ["no_handler"]


@pytest.mark.parametrize("depth", [64, 300])
def test_a_deep_nest_is_looked_through(depth: int) -> None:
    net = tower(depth)
    path = "/".join([*(f"n{level}" for level in reversed(range(depth - 1))), "t"])
    assert net[path].path == f"n{depth - 1}/{path}"
    assert [agent.name for agent in net.find(method="step")] == ["t"]
    assert len(net.find(method="nothing")) == 0


@pytest.mark.parametrize("depth", [64, 300])
@pytest.mark.parametrize("word", ["copy", "dump", "dump_json", "restore", "mermaid", "svg"])
def test_a_deep_nest_is_copied_dumped_and_drawn(depth: int, word: str) -> None:
    net = tower(depth)
    if word == "copy":
        twin = net.model_copy(deep=True)
        assert len(twin.run("x").outputs) == 1
    elif word == "dump":
        assert net.model_dump()["name"] == f"n{depth - 1}"
    elif word == "dump_json":
        # Pydantic itself writes no JSON that is deeper than 255 levels.
        assert "n63" in tower(64).model_dump_json()
    elif word == "restore":
        data: dict[str, Any] = {"name": "t"}
        for level in range(depth):
            data = {"name": f"n{level}", "agents": {("t" if level == 0 else f"n{level - 1}"): data}}
        net.restore(data)
    elif word == "mermaid":
        assert net.to_mermaid().count("subgraph") == depth
    else:
        ET.fromstring(net.to_svg())


def test_stopping_a_deep_nest_at_once_stops_all() -> None:
    net = tower(300)
    ref = net.start(runtime=Runtime())
    inside = net.find(method="step")[0]
    assert inside.ref.is_alive()
    assert ref.stop(drain=False) is True
    assert not inside.ref.is_alive()


# -- across runtimes


def test_agents_of_two_runtimes_tell_and_ask_each_other() -> None:
    class Asker(GenAgent):
        peer: Any = None

        async def astep(self, message: Message) -> str:
            reply = await self.aask(self.peer, message.body)
            assert reply is not None
            return f"{reply.body} from {reply.sender}"

    far = GenNetwork(name="far", agents=[Echo()], entry="echo")
    here, there = Runtime("thread"), Runtime("thread")
    with far.start(runtime=there) as ref:
        near = GenNetwork(name="near", agents=[Asker(peer=ref)], entry="asker")
        run = near.run("x", runtime=here)
        assert [message.body for message in run.outputs] == ["X from far"]
        assert not run.failures
    assert here.statistics().queued == there.statistics().queued == 0
    for runtime in (here, there):
        total = runtime.statistics()
        assert total.sent == total.delivered + total.dead


@pytest.mark.parametrize("blocking", [True, False])
def test_a_message_to_another_runtime_is_handled_there_and_answered_here(blocking: bool) -> None:  # noqa: FBT001
    answered = threading.Event()
    seen: list[Message] = []

    class Sender(GenAgent):
        blocking: ClassVar[bool] = False
        peer: Any = None

        def step(self, message: Message) -> None:
            self.send(Message(message.body, receiver=self.peer))

        def response(self, message: Message) -> None:
            seen.append(message)
            answered.set()

    Sender.blocking = blocking
    far = Echo(name="far")
    with far.start(runtime=Runtime()) as ref:
        near = GenNetwork(name="near", agents=[Sender(peer=ref)], entry="sender")
        with near.start(runtime=Runtime()):
            near.run("x")
            assert answered.wait(DEADLINE_S)
    assert [message.body for message in seen] == ["X"]
    assert seen[0].sender == "far"
    assert seen[0].receiver == "near/sender"


def test_an_agent_hears_an_event_of_an_agent_in_another_runtime() -> None:
    heard = threading.Event()
    owners: list[bool] = []

    class Ear(GenAgent):
        blocking: ClassVar[bool] = False

        def news(self, message: Message) -> None:
            owners.append(there.engine.owned)
            heard.set()

    here, there = Runtime("thread"), Runtime("thread")
    far = Ear()
    near = GenNetwork(name="near", agents=[Teller(name="a")], entry="a")
    near["a"].on("news", far)
    with far.start(runtime=there), near.start(runtime=here):
        within_deadline(lambda: near.run("x"))
        assert heard.wait(DEADLINE_S)
    assert owners == [True]
    for runtime in (here, there):
        total = runtime.statistics()
        assert total.sent == total.delivered + total.queued + total.dead


def test_a_listener_in_another_runtime_hears_again_after_its_second_start() -> None:
    heard: list[str] = []
    again = threading.Event()

    class Ear(GenAgent):
        blocking: ClassVar[bool] = False

        def news(self, message: Message) -> None:
            heard.append(message.body)
            again.set()

    far = Ear()
    near = GenNetwork(name="near", agents=[Teller(name="a")], entry="a")
    near["a"].on("news", far)
    there = Runtime("thread")
    with near.start(runtime=Runtime("thread")):
        for body in ["1", "2"]:
            again.clear()
            with far.start(runtime=there) as ref:
                near.run(body, timeout=DEADLINE_S)
                assert ref.is_alive()
                assert again.wait(DEADLINE_S)
    assert heard == ["1", "2"]


def test_a_handler_asks_an_agent_of_an_inline_runtime() -> None:
    class Asker(GenAgent):
        peer: Any = None

        def step(self, message: Message) -> str:
            reply = self.ask(self.peer, message.body, timeout=DEADLINE_S / 2)
            assert reply is not None
            return reply.body

    far = Echo(name="far")
    ref = far.start(runtime=Runtime("inline"))
    near = GenNetwork(name="near", agents=[Asker(peer=ref)], entry="asker")
    run = within_deadline(lambda: near.run("x", runtime=Runtime("inline")))
    ref.stop()
    assert not run.failures
    assert [message.body for message in run.outputs] == ["X"]


def test_networks_of_one_runtime_reach_each_other_by_full_path() -> None:
    runtime = Runtime("thread")
    far = GenNetwork(name="far", agents=[Quiet(name="b")])
    near = GenNetwork(name="near", agents=[Forwarder(to="far/b")], entry="forwarder")
    with far.start(runtime=runtime), near.start(runtime=runtime):
        run = near.run("x")
    assert far["b"].heard == ["x"]
    assert run.statistics.delivered == 2


# -- life


def test_a_member_cannot_be_started_alone() -> None:
    net = pair()
    with pytest.raises(UsageError, match="member"):
        net["a"].start()


def test_a_live_network_cannot_be_started_again() -> None:
    net = pair()
    with net.start(), pytest.raises(UsageError, match="live"):
        net.start()
    with net.start():
        pass


def test_start_makes_all_live_and_stop_stops_all() -> None:
    net = firm()
    agents = [net, net["sales"], net["sales/boss"], net["worker"]]
    with net.start():
        assert all(agent.ref.is_alive() for agent in agents)
        assert net["sales/boss"].ref.path == "firm/sales/boss"
    assert not any(agent.ref.is_alive() for agent in agents)


def test_asking_a_network_gives_the_first_reply() -> None:
    net = GenNetwork(name="net", agents=[Quiet(name="q"), Echo(name="e")], entry=["q", "e"])
    with net.start() as ref:
        reply = ref.ask("x")
        assert reply is not None
        assert reply.body == "X"
        assert reply.sender == "net"
        assert [message.body for message in ref.stream("y")] == ["Y"]


def test_asking_a_network_whose_entry_fails_names_the_entry() -> None:
    class Broken(GenAgent):
        blocking: ClassVar[bool] = False

        def step(self, message: Message) -> None:
            raise ValueError("no")

    net = GenNetwork(name="net", agents=[Broken()], entry="broken")
    with net.start() as ref, pytest.raises(HandlerError) as caught:
        ref.ask("x")
    assert caught.value.path == "net/broken"
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_network_starts_on_a_running_loop() -> None:
    async def main() -> str:
        async with GenNetwork(name="net", agents=[Echo()], entry="echo").astart() as ref:
            reply = await ref.aask("x")
            assert reply is not None
            return reply.body

    assert asyncio.run(main()) == "X"
