"""Bad input: every error says what happened, with the values, and what to do."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel, ValidationError

from llm_net import (
    AgentStopped,
    AnswerError,
    Completion,
    DeadLetter,
    GenAgent,
    GenNetwork,
    HandlerError,
    Message,
    ModelSetupError,
    ModuleLLM,
    NoHandler,
    Runtime,
    Supervision,
    UnknownAgent,
    UnscriptedCall,
    UsageError,
)


class Echo(GenAgent):
    blocking: ClassVar[bool] = False

    def step(self, message: Message) -> str:
        return message.body


class Giving(GenAgent):
    """Gives what it is made with."""

    blocking: ClassVar[bool] = False
    value: Any = None

    def step(self, message: Message) -> Any:
        return self.value


class Yielding(Giving):
    def step(self, message: Message) -> Any:
        yield "fine"
        yield self.value


class Lost(GenAgent):
    """Sends to nobody."""

    blocking: ClassVar[bool] = False

    def step(self, message: Message) -> None:
        self.send(Message("x", receiver="ghost"))


class LostAsking(GenAgent):
    async def astep(self, message: Message) -> None:
        await self.aask("ehco", "x")


class Bid(BaseModel):
    price: float


def net(*agents: GenAgent, **options: Any) -> GenNetwork:
    return GenNetwork(name="net", agents=agents or [Echo()], **options)


def live(call: Callable[[GenNetwork], Any], **options: Any) -> Any:
    network = net(**options)
    with network.start():
        return call(network)


def failing(agent: GenAgent) -> None:
    """Raise the one failure of a run."""
    (failure,) = net(agent, entry=agent.name).run("x").failures
    raise failure


def giving(kind: type[Giving], value: Any) -> None:
    failing(kind(name="odd", value=value))


def limited(limit: str, value: Any) -> None:
    options: dict[str, Any] = {limit: value}
    net(entry="echo").run("x", **options)


def supervised(option: str, value: Any) -> None:
    options: dict[str, Any] = {option: value}
    Supervision(**options)


def stopped(call: Callable[[GenNetwork], Any]) -> None:
    network = net(entry="echo")
    network.start().stop()
    call(network)


def in_two_networks() -> None:
    echo = Echo()
    first = net(echo)
    assert first["echo"] is echo
    net(echo)


def add_live() -> None:
    echo = Echo()
    with echo.start():
        net(echo)


def start_member() -> None:
    network = net()
    network["echo"].start()


def in_itself() -> None:
    network = net()
    network.add(network)


def asked(answer: Any, **options: Any) -> None:
    """Ask a model that answers so for a bid."""
    ModuleLLM(lambda request: answer, repair=0).generate("x", response_format=Bid, **options)


@dataclass
class Case:
    """One bad input.

    Attributes:
        name: What is wrong.
        do: Does it.
        error: What it raises.
        says: What the text holds: the values, and a word of the remedy.
    """

    name: str
    do: Callable[[], Any]
    error: type[Exception]
    says: list[str]


def case(name: str, do: Callable[[], Any], error: type[Exception], *says: str) -> Any:
    return pytest.param(Case(name, do, error, list(says)), id=name.replace(" ", "_"))


wrong: Any = 5
nothing: Any = None

CASES = [
    # Methods and receivers
    case(
        "ask for an unknown method",
        lambda: live(lambda n: n["echo"].ref.ask(Message("x", method="fly"))),
        NoHandler,
        "'net/echo'",
        "'fly'",
        "afly",
        "unhandled",
    ),
    case(
        "ask an unknown receiver",
        lambda: failing(LostAsking(name="lost")),
        HandlerError,
        "'ehco'",
        "'net/lost'",
        "Check the path",
    ),
    case("an unknown item", lambda: net()["ehco"], UnknownAgent, "'ehco'", "'net'", "'echo'"),
    case("a far unknown item", lambda: net()["a/b"], UnknownAgent, "'a/b'", "Check the path"),
    case(
        "run to an unknown receiver",
        lambda: net(entry="echo").run(Message("x", receiver="ehco")),
        UnknownAgent,
        "'ehco'",
        "Did you mean 'echo'",
    ),
    # What handlers give
    *(
        case(
            f"a handler that gives {value!r}",
            partial(giving, kind, value),
            HandlerError,
            repr(value),
            type(value).__name__,
            "'net/odd'",
            "'step'",
            "give None, a text",
        )
        for kind in (Giving, Yielding)
        for value in (5, [1, 2], {"a": 1})
    ),
    # Stopped
    case(
        "tell a stopped agent",
        lambda: stopped(lambda n: n.ref.tell("x")),
        AgentStopped,
        "'net'",
        "Start it again",
    ),
    case(
        "ask a stopped member",
        lambda: stopped(lambda n: n["echo"].ref.ask("x")),
        AgentStopped,
        "'net/echo'",
        "Start it again",
    ),
    # Names
    case("two of one name", lambda: net(Echo(), Echo()), UsageError, "'net'", "'echo'", "name="),
    *(
        case(
            f"the name {name!r}",
            partial(Echo, name=name),
            ValidationError,
            repr(name),
            "'firm/sales/worker'",
            "must not",
        )
        for name in ("a/b", "/", "", ".", "..")
    ),
    case("a network's name", lambda: GenNetwork(name="a/b"), ValidationError, "'a/b'"),
    # Networks
    case(
        "an edge to a stranger",
        lambda: net(edges=[("echo", "news", "ehco")]),
        UnknownAgent,
        "'ehco'",
        "Did you mean 'echo'",
    ),
    case(
        "an edge from a stranger",
        lambda: net().link("zed", "news", "echo"),
        UnknownAgent,
        "'zed'",
        "Check the path",
    ),
    case("no entry, run", lambda: net().run("x"), UsageError, "'net'", "entry=", "receiver="),
    case("no entry, stream", lambda: net().stream("x"), UsageError, "'net'", "entry="),
    case("no entry, ask", lambda: live(lambda n: n.ref.ask("x")), UsageError, "'net'", "entry="),
    case(
        "an entry that is a stranger",
        lambda: net(entry="ehco").run("x"),
        UsageError,
        "'ehco'",
        "'echo'",
        "Add that agent",
    ),
    case("a member that is no agent", lambda: net(wrong), UsageError, "5", "no agent", "'net'"),
    case("an agent in two networks", in_two_networks, UsageError, "'echo'", "model_copy"),
    case("a live agent as member", add_live, UsageError, "'echo'", "Stop it"),
    case("a network in itself", in_itself, UsageError, "'net'"),
    # Bodies
    case("a body that is a number", lambda: Message(wrong), ValidationError, "body", "5", "string"),
    case("a body that is None", lambda: Message(nothing), ValidationError, "body", "None"),
    case("a body that is bytes", lambda: Message(b"x"), ValidationError, "body", "b'x'"),  # type: ignore[arg-type]
    case(
        "run with a number",
        lambda: net(entry="echo").run(wrong),
        UsageError,
        "5",
        "int",
        "give a Message",
    ),
    case(
        "tell a number",
        lambda: live(lambda n: n.ref.tell(wrong), entry="echo"),
        UsageError,
        "5",
        "give a Message",
    ),
    # Lives
    case(
        "start twice",
        lambda: live(lambda n: n.start()),
        UsageError,
        "'net'",
        "live already",
        "model_copy",
    ),
    case("start a member", start_member, UsageError, "'echo'", "'net'", "start that"),
    case("send before the start", lambda: Echo().send("x"), UsageError, "'echo'", "Start it"),
    case("emit before the start", lambda: Echo().emit("e", "x"), UsageError, "'echo'", "Start it"),
    case("ask before the start", lambda: Echo().ask("b", "x"), UsageError, "'echo'", "Start it"),
    case("stop before the start", lambda: Echo().stop(), UsageError, "'echo'"),
    case("a reference before the start", lambda: Echo().ref, UsageError, "'echo'", "Start it"),
    # Runtimes
    case("a host", lambda: Runtime("moon"), UsageError, "'moon'", "'inline'"),  # type: ignore[arg-type]
    case("no ask_timeout", lambda: Runtime(ask_timeout=0), UsageError, "ask_timeout=0", "None"),
    case("a negative one", lambda: Runtime(ask_timeout=-1), UsageError, "ask_timeout=-1", "above"),
    case("NaN", lambda: Runtime(ask_timeout=math.nan), UsageError, "ask_timeout=nan", "above"),
    case(
        "an ask_timeout that is a text",
        lambda: Runtime(ask_timeout="soon"),  # type: ignore[arg-type]
        UsageError,
        "ask_timeout='soon'",
        "seconds",
    ),
    case("no threads", lambda: Runtime(thread_limit=0), UsageError, "thread_limit=0", "1 or more"),
    case(
        "a thread_limit that is a text",
        lambda: Runtime(thread_limit="many"),  # type: ignore[arg-type]
        UsageError,
        "thread_limit='many'",
        "1 or more",
    ),
    case(
        "a loop that does not run",
        lambda: Echo().start(runtime=Runtime("loop")),
        UsageError,
        "host='loop'",
        "host='thread'",
    ),
    # Limits
    *(
        case(
            f"{limit}={value!r}",
            partial(limited, limit, value),
            UsageError,
            f"{limit}={value!r}",
            "give a number",
        )
        for limit, value in [
            ("max_messages", -1),
            ("max_hops", True),
            ("max_repeats", math.nan),
            ("timeout", "1 s"),
            ("timeout", -0.5),
        ]
    ),
    # Supervision
    *(
        case(
            f"{option}={value!r}",
            partial(supervised, option, value),
            UsageError,
            repr(value),
            *says,
        )
        for option, value, says in [
            ("strategy", "none_for_one", ["strategy", "one_for_one"]),
            ("directive", "retry", ["directive", "restart"]),
            ("max_restarts", -1, ["max_restarts", "0 or more"]),
            ("max_restarts", "many", ["max_restarts", "0 or more"]),
            ("window_s", 0, ["window_s", "above 0"]),
            ("window_s", math.nan, ["window_s", "above 0"]),
            ("window_s", "long", ["window_s", "above 0"]),
        ]
    ),
    case(
        "a supervision that is none",
        lambda: Echo(supervision="resume"),  # type: ignore[arg-type]
        ValidationError,
        "supervision",
        "'resume'",
        "Supervision",
    ),
    # Answers of models
    case("an empty answer", lambda: asked(""), AnswerError, "empty", "Ask again"),
    case(
        "an answer that was cut off",
        lambda: asked(Completion(text='{"price": 1', finish_reason="length")),
        AnswerError,
        "cut off",
        '{"price": 1',
        "max_tokens",
    ),
    case(
        "an answer cut off before its first word",
        lambda: asked(Completion(text="", finish_reason="length")),
        AnswerError,
        "cut off",
        "max_tokens",
    ),
    case("no JSON", lambda: asked("ten euros"), AnswerError, "not JSON", "ten euros", "prompt"),
    case(
        "a fence around no JSON",
        lambda: asked("```json\nten euros\n```"),
        AnswerError,
        "not JSON",
        "ten euros",
    ),
    case(
        "the wrong shape",
        lambda: asked('{"cost": 3}'),
        AnswerError,
        "wrong shape",
        "price",
        "cost",
        "Describe",
    ),
    case(
        "the wrong type",
        lambda: asked('{"price": "much"}'),
        AnswerError,
        "wrong shape",
        "price",
        "much",
    ),
    case("an answer that is no answer", lambda: asked(5), UsageError, "5", "str, a dict"),
    # Models that cannot be asked
    case(
        "a missing key",
        lambda: ModuleLLM("openai/gpt-4o-mini").generate("x"),
        ModelSetupError,
        "openai/gpt-4o-mini",
        "OPENAI_API_KEY",
        "api_key=",
    ),
    case(
        "a missing model file",
        lambda: ModuleLLM("local//no/such/model.gguf").generate("x"),
        ModelSetupError,
        "/no/such/model.gguf",
        "Check the path",
    ),
    case(
        "an unknown embedded model",
        lambda: ModuleLLM("local/smol"),
        UsageError,
        "local/smol",
        "local/smollm2-135m",
    ),
    case("no provider", lambda: ModuleLLM("gpt-4o"), UsageError, "'gpt-4o'", "provider/model"),
    case(
        "an unscripted call",
        lambda: ModuleLLM("scripted", replies=[]).generate("What now?", place="net/ann"),
        UnscriptedCall,
        "What now?",
        "net/ann",
        "replies=",
    ),
    case(
        "a call that matches no pattern",
        lambda: ModuleLLM("scripted", replies={"hello": "hi"}).generate("bye"),
        UnscriptedCall,
        "'hello'",
        "bye",
    ),
    case("no script", lambda: ModuleLLM("scripted"), UsageError, "replies="),
]


@pytest.mark.parametrize("bad", CASES)
def test_bad_input_is_an_error_with_the_values_and_a_remedy(
    bad: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(bad.error) as caught:
        bad.do()
    text = str(caught.value)
    missing = [word for word in bad.says if word not in text]
    assert not missing, text
    assert "\n\n" not in text  # one paragraph: what, why, and what to do


@pytest.mark.parametrize("fenced", ['```json\n{"price": 3}\n```', 'Gladly!\n{"price": 3} Bye.'])
def test_an_answer_in_a_fence_or_in_chatter_is_read(fenced: str) -> None:
    completion = ModuleLLM("scripted", replies=[fenced]).generate("x", response_format=Bid)
    assert completion.parsed == Bid(price=3)


def dead(call: Callable[[GenNetwork, Runtime], Any], **options: Any) -> DeadLetter:
    runtime = Runtime()
    network = net(**options)
    with network.start(runtime=runtime):
        call(network, runtime)
    (letter,) = runtime.dead_letters
    return letter


DEAD: list[Any] = [
    pytest.param(
        lambda: dead(lambda n, _: n["echo"].ref.tell(Message("x", method="fly"))),
        "no_handler",
        "net/echo",
        ["'fly'", "'x'"],
        id="tell_of_an_unknown_method",
    ),
    pytest.param(
        lambda: dead(lambda n, _: n.ref.tell("x")),
        "no_entry",
        "net",
        ["'x'"],
        id="tell_without_an_entry",
    ),
    pytest.param(
        lambda: net(Lost(), entry="lost").run("go").dead_letters[0],
        "no_receiver",
        "ghost",
        ["'x'", "net/lost"],
        id="send_to_an_unknown_receiver",
    ),
    pytest.param(
        lambda: net(entry="echo").run(Message("x", method="fly")).dead_letters[0],
        "no_handler",
        "net/echo",
        ["'fly'", "'x'"],
        id="run_of_an_unknown_method",
    ),
]


@pytest.mark.parametrize(("make", "reason", "receiver", "says"), DEAD)
def test_a_message_that_nobody_waits_for_is_a_dead_letter_with_its_reason_and_receiver(
    make: Callable[[], DeadLetter], reason: str, receiver: str, says: list[str]
) -> None:
    letter = make()
    assert letter.reason == reason
    assert letter.receiver == receiver
    for word in says:
        assert word in repr(letter)


def test_a_message_that_was_on_its_way_when_its_receiver_stopped_is_a_dead_letter() -> None:
    class Stopping(GenAgent):
        blocking: ClassVar[bool] = False

        def step(self, message: Message) -> None:
            self.stop(drain=False)

    stopping = Stopping()
    runtime = Runtime("inline")
    ref = stopping.start(runtime=runtime)
    ref.tell("first")
    ref.tell("second")
    ref.stop()
    (letter,) = runtime.dead_letters
    assert (letter.reason, letter.receiver, letter.message.body) == (
        "stopped",
        "stopping",
        "second",
    )
