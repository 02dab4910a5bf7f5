"""Agents: what a message may reach, what becomes of a result, and whose turn it is."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, PrivateAttr, ValidationError

from llm_net import (
    AgentRef,
    DeliveryError,
    GenAgent,
    GenNetwork,
    HandlerError,
    Message,
    Method,
    NoHandler,
    Role,
    Run,
    Runtime,
    UnknownAgent,
    UsageError,
)
from llm_net.testing import collect

DEADLINE = 20.0
Host = Literal["thread", "inline"]
HOSTS: list[Host] = ["thread", "inline"]


class Propose(Message):
    price: float = 0


class Refuse(Message):
    pass


class Bill(BaseModel):
    total: int


def ask(agent: GenAgent, message: Message | str = "", host: Host = "inline") -> Message | None:
    """Start the agent, ask once, stop."""
    with agent.start(runtime=Runtime(host)) as ref:
        return ref.ask(message, timeout=DEADLINE)


def body(reply: Message | None) -> str:
    assert reply is not None
    return reply.body


class Ear(GenAgent):
    """Notes every message that reaches it, whatever its method."""

    blocking = False
    heard: list[Message] = Field(default_factory=list)

    def unhandled(self, message: Message) -> None:
        self.heard.append(message)

    @property
    def bodies(self) -> list[str]:
        return [message.body for message in self.heard]


class EarWithResponse(Ear):
    def response(self, message: Message) -> None:
        self.heard.append(message)


# -- what a message may reach


def test_a_method_goes_to_its_async_twin_if_there_is_one() -> None:
    class Both(GenAgent):
        def step(self, message: Message) -> str:
            return "sync"

        async def astep(self, message: Message) -> str:
            return "async"

        def other(self, message: Message) -> str:
            return "sync other"

        def aother(self, message: Message) -> str:
            return "no twin, for it is sync"

        async def plain(self, message: Message) -> str:
            return "async under its own name"

    with Both().start(runtime=Runtime("inline")) as ref:
        assert body(ref.ask(Message())) == "async"
        assert body(ref.ask(Message(method="other"))) == "sync other"
        assert body(ref.ask(Message(method="plain"))) == "async under its own name"


def test_an_async_generator_is_an_async_twin() -> None:
    class Streams(GenAgent):
        def step(self, message: Message) -> str:
            return "sync"

        async def astep(self, message: Message) -> AsyncIterator[str]:
            yield "async"

    assert body(ask(Streams())) == "async"


class Fortress(GenAgent):
    """Has two handlers, and much that looks like one."""

    blocking = False
    touched: list[str] = Field(default_factory=list)
    field: str = "x"
    _private: str = PrivateAttr(default="x")
    constant: ClassVar[str] = "x"

    def step(self, message: Message) -> str:
        return "step"

    async def alarm(self, message: Message) -> str:
        return "alarm"

    def _hidden(self, message: Message) -> str:
        self.touched.append("_hidden")
        return "hidden"

    def __dunder__(self, message: Message) -> str:
        self.touched.append("__dunder__")
        return "dunder"

    def helper(self) -> str:
        self.touched.append("helper")
        return "helper"

    def two(self, message: Message, other: int) -> str:
        self.touched.append("two")
        return "two"

    def text(self, text: str) -> str:
        self.touched.append("text")
        return text

    def many(self, *message: Message) -> str:
        self.touched.append("many")
        return "many"

    def keyword(self, *, message: Message) -> str:
        self.touched.append("keyword")
        return "keyword"

    @property
    def prop(self) -> Callable[[Message], str]:
        self.touched.append("prop")
        return self.step

    @staticmethod
    def static(message: Message) -> str:
        raise AssertionError

    @staticmethod
    def static_two(other: Any, message: Message) -> str:
        raise AssertionError

    @classmethod
    def of_class(cls, message: Message) -> str:
        raise AssertionError

    class Inner:
        """A class in the class."""

        def __init__(self, message: Message) -> None:
            raise AssertionError

    def model_dump(self, **options: Any) -> dict[str, Any]:
        self.touched.append("model_dump")
        return super().model_dump(**options)


DECLARED = {"step", "alarm", "larm"}
TEMPTING = sorted({*dir(Fortress), "<call>", "__init__", "prop", "touched", "", "step ", "Step"})


@given(method=st.sampled_from(TEMPTING) | st.text(max_size=12) | st.sampled_from(list(Method)))
@settings(max_examples=200)
def test_a_message_of_every_method_reaches_declared_handlers_only(method: str) -> None:
    fortress = Fortress()
    with fortress.start(runtime=Runtime("inline")) as ref:
        if method in DECLARED:
            assert body(ref.ask(Message(method=method))) in {"step", "alarm"}
        elif method == "response":
            assert ref.ask(Message(method=method)) is None
        else:
            with pytest.raises(NoHandler):
                ref.ask(Message(method=method))
    assert fortress.touched == []


def test_names_of_the_library_stay_unreachable_when_they_are_overridden() -> None:
    reached: list[str] = []

    class Open(GenAgent):
        blocking = False

        def model_post_init(self, context: Any) -> None:
            """Overridden, as pydantic allows."""

        def statistics(self) -> Any:
            reached.append("statistics")

        def on_start(self) -> None:
            """A hook is no handler."""

    with Open().start(runtime=Runtime("inline")) as ref:
        for method in ("model_post_init", "statistics", "on_start", "model_copy", "send", "stop"):
            with pytest.raises(NoHandler):
                ref.ask(Message(method=method))
    assert reached == []


@pytest.mark.parametrize("hook", ["on_start", "aon_stop", "on_failure", "unhandled", "aunhandled"])
def test_a_hook_is_never_reached_by_a_message_that_names_it(hook: str) -> None:
    def call(self: Any, message: Message) -> str:
        return "reached"

    namespace: dict[str, Any] = {"__module__": __name__, "blocking": False}
    if not hook.endswith("unhandled"):
        namespace[hook] = lambda self, message=None, *rest: None
    cls = type("Hooked", (GenAgent,), namespace)
    with cls().start(runtime=Runtime("inline")) as ref, pytest.raises(NoHandler):
        ref.ask(Message(method=hook))


def test_handlers_of_mixins_and_base_agents_are_reached() -> None:
    class Mixin:
        def mixed(self, message: Message) -> str:
            return "mixin"

        def hidden(self, message: Message) -> str:
            return "hidden"

    class Base(GenAgent):
        blocking = False

        def base(self, message: Message) -> str:
            return "base"

        def both(self, message: Message) -> str:
            return "base"

        def gone(self, message: Message) -> str:
            return "gone"

    class Derived(Mixin, Base):
        hidden: ClassVar[None] = None  # type: ignore[assignment]

        def both(self, message: Message) -> str:
            return "derived, after " + super().both(message)

        @property
        def gone(self) -> str:  # type: ignore[override]
            return "a property now"

    with Derived().start(runtime=Runtime("inline")) as ref:
        assert body(ref.ask(Message(method="mixed"))) == "mixin"
        assert body(ref.ask(Message(method="base"))) == "base"
        assert body(ref.ask(Message(method="both"))) == "derived, after base"
        for method in ("hidden", "gone"):
            with pytest.raises(NoHandler):
                ref.ask(Message(method=method))


def test_a_parameter_of_another_name_makes_a_handler_if_it_is_annotated_as_a_message() -> None:
    class Local(Message):
        pass

    class Annotated(GenAgent):
        blocking = False

        def plain(self, m: Message) -> str:
            return "plain"

        def typed(self, offer: Propose) -> str:
            return f"typed {offer.price}"

        def local(self, m: Local) -> str:
            return "local"

        def text(self, m: str) -> str:
            return "never"

        def untyped(self, message) -> str:  # type: ignore[no-untyped-def]  # noqa: ANN001
            return "untyped"

    with Annotated().start(runtime=Runtime("inline")) as ref:
        assert body(ref.ask(Message(method="plain"))) == "plain"
        assert body(ref.ask(Propose(price=2, method="typed"))) == "typed 2.0"
        assert body(ref.ask(Local(method="local"))) == "local"
        assert body(ref.ask(Message(method="untyped"))) == "untyped"
        with pytest.raises(NoHandler):
            ref.ask(Message(method="text"))


def test_a_handler_takes_only_the_class_of_messages_it_is_annotated_with() -> None:
    class Picky(GenAgent):
        blocking = False
        refused: list[str] = Field(default_factory=list)

        def propose(self, message: Propose) -> str:
            return f"{message.price}"

        def unhandled(self, message: Message) -> str:
            self.refused.append(type(message).__name__)
            return "unhandled"

    class Special(Propose):
        method: str = "propose"

    agent = Picky()
    with agent.start(runtime=Runtime("inline")) as ref:
        assert body(ref.ask(Propose(price=1))) == "1.0"
        assert body(ref.ask(Special(price=2))) == "2.0"
        assert body(ref.ask(Message("3", method="propose"))) == "unhandled"
        assert body(ref.ask(Refuse(method="propose"))) == "unhandled"
    assert agent.refused == ["Message", "Refuse"]


def define(**members: Any) -> type[GenAgent]:
    return type("Defined", (GenAgent,), {"__module__": __name__, **members})


def handler(self: Any, message: Message) -> None:
    """Has a handler's signature."""


@pytest.mark.parametrize(
    "name", ["send", "emit", "ask", "start", "listen", "statistics", "model_dump", "copy", "json"]
)
def test_a_handler_that_takes_a_name_of_the_library_is_refused_when_it_is_defined(
    name: str,
) -> None:
    with pytest.raises(TypeError, match=name):
        define(**{name: handler})


@pytest.mark.parametrize(
    "name", ["random", "network", "path", "ref", "send", "now", "model_dump", "copy", "schedule"]
)
def test_a_field_that_takes_a_name_of_the_library_is_refused_when_it_is_defined(name: str) -> None:
    with pytest.raises(TypeError, match=name):
        define(__annotations__={name: int}, **{name: 1})


def test_fields_that_say_who_the_agent_is_may_be_redefined() -> None:
    class Named(GenAgent):
        name: str = "bob"
        role: Role = Role.USER
        description: str = "Is called Bob."

    agent = Named()
    assert (agent.name, agent.role, agent.description) == ("bob", Role.USER, "Is called Bob.")


def test_a_role_that_a_class_gives_as_text_is_a_role_all_the_same() -> None:
    class Texted(GenAgent):
        blocking = False
        role: Role = "system"  # type: ignore[assignment]

        def step(self, message: Message) -> str:
            return "x"

    reply = ask(Texted())
    assert reply is not None
    assert reply.role == "system"
    assert reply.to_chat() == {"role": "system", "content": "x"}


# -- results


class Results(GenAgent):
    """Gives what the message's body names."""

    blocking = False

    def step(self, message: Message) -> Any:
        return RESULTS[message.body]

    def items(self, message: Message) -> Iterator[Any]:
        yield RESULTS[message.body]
        yield "after"


class ThreadResults(Results):
    blocking = True


class AsyncResults(Results):
    async def astep(self, message: Message) -> Any:
        return RESULTS[message.body]

    async def aitems(self, message: Message) -> AsyncIterator[Any]:
        yield RESULTS[message.body]
        yield "after"


RESULTS: dict[str, Any] = {
    "none": None,
    "text": "hello",
    "empty": "",
    "model": Bill(total=3),
    "message": Message("a message"),
    "typed": Propose("typed", price=3),
    "number": 1,
    "list": ["a"],
    "dict": {"a": 1},
    "bytes": b"a",
    "true": True,
    "class": Message,
}
KINDS = [Results, ThreadResults, AsyncResults]


@pytest.mark.parametrize("kind", KINDS)
def test_a_handler_may_give_none_a_text_a_model_or_a_message(kind: type[Results]) -> None:
    with kind().start(runtime=Runtime("inline")) as ref:
        assert ref.ask("none") is None
        text = ref.ask("text")
        empty = ref.ask("empty")
        model = ref.ask("model")
        message = ref.ask("message")
        typed = ref.ask("typed")
    assert text is not None
    assert (text.body, text.method, text.role) == ("hello", "response", Role.ASSISTANT)
    assert text.sender == ref.path
    assert body(empty) == ""
    assert model is not None
    assert (model.body, model.method) == ('{"total":3}', "bill")
    assert message is not None
    assert (message.body, message.method) == ("a message", "step")
    assert isinstance(typed, Propose)
    assert typed.price == 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("result", ["number", "list", "dict", "bytes", "true", "class"])
def test_anything_else_is_an_error_to_the_asker(kind: type[Results], result: str) -> None:
    with kind().start(runtime=Runtime("inline")) as ref:
        with pytest.raises(HandlerError) as caught:
            ref.ask(result)
        assert isinstance(caught.value.__cause__, UsageError)
        with pytest.raises(HandlerError):
            ref.ask(Message(result, method="items"))
        assert body(ref.ask("text")) == "hello"


@pytest.mark.parametrize("kind", KINDS)
def test_anything_else_is_a_failure_where_nobody_asks(kind: type[Results]) -> None:
    class Trigger(GenAgent):
        blocking = False

        def step(self, message: Message) -> None:
            self.send(Message("number", receiver="results"))

    net = GenNetwork(name="net", agents=[Trigger(), kind(name="results")], entry="trigger")
    run = net.run("go")
    assert [failure.path for failure in run.failures] == ["net/results"]


@pytest.mark.parametrize("kind", KINDS)
def test_each_item_of_a_generator_is_a_reply(kind: type[Results]) -> None:
    with kind().start(runtime=Runtime("inline")) as ref:
        for result, bodies in [("text", ["hello", "after"]), ("none", ["after"])]:
            replies = list(ref.stream(Message(result, method="items")))
            assert [reply.body for reply in replies] == bodies
        assert body(ref.ask(Message("text", method="items"))) == "hello"


def test_a_reply_of_the_runtime_answers_the_message_it_replies_to() -> None:
    question = Message("text")
    reply = ask(Results(), question)
    assert reply is not None
    assert reply.reply_to_id == question.id
    assert reply.reply_to is not None
    assert reply.reply_to.id == question.id


@pytest.mark.parametrize("host", HOSTS)
def test_each_item_goes_out_as_it_is_produced(host: Host) -> None:
    go = threading.Event()

    class Slow(GenAgent):
        def step(self, message: Message) -> Iterator[str]:
            yield "first"
            assert go.wait(DEADLINE)
            yield "second"

    with Slow().start(runtime=Runtime(host)) as ref:
        replies = ref.stream("")
        assert next(replies).body == "first"
        go.set()
        assert [reply.body for reply in replies] == ["second"]


def test_each_item_of_an_async_generator_goes_out_as_it_is_produced() -> None:
    async def program() -> list[str]:
        go = asyncio.Event()

        class Slow(GenAgent):
            async def step(self, message: Message) -> AsyncIterator[str]:
                yield "first"
                await go.wait()
                yield "second"

        bodies = []
        async with Slow().astart() as ref:
            async for reply in ref.astream(""):
                bodies.append(reply.body)
                go.set()
        return bodies

    assert asyncio.run(program()) == ["first", "second"]


def test_a_handler_that_forgets_to_be_async_is_told_so() -> None:
    class Forgetful(GenAgent):
        blocking = False

        def step(self, message: Message) -> Any:
            return self.later()

        async def later(self) -> str:
            return "x"

    with pytest.raises(HandlerError, match="async def"):
        ask(Forgetful())


class Sends(GenAgent):
    """Replies with `send` in the three ways there are."""

    def step(self, message: Message) -> None:
        self.send(Message("without a receiver"))

    def answers(self, message: Message) -> None:
        self.send(message.reply("with reply_to", receiver="elsewhere"))

    def text(self, message: Message) -> None:
        self.send("a text")


@pytest.mark.parametrize("blocking", [True, False])
def test_what_send_is_given_is_the_reply_if_it_answers_the_handled_message(
    *, blocking: bool
) -> None:
    class Kind(Sends):
        pass

    Kind.blocking = blocking
    with Kind().start(runtime=Runtime("inline")) as ref:
        assert body(ref.ask("")) == "without a receiver"
        assert body(ref.ask(Message(method="answers"))) == "with reply_to"
        assert body(ref.ask(Message(method="text"))) == "a text"


def test_a_message_with_a_receiver_is_no_reply() -> None:
    class Forwards(GenAgent):
        blocking = False

        def step(self, message: Message) -> Message:
            return Message("forwarded", method="note", receiver="ear")

    ear = Ear()
    net = GenNetwork(name="net", agents=[Forwards(), ear], entry="forwards")
    run = net.run("x")
    assert run.outputs == ()
    assert ear.bodies == ["forwarded"]
    assert ear.heard[0].sender == "net/forwards"


def test_only_the_first_reply_answers_an_ask_from_outside_and_later_ones_die() -> None:
    class Twice(GenAgent):
        blocking = False

        def step(self, message: Message) -> Iterator[str]:
            yield "first"
            yield "second"

    runtime = Runtime("inline")
    with Twice().start(runtime=runtime) as ref:
        assert body(ref.ask("")) == "first"
    assert [(letter.reason, letter.message.body) for letter in runtime.dead_letters] == [
        ("late_reply", "second")
    ]


def test_later_replies_go_to_an_asking_agent_as_messages() -> None:
    class Twice(GenAgent):
        blocking = False

        def twice(self, message: Message) -> Iterator[str]:
            yield "first"
            yield "second"

    class Asker(EarWithResponse):
        async def step(self, message: Message) -> str:
            reply = await self.aask("twice", Message(method="twice"))
            return body(reply)

    asker = Asker()
    run = GenNetwork(name="net", agents=[asker, Twice()], entry="asker").run("")
    assert [output.body for output in run.outputs] == ["first"]
    assert asker.bodies == ["second"]
    assert run.dead_letters == ()


def test_one_message_object_may_be_asked_many_times() -> None:
    message = Message("text")
    with Results().start(runtime=Runtime("inline")) as ref:
        assert [body(ref.ask(message)) for _ in range(3)] == ["hello"] * 3


# -- addressed and overheard


class Source(GenAgent):
    """Emits what it is told."""

    blocking = False

    def step(self, message: Message) -> None:
        self.emit("news", message.body)


class Relay(GenAgent):
    blocking = False
    seen: list[Message] = Field(default_factory=list)

    def news(self, message: Message) -> Any:
        self.seen.append(message)
        return {
            "text": "relayed",
            "model": Bill(total=1),
            "message": Message("relayed", method="own"),
            "reply": message.reply("to the sender", method="note"),
        }[message.body]


def overhear(what: str) -> tuple[Relay, dict[str, Ear], Run]:
    relay = Relay()
    ears = {event: Ear(name=event) for event in ("response", "bill", "own", "step")}
    source = Source()
    network = GenNetwork(
        name="net",
        agents=[source, relay, *ears.values()],
        edges=[
            ("source", "news", "relay"),
            *[("relay", event, event) for event in ears],
        ],
        entry="source",
    )
    # `response` is taken silently without a handler; let this ear hear it.
    network.remove("response")
    ears["response"] = EarWithResponse(name="response")
    network.add(ears["response"])
    network.link("relay", "response", "response")
    return relay, ears, network.run(what)


@pytest.mark.parametrize(
    ("what", "event", "text"),
    [
        ("text", "response", "relayed"),
        ("model", "bill", '{"total":1}'),
        ("message", "own", "relayed"),
    ],
)
def test_what_an_overheard_messages_handler_gives_is_emitted_and_never_sent_back(
    what: str, event: str, text: str
) -> None:
    relay, ears, run = overhear(what)
    assert run.failures == ()
    assert [message.receiver for message in relay.seen] == [None]
    assert [message.sender for message in relay.seen] == ["net/source"]
    assert {name: ear.bodies for name, ear in ears.items() if ear.heard} == {event: [text]}
    assert ears[event].heard[0].sender == "net/relay"
    assert ears[event].heard[0].method == event
    assert run.outputs == ()


def test_two_agents_that_hear_each_others_steps_do_not_play_ping_pong() -> None:
    class Player(GenAgent):
        blocking = False
        turns: int = 0

        def step(self, message: Message) -> str:
            self.turns += 1
            if self.turns == 1 and self.name == "a":
                self.emit("step", "ball")
            return "back"

    a, b = Player(name="a"), Player(name="b")
    edges = [("a", "step", "b"), ("b", "step", "a")]
    run = GenNetwork(name="net", agents=[a, b], edges=edges, entry="a").run("go", max_messages=100)
    assert run.ended == "idle"
    assert (a.turns, b.turns) == (1, 1)


def test_a_silent_agent_takes_a_bare_reply_without_a_dead_letter() -> None:
    class Quiet(GenAgent):
        blocking = False

        def step(self, message: Message) -> None:
            self.send(Message("q", method="question", receiver="answerer"))

    class Answerer(GenAgent):
        blocking = False

        def question(self, message: Message) -> str:
            return "answer"

    run = GenNetwork(name="net", agents=[Quiet(), Answerer()], entry="quiet").run("")
    assert run.dead_letters == ()
    assert run.failures == ()
    assert run.statistics.sent == run.statistics.delivered == 3


def test_a_silent_agent_does_not_call_unhandled_for_a_bare_reply() -> None:
    ear = Ear()
    with ear.start(runtime=Runtime("inline")) as ref:
        assert ref.ask(Message(method="response")) is None
    assert ear.heard == []


@pytest.mark.parametrize("kind", ["return", "send", "yield", "async", "thread"])
def test_what_a_response_handler_gives_is_emitted(kind: str) -> None:
    class Base(GenAgent):
        blocking = False

        def step(self, message: Message) -> None:
            self.send(Message("q", method="question", receiver="answerer"))

    class Returns(Base):
        def response(self, message: Message) -> str:
            return "heard " + message.body

    class Sending(Base):
        def response(self, message: Message) -> None:
            self.send(Message("heard " + message.body, method="response"))

    class Yields(Base):
        def response(self, message: Message) -> Iterator[str]:
            yield "heard " + message.body

    class Async(Base):
        async def aresponse(self, message: Message) -> str:
            return "heard " + message.body

    class Thread(Returns):
        blocking = True

    class Answerer(EarWithResponse):
        def question(self, message: Message) -> str:
            return "answer"

    asker: GenAgent = {
        "return": Returns,
        "send": Sending,
        "yield": Yields,
        "async": Async,
        "thread": Thread,
    }[kind](name="asker")
    listener, answerer = EarWithResponse(name="listener"), Answerer()
    net = GenNetwork(
        name="net",
        agents=[asker, answerer, listener],
        edges=[("asker", "response", "listener")],
        entry="asker",
    )
    run = net.run("")
    assert run.failures == ()
    assert listener.bodies == ["heard answer"]
    assert answerer.heard == []


def test_a_border_keeps_a_message_addressed() -> None:
    class Inner(GenAgent):
        blocking = False

        def step(self, message: Message) -> str:
            assert message.receiver == "outer/inner"
            return "reply"

    inner = GenNetwork(name="inner", agents=[Inner(name="worker")], entry="worker")
    run = GenNetwork(name="outer", agents=[inner], entry="inner").run(
        Message("x", receiver="inner")
    )
    assert run.failures == ()
    assert [(output.body, str(output.sender)) for output in run.outputs] == [
        ("reply", "outer/inner")
    ]


# -- filling in


def test_the_runtime_fills_an_empty_sender_and_an_empty_receiver() -> None:
    ear = Ear()
    with ear.start(runtime=Runtime("inline")) as ref:
        ref.ask(Message("outside", method="note"))
        ref.ask(Message("given", method="note", sender="somebody", receiver="somebody/else"))
    outside, given_ = ear.heard
    assert (outside.sender, outside.receiver) == (None, "ear")
    assert given_.sender == "somebody"


def test_a_sender_that_is_given_is_kept() -> None:
    class Forger(GenAgent):
        blocking = False

        def step(self, message: Message) -> None:
            self.send(Message("sent", method="note", sender="nobody", receiver="ear"))
            self.emit("news", Message("emitted", method="note", sender="nobody"))

    ear = Ear()
    edges = [("forger", "news", "ear")]
    GenNetwork(name="net", agents=[Forger(), ear], edges=edges, entry="forger").run("")
    assert [(message.body, str(message.sender)) for message in ear.heard] == [
        ("sent", "nobody"),
        ("emitted", "nobody"),
    ]


def test_an_emitted_text_has_the_event_as_method_and_a_message_keeps_its_own() -> None:
    class Emits(GenAgent):
        blocking = False

        def step(self, message: Message) -> None:
            self.emit("news", "text")
            self.emit("news", Message("message", method="own", receiver="elsewhere"))

    ear = Ear()
    edges = [("emits", "news", "ear")]
    GenNetwork(name="net", agents=[Emits(), ear], edges=edges, entry="emits").run("")
    assert [(message.body, message.method) for message in ear.heard] == [
        ("text", "news"),
        ("message", "own"),
    ]
    assert [str(message.receiver) for message in ear.heard] == ["None", "elsewhere"]


# -- asking and sending in a handler


@pytest.mark.parametrize("receiver", ["ref", "agent", "text", "full", "address"])
def test_a_receiver_may_be_a_ref_an_agent_or_text(receiver: str) -> None:
    ear = Results(name="answerer")

    class Asker(GenAgent):
        async def step(self, message: Message) -> str:
            target: Any = {  # type: ignore[no-untyped-call]
                "ref": lambda: ear.ref,
                "agent": lambda: ear,
                "text": lambda: "answerer",
                "full": lambda: "net/answerer",
                "address": lambda: Message(receiver=ear).receiver,
            }[receiver]()
            self.send(Message("none", receiver=target))
            return body(await self.aask(target, "text", timeout=DEADLINE))

    run = GenNetwork(name="net", agents=[Asker(), ear], entry="asker").run("")
    assert run.failures == ()
    assert [output.body for output in run.outputs] == ["hello"]


def test_a_sync_handler_on_a_thread_may_ask_and_blocks_until_the_reply() -> None:
    class Asker(GenAgent):
        def step(self, message: Message) -> str:
            return "asked: " + body(self.ask("results", "text"))

    run = GenNetwork(name="net", agents=[Asker(), Results()], entry="asker").run("")
    assert [output.body for output in run.outputs] == ["asked: hello"]


@pytest.mark.parametrize("kind", ["inline", "async"])
def test_a_blocking_ask_in_the_event_loop_raises(kind: str) -> None:
    class Inline(GenAgent):
        blocking = False

        def step(self, message: Message) -> str:
            with pytest.raises(UsageError, match="aask"):
                self.ask("results", "text")
            with pytest.raises(UsageError):
                Message(receiver="results").receiver.ask("x")  # type: ignore[union-attr]
            return "ok"

    class Async(GenAgent):
        async def step(self, message: Message) -> str:
            with pytest.raises(UsageError, match="aask"):
                self.ask("results", "text")
            return "ok"

    agent = (Inline if kind == "inline" else Async)(name="asker")
    run = GenNetwork(name="net", agents=[agent, Results()], entry="asker").run("")
    assert run.failures == ()
    assert [output.body for output in run.outputs] == ["ok"]


def test_asking_nobody_raises_and_sending_to_nobody_makes_a_dead_letter() -> None:
    class Lost(GenAgent):
        async def step(self, message: Message) -> None:
            self.send(Message("x", receiver="nobody"))
            with pytest.raises(UnknownAgent, match="nobody"):
                await self.aask("nobody", "x")

        def sync(self, message: Message) -> None:
            with pytest.raises(UnknownAgent, match="nobody"):
                self.ask("nobody", "x")

    net = GenNetwork(name="net", agents=[Lost()], entry="lost")
    run = net.run("")
    assert run.failures == ()
    assert [(letter.reason, letter.receiver) for letter in run.dead_letters] == [
        ("no_receiver", "nobody")
    ]
    assert net.run(Message(method="sync")).failures == ()


def test_send_and_emit_refuse_what_is_no_message() -> None:
    class Wrong(GenAgent):
        blocking = False

        def step(self, message: Message) -> None:
            for wrong in (1, None, ["x"], Bill(total=1)):
                with pytest.raises(UsageError):
                    self.send(wrong)  # type: ignore[arg-type]
                with pytest.raises(UsageError):
                    self.emit("news", wrong)  # type: ignore[arg-type]

    run = GenNetwork(name="net", agents=[Wrong()], entry="wrong").run("")
    assert run.failures == ()


def test_asend_and_aemit_reach_their_receivers_too() -> None:
    class Async(GenAgent):
        async def step(self, message: Message) -> None:
            await self.asend(Message("sent", method="note", receiver="ear"))
            await self.aemit("news", "emitted")

    ear = Ear()
    edges = [("async", "news", "ear")]
    run = GenNetwork(name="net", agents=[Async(name="async"), ear], edges=edges, entry="async").run(
        ""
    )
    assert run.failures == ()
    assert ear.bodies == ["sent", "emitted"]


@pytest.mark.parametrize("kind", [Sends, type("Inline", (Sends,), {"blocking": False})])
def test_messages_of_one_sender_arrive_in_the_order_sent(kind: type[Sends]) -> None:
    class Many(kind):  # type: ignore[misc,valid-type]
        def many(self, message: Message) -> Iterator[Message]:
            for number in range(50):
                self.send(Message(f"{number} sent", method="note", receiver="ear"))
                self.emit("news", f"{number} emitted")
                yield Message(f"{number} yielded", method="note", receiver="ear")
                self.network["ear"].ref.tell(Message(f"{number} told", method="note"))

    ear = Ear()
    edges = [("many", "news", "ear")]
    run = GenNetwork(name="net", agents=[Many(name="many"), ear], edges=edges, entry="many").run(
        Message(method="many")
    )
    assert run.failures == ()
    words = ("sent", "emitted", "yielded", "told")
    assert ear.bodies == [f"{number} {word}" for number in range(50) for word in words]


# -- blueprint and live object


def test_constructing_an_agent_starts_nothing() -> None:
    before = threading.enumerate()
    agent = Ear()
    assert threading.enumerate() == before
    assert agent.path == "ear"
    assert agent.network is None


def test_an_agent_that_is_not_started_cannot_speak_but_knows_time_and_chance() -> None:
    agent = Ear()
    for call in (
        lambda: agent.send("x"),
        lambda: agent.emit("news", "x"),
        lambda: agent.ask("nobody", "x"),
        lambda: agent.schedule(1, "x"),
        agent.stop,
        lambda: agent.ref,
    ):
        with pytest.raises(UsageError):
            call()
    with pytest.raises(UsageError):
        asyncio.run(agent.aask("nobody", "x"))
    with pytest.raises(UsageError):
        asyncio.run(agent.asend("x"))
    assert 0 <= agent.random.random() < 1
    assert isinstance(agent.random, random.Random)
    assert agent.now().utcoffset() == timedelta(0)


def test_an_agent_that_has_stopped_cannot_speak_either() -> None:
    agent = Ear()
    with agent.start(runtime=Runtime("inline")):
        pass
    with pytest.raises(UsageError):
        agent.send("x")


@pytest.mark.parametrize("host", HOSTS)
def test_a_live_agent_cannot_be_started_again(host: Host) -> None:
    agent = Ear()
    with agent.start(runtime=Runtime(host)):
        with pytest.raises(UsageError, match="live"):
            agent.start(runtime=Runtime(host))
        with pytest.raises(UsageError):
            GenNetwork(name="net", agents=[agent])
    agent.start(runtime=Runtime(host)).stop()


def test_one_object_cannot_be_in_two_networks_but_its_copy_can() -> None:
    agent = Ear()
    GenNetwork(name="one", agents=[agent])
    with pytest.raises(UsageError):
        GenNetwork(name="two", agents=[agent])
    with pytest.raises(UsageError):
        agent.start(runtime=Runtime("inline"))
    two = GenNetwork(name="two", agents=[agent.model_copy(deep=True)])
    assert two["ear"] is not agent


def test_the_fields_of_a_live_agent_can_be_read_while_it_runs_and_after() -> None:
    class Counter(GenAgent):
        blocking = False
        count: int = 0

        def step(self, message: Message) -> str:
            self.count += 1
            return str(self.count)

    counter = Counter()
    with counter.start(runtime=Runtime("thread")) as ref:
        ref.ask("")
        assert counter.count == 1
    assert counter.count == 1
    with counter.start(runtime=Runtime("inline")) as ref:
        assert body(ref.ask("")) == "2"
    assert counter.count == 2
    assert Counter().count == 0


def test_a_handler_can_be_tested_by_calling_it() -> None:
    class Herald(GenAgent):
        def step(self, message: Message) -> str:
            self.emit("news", message.body)
            self.send(Message("x", receiver="other"))
            return body(self.ask("other", "question"))

    herald = Herald()
    with collect(herald, answers=["answer"]) as said:
        assert herald.step(Message("rain")) == "answer"
    assert [(event, what.body) for event, what in said.emitted] == [("news", "rain")]
    assert [str(message.receiver) for message in said.sent] == ["other"]
    assert [(who, what.body) for who, what in said.asked] == [("other", "question")]


# -- names


def test_the_default_name_is_the_class_name_in_snake_case() -> None:
    class HTTPServer(GenAgent):
        pass

    class Derived(HTTPServer):
        name: str = "own"

    class More(Derived):
        pass

    assert HTTPServer().name == "http_server"
    assert Derived().name == "own"
    assert More().name == "more"
    assert Derived(name="given").name == "given"


def test_the_default_description_is_the_docstring() -> None:
    class Described(GenAgent):
        """Says what it is for.

        And more.
        """

    class Bare(GenAgent):
        pass

    assert Described().description == "Says what it is for.\n\nAnd more."
    assert Described(description="given").description == "given"
    assert GenAgent.__doc__ is not None
    assert Bare().description == ""


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/", "/a", "a/", 1, None])
def test_a_name_that_is_no_step_of_a_path_is_refused(name: Any) -> None:
    with pytest.raises(ValidationError):
        Ear(name=name)


def test_unknown_fields_of_an_agent_are_refused() -> None:
    with pytest.raises(ValidationError):
        Ear(colour="red")  # type: ignore[call-arg]


@given(st.text(min_size=1, max_size=10).filter(lambda name: "/" not in name and name.strip(".")))
def test_every_other_name_is_a_path(name: str) -> None:
    agent = Ear(name=name)
    assert agent.path == name
    net = GenNetwork(name="net", agents=[agent])
    assert agent.path == f"net/{name}"
    assert net[name] is agent
    assert agent.network is net


# -- chance and time


class Dice(GenAgent):
    blocking = False
    thrown: list[float] = Field(default_factory=list)

    def step(self, message: Message) -> None:
        self.thrown.append(self.random.random())


def test_a_seed_and_a_path_give_the_same_chance_again_and_others_give_another() -> None:
    def throw(seed: int, name: str) -> list[float]:
        dice = Dice(name=name)
        GenNetwork(name="net", agents=[dice], entry=name).run(
            "", runtime=Runtime("inline", seed=seed)
        )
        return dice.thrown

    assert throw(1, "a") == throw(1, "a")
    assert throw(1, "a") != throw(2, "a")
    assert throw(1, "a") != throw(1, "b")


def test_chance_used_before_the_start_does_not_change_what_a_seed_gives() -> None:
    def throw(*, before: bool) -> list[float]:
        dice = Dice()
        if before:
            dice.random.random()
        GenNetwork(name="net", agents=[dice], entry="dice").run(
            "", runtime=Runtime("inline", seed=1)
        )
        return dice.thrown

    assert throw(before=False) == throw(before=True)


def test_two_agents_of_no_seed_have_chances_of_their_own() -> None:
    a, b = Ear(), Ear()
    assert [a.random.random() for _ in range(4)] != [b.random.random() for _ in range(4)]


@pytest.mark.parametrize("host", HOSTS)
def test_a_scheduled_message_comes_once_and_a_periodic_one_again(host: Host) -> None:
    class Clock(GenAgent):
        blocking = False
        heard: list[str] = Field(default_factory=list)
        ids: set[str] = Field(default_factory=set)
        _timer: Any = PrivateAttr(default=None)

        def step(self, message: Message) -> None:
            self.schedule(0.001, Message("once", method="ring"))
            self._timer = self.schedule(0, Message("again", method="ring"), every=0.001)

        def ring(self, message: Message) -> None:
            assert message.sender == message.receiver == "net/clock"
            self.heard.append(message.body)
            self.ids.add(message.id)
            if self.heard.count("again") == 3:
                self._timer.cancel()
                self._timer.cancel()
                self.emit("done", "x")

    class Holder(GenAgent):
        async def step(self, message: Message) -> None:
            """Keep the run open, which a periodic timer does not."""
            await asyncio.wait_for(done.wait(), DEADLINE)

    done = asyncio.Event()
    clock = Clock()
    clock.on("done", lambda _: done.set())
    net = GenNetwork(name="net", agents=[clock, Holder()], entry=["clock", "holder"])
    run = net.run("", runtime=Runtime(host))
    assert run.failures == ()
    assert sorted(clock.heard) == ["again", "again", "again", "once"]
    assert len(clock.ids) == 4


def test_a_one_shot_timer_keeps_its_run_open_and_a_periodic_one_does_not() -> None:
    class Clock(GenAgent):
        blocking = False
        heard: list[str] = Field(default_factory=list)

        def step(self, message: Message) -> None:
            self.schedule(60, "never", every=60)
            self.schedule(0.01, Message("once", method="ring"))

        def ring(self, message: Message) -> None:
            self.heard.append(message.body)

    clock = Clock()
    run = GenNetwork(name="net", agents=[clock], entry="clock").run("")
    assert (run.ended, clock.heard) == ("idle", ["once"])


def test_a_cancelled_timer_does_not_keep_its_run_open() -> None:
    class Clock(GenAgent):
        blocking = False

        def step(self, message: Message) -> None:
            self.schedule(600, "never").cancel()

    assert GenNetwork(name="net", agents=[Clock()], entry="clock").run("").ended == "idle"


@pytest.mark.parametrize(("delay", "every"), [(-1, None), (float("nan"), None), (1, 0), (1, -1)])
def test_a_time_that_is_none_is_refused(delay: float, every: float | None) -> None:
    class Clock(GenAgent):
        blocking = False

        def step(self, message: Message) -> None:
            with pytest.raises(UsageError):
                self.schedule(delay, "x", every=every)

    assert GenNetwork(name="net", agents=[Clock()], entry="clock").run("").failures == ()


def test_sleep_lets_other_agents_have_their_turns() -> None:
    order: list[str] = []

    class Sleeper(GenAgent):
        async def step(self, message: Message) -> None:
            order.append(f"{self.name} lies down")
            await self.sleep(0.01)
            order.append(f"{self.name} gets up")

    net = GenNetwork(name="net", agents=[Sleeper(name="a"), Sleeper(name="b")], entry=["a", "b"])
    net.run("")
    assert order[:2] == ["a lies down", "b lies down"]
    assert set(order[2:]) == {"a gets up", "b gets up"}


def test_now_is_aware_and_in_utc_in_a_handler() -> None:
    class Now(GenAgent):
        def step(self, message: Message) -> str:
            return self.now().isoformat()

    before = datetime.now(UTC)
    seen = datetime.fromisoformat(body(ask(Now())))
    assert seen.utcoffset() == timedelta(0)
    assert before <= seen <= datetime.now(UTC)


# -- listening


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("host", HOSTS)
def test_a_function_hears_an_event_until_it_is_removed(host: Host, when: str) -> None:
    source = Source()
    heard: list[str] = []
    once: list[str] = []

    def listener(message: Message) -> None:
        heard.append(message.body)

    def first(message: Message) -> None:
        once.append(message.body)

    def listen() -> None:
        source.on("news", listener)
        source.once("news", first)

    if when == "before":
        listen()
    with source.start(runtime=Runtime(host)) as ref:
        if when == "after":
            ref.ask("unheard")
            listen()
        ref.ask("one")
        ref.ask("two")
        source.remove_listener("news", listener)
        ref.ask("three")
    assert heard == ["one", "two"]
    assert once == ["one"]
    with pytest.raises(UsageError):
        source.remove_listener("news", listener)
    with pytest.raises(UsageError):
        source.remove_listener("other", first)


def test_a_listener_for_once_may_be_removed_before_it_hears() -> None:
    source = Source()
    heard: list[str] = []

    def listener(message: Message) -> None:
        heard.append(message.body)

    source.once("news", listener)
    source.remove_listener("news", listener)
    with source.start(runtime=Runtime("inline")) as ref:
        ref.ask("one")
    assert heard == []


def test_a_function_that_listens_twice_hears_twice() -> None:
    source = Source()
    heard: list[str] = []

    def listener(message: Message) -> None:
        heard.append(message.body)

    source.on("news", listener)
    source.on("news", listener)
    with source.start(runtime=Runtime("inline")) as ref:
        ref.ask("one")
        source.remove_listener("news", listener)
        ref.ask("two")
    assert heard == ["one", "one", "two"]


def test_an_async_listener_is_part_of_the_run() -> None:
    source = Source()
    heard: list[str] = []

    async def listener(message: Message) -> None:
        await asyncio.sleep(0)
        heard.append(message.body)

    source.on("news", listener)
    run = GenNetwork(name="net", agents=[source], entry="source").run("x")
    assert run.ended == "idle"
    assert heard == ["x"]


@pytest.mark.parametrize("wrong", [5, None, "source"])
def test_what_cannot_be_called_cannot_listen(wrong: Any) -> None:
    with pytest.raises(UsageError):
        Source().on("news", wrong)
    with pytest.raises(UsageError):
        Source().once("news", wrong)


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_agent_may_listen_to_another_without_an_edge(when: str) -> None:
    source, ear = Source(), Ear()
    runtime = Runtime("inline")
    if when == "before":
        ear.listen(source, "news")
    with source.start(runtime=runtime) as ref, ear.start(runtime=runtime) as other:
        if when == "after":
            ear.listen(ref, "news")
        ref.ask("x")
        other.stop()
    assert ear.bodies == ["x"]
    assert ear.heard[0].receiver is None


def test_an_agent_in_a_network_may_listen_to_a_path() -> None:
    source, ear = Source(), Ear()
    net = GenNetwork(name="net", agents=[source, ear], entry="source")
    ear.listen("source", "news")
    with pytest.raises(UnknownAgent):
        ear.listen("nobody", "news")
    net.run("x")
    assert ear.bodies == ["x"]


def test_a_listening_agent_keeps_listening_in_a_second_run() -> None:
    source, ear = Source(), Ear()
    net = GenNetwork(name="net", agents=[source, ear], entry="source")
    ear.listen(source, "news")
    net.run("one")
    net.run("two")
    assert ear.bodies == ["one", "two"]


# -- unhandled


def test_a_message_without_a_handler_is_an_error_to_its_asker() -> None:
    with Source().start(runtime=Runtime("inline")) as ref:  # noqa: SIM117
        with pytest.raises(DeliveryError, match="nonsense") as caught:
            ref.ask(Message(method="nonsense"))
    assert isinstance(caught.value, NoHandler)
    assert caught.value.path == "source"


def test_unhandled_may_answer() -> None:
    class Polite(GenAgent):
        async def unhandled(self, message: Message) -> str:
            return f"I know no {message.method}."

    assert body(ask(Polite(), Message(method="chess"))) == "I know no chess."


# -- hooks


class Hooked(GenAgent):
    log: list[str] = Field(default_factory=list)

    def on_start(self) -> None:
        self.log.append("on_start")

    def on_stop(self) -> None:
        self.log.append("on_stop")

    def on_failure(self, kind: Any, error: Any, traceback: Any) -> None:
        assert traceback is not None
        self.log.append(f"on_failure {kind.__name__} {error}")

    def step(self, message: Message) -> str:
        self.log.append("step")
        if message.body == "fail":
            msg = "no"
            raise ValueError(msg)
        return "ok"


class InlineHooked(Hooked):
    blocking = False


class AsyncHooked(GenAgent):
    log: list[str] = Field(default_factory=list)

    async def aon_start(self) -> None:
        await asyncio.sleep(0)
        self.log.append("on_start")

    async def aon_stop(self) -> None:
        await asyncio.sleep(0)
        self.log.append("on_stop")

    async def aon_failure(self, kind: Any, error: Any, traceback: Any) -> None:
        await asyncio.sleep(0)
        assert traceback is not None
        self.log.append(f"on_failure {kind.__name__} {error}")

    async def astep(self, message: Message) -> str:
        self.log.append("step")
        if message.body == "fail":
            msg = "no"
            raise ValueError(msg)
        return "ok"


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("kind", [Hooked, InlineHooked, AsyncHooked])
def test_hooks_run_at_the_start_at_the_stop_and_after_a_failure(
    kind: type[GenAgent], host: Host
) -> None:
    agent: Any = kind(name="hooked")
    with agent.start(runtime=Runtime(host)) as ref:
        ref.ask("x")
        with pytest.raises(HandlerError):
            ref.ask("fail")
        ref.ask("x")
    assert agent.log == ["on_start", "step", "step", "on_failure ValueError no", "step", "on_stop"]


@pytest.mark.parametrize("host", HOSTS)
def test_no_message_is_handled_before_on_start_is_over(host: Host) -> None:
    class Slow(GenAgent):
        ready: bool = False

        async def aon_start(self) -> None:
            for _ in range(5):
                await asyncio.sleep(0)
            self.ready = True

        async def step(self, message: Message) -> str:
            return str(self.ready)

    assert body(ask(Slow(), host=host)) == "True"


def test_what_on_start_sends_arrives() -> None:
    class Eager(GenAgent):
        blocking = False

        def on_start(self) -> None:
            self.emit("news", "I am here")

        def step(self, message: Message) -> None:
            """Nothing more."""

    ear = Ear()
    edges = [("eager", "news", "ear")]
    run = GenNetwork(name="net", agents=[Eager(), ear], edges=edges, entry="eager").run("")
    assert run.failures == ()
    assert ear.bodies == ["I am here"]


# -- one at a time


class Watched(GenAgent):
    """Notes how many of its turns are open at once."""

    most: int = 0
    bodies: list[str] = Field(default_factory=list)
    _open: int = PrivateAttr(default=0)
    _lock: Any = PrivateAttr(default_factory=threading.Lock)

    def enter(self) -> None:
        with self._lock:
            self._open += 1
            self.most = max(self.most, self._open)

    def leave(self, message: Message) -> None:
        with self._lock:
            self._open -= 1
            self.bodies.append(message.body)


class WatchedThread(Watched):
    def step(self, message: Message) -> str:
        self.enter()
        threading.Event().wait(0.0001)
        self.leave(message)
        return message.body


class WatchedInline(WatchedThread):
    blocking = False


class WatchedAsync(Watched):
    async def step(self, message: Message) -> str:
        self.enter()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        self.leave(message)
        return message.body


class WatchedStream(Watched):
    async def step(self, message: Message) -> AsyncIterator[str]:
        self.enter()
        yield message.body
        await asyncio.sleep(0)
        yield message.body
        self.leave(message)


WATCHED = [WatchedThread, WatchedInline, WatchedAsync, WatchedStream]


@given(
    kind=st.sampled_from(WATCHED),
    host=st.sampled_from(["thread", "inline", "loop"]),
    count=st.integers(1, 12),
    asks=st.lists(st.booleans(), min_size=12, max_size=12),
)
@settings(max_examples=60)
def test_every_agent_handles_one_message_at_a_time_in_the_order_sent(
    kind: type[Watched], host: str, count: int, asks: list[bool]
) -> None:
    agent = kind(name="watched")
    bodies = [str(number) for number in range(count)]

    async def on_loop() -> None:
        async with agent.astart() as ref:
            waiting = []
            for number in bodies:
                if asks[int(number)]:
                    waiting.append(asyncio.ensure_future(ref.aask(number)))
                    await asyncio.sleep(0)
                else:
                    await ref.atell(number)
            await asyncio.gather(*waiting)

    if host == "loop":
        asyncio.run(on_loop())
    else:
        runtime = Runtime("thread" if host == "thread" else "inline")
        with agent.start(runtime=runtime) as ref:
            futures = []
            for number in bodies:
                if asks[int(number)]:
                    futures.append(ref.ask(number, block=False))
                else:
                    ref.tell(number)
            for future in futures:
                assert future.get(timeout=DEADLINE) is not None
    assert agent.most == 1
    assert agent.bodies == bodies


@pytest.mark.parametrize("kind", WATCHED)
def test_an_agent_asked_from_many_threads_handles_one_message_at_a_time(
    kind: type[Watched],
) -> None:
    agent = kind(name="watched")
    with agent.start(runtime=Runtime("thread")) as ref, ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda n: ref.ask(str(n), timeout=DEADLINE), range(80)))
    assert [body(reply) for reply in replies] == [str(number) for number in range(80)]
    assert agent.most == 1


@pytest.mark.parametrize("kind", ["thread", "async"])
def test_concurrency_says_how_many_turns_may_be_open_at_once(kind: str) -> None:
    together = threading.Barrier(3)

    class Threads(Watched):
        concurrency: ClassVar[int] = 3

        def step(self, message: Message) -> None:
            self.enter()
            together.wait(DEADLINE)
            self.leave(message)

    class Async(Watched):
        concurrency: ClassVar[int] = 3
        waiting: int = 0

        async def step(self, message: Message) -> None:
            self.enter()
            while self.most < 3:  # noqa: ASYNC110 - the other turns raise it
                await asyncio.sleep(0)
            self.leave(message)

    agent: Watched = (Threads if kind == "thread" else Async)(name="watched")
    with agent.start(runtime=Runtime("thread")) as ref:
        for number in range(9):
            ref.tell(str(number))
    assert agent.most == 3
    assert len(agent.bodies) == 9


def test_a_sync_handler_that_may_block_runs_on_a_thread_and_others_in_the_loop() -> None:
    class Where(GenAgent):
        def step(self, message: Message) -> str:
            return threading.current_thread().name

        async def loop(self, message: Message) -> str:
            return threading.current_thread().name

    class Inline(Where):
        blocking = False

    main = threading.current_thread().name
    with Where().start(runtime=Runtime("inline")) as ref:
        assert body(ref.ask("")) != main
        assert body(ref.ask(Message(method="loop"))) == main
    with Inline().start(runtime=Runtime("inline")) as ref:
        assert body(ref.ask("")) == main


def test_an_agent_that_blocks_does_not_hold_up_the_others() -> None:
    go = threading.Event()

    class Blocks(GenAgent):
        def step(self, message: Message) -> str:
            assert go.wait(DEADLINE)
            return "at last"

    runtime = Runtime("thread")
    with Blocks().start(runtime=runtime) as slow, Results().start(runtime=runtime) as quick:
        waiting = slow.ask("", block=False)
        assert body(quick.ask("text", timeout=DEADLINE)) == "hello"
        go.set()
        assert body(waiting.get(timeout=DEADLINE)) == "at last"


def test_a_network_finds_itself_from_a_member() -> None:
    class Member(GenAgent):
        blocking = False

        def step(self, message: Message) -> str:
            assert isinstance(self.ref, AgentRef)
            assert self.network is not None
            return f"{self.network.name} {self.ref.path}"

    run = GenNetwork(name="net", agents=[Member()], entry="member").run("")
    assert [output.body for output in run.outputs] == ["net net/member"]
