"""Messages: immutable, typed, answerable, and no heavier than they look."""

from __future__ import annotations

import copy
import gc
import json
import pickle
import weakref
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from llm_net import Address, GenAgent, GenNetwork, Message, Method, Role, Runtime, UsageError
from llm_net.message import written as write_message


class Propose(Message):
    """An offer to do the task."""

    price: float


class Timed(Propose):
    days: int = 1


class Bid(Message):
    method: str = "bid"
    price: float = 0


class LowBid(Bid):
    pass


class BareBid(Message):
    method = "bare"


class HTTPRequest(Message):
    pass


class Where(BaseModel):
    x: int
    y: int


class Move(Message):
    to: Where
    tags: list[str] = Field(default_factory=list)


class Echo(GenAgent):
    blocking = False

    def step(self, message: Message) -> str:
        return message.body


# -- fields


def test_a_message_has_the_defaults_of_the_contract() -> None:
    message = Message()
    assert (message.body, message.method, message.role) == ("", "step", Role.USER)
    assert (message.sender, message.receiver, message.reply_to) == (None, None, None)
    assert message.reply_to_id is None
    assert message.thread == [message]


def test_every_message_has_an_id_of_its_own_and_an_aware_time_in_utc() -> None:
    messages = [Message() for _ in range(100)]
    assert len({message.id for message in messages}) == 100
    before = datetime.now(UTC)
    created = Message().created_at
    assert created.utcoffset() == timedelta(0)
    assert before <= created <= datetime.now(UTC)


def test_the_body_may_be_given_by_place_or_by_name() -> None:
    assert Message("hello").body == Message(body="hello").body == "hello"


@pytest.mark.parametrize("field", ["body", "method", "role", "sender", "id", "reply_to_id", "new"])
def test_no_field_of_a_message_can_be_set(field: str) -> None:
    message = Message("hello")
    with pytest.raises(ValidationError):
        setattr(message, field, "x")


def test_no_field_of_a_message_can_be_deleted() -> None:
    message = Message("hello")
    with pytest.raises(ValidationError):
        del message.body
    assert message.body == "hello"


@pytest.mark.parametrize("key", ["colour", "price", "thread", "_link", "init_fn", "reply"])
def test_unknown_fields_are_refused(key: str) -> None:
    with pytest.raises(ValidationError):
        Message("hello", **{key: "x"})


@pytest.mark.parametrize("key", ["self", "cls", "data", "colour"])
def test_unknown_keys_in_json_are_refused_whatever_they_are_called(key: str) -> None:
    with pytest.raises(ValidationError):
        Message.model_validate({"body": "x", key: "y"})
    with pytest.raises(ValidationError):
        Message.model_validate_json(json.dumps({"body": "x", key: "y"}))


@pytest.mark.parametrize("body", [1, None, b"bytes", ["a"], {"a": 1}, 1.5, True])
def test_a_body_that_is_no_text_is_refused(body: Any) -> None:
    with pytest.raises(ValidationError):
        Message(body)


def test_a_method_may_be_a_name_or_one_of_the_curated_names() -> None:
    curated = Message(method=Method.CFP)
    assert curated.method == "cfp"
    assert type(curated.method) is str
    assert curated == Message.model_validate_json(curated.model_dump_json())
    assert Message(method="any_name_at_all").method == "any_name_at_all"


@pytest.mark.parametrize("method", [None, 1, ["step"]])
def test_a_method_that_is_no_text_is_refused(method: Any) -> None:
    with pytest.raises(ValidationError):
        Message(method=method)


def test_a_role_may_be_text_and_is_one_of_three() -> None:
    assert Message(role="system").role is Role.SYSTEM
    assert Message(role=Role.ASSISTANT).role == "assistant"
    with pytest.raises(ValidationError):
        Message(role="narrator")


def test_messages_with_equal_fields_are_equal_and_others_are_not() -> None:
    message = Message("hello", sender="a", receiver="b")
    twin = Message("hello", sender="a", receiver="b", id=message.id, created_at=message.created_at)
    assert message == twin
    assert hash(message) == hash(twin)
    assert message != Message("hello", sender="a", receiver="b")
    assert message != Propose("hello", price=1, id=message.id, created_at=message.created_at)


def test_a_copy_with_changes_is_validated() -> None:
    message = Message("hello")
    assert message.model_copy(update={"body": "bye"}).body == "bye"
    assert message.model_copy(update={"body": "bye"}).id == message.id
    with pytest.raises(ValidationError):
        message.model_copy(update={"body": 1})
    with pytest.raises(ValidationError):
        message.model_copy(update={"colour": "red"})


def test_a_copy_keeps_its_place_in_the_thread() -> None:
    root = Message("question")
    answer = root.reply("answer")
    for twin in (answer.model_copy(), answer.model_copy(update={"body": "x"}), copy.copy(answer)):
        assert twin.reply_to is root
        assert twin.reply_to_id == root.id


# -- typed messages


@pytest.mark.parametrize(
    ("message", "method"),
    [
        (Propose(price=1), "propose"),
        (Timed(price=1), "timed"),
        (Bid(), "bid"),
        (LowBid(), "low_bid"),
        (BareBid(), "bare"),
        (HTTPRequest(), "http_request"),
        (Move(to=Where(x=1, y=2)), "move"),
    ],
)
def test_a_typed_message_has_its_own_default_method(message: Message, method: str) -> None:
    assert message.method == method
    assert type(message).model_fields["method"].default == method


def test_a_typed_message_may_be_sent_under_another_method() -> None:
    assert Propose(price=1, method="other").method == "other"


def test_a_typed_message_validates_its_own_fields() -> None:
    assert Propose("now", price=40).price == 40.0
    with pytest.raises(ValidationError):
        Propose("now")  # type: ignore[call-arg]
    with pytest.raises(ValidationError):
        Propose("now", price="cheap")  # type: ignore[arg-type]
    with pytest.raises(ValidationError):
        Propose("now", price=1, colour="red")  # type: ignore[call-arg]
    with pytest.raises(ValidationError):
        Propose("now", price=1).price = 2


# -- replies


def asked() -> Message:
    return Message("how much?", method="cfp", sender="house/buyer", receiver="house/seller")


def test_a_plain_reply_swaps_the_addresses_and_asks_for_no_handler_but_response() -> None:
    question = asked()
    answer = question.reply("ten")
    assert type(answer) is Message
    assert (answer.body, answer.method) == ("ten", "response")
    assert (answer.sender, answer.receiver) == ("house/seller", "house/buyer")
    assert answer.reply_to is question
    assert answer.reply_to_id == question.id
    assert answer.role is Role.ASSISTANT


def test_a_reply_in_kind_has_the_class_and_method_of_its_kind() -> None:
    question = asked()
    answer = Propose.reply(question, "ten", price=10)
    assert type(answer) is Propose
    assert (answer.body, answer.price, answer.method) == ("ten", 10.0, "propose")
    assert (answer.sender, answer.receiver) == ("house/seller", "house/buyer")
    assert answer.reply_to is question
    assert answer.role is Role.ASSISTANT


def test_a_typed_message_answers_plainly_when_it_is_asked_to_reply_itself() -> None:
    answer = Propose("ten", price=10, sender="a", receiver="b").reply("too much")  # type: ignore[arg-type]
    assert type(answer) is Message
    assert answer.method == "response"


def test_a_plain_reply_made_through_the_class_is_plain_too() -> None:
    question = asked()
    assert Message.reply(question, "ten").method == "response"


@pytest.mark.parametrize("method", ["haggle", Method.REFUSE])
def test_both_forms_of_reply_take_a_method(method: str) -> None:
    question = asked()
    assert question.reply("x", method=method).method == method
    assert Propose.reply(question, "x", price=1, method=method).method == method


def test_a_reply_takes_other_fields_too_and_refuses_unknown_ones() -> None:
    question = asked()
    assert question.reply("x", role="system").role is Role.SYSTEM
    assert question.reply("x", receiver="elsewhere").receiver == "elsewhere"
    with pytest.raises(ValidationError):
        question.reply("x", colour="red")
    with pytest.raises(ValidationError):
        Propose.reply(question, "x")


def test_a_reply_in_a_handler_has_the_role_of_the_agent() -> None:
    class Narrator(GenAgent):
        blocking = False
        role: Role = Role.SYSTEM

        def step(self, message: Message) -> Message:
            return message.reply("plain")

        def kind(self, message: Message) -> Message:
            return Propose.reply(message, price=1)

    with Narrator().start(runtime=Runtime("inline")) as ref:
        plain, kind = ref.ask(Message()), ref.ask(Message(method="kind"))
    assert plain is not None
    assert kind is not None
    assert plain.role is kind.role is Role.SYSTEM


# -- threads


def test_reply_to_may_be_a_message_or_an_id() -> None:
    root = Message("question")
    by_message = Message("answer", reply_to=root)
    by_id = Message("answer", reply_to=root.id)
    assert by_message.reply_to is root
    assert by_id.reply_to is None
    assert by_message.reply_to_id == by_id.reply_to_id == root.id


@pytest.mark.parametrize("reply_to", [1, ["a"], {"id": "a"}])
def test_reply_to_that_is_neither_message_nor_id_is_refused(reply_to: Any) -> None:
    with pytest.raises(ValidationError):
        Message("answer", reply_to=reply_to)


def test_json_carries_the_id_of_the_answered_message_only() -> None:
    root = Message("a secret question")
    text = root.reply("answer").model_dump_json()
    assert json.loads(text)["reply_to"] == root.id
    assert "secret" not in text
    back = Message.model_validate_json(text)
    assert back.reply_to is None
    assert back.reply_to_id == root.id


@given(st.integers(1, 30))
def test_every_short_thread_is_remembered_whole_and_root_first(length: int) -> None:
    messages = [Message("root")]
    for number in range(length):
        messages.append(messages[-1].reply(str(number)))
    for place, message in enumerate(messages):
        assert message.thread == messages[: place + 1]


def test_branches_of_a_conversation_have_threads_of_their_own() -> None:
    root = Message("root")
    left, right = root.reply("left"), root.reply("right")
    assert left.reply("x").thread[:2] == [root, left]
    assert right.reply("x").thread[:2] == [root, right]


def test_an_endless_chain_of_replies_holds_its_root_and_its_latest_messages_only() -> None:
    class Marked(Message):
        pass

    root = Marked("root")
    last: Message = root
    for number in range(5000):
        last = Marked.reply(last, str(number))
    gc.collect()
    alive = sum(isinstance(thing, Marked) for thing in gc.get_objects())
    assert alive <= 2002
    thread = last.thread
    assert thread[0] is root
    assert thread[-1] is last
    bodies = [int(message.body) for message in thread[1:]]
    assert bodies == list(range(5000 - len(bodies), 5000))
    assert len(bodies) >= 1000


def test_a_message_does_not_hold_the_replies_to_it() -> None:
    class Reply:
        """Dies with the message it hangs on."""

    class Holding(Message):
        model_config = ConfigDict(arbitrary_types_allowed=True)
        held: Reply

    root = Message("root")
    held = Reply()
    seen = weakref.ref(held)
    answer = Holding.reply(root, held=held)
    del held, answer
    gc.collect()
    assert seen() is None


class Ring(GenAgent):
    """Answers for ever, and notes how long the threads are that it hears."""

    longest: int = 0
    roots: set[str] = Field(default_factory=set)
    gaps: int = 0

    def step(self, message: Message) -> None:
        self.send(Message("root", method="go", receiver="b"))

    def go(self, message: Message) -> Message:
        thread = message.thread
        self.longest = max(self.longest, len(thread))
        self.roots.add(thread[0].body)
        numbers = [int(said.body) for said in thread[1:]]
        self.gaps += numbers != list(range(numbers[0], numbers[0] + len(numbers))) if numbers else 0
        number = int(message.body) + 1 if message.body.isdigit() else 0
        return message.reply(str(number), method="go")


class InlineRing(Ring):
    blocking = False


class AsyncRing(Ring):
    async def ago(self, message: Message) -> Message:
        return Ring.go(self, message)


@pytest.mark.parametrize("kind", [Ring, InlineRing, AsyncRing])
def test_a_runtime_says_how_long_the_threads_in_it_are(kind: type[Ring]) -> None:
    a, b = kind(name="a"), kind(name="b")
    network = GenNetwork(name="ring", agents=[a, b], entry="a")
    run = network.run(Message(), runtime=Runtime("inline", thread_limit=5), max_messages=60)
    assert run.ended == "max_messages"
    assert 5 <= a.longest <= 11
    assert a.roots == b.roots == {"root"}
    assert a.gaps == b.gaps == 0


class Texts(GenAgent):
    """Asks on in every thread; `Pong` returns a bare text, so the reply is the runtime's own."""

    longest: int = 0

    async def step(self, message: Message) -> None:
        # Answers something, so that all cuts of the thread fall on replies that `b` gives.
        self.send(Message("root", method="ping", receiver="b", reply_to=Message("older")))

    async def response(self, message: Message) -> None:
        self.longest = max(self.longest, len(message.thread))
        self.send(message.reply("again", method="ping"))


class Pong(GenAgent):
    longest: int = 0

    def ping(self, message: Message) -> str:
        self.longest = max(self.longest, len(message.thread))
        return "pong"


class InlinePong(Pong):
    blocking = False


class StreamPong(Pong):
    def ping(self, message: Message) -> Any:
        self.longest = max(self.longest, len(message.thread))
        yield Message("pong", method="response")


@pytest.mark.parametrize("kind", [Pong, InlinePong, StreamPong])
def test_the_limit_of_threads_holds_for_replies_that_the_runtime_makes(kind: type[Pong]) -> None:
    a, b = Texts(name="a"), kind(name="b")
    network = GenNetwork(name="ring", agents=[a, b], entry="a")
    network.run(Message(), runtime=Runtime("inline", thread_limit=4), max_messages=80)
    assert 4 <= a.longest <= 9
    assert 4 <= b.longest <= 9


@pytest.mark.parametrize("limit", [0, -1])
def test_a_runtime_that_would_forget_every_message_is_refused(limit: int) -> None:
    with pytest.raises(UsageError):
        Runtime(thread_limit=limit)


# -- what a model may write


def test_init_fn_describes_the_body_and_the_added_fields_and_nothing_else() -> None:
    function = Propose.init_fn
    assert set(function) == {"name", "description", "parameters"}
    assert function["name"] == "Propose"
    assert function["description"] == "An offer to do the task."
    parameters = function["parameters"]
    assert parameters["type"] == "object"
    assert set(parameters["properties"]) == {"body", "price"}
    assert parameters["properties"]["price"]["type"] == "number"
    assert parameters["required"] == ["price"]
    json.dumps(function)


def test_init_fn_of_a_plain_message_has_the_body_alone() -> None:
    assert set(Message.init_fn["parameters"]["properties"]) == {"body"}


def test_init_fn_of_a_sub_sub_class_has_the_fields_of_both() -> None:
    assert set(Timed.init_fn["parameters"]["properties"]) == {"body", "price", "days"}
    assert set(Bid.init_fn["parameters"]["properties"]) == {"body", "price"}


def test_init_fn_describes_nested_models() -> None:
    assert "Where" in json.dumps(Move.init_fn["parameters"])


def test_from_call_is_the_inverse_of_init_fn() -> None:
    arguments = {"body": "now", "price": 3.5, "days": 2}
    for given_as in (arguments, json.dumps(arguments)):
        message = Timed.from_call(given_as)
        assert (message.body, message.price, message.days) == ("now", 3.5, 2)
        assert message.method == "timed"
    assert Timed.from_call('{"price": 1}').days == 1
    assert Move.from_call({"to": {"x": 1, "y": 2}}).to == Where(x=1, y=2)


@pytest.mark.parametrize(
    "key",
    ["sender", "receiver", "role", "method", "id", "created_at", "reply_to", "reply_to_id", "self"],
)
def test_from_call_refuses_keys_that_are_no_parameters(key: str) -> None:
    with pytest.raises(ValidationError):
        Propose.from_call({"price": 1, key: "x"})
    with pytest.raises(ValidationError):
        Propose.from_call(json.dumps({"price": 1, key: "x"}))


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"price": "cheap"},
        {"price": None},
        {"price": 1, "body": 2},
        "",
        '{"price": 1',
        "{'price': 1}",
        "[1]",
        "1",
        "null",
        '{"price": "cheap"}',
    ],
)
def test_from_call_refuses_wrong_types_and_half_json(arguments: Any) -> None:
    with pytest.raises(ValidationError):
        Propose.from_call(arguments)


@given(st.text(), st.floats(allow_nan=False, allow_infinity=False))
def test_every_call_that_init_fn_allows_makes_its_message(body: str, price: float) -> None:
    message = Propose.from_call(json.dumps({"body": body, "price": price}))
    assert (message.body, message.price) == (body, price)


@given(st.dictionaries(st.text(), st.none() | st.integers() | st.text(), min_size=1))
def test_every_call_of_other_keys_is_refused(arguments: dict[str, Any]) -> None:
    arguments.pop("body", None)
    arguments["price"] = 1
    if len(arguments) > 1:
        with pytest.raises(ValidationError):
            Propose.from_call(arguments)


def test_to_chat_is_a_chat_completion_dict() -> None:
    assert Message("hi", role="system").to_chat() == {"role": "system", "content": "hi"}


def test_to_chat_shows_the_added_fields_to_the_model() -> None:
    chat = Propose("at once", price=4).to_chat()
    assert chat["role"] == "user"
    assert chat["content"].startswith("at once")
    assert json.loads(chat["content"].removeprefix("at once")) == {"price": 4.0}


# -- JSON, pickles, copies

TEXT = st.text(max_size=20)
PATHS = st.none() | st.text(min_size=1, max_size=20)
METHODS = st.sampled_from(list(Method)) | st.text(max_size=20)


@given(
    body=TEXT,
    method=METHODS,
    role=st.sampled_from(Role),
    sender=PATHS,
    receiver=PATHS,
    reply_to=st.none() | st.text(max_size=20),
    price=st.floats(allow_nan=False, allow_infinity=False),
    kind=st.sampled_from([None, Propose, Timed]),
)
def test_every_message_survives_json_pickles_and_copies(
    *, price: float, kind: type[Propose] | None, **fields: Any
) -> None:
    message = Message(**fields) if kind is None else kind(price=price, **fields)
    cls = type(message)
    assert cls.model_validate_json(message.model_dump_json()) == message
    assert cls.model_validate(message.model_dump()) == message
    assert pickle.loads(pickle.dumps(message)) == message
    assert copy.copy(message) == message
    assert copy.deepcopy(message) == message


@given(body=TEXT)
def test_a_message_of_a_body_alone_equals_one_that_was_validated(body: str) -> None:
    short = Message(body)
    full = Message(body, method="step", role="user", id=short.id, created_at=short.created_at)
    assert short == full
    assert short.model_dump_json() == full.model_dump_json()
    assert short.model_fields_set == {"body"}
    assert short.model_copy(update={"method": "x"}).method == "x"
    assert short.thread == [short]
    assert type(short.role) is Role


@given(body=TEXT, method=TEXT, role=st.sampled_from(Role), sender=PATHS, receiver=PATHS)
def test_everything_the_runtime_writes_equals_what_the_constructor_makes(
    body: str, method: str, role: Role, sender: str | None, receiver: str | None
) -> None:
    origin = None if sender is None else Address(sender)
    target = None if receiver is None else Address(receiver)
    root = Message("root")
    for reply_to in (None, root):
        written = write_message(
            body, method, role, origin, target, reply_to, "id", datetime.now(UTC)
        )
        made = Message(
            body,
            method=method,
            role=role,
            sender=sender,
            receiver=receiver,
            reply_to=reply_to,
            id=written.id,
            created_at=written.created_at,
        )
        assert written == made
        assert written.model_dump_json() == made.model_dump_json()
        assert written.reply_to is made.reply_to
        assert written.thread == [*([] if reply_to is None else [root]), made]
        assert written.model_copy(update={"body": "x"}).body == "x"
        assert pickle.loads(pickle.dumps(written)) == made
        with pytest.raises(ValidationError):
            written.body = "x"


def test_a_text_of_a_special_class_becomes_a_plain_body() -> None:
    class Mood(StrEnum):
        GOOD = "good"

    class Moody(GenAgent):
        blocking = False

        def step(self, message: Message) -> str:
            return Mood.GOOD

    with Moody().start(runtime=Runtime("inline")) as ref:
        reply = ref.ask(Message())
    assert reply is not None
    assert type(reply.body) is type(Message(Mood.GOOD).body)


# -- addresses


def test_an_address_read_from_json_is_a_text_and_its_words_raise() -> None:
    message = Message.model_validate_json(Message("x", sender="firm/worker").model_dump_json())
    sender = message.sender
    assert sender is not None
    assert (sender, str(sender), sender.path) == ("firm/worker", "firm/worker", "firm/worker")
    assert not sender.is_alive()
    with pytest.raises(UsageError):
        sender.tell(Message())
    with pytest.raises(UsageError):
        sender.ask(Message())
    with pytest.raises(UsageError):
        sender.stream(Message())
    with pytest.raises(UsageError):
        sender.stop()
    with pytest.raises(UsageError):
        sender.proxy()


@pytest.mark.parametrize("value", ["", 1, 1.5, [], object()])
def test_what_is_no_address_is_refused(value: Any) -> None:
    with pytest.raises(ValidationError):
        Message("x", receiver=value)


def test_a_message_may_be_addressed_to_an_agent_a_ref_an_address_or_a_path() -> None:
    agent = Echo(name="echo")
    with agent.start(runtime=Runtime("inline")) as ref:
        for receiver in (agent, ref, Message(receiver=agent).receiver, "echo"):
            message = Message("x", receiver=receiver)
            assert message.receiver == "echo"
            assert json.loads(message.model_dump_json())["receiver"] == "echo"


def test_the_sender_of_a_delivered_message_behaves_as_a_ref() -> None:
    class Caller(GenAgent):
        blocking = False
        heard: list[str] = Field(default_factory=list)

        def step(self, message: Message) -> None:
            self.send(Message("call me", method="call", receiver="callee"))

        def news(self, message: Message) -> None:
            self.heard.append(message.body)

    class Callee(GenAgent):
        blocking = False

        def call(self, message: Message) -> None:
            assert message.sender is not None
            assert message.sender.is_alive()
            message.sender.tell(Message("hello", method="news"))

    caller = Caller()
    net = GenNetwork(name="net", agents=[caller, Callee()], entry="caller")
    run = net.run(Message())
    assert run.failures == ()
    assert caller.heard == ["hello"]


def test_an_address_read_from_json_is_bound_when_an_agent_handles_the_message() -> None:
    class Worker(GenAgent):
        blocking = False
        heard: list[str] = Field(default_factory=list)

        def step(self, message: Message) -> None:
            assert message.sender is not None
            message.sender.tell(Message("done", method="done"))

        def done(self, message: Message) -> None:
            self.heard.append(message.body)

    def build() -> GenNetwork:
        return GenNetwork(
            name="net", agents=[Worker(name="boss"), Worker(name="worker")], entry="worker"
        )

    text = Message("x", sender="net/boss").model_dump_json()
    net = build()
    run = net.run(Message.model_validate_json(text))
    assert run.failures == ()
    assert net["boss"].model_dump()["heard"] == ["done"]


def test_one_message_read_from_json_may_be_handled_in_two_networks() -> None:
    class Worker(GenAgent):
        blocking = False
        heard: list[str] = Field(default_factory=list)

        def step(self, message: Message) -> None:
            assert message.sender is not None
            message.sender.tell(Message("done", method="done"))

        def done(self, message: Message) -> None:
            self.heard.append(message.body)

    message = Message.model_validate_json(Message("x", sender="net/boss").model_dump_json())
    networks = [
        GenNetwork(name="net", agents=[Worker(name="boss"), Worker(name="worker")], entry="worker")
        for _ in range(2)
    ]
    runs = [net.run(message) for net in networks]
    assert [run.failures for run in runs] == [(), ()]
    assert [net["boss"].model_dump()["heard"] for net in networks] == [["done"], ["done"]]


def test_neither_a_message_nor_its_copies_hold_the_agent() -> None:
    agent = Echo(name="echo")
    with agent.start(runtime=Runtime("inline")) as ref:
        reply = ref.ask(Message("x"))
    assert reply is not None
    assert reply.sender == "echo"
    twins = [copy.copy(reply), copy.deepcopy(reply), pickle.loads(pickle.dumps(reply))]
    seen = weakref.ref(agent)
    del agent, ref
    gc.collect()
    assert seen() is None
    assert all(twin == reply for twin in twins)


def test_a_deep_copy_or_pickle_of_a_message_has_unbound_addresses() -> None:
    agent = Echo(name="echo")
    message = Message("x", sender=agent)
    assert message.sender is not None
    assert message.sender.bound
    for twin in (copy.deepcopy(message), pickle.loads(pickle.dumps(message))):
        assert twin.sender == "echo"
        assert not twin.sender.bound


def test_deep_copying_an_agent_that_holds_messages_copies_no_other_agent() -> None:
    class Keeper(GenAgent):
        kept: list[Message] = Field(default_factory=list)

    class Big(GenAgent):
        def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Any:
            raise AssertionError

    big = Big()
    keeper = Keeper(kept=[Message("x", sender=big, receiver=big)])
    twin = keeper.model_copy(deep=True)
    assert twin.kept == keeper.kept
    assert twin.kept[0] is not keeper.kept[0]


def test_addresses_are_equal_by_their_path() -> None:
    a = Message(sender="a/b").sender
    assert a == Message(receiver="a/b").receiver == "a/b"
    assert a != "a"
    assert a != Message(sender="b").sender
    assert len({a, Message(sender="a/b").sender}) == 1
