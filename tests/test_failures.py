"""What happens when something goes wrong, and that it happens to nobody else."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, PrivateAttr

from llm_net import (
    AgentRef,
    AgentStopped,
    DeadLetter,
    Envelope,
    GenAgent,
    GenNetwork,
    HandlerError,
    Instrument,
    Message,
    Runtime,
    Statistics,
    Supervision,
    UsageError,
)

DEADLINE = 20.0
Host = Literal["thread", "inline"]
HOSTS: list[Host] = ["thread", "inline"]


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Failures that nobody asked for are logged; here they are made on purpose."""
    caplog.set_level(logging.CRITICAL, logger="llm_net")
    caplog.set_level(logging.CRITICAL, logger="asyncio")


class Fragile(GenAgent):
    """Counts, and fails when it is told to."""

    count: int = 0
    log: list[str] = Field(default_factory=list)
    _hidden: list[int] = PrivateAttr(default_factory=list)

    def step(self, message: Message) -> str:
        self.count += 1
        self._hidden.append(self.count)
        self.log.append(message.body)
        if message.body.startswith("fail"):
            raise made(message.body)
        return f"{self.count} {len(self._hidden)}"


class InlineFragile(Fragile):
    blocking = False


class AsyncFragile(Fragile):
    async def astep(self, message: Message) -> str:
        await asyncio.sleep(0)
        return Fragile.step(self, message)


class Rude(BaseException):
    """As SystemExit and KeyboardInterrupt, no Exception."""


ERRORS: dict[str, Callable[[], BaseException]] = {
    "fail": lambda: ValueError("no"),
    "fail key": lambda: KeyError("no"),
    "fail rude": lambda: Rude("no"),
    "fail exit": lambda: SystemExit(3),
    "fail interrupt": KeyboardInterrupt,
    "fail cancel": asyncio.CancelledError,
    "fail stop": lambda: StopIteration("no"),
    "fail generator": GeneratorExit,
    "fail memory": MemoryError,
    "fail recursion": RecursionError,
}


def made(name: str) -> BaseException:
    """A new exception each time: one that is raised again keeps its old tracebacks."""
    return ERRORS[name]()


KINDS = [Fragile, InlineFragile, AsyncFragile]


class Ear(GenAgent):
    """Notes every message that reaches it."""

    blocking = False
    heard: list[str] = Field(default_factory=list)

    def unhandled(self, message: Message) -> None:
        self.heard.append(message.body)


def body(reply: Message | None) -> str:
    assert reply is not None
    return reply.body


def told(*bodies: str) -> Callable[[AgentRef], None]:
    def tell(ref: AgentRef) -> None:
        for text in bodies:
            ref.tell(text)

    return tell


# -- one handler raises


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_asker_gets_the_path_the_message_and_the_cause(kind: type[Fragile], host: Host) -> None:
    question = Message("fail")
    with kind(name="fragile").start(runtime=Runtime(host)) as ref:
        with pytest.raises(HandlerError, match="fragile") as caught:
            ref.ask(question, timeout=DEADLINE)
        error = caught.value
        assert error.path == "fragile"
        assert error.message is not None
        assert error.message.id == question.id
        assert isinstance(error.__cause__, ValueError)
        assert "ValueError" in str(error)
        assert "no" in str(error)
        assert body(ref.ask("x")) == "2 2"


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", sorted(ERRORS))
def test_whatever_a_handler_raises_it_harms_its_own_turn_only(
    what: str, kind: type[Fragile], host: Host
) -> None:
    if kind is InlineFragile and what == "fail interrupt":
        pytest.skip("on the caller's own thread an interrupt is the user's")
    runtime = Runtime(host)
    fragile, other = kind(name="fragile"), kind(name="other")
    with fragile.start(runtime=runtime) as ref, other.start(runtime=runtime) as bystander:
        with pytest.raises(HandlerError) as caught:
            ref.ask(what, timeout=DEADLINE)
        if what != "fail stop" or kind is not AsyncFragile:  # PEP 479: it becomes a RuntimeError
            assert type(caught.value.__cause__) is type(ERRORS[what]())
        ref.tell(what)
        assert body(bystander.ask("x", timeout=DEADLINE)) == "1 1"
        assert body(ref.ask("x", timeout=DEADLINE)) == "3 3"
    assert runtime.statistics().failures == 2


def test_an_interrupt_in_a_handler_on_the_engines_thread_stops_no_other_agent() -> None:
    runtime = Runtime("thread")
    with (
        InlineFragile(name="fragile").start(runtime=runtime) as ref,
        InlineFragile(name="other").start(runtime=runtime) as other,
    ):
        with pytest.raises(HandlerError):
            ref.ask("fail interrupt", timeout=2)
        assert body(other.ask("x", timeout=2)) == "1 1"
        assert body(ref.ask("x", timeout=2)) == "2 2"


def test_an_interrupt_on_the_callers_thread_reaches_the_caller_and_the_agent_lives_on() -> None:
    runtime = Runtime("inline")
    with InlineFragile(name="fragile").start(runtime=runtime) as ref:
        with pytest.raises(KeyboardInterrupt):
            ref.ask("fail interrupt", timeout=2)
        assert body(ref.ask("x", timeout=2)) == "2 2"


@pytest.mark.parametrize("kind", KINDS)
def test_a_failing_tell_lists_its_failure_in_the_run_and_the_run_goes_on(
    kind: type[Fragile],
) -> None:
    class Trigger(GenAgent):
        blocking = False

        def step(self, message: Message) -> None:
            for text in ("fail", "x", "fail key"):
                self.send(Message(text, receiver="fragile"))

    fragile = kind(name="fragile")
    run = GenNetwork(name="net", agents=[Trigger(), fragile], entry="trigger").run("")
    assert run.ended == "idle"
    assert [
        (failure.path, failure.message.body) for failure in run.failures if failure.message
    ] == [
        ("net/fragile", "fail"),
        ("net/fragile", "fail key"),
    ]
    assert run.statistics.failures == 2
    assert run.statistics.delivered >= 4
    assert fragile.log == ["fail", "x", "fail key"]


def test_a_failure_in_a_generator_keeps_the_replies_before_it() -> None:
    class Half(GenAgent):
        blocking = False

        def step(self, message: Message) -> Any:
            yield "a"
            raise made("fail")

    run = GenNetwork(name="net", agents=[Half()], entry="half").run("")
    assert [output.body for output in run.outputs] == ["a"]
    assert len(run.failures) == 1


def test_a_failure_in_unhandled_is_a_failure_like_any_other() -> None:
    class Bad(GenAgent):
        blocking = False

        def unhandled(self, message: Message) -> None:
            raise made("fail")

    with Bad().start(runtime=Runtime("inline")) as ref, pytest.raises(HandlerError):
        ref.ask(Message(method="x"))


# -- directives


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("kind", KINDS)
def test_resume_is_the_default_and_keeps_the_fields(kind: type[Fragile], host: Host) -> None:
    agent = kind()
    with agent.start(runtime=Runtime(host)) as ref:
        told("x", "fail", "fail")(ref)
        assert body(ref.ask("x")) == "4 4"


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("kind", KINDS)
def test_restart_puts_fields_and_private_attributes_back_in_the_same_object(
    kind: type[Fragile], host: Host
) -> None:
    agent = kind(
        name="fragile", count=10, log=["made"], supervision=Supervision(directive="restart")
    )
    agent._hidden.extend([1, 2])
    with agent.start(runtime=Runtime(host)) as ref:
        told("x", "x", "fail", "after")(ref)
        assert body(ref.ask("x")) == "12 4"
        assert ref.is_alive()
        assert agent.ref is ref
        assert agent.log == ["made", "after", "x"]
        assert agent.statistics().restarts == 1
        told("fail")(ref)
        assert body(ref.ask("x")) == "11 3"


def test_a_restart_keeps_edges_listeners_mailbox_and_ref() -> None:
    class Source(InlineFragile):
        def step(self, message: Message) -> str:
            if not message.body.startswith("fail"):
                self.emit("news", message.body)
            return super().step(message)

    class Trigger(GenAgent):
        blocking = False

        def step(self, message: Message) -> None:
            for text in ("a", "fail", "b", "c"):
                self.send(Message(text, receiver="source"))

    source, ear = Source(), Ear()
    heard: list[str] = []
    source.on("news", lambda message: heard.append(message.body))
    net = GenNetwork(
        name="net",
        agents=[Trigger(), source, ear],
        edges=[("source", "news", "ear")],
        entry="trigger",
        supervision=Supervision(directive="restart"),
    )
    run = net.run("")
    assert heard == ear.heard == ["a", "b", "c"]
    assert run.statistics.restarts == 1
    assert source.count == 2
    assert run.dead_letters == ()


def test_a_restart_keeps_what_two_fields_share() -> None:
    class Sharing(GenAgent):
        blocking = False
        one: list[str] = Field(default_factory=list)
        two: Any = None

        def step(self, message: Message) -> str:
            if message.body == "fail":
                raise made("fail")
            self.one.append(message.body)
            return str(self.two)

    agent = Sharing(supervision=Supervision(directive="restart"))
    agent.two = agent.one
    with agent.start(runtime=Runtime("inline")) as ref:
        assert body(ref.ask("a")) == "['a']"
        ref.tell("fail")
        assert body(ref.ask("b")) == "['b']"


def test_a_restart_puts_back_what_was_there_at_the_latest_start() -> None:
    agent = InlineFragile(supervision=Supervision(directive="restart"))
    with agent.start(runtime=Runtime("inline")) as ref:
        told("x", "x")(ref)
    with agent.start(runtime=Runtime("inline")) as ref:
        told("x", "fail")(ref)
        assert body(ref.ask("x")) == "3 3"


def test_a_restarted_agent_may_hold_references_to_others() -> None:
    class Holder(InlineFragile):
        friend: Any = None

        def step(self, message: Message) -> str:
            super().step(message)
            self.friend.tell("x")
            return "told"

    ear = Fragile(name="friend")
    runtime = Runtime("inline")
    with ear.start(runtime=runtime) as friend:
        holder = Holder(friend=friend, supervision=Supervision(directive="restart"))
        with holder.start(runtime=runtime) as ref:
            ref.tell("fail")
            assert body(ref.ask("x")) == "told"
            assert holder.friend is friend
    assert ear.count == 1


@pytest.mark.parametrize("kind", KINDS)
def test_stop_stops_the_failing_agent_alone(kind: type[Fragile]) -> None:
    class Trigger(GenAgent):
        blocking = False

        def step(self, message: Message) -> None:
            for text in ("fail", "late"):
                self.send(Message(text, receiver="a"))
                self.send(Message(text[-1], receiver="b"))

    a, b = kind(name="a", supervision=Supervision(directive="stop")), kind(name="b")
    run = GenNetwork(name="net", agents=[Trigger(), a, b], entry="trigger").run("")
    assert run.ended == "idle"
    assert a.log == ["fail"]
    assert b.log == ["l", "e"]
    assert [(letter.message.body, letter.reason) for letter in run.dead_letters] == [
        ("late", "stopped")
    ]


def test_a_directive_may_be_a_function_of_the_exception() -> None:
    def decide(error: BaseException) -> Any:
        return "restart" if isinstance(error, KeyError) else "resume"

    agent = InlineFragile(supervision=Supervision(directive=decide))
    with agent.start(runtime=Runtime("inline")) as ref:
        told("x", "fail", "x")(ref)
        assert body(ref.ask("x")) == "4 4"
        ref.tell("fail key")
        assert body(ref.ask("x")) == "1 1"


@pytest.mark.parametrize("wrong", ["raises", "nonsense"])
def test_a_directive_that_cannot_be_had_escalates(wrong: str) -> None:
    def decide(error: BaseException) -> Any:
        if wrong == "raises":
            raise error
        return "nonsense"

    agent = InlineFragile(name="a", supervision=Supervision(directive=decide))
    run = GenNetwork(name="net", agents=[agent], entry="a").run("fail")
    assert run.ended == "failure"


@pytest.mark.parametrize(
    "options",
    [
        {"strategy": "all"},
        {"directive": "ignore"},
        {"max_restarts": -1},
        {"window_s": 0},
        {"window_s": -1.0},
    ],
)
def test_a_supervision_that_cannot_work_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Supervision(**options)


# -- how many restarts


@given(st.integers(0, 5), st.integers(0, 8))
@settings(max_examples=30)
def test_every_agent_restarts_so_often_as_it_may_then_stops_and_escalates(
    allowed: int, failures: int
) -> None:
    agent = InlineFragile(
        name="a", supervision=Supervision(directive="restart", max_restarts=allowed)
    )

    class Trigger(GenAgent):
        blocking = False

        def step(self, message: Message) -> None:
            for _ in range(failures):
                self.send(Message("fail", receiver="a"))

    logging.getLogger("llm_net").setLevel(logging.CRITICAL)
    run = GenNetwork(name="net", agents=[Trigger(), agent], entry="trigger").run("")
    assert run.statistics.restarts == min(allowed, failures)
    assert run.ended == ("failure" if failures > allowed else "idle")
    assert len(run.failures) == min(failures, allowed + 1)
    assert run.statistics.queued == 0


def test_restarts_outside_of_the_window_are_forgotten() -> None:
    from llm_net.supervision import Intensity

    supervision = Supervision(directive="restart", max_restarts=2, window_s=10)
    intensity = Intensity()
    times = [0, 1, 2, 10, 11, 12, 100]
    assert [intensity.allows(supervision, now) for now in times] == [
        True,
        True,
        False,
        True,
        True,
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("strategy", "restarted"),
    [("one_for_one", "b"), ("all_for_one", "abc"), ("rest_for_one", "bc")],
)
def test_the_strategy_says_whom_a_restart_touches(strategy: Any, restarted: str) -> None:
    recorder = Recorder()
    net = GenNetwork(
        name="net",
        agents=[InlineFragile(name=name) for name in "abc"],
        supervision=Supervision(strategy=strategy, directive="restart"),
    )
    run = net.run(Message("fail", receiver="b"), runtime=Runtime("inline", instruments=[recorder]))
    assert run.ended == "idle"
    assert [path for event, path, *_ in recorder.events if event == "restart"] == [
        f"net/{name}" for name in restarted
    ]
    assert run.statistics.restarts == len(restarted)


@pytest.mark.parametrize(
    ("strategy", "stopped"),
    [("one_for_one", "b"), ("all_for_one", "abc"), ("rest_for_one", "bc")],
)
def test_the_strategy_says_whom_a_stop_touches(strategy: Any, stopped: str) -> None:
    net = GenNetwork(
        name="net",
        agents=[InlineFragile(name=name) for name in "abc"],
        supervision=Supervision(strategy=strategy, directive="stop"),
    )
    with net.start(runtime=Runtime("inline")):
        refs = {name: net[name].ref for name in "abc"}
        with pytest.raises(HandlerError):
            refs["b"].ask("fail")
        assert "".join(name for name, ref in refs.items() if not ref.is_alive()) == stopped


# -- escalation


@pytest.mark.parametrize("depth", [0, 1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_an_escalation_past_the_outermost_network_ends_the_run_with_failure(
    kind: type[Fragile], depth: int
) -> None:
    escalate = Supervision(directive="escalate")
    net = GenNetwork(
        name="n0", agents=[kind(name="fragile")], entry="fragile", supervision=escalate
    )
    for level in range(1, depth + 1):
        net = GenNetwork(name=f"n{level}", agents=[net], entry=net.name, supervision=escalate)
    run = net.run("fail")
    assert run.ended == "failure"
    assert len(run.failures) >= 1
    assert run.statistics.queued == 0
    assert run.statistics.sent == run.statistics.delivered + run.statistics.dead
    assert net.run("x").ended == "idle"


def test_the_network_above_answers_for_a_network_that_fails() -> None:
    inner = GenNetwork(
        name="inner",
        agents=[InlineFragile(name="fragile"), InlineFragile(name="other")],
        entry="fragile",
        supervision=Supervision(directive="escalate"),
    )
    beside = InlineFragile(name="beside")
    outer = GenNetwork(
        name="outer",
        agents=[inner, beside],
        entry=["inner", "beside"],
        supervision=Supervision(directive="restart"),
    )
    run = outer.run("fail")
    assert run.ended == "idle"
    assert run.statistics.restarts >= 1
    assert inner["fragile"].model_dump()["count"] == 0


def test_past_max_restarts_the_agent_stops_and_the_network_above_decides() -> None:
    fragile = InlineFragile(
        name="fragile", supervision=Supervision(directive="restart", max_restarts=0)
    )
    inner = GenNetwork(name="inner", agents=[fragile], entry="fragile")
    beside = InlineFragile(name="beside")
    outer = GenNetwork(name="outer", agents=[inner, beside], entry=["inner", "beside"])
    with outer.start(runtime=Runtime("inline")) as ref:
        ref.tell("fail")
        ref.tell("x")
        assert beside.ref.ask("y") is not None
        assert not fragile.ref.is_alive()
        assert inner.ref.is_alive()
    assert beside.log == ["fail", "x", "y"]


@pytest.mark.parametrize("host", HOSTS)
def test_an_agent_that_escalates_past_the_top_stops_no_other_agent_of_the_runtime(
    host: Host,
) -> None:
    runtime = Runtime(host)
    fragile = InlineFragile(name="fragile", supervision=Supervision(directive="escalate"))
    with (
        fragile.start(runtime=runtime) as ref,
        InlineFragile(name="other").start(runtime=runtime) as other,
    ):
        with pytest.raises(HandlerError):
            ref.ask("fail", timeout=DEADLINE)
        assert body(other.ask("x", timeout=DEADLINE)) == "1 1"
        other.tell("y")
        assert body(other.ask("z", timeout=DEADLINE)) == "3 3"


def test_a_network_that_escalates_outside_of_a_run_stops_no_other() -> None:
    runtime = Runtime("thread")
    net = GenNetwork(
        name="net",
        agents=[InlineFragile(name="fragile")],
        entry="fragile",
        supervision=Supervision(directive="escalate"),
    )
    with net.start(runtime=runtime) as ref, Fragile().start(runtime=runtime) as other:
        ref.tell("fail")
        assert ref.actor_stopped.wait(DEADLINE)
        assert body(other.ask("x", timeout=DEADLINE)) == "1 1"


# -- hooks


class Hooked(GenAgent):
    blocking = False
    log: list[str] = Field(default_factory=list)

    def on_failure(self, kind: Any, error: Any, traceback: Any) -> None:
        self.log.append(f"{kind.__name__} {error}")

    def step(self, message: Message) -> str:
        if message.body.startswith("fail"):
            raise made(message.body)
        return "ok"


def test_on_failure_runs_before_the_directive() -> None:
    seen: list[str] = []

    class Late(Hooked):
        def on_failure(self, kind: Any, error: Any, traceback: Any) -> None:
            seen.append(f"failure after {self.log}")

        def on_start(self) -> None:
            seen.append("start")

        def step(self, message: Message) -> str:
            self.log.append(message.body)
            return super().step(message)

    agent = Late(supervision=Supervision(directive="restart"))
    with agent.start(runtime=Runtime("inline")) as ref:
        ref.tell("fail")
        assert body(ref.ask("x", timeout=3)) == "ok"
    assert seen == ["start", "failure after ['fail']", "start"]


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("kind", ["inline", "thread", "async"])
def test_messages_that_wait_while_on_failure_runs_are_handled_after_it(
    kind: str, host: Host
) -> None:
    class Inline(Hooked):
        def on_failure(self, kind: Any, error: Any, traceback: Any) -> None:
            self.log.append("hook")

    class Thread(Inline):
        blocking = True

    class Async(Hooked):
        async def aon_failure(self, kind: Any, error: Any, traceback: Any) -> None:
            await asyncio.sleep(0)
            self.log.append("hook")

    cls: type[Hooked] = {"inline": Inline, "thread": Thread, "async": Async}[kind]
    agent = cls(name="hooked")
    with agent.start(runtime=Runtime(host)) as ref:
        told("fail", "fail")(ref)
        assert body(ref.ask("x", timeout=3)) == "ok"
    assert agent.log == ["hook", "hook"]


def test_an_on_failure_that_fails_itself_changes_nothing_else() -> None:
    class Worse(Hooked):
        def on_failure(self, kind: Any, error: Any, traceback: Any) -> None:
            raise RuntimeError

    run_of = GenNetwork(name="net", agents=[Worse(name="a")], entry="a")
    with run_of.start(runtime=Runtime("inline")) as ref:
        ref.tell("fail")
        assert body(ref.ask("x", timeout=3)) == "ok"


def test_on_failure_is_told_of_exceptions_that_are_no_exceptions() -> None:
    agent = Hooked()
    with agent.start(runtime=Runtime("inline")) as ref:
        ref.tell("fail rude")
        ref.ask("x", timeout=3)
    assert agent.log == ["Rude no"]


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("kind", ["inline", "thread", "async"])
@pytest.mark.parametrize("error", [ValueError, SystemExit, Rude])
def test_an_agent_whose_on_start_fails_stops_and_no_other_does(
    error: type[BaseException], kind: str, host: Host
) -> None:
    class Inline(GenAgent):
        blocking = False

        def on_start(self) -> None:
            raise error

        def step(self, message: Message) -> str:
            return "never"

    class Thread(Inline):
        blocking = True

    class Async(GenAgent):
        async def aon_start(self) -> None:
            raise error

        def step(self, message: Message) -> str:
            return "never"

    cls: type[GenAgent] = {"inline": Inline, "thread": Thread, "async": Async}[kind]
    runtime = Runtime(host)
    with InlineFragile(name="other").start(runtime=runtime) as other:
        ref = cls(name="bad").start(runtime=runtime)
        with pytest.raises(AgentStopped):
            ref.ask("x", timeout=3)
        assert body(other.ask("x", timeout=3)) == "1 1"
        ref.stop(timeout=3)
        assert not ref.is_alive()
    assert runtime.statistics().failures == 1


@pytest.mark.parametrize("error", [ValueError, SystemExit, Rude])
def test_an_agent_whose_on_stop_fails_stops_all_the_same(error: type[BaseException]) -> None:
    class Bad(GenAgent):
        blocking = False

        def on_stop(self) -> None:
            raise error

        def step(self, message: Message) -> str:
            return "x"

    ref = Bad().start(runtime=Runtime("thread"))
    assert body(ref.ask("x")) == "x"
    ref.stop(timeout=3)
    assert not ref.is_alive()


def test_a_run_lists_the_failure_of_a_hook() -> None:
    class Bad(GenAgent):
        blocking = False

        def on_start(self) -> None:
            raise made("fail")

    net = GenNetwork(name="net", agents=[Bad(), Ear()], entry="ear")
    run = net.run(Message("x", method="note"))
    assert [failure.path for failure in run.failures] == ["net/bad"]


# -- dead letters


class Sender(GenAgent):
    """Sends one message to whom the body names."""

    blocking = False

    def step(self, message: Message) -> None:
        self.send(Message("x", method="note", receiver=message.body))


def letters(run_letters: tuple[DeadLetter, ...]) -> list[tuple[str, str]]:
    return [(letter.reason, letter.receiver) for letter in run_letters]


def test_a_message_to_a_stopped_agent_becomes_a_dead_letter() -> None:
    net = GenNetwork(name="net", agents=[Sender(), Ear()], entry="sender")
    with net.start(runtime=Runtime("inline")):
        net["ear"].ref.stop()
        run = net.run("ear")
    assert letters(run.dead_letters) == [("stopped", "net/ear")]


def test_a_message_that_a_handler_tells_to_a_stopped_ref_is_a_dead_letter_of_its_run() -> None:
    class Teller(GenAgent):
        blocking = False

        def step(self, message: Message) -> None:
            with pytest.raises(AgentStopped):
                self.network["ear"].ref.tell("x")  # type: ignore[index]

    net = GenNetwork(name="net", agents=[Teller(), Ear()], entry="teller")
    with net.start(runtime=Runtime("inline")):
        net["ear"].ref.stop()
        run = net.run("ear")
    assert run.failures == ()
    assert letters(run.dead_letters) == [("stopped", "net/ear")]


def test_an_event_to_a_stopped_agent_becomes_a_dead_letter() -> None:
    class Emits(GenAgent):
        blocking = False

        def step(self, message: Message) -> None:
            self.emit("news", "x")

    net = GenNetwork(
        name="net", agents=[Emits(), Ear()], edges=[("emits", "news", "ear")], entry="emits"
    )
    with net.start(runtime=Runtime("inline")):
        net["ear"].ref.stop()
        run = net.run("")
    assert letters(run.dead_letters) == [("stopped", "net/ear")]
    assert run.statistics.dead == 1


def test_a_message_without_a_handler_becomes_a_dead_letter() -> None:
    class Deaf(GenAgent):
        pass

    net = GenNetwork(name="net", agents=[Sender(), Deaf()], entry="sender")
    assert letters(net.run("deaf").dead_letters) == [("no_handler", "net/deaf")]


def test_a_message_to_nobody_becomes_a_dead_letter() -> None:
    net = GenNetwork(name="net", agents=[Sender()], entry="sender")
    assert letters(net.run("nobody").dead_letters) == [("no_receiver", "nobody")]


def test_a_reply_to_nobody_becomes_a_dead_letter() -> None:
    runtime = Runtime("inline")
    with Fragile(name="fragile").start(runtime=runtime) as ref:
        ref.tell("x")
    assert [letter.reason for letter in runtime.dead_letters] == ["no_receiver"]


def test_a_message_to_a_network_without_entry_becomes_a_dead_letter() -> None:
    inner = GenNetwork(name="inner", agents=[Ear()])
    net = GenNetwork(
        name="net", agents=[Sender(), inner], edges=[("sender", "news", "inner")], entry="sender"
    )
    assert letters(net.run("inner").dead_letters) == [("no_entry", "net/inner")]


def test_a_late_reply_becomes_a_dead_letter_of_its_run() -> None:
    class Twice(GenAgent):
        blocking = False

        def step(self, message: Message) -> Any:
            yield "a"
            yield "b"

    runtime = Runtime("inline")
    with Twice().start(runtime=runtime) as ref:
        ref.ask("x")
    assert [(letter.reason, letter.message.body) for letter in runtime.dead_letters] == [
        ("late_reply", "b")
    ]


class Echoes(GenAgent):
    """Sends every message on to the other, for ever."""

    blocking = False
    turns: int = 0

    def step(self, message: Message) -> Message:
        self.turns += 1
        other = "b" if self.name == "a" else "a"
        return Message("ball", receiver=other)


class ThreadEchoes(Echoes):
    blocking = True


class AsyncEchoes(Echoes):
    async def astep(self, message: Message) -> Message:
        await asyncio.sleep(0)
        return Echoes.step(self, message)


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("kind", [Echoes, ThreadEchoes, AsyncEchoes])
@pytest.mark.parametrize(
    ("limit", "value"),
    [
        ("max_messages", 7),
        ("max_messages", 0),
        ("max_hops", 7),
        ("max_hops", 0),
        ("max_repeats", 3),
    ],
)
def test_what_a_limit_leaves_over_dies_by_its_name(
    limit: str, value: int, kind: type[Echoes], host: Host
) -> None:
    a, b = kind(name="a"), kind(name="b")
    limits: dict[str, Any] = {limit: value}
    run = GenNetwork(name="net", agents=[a, b], entry="a").run(
        "go", runtime=Runtime(host), **limits
    )
    assert run.ended == limit
    assert {letter.reason for letter in run.dead_letters} == {limit}
    counts = run.statistics
    assert counts.queued == 0
    assert counts.sent == counts.delivered + counts.dead
    assert a.turns + b.turns == counts.delivered
    if limit == "max_messages":
        assert counts.delivered == value
    if limit == "max_hops":
        assert counts.delivered == value + 1
    if limit == "max_repeats":
        assert set(run.loop) == {"net/a", "net/b"}


# -- listeners, filters and instruments that fail


class Emits(GenAgent):
    blocking = False
    handled: int = 0

    def step(self, message: Message) -> str:
        self.emit("news", message.body)
        self.handled += 1
        return "ok"


class ThreadEmits(Emits):
    blocking = True


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("kind", [Emits, ThreadEmits])
@pytest.mark.parametrize("error", [ValueError, SystemExit, Rude])
@pytest.mark.parametrize("style", ["sync", "async"])
def test_a_failing_listener_harms_neither_the_emitter_nor_the_other_listeners(
    error: type[BaseException], kind: type[Emits], host: Host, style: str
) -> None:
    def bad(message: Message) -> None:
        raise error

    async def abad(message: Message) -> None:
        await asyncio.sleep(0)
        raise error

    heard: list[str] = []
    agent, ear = kind(name="emits"), Ear()
    agent.on("news", bad if style == "sync" else abad)
    agent.on("news", lambda message: heard.append(message.body))
    net = GenNetwork(
        name="net", agents=[agent, ear], edges=[("emits", "news", "ear")], entry="emits"
    )
    run = net.run("x", runtime=Runtime(host), timeout=3)
    assert run.ended == "idle"
    assert heard == ear.heard == ["x"]
    assert agent.handled == 1
    assert [output.body for output in run.outputs] == ["ok"]
    assert [type(failure.__cause__) for failure in run.failures] == [error]


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("kind", [Emits, ThreadEmits])
@pytest.mark.parametrize("error", [ValueError, SystemExit, Rude])
def test_a_failing_filter_lets_nothing_pass_and_harms_no_other_edge(
    error: type[BaseException], kind: type[Emits], host: Host
) -> None:
    def bad(message: Message) -> bool:
        raise error

    agent, one, two = kind(name="emits"), Ear(name="one"), Ear(name="two")
    net = GenNetwork(name="net", agents=[agent, one, two], entry="emits")
    net.link("emits", "news", "one", where=bad)
    net.link("emits", "news", "two")
    run = net.run("x", runtime=Runtime(host), timeout=3)
    assert run.ended == "idle"
    assert (one.heard, two.heard) == ([], ["x"])
    assert agent.handled == 1
    assert [type(failure.__cause__) for failure in run.failures] == [error]


class Recorder(Instrument):
    """Notes every hook that is called."""

    def __init__(self) -> None:
        self.events: list[tuple[str, ...]] = []

    def start(self, path: str) -> None:
        self.events.append(("start", path))

    def send(self, envelope: Envelope, receiver: str) -> None:
        self.events.append(("send", envelope.message.body, receiver))

    def deliver(self, envelope: Envelope, receiver: str) -> None:
        self.events.append(("deliver", envelope.message.body, receiver))

    def finish(self, envelope: Envelope, receiver: str) -> None:
        self.events.append(("finish", envelope.message.body, receiver))

    def fail(self, error: HandlerError) -> None:
        self.events.append(("fail", error.path))

    def restart(self, path: str) -> None:
        self.events.append(("restart", path))

    def drop(self, letter: DeadLetter) -> None:
        self.events.append(("drop", letter.reason))

    def stop(self, path: str) -> None:
        self.events.append(("stop", path))

    def named(self, name: str) -> int:
        return sum(event[0] == name for event in self.events)


def test_an_instrument_hears_of_everything_in_order() -> None:
    recorder = Recorder()
    agent = InlineFragile(name="a", supervision=Supervision(directive="restart"))
    runtime = Runtime("inline", instruments=[recorder])
    with agent.start(runtime=runtime) as ref:
        assert body(ref.ask("x")) == "1 1"
        with pytest.raises(HandlerError):
            ref.ask("fail")
        with pytest.raises(HandlerError):
            ref.ask(Message("y", method="nonsense"))
    assert recorder.events == [
        ("start", "a"),
        ("send", "x", "a"),
        ("deliver", "x", "a"),
        ("send", "1 1", ""),
        ("deliver", "1 1", ""),
        ("finish", "x", "a"),
        ("send", "fail", "a"),
        ("deliver", "fail", "a"),
        ("fail", "a"),
        ("finish", "fail", "a"),
        ("restart", "a"),
        ("send", "y", "a"),
        ("drop", "no_handler"),
        ("stop", "a"),
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_an_instrument_starts_a_network_before_its_members_and_stops_it_after(
    kind: type[Fragile],
) -> None:
    recorder = Recorder()
    net = GenNetwork(name="net", agents=[kind(name="a"), kind(name="b")], entry="a")
    net.run("x", runtime=Runtime("inline", instruments=[recorder]))
    lives = [event for event in recorder.events if event[0] in {"start", "stop"}]
    assert lives[0] == ("start", "net")
    assert lives[-1] == ("stop", "net")
    assert sorted(lives[1:3]) == [("start", "net/a"), ("start", "net/b")]


class Busy(GenAgent):
    """Does a bit of everything that is counted."""

    blocking = False

    def step(self, message: Message) -> Any:
        self.emit("news", "to an ear")
        self.emit("out", "to the world")
        self.emit("unheard", "to nobody")
        self.send(Message("q", method="question", receiver="answerer"))
        self.send(Message("d", method="note", receiver="deaf"))
        self.send(Message("n", receiver="nobody"))
        self.send(Message("f", method="fail", receiver="answerer"))
        yield "first"
        yield "second"


class Answerer(GenAgent):
    blocking = False

    def question(self, message: Message) -> str:
        return "answer"

    def fail(self, message: Message) -> None:
        raise made("fail")


class ThreadBusy(Busy):
    blocking = True


class Deaf(GenAgent):
    """Has no handler."""


def busy_network(kind: type[Busy]) -> GenNetwork:
    return GenNetwork(
        name="net",
        agents=[kind(name="busy"), Answerer(), Ear(), Deaf()],
        edges=[("busy", "news", "ear")],
        entry="busy",
        expose=["out"],
    )


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("kind", [Busy, ThreadBusy])
def test_an_instrument_counts_what_the_statistics_count(kind: type[Busy], host: Host) -> None:
    recorder = Recorder()
    run = busy_network(kind).run("go", runtime=Runtime(host, instruments=[recorder]))
    counts = run.statistics
    assert [output.body for output in run.outputs] == ["to the world", "first", "second"]
    # go; to an ear, q, its answer, d, n, f; to the world, first, second
    assert (counts.sent, counts.delivered, counts.queued, counts.dead) == (10, 8, 0, 2)
    assert counts.failures == recorder.named("fail") == 1
    assert recorder.named("drop") == counts.dead
    assert recorder.named("deliver") == counts.delivered


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("kind", KINDS)
def test_an_instrument_that_fails_is_logged_and_otherwise_ignored(
    kind: type[Fragile], host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Instrument):
        def __getattribute__(self, name: str) -> Any:
            if name in {"start", "send", "deliver", "finish", "fail", "drop", "stop"}:
                raise ZeroDivisionError(name)
            return super().__getattribute__(name)

    caplog.set_level(logging.ERROR, logger="llm_net")
    recorder = Recorder()
    runtime = Runtime(host, instruments=[Broken(), recorder])
    with kind(name="a").start(runtime=runtime) as ref:
        assert body(ref.ask("x", timeout=DEADLINE)) == "1 1"
        with pytest.raises(HandlerError):
            ref.ask("fail", timeout=DEADLINE)
    assert recorder.named("finish") == 2
    assert "ZeroDivisionError" in caplog.text


# -- the law of conservation


def lawful(counts: Statistics) -> bool:
    return counts.sent == counts.delivered + counts.queued + counts.dead


class Law(Instrument):
    """Looks whether the counts add up whenever anything happens."""

    def __init__(self) -> None:
        self.runtime: Any = None
        self.broken: list[tuple[str, Statistics]] = []
        self.looks = 0

    def look(self, hook: str) -> None:
        counts = self.runtime.statistics()
        self.looks += 1
        if not lawful(counts):
            self.broken.append((hook, counts))

    def start(self, path: str) -> None:
        self.look("start")

    def send(self, envelope: Envelope, receiver: str) -> None:
        self.look("send")

    def deliver(self, envelope: Envelope, receiver: str) -> None:
        self.look("deliver")

    def finish(self, envelope: Envelope, receiver: str) -> None:
        self.look("finish")

    def fail(self, error: HandlerError) -> None:
        self.look("fail")

    def restart(self, path: str) -> None:
        self.look("restart")

    def drop(self, letter: DeadLetter) -> None:
        self.look("drop")

    def stop(self, path: str) -> None:
        self.look("stop")


class Noisy(GenAgent):
    """Sends, emits and fails as the numbers in the message say, and looks at the counts."""

    async def astep(self, message: Message) -> Any:
        return self.act(message)

    def act(self, message: Message) -> str | None:
        runtime, log = LOOKING[0]
        log.append(runtime.statistics())
        depth, _, rest = message.body.partition(":")
        if int(depth) > 0:
            for number, target in enumerate(rest.split(",")):
                text = f"{int(depth) - 1}:{rest}"
                if target == "emit":
                    self.emit("step", text)
                elif target == "out":
                    self.emit("out", text)
                elif target == "fail":
                    raise ValueError(number)
                else:
                    self.send(Message(text, receiver=target))
                log.append(runtime.statistics())
        return "done" if "a" in rest else None


class InlineNoisy(Noisy):
    blocking = False

    def astep(self, message: Message) -> Any:
        """Not async: it is no twin."""

    def step(self, message: Message) -> Any:
        return self.act(message)


class ThreadNoisy(InlineNoisy):
    blocking = True


LOOKING: list[tuple[Runtime, list[Statistics]]] = []


@given(
    kinds=st.lists(st.sampled_from([Noisy, InlineNoisy, ThreadNoisy]), min_size=3, max_size=3),
    actions=st.lists(
        st.sampled_from(["a", "b", "c", "emit", "out", "fail", "nobody"]), min_size=1, max_size=3
    ),
    depth=st.integers(0, 3),
    host=st.sampled_from(HOSTS),
    limit=st.none() | st.sampled_from(["max_messages", "max_hops", "max_repeats"]),
    bound=st.integers(0, 6),
    directive=st.sampled_from(["resume", "restart", "stop", "escalate"]),
)
@settings(max_examples=80)
def test_at_every_moment_of_every_run_sent_is_delivered_and_queued_and_dead(
    *,
    kinds: list[type[Noisy]],
    actions: list[str],
    depth: int,
    host: Host,
    limit: str | None,
    bound: int,
    directive: Any,
) -> None:
    logging.getLogger("llm_net").setLevel(logging.CRITICAL)
    law = Law()
    runtime = law.runtime = Runtime(host, instruments=[law])
    seen: list[Statistics] = []
    LOOKING[:] = [(runtime, seen)]
    agents = [kind(name=name) for kind, name in zip(kinds, "abc", strict=True)]
    net = GenNetwork(
        name="net",
        agents=agents,
        edges=[("a", "step", "b"), ("a", "step", "c"), ("b", "step", "b"), ("c", "step", "a")],
        entry=["a", "b"],
        expose=["out"],
        supervision=Supervision(directive=directive),
    )
    limits: dict[str, Any] = {} if limit is None else {limit: bound}
    run = net.run(f"{depth}:{','.join(actions)}", runtime=runtime, **limits)
    counts = run.statistics
    assert [count for count in seen if not lawful(count)] == []
    assert law.broken == []
    assert counts.queued == 0
    assert lawful(counts)
    assert len(run.dead_letters) == counts.dead
    assert run.ended in {"idle", "failure", limit}
    assert lawful(runtime.statistics())
    assert runtime.statistics().queued == 0


def test_what_is_queued_is_counted_while_a_handler_runs() -> None:
    runtime = Runtime("thread")
    entered, go = threading.Event(), threading.Event()

    class Slow(GenAgent):
        def step(self, message: Message) -> None:
            entered.set()
            assert go.wait(DEADLINE)

    with Slow().start(runtime=runtime) as ref:
        told("1", "2", "3")(ref)
        assert entered.wait(DEADLINE)
        counts = runtime.statistics()
        assert (counts.sent, counts.delivered, counts.queued, counts.dead) == (3, 1, 2, 0)
        go.set()
    counts = runtime.statistics()
    assert (counts.sent, counts.delivered, counts.queued, counts.dead) == (3, 3, 0, 0)
