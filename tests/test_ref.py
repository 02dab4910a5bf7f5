"""References: how the world outside, and other agents, speak to a live agent."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import pykka
import pytest
from pydantic import PrivateAttr

from llm_net import (
    AgentRef,
    AgentStopped,
    AskCycle,
    AskTimeout,
    GenAgent,
    GenNetwork,
    HandlerError,
    Message,
    Runtime,
    UnknownAgent,
    UsageError,
)

DEADLINE = 20.0
Host = Literal["thread", "inline"]
HOSTS: list[Host] = ["thread", "inline"]


class Counter(GenAgent):
    """Counts what it hears."""

    count: int = 0

    def step(self, message: Message) -> str:
        self.count += 1
        return f"{self.count}: {message.body}"

    def three(self, message: Message) -> Iterator[str]:
        yield "a"
        yield "b"
        yield "c"

    def silent(self, message: Message) -> None:
        """Give no reply."""

    def fail(self, message: Message) -> str:
        msg = "no"
        raise ValueError(msg)

    def half(self, message: Message) -> Iterator[str]:
        yield "a"
        msg = "no"
        raise ValueError(msg)

    def double(self, number: int, *, plus: int = 0) -> int:
        return 2 * number + plus

    def broken(self) -> None:
        msg = "no"
        raise KeyError(msg)


class InlineCounter(Counter):
    blocking = False


class AsyncCounter(Counter):
    async def astep(self, message: Message) -> str:
        await asyncio.sleep(0)
        return Counter.step(self, message)

    async def athree(self, message: Message) -> AsyncIterator[str]:
        for text in "abc":
            yield text
            await asyncio.sleep(0)

    async def asilent(self, message: Message) -> None:
        """Give no reply."""

    async def afail(self, message: Message) -> str:
        msg = "no"
        raise ValueError(msg)

    async def ahalf(self, message: Message) -> AsyncIterator[str]:
        yield "a"
        msg = "no"
        raise ValueError(msg)


KINDS = [Counter, InlineCounter, AsyncCounter]


def body(reply: Message | None) -> str:
    assert reply is not None
    return reply.body


def engine_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("llm_net")}


# -- the words, in every host


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_sync_words_reach_an_agent_of_every_kind(kind: type[Counter], host: Host) -> None:
    agent = kind(name="counter")
    with agent.start(runtime=Runtime(host)) as ref:
        assert isinstance(ref, AgentRef)
        assert ref.is_alive()
        assert ref.path == "counter"
        ref.tell(Message("told"))
        ref.tell("text")
        assert body(ref.ask(Message("asked"))) == "3: asked"
        assert body(ref.ask("text", timeout=DEADLINE)) == "4: text"
        assert ref.ask(Message(method="silent")) is None
        assert [reply.body for reply in ref.stream(Message(method="three"))] == ["a", "b", "c"]
        assert list(ref.stream(Message(method="silent"))) == []
        with pytest.raises(HandlerError, match="no") as caught:
            ref.ask(Message("q", method="fail"))
        assert caught.value.path == "counter"
        assert isinstance(caught.value.__cause__, ValueError)
        replies = ref.stream(Message(method="half"))
        assert next(replies).body == "a"
        with pytest.raises(HandlerError):
            next(replies)
        assert body(ref.ask("on")) == "5: on"
    assert not ref.is_alive()
    assert agent.count == 5


@pytest.mark.parametrize("kind", KINDS)
def test_the_async_words_reach_an_agent_of_every_kind(kind: type[Counter]) -> None:
    async def program() -> None:
        async with kind(name="counter").astart() as ref:
            await ref.atell("told")
            ref.tell("told")
            assert body(await ref.aask(Message("asked"))) == "3: asked"
            assert await ref.aask(Message(method="silent"), timeout=DEADLINE) is None
            replies = [reply.body async for reply in ref.astream(Message(method="three"))]
            assert replies == ["a", "b", "c"]
            with pytest.raises(HandlerError):
                await ref.aask(Message(method="fail"))
            seen = []
            with pytest.raises(HandlerError):  # noqa: PT012 - the words differ
                async for reply in ref.astream(Message(method="half")):
                    seen.append(reply.body)  # noqa: PERF401 - what came before the error counts
            assert seen == ["a"]
            assert body(await ref.ask("future", block=False)) == "4: future"
            assert await ref.astop()
            assert not ref.is_alive()

    asyncio.run(program())


def test_an_agent_may_be_started_by_awaiting_it() -> None:
    async def program() -> str:
        ref = await Counter().astart()
        async with ref:
            return body(await ref.aask("x"))

    assert asyncio.run(program()) == "1: x"


def test_the_example_of_the_contract_works() -> None:
    with Counter(name="counter").start() as counter:
        assert body(counter.ask(Message("hello"))) == "1: hello"


@pytest.mark.parametrize("wrong", [1, None, ["x"], b"x", {"body": "x"}])
def test_what_is_no_message_is_refused(wrong: Any) -> None:
    with Counter().start(runtime=Runtime("inline")) as ref:
        with pytest.raises(UsageError):
            ref.tell(wrong)
        with pytest.raises(UsageError):
            ref.ask(wrong)
        with pytest.raises(UsageError):
            ref.stream(wrong)


def test_an_agent_may_be_spoken_to_from_many_threads() -> None:
    agent = AsyncCounter()
    with agent.start(runtime=Runtime("thread")) as ref, ThreadPoolExecutor(8) as pool:
        list(pool.map(ref.tell, map(str, range(100))))
        list(pool.map(lambda text: ref.ask(text, timeout=DEADLINE), map(str, range(100))))
    assert agent.count == 200


def test_an_inline_agent_may_be_asked_from_many_threads_at_once() -> None:
    agent = AsyncCounter()
    with agent.start(runtime=Runtime("inline")) as ref, ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda text: ref.ask(text, timeout=DEADLINE), map(str, range(100))))
    assert all(reply is not None for reply in replies)
    assert agent.count == 100


# -- inside a running loop


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_blocking_ask_in_a_running_loop_works_if_the_agent_lives_elsewhere(
    kind: type[Counter], host: Host
) -> None:
    async def cell() -> None:
        with kind(name="counter").start(runtime=Runtime(host)) as ref:
            assert body(ref.ask("sync", timeout=DEADLINE)) == "1: sync"
            assert [r.body for r in ref.stream(Message(method="three"))] == ["a", "b", "c"]

    asyncio.run(cell())


@pytest.mark.parametrize("kind", KINDS)
def test_an_agent_on_a_thread_can_be_awaited_from_another_loop(kind: type[Counter]) -> None:
    async def cell() -> None:
        with kind(name="counter").start(runtime=Runtime("thread")) as ref:
            assert body(await ref.aask("async", timeout=DEADLINE)) == "1: async"
            replies = [reply.body async for reply in ref.astream(Message(method="three"))]
            assert replies == ["a", "b", "c"]
            await ref.astop()

    asyncio.run(cell())


def test_sync_words_never_attach_to_a_running_loop() -> None:
    async def cell() -> str:
        class Where(GenAgent):
            async def step(self, message: Message) -> str:
                return threading.current_thread().name

        with Where().start() as ref:
            return body(ref.ask("", timeout=DEADLINE))

    assert asyncio.run(cell()) != threading.current_thread().name


def test_a_blocking_word_on_the_very_loop_of_the_agent_raises() -> None:
    async def program() -> None:
        async with Counter().astart() as ref:
            with pytest.raises(UsageError, match="aask"):
                ref.ask("x")
            with pytest.raises(UsageError):
                next(iter(ref.stream("x")))

    asyncio.run(program())


@pytest.mark.parametrize("word", ["ask", "stream", "stop"])
def test_a_word_that_raises_usage_error_has_done_nothing(word: str) -> None:
    async def program() -> None:
        agent = Counter()
        async with agent.astart() as ref:
            with pytest.raises(UsageError):  # noqa: PT012 - the words differ
                if word == "stream":
                    next(iter(ref.stream("x")))
                else:
                    getattr(ref, word)(*(["x"] if word == "ask" else []))
            assert body(await ref.aask("y")) == "1: y"

    asyncio.run(program())


def test_an_agent_of_a_loop_may_be_asked_from_another_thread() -> None:
    async def program() -> str:
        async with AsyncCounter().astart() as ref:
            reply = await asyncio.to_thread(ref.ask, "x", timeout=DEADLINE)
            return body(reply)

    assert asyncio.run(program()) == "1: x"


# -- timeouts, futures and late replies


class Gate(GenAgent):
    """Replies when its gate opens."""

    _gate: threading.Event = PrivateAttr(default_factory=threading.Event)
    _entered: threading.Event = PrivateAttr(default_factory=threading.Event)

    def step(self, message: Message) -> str:
        self._entered.set()
        assert self._gate.wait(DEADLINE)
        return "open"

    def quick(self, message: Message) -> str:
        return "quick"


class AsyncGate(Gate):
    cancelled: bool = False

    async def astep(self, message: Message) -> str:
        self._entered.set()
        try:
            while not self._gate.is_set():  # noqa: ASYNC110 - threads open the gate
                await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return "open"


@pytest.mark.parametrize("host", HOSTS)
def test_an_ask_that_has_waited_long_enough_raises_and_its_late_reply_dies(host: Host) -> None:
    gate = Gate(name="gate")
    runtime = Runtime(host)
    with gate.start(runtime=runtime) as ref:
        with pytest.raises(AskTimeout, match="gate") as caught:
            ref.ask("x", timeout=0.02)
        assert isinstance(caught.value, TimeoutError)
        gate._gate.set()
        assert body(ref.ask(Message(method="quick"), timeout=DEADLINE)) == "quick"
    assert [(letter.reason, letter.message.body) for letter in runtime.dead_letters] == [
        ("late_reply", "open")
    ]


@pytest.mark.parametrize("host", HOSTS)
def test_an_async_handler_whose_asker_gave_up_is_cancelled_and_the_mailbox_goes_on(
    host: Host,
) -> None:
    gate = AsyncGate(name="gate")
    runtime = Runtime(host)
    with gate.start(runtime=runtime) as ref:
        with pytest.raises(AskTimeout, match="gate"):
            ref.ask("x", timeout=0.02)
        assert body(ref.ask(Message(method="quick"), timeout=DEADLINE)) == "quick"
    assert gate.cancelled
    assert runtime.dead_letters == ()
    assert runtime.statistics().failures == 0


@pytest.mark.parametrize("host", HOSTS)
def test_the_runtime_says_how_long_an_ask_waits_by_default(host: Host) -> None:
    gate = Gate()
    with gate.start(runtime=Runtime(host, ask_timeout=0.02)) as ref:
        with pytest.raises(AskTimeout):
            ref.ask("x")
        with pytest.raises(AskTimeout):
            ref.ask("x", block=False).get()
        with pytest.raises(AskTimeout):
            next(ref.stream("x"))
        gate._gate.set()
        assert body(ref.ask("x", timeout=None)) == "open"


@pytest.mark.parametrize("ask_timeout", [0, -1, float("nan")])
def test_a_default_timeout_that_is_no_time_is_refused(ask_timeout: float) -> None:
    with pytest.raises(UsageError):
        Runtime(ask_timeout=ask_timeout)


@pytest.mark.parametrize("word", ["aask", "astream", "future"])
def test_the_async_words_time_out_too(word: str) -> None:
    async def program() -> None:
        gate = AsyncGate()
        async with gate.astart() as ref:
            with pytest.raises(AskTimeout):  # noqa: PT012 - the words differ
                if word == "aask":
                    await ref.aask("x", timeout=0.02)
                elif word == "astream":
                    async for _ in ref.astream("x", timeout=0.02):
                        pass
                else:
                    await ref.ask("x", block=False, timeout=0.02)
            gate._gate.set()
            assert body(await ref.aask(Message(method="quick"))) == "quick"

    asyncio.run(program())


@pytest.mark.parametrize("kind", ["thread", "async"])
def test_an_agents_own_ask_times_out_too(kind: str) -> None:
    class Sync(GenAgent):
        def step(self, message: Message) -> str:
            with pytest.raises(AskTimeout):
                self.ask("gate", "x", timeout=0.02)
            gate._gate.set()
            return "timed out"

    class Async(GenAgent):
        async def step(self, message: Message) -> str:
            with pytest.raises(AskTimeout):
                await self.aask("gate", "x", timeout=0.02)
            gate._gate.set()
            return "timed out"

    gate = AsyncGate(name="gate")
    asker = (Sync if kind == "thread" else Async)(name="asker")
    run = GenNetwork(name="net", agents=[asker, gate], entry="asker").run("")
    assert run.failures == ()
    assert [output.body for output in run.outputs] == ["timed out"]


@pytest.mark.parametrize("host", HOSTS)
def test_an_ask_that_does_not_block_gives_a_future(host: Host) -> None:
    with Counter().start(runtime=Runtime(host)) as ref:
        futures = [ref.ask(str(number), block=False) for number in range(5)]
        assert all(isinstance(future, pykka.Future) for future in futures)
        assert [future.get(timeout=DEADLINE).body for future in futures] == [
            f"{number + 1}: {number}" for number in range(5)
        ]
        assert futures[0].get().body == "1: 0"
        failed = ref.ask(Message(method="fail"), block=False)
        with pytest.raises(HandlerError):
            failed.get()


@pytest.mark.parametrize("host", HOSTS)
def test_a_reader_who_leaves_a_stream_harms_nobody(host: Host) -> None:
    runtime = Runtime(host)
    with Counter().start(runtime=runtime) as ref:
        replies = ref.stream(Message(method="three"))
        assert next(replies).body == "a"
        replies.close()  # type: ignore[attr-defined]
        assert body(ref.ask("x")) == "1: x"
    assert {letter.reason for letter in runtime.dead_letters} <= {"late_reply"}


# -- circles


class Asks(GenAgent):
    """Asks the agent that the message's body names, which asks the next."""

    circle: tuple[str, ...] = ()

    def step(self, message: Message) -> str:
        first, _, rest = message.body.partition(" ")
        try:
            return body(self.ask(first, rest))
        except AskCycle as error:
            self.circle = error.circle
            return "circle"


class AsksAsync(Asks):
    async def astep(self, message: Message) -> str:
        first, _, rest = message.body.partition(" ")
        try:
            return body(await self.aask(first, rest))
        except AskCycle as error:
            self.circle = error.circle
            return "circle"


@pytest.mark.parametrize("kinds", [(Asks,), (AsksAsync,), (Asks, AsksAsync), (AsksAsync, Asks)])
@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("host", HOSTS)
def test_a_circle_of_asks_fails_at_once_and_names_the_circle(
    host: Host, size: int, kinds: tuple[type[Asks], ...]
) -> None:
    names = ["a", "b", "c"][:size]
    agents = [kinds[place % len(kinds)](name=name) for place, name in enumerate(names)]
    net = GenNetwork(name="net", agents=agents, entry="a")
    run = net.run(" ".join([*names[1:], "a"]), runtime=Runtime(host, ask_timeout=None))
    assert run.failures == ()
    assert [output.body for output in run.outputs] == ["circle"]
    last = agents[-1].circle
    assert last[0] == last[-1] == f"net/{names[-1]}"
    assert set(last) == {f"net/{name}" for name in names}
    assert len(last) == size + 1


def test_a_circle_that_is_not_caught_fails_every_turn_in_it() -> None:
    class Careless(GenAgent):
        def step(self, message: Message) -> str:
            return body(self.ask("b" if self.name == "a" else "a", ""))

    net = GenNetwork(name="net", agents=[Careless(name="a"), Careless(name="b")], entry="a")
    run = net.run("")
    assert sorted(failure.path for failure in run.failures) == ["net/a", "net/b"]
    cause = next(failure for failure in run.failures if failure.path == "net/b").__cause__
    assert isinstance(cause, AskCycle)
    assert "net/a" in str(cause)
    assert "net/b" in str(cause)


@pytest.mark.parametrize("word", ["ref.ask", "future", "stream", "aask", "afuture", "astream"])
def test_a_circle_fails_at_once_whatever_word_closes_it(word: str) -> None:
    class Sync(GenAgent):
        def step(self, message: Message) -> str:
            ref: AgentRef = self.network["a"].ref  # type: ignore[index]
            if self.name == "a":
                if message.body == "circle":
                    return "too late"
                return body(self.network["b"].ref.ask(""))  # type: ignore[index]
            if word == "ref.ask":
                return body(ref.ask("circle"))
            if word == "future":
                return body(ref.ask("circle", block=False).get())
            return next(iter(ref.stream("circle"))).body

    class Async(GenAgent):
        async def step(self, message: Message) -> str:
            ref: AgentRef = self.network["a"].ref  # type: ignore[index]
            if self.name == "a":
                if message.body == "circle":
                    return "too late"
                return body(await self.network["b"].ref.aask("circle"))  # type: ignore[index]
            if word == "aask":
                return body(await ref.aask("circle"))
            if word == "afuture":
                return body(await ref.ask("circle", block=False))
            async for reply in ref.astream("circle"):
                return reply.body
            return "none"

    kind: type[GenAgent] = Async if word.startswith("a") else Sync
    net = GenNetwork(name="net", agents=[kind(name="a"), kind(name="b")], entry="a")
    run = net.run("", runtime=Runtime("inline", ask_timeout=1))
    causes = [failure.__cause__ for failure in run.failures if failure.path == "net/b"]
    assert [type(cause) for cause in causes] == [AskCycle]


def test_agents_that_ask_each_other_in_turn_make_no_circle() -> None:
    class Chain(GenAgent):
        def step(self, message: Message) -> str:
            first, _, rest = message.body.partition(" ")
            return self.name + (body(self.ask(first, rest)) if first else "")

    names = "abcdefgh"
    net = GenNetwork(name="net", agents=[Chain(name=name) for name in names], entry="a")
    run = net.run(" ".join(names[1:]))
    assert [output.body for output in run.outputs] == [names]


def test_many_blocking_asks_at_once_never_lack_a_thread() -> None:
    class Leaf(GenAgent):
        def step(self, message: Message) -> str:
            return "leaf"

    class Asker(GenAgent):
        def step(self, message: Message) -> str:
            started.wait(DEADLINE)
            return body(self.ask("leaf", ""))

    started = threading.Barrier(40)
    askers = [Asker(name=f"asker{number}") for number in range(40)]
    net = GenNetwork(name="net", agents=[*askers, Leaf()], entry=[asker.name for asker in askers])
    run = net.run("")
    assert [output.body for output in run.outputs] == ["leaf"] * 40


def test_an_agent_with_concurrency_may_be_asked_in_a_circle() -> None:
    class Many(GenAgent):
        concurrency = 2

        async def step(self, message: Message) -> str:
            return body(await self.aask("other", ""))

        async def leaf(self, message: Message) -> str:
            return "leaf"

    class Other(GenAgent):
        async def step(self, message: Message) -> str:
            return body(await self.aask("many", Message(method="leaf")))

    run = GenNetwork(name="net", agents=[Many(), Other()], entry="many").run("")
    assert [output.body for output in run.outputs] == ["leaf"]


# -- Pykka


def test_a_reference_is_a_pykka_reference_and_the_registry_holds_roots_only() -> None:
    before = set(pykka.ActorRegistry.get_all())
    net = GenNetwork(name="net", agents=[Counter(name="a"), Counter(name="b")], entry="a")
    runtime = Runtime("thread")
    with net.start(runtime=runtime) as ref, Counter().start(runtime=runtime) as other:
        assert isinstance(ref, pykka.ActorRef)
        assert isinstance(net["a"].ref, pykka.ActorRef)
        assert set(pykka.ActorRegistry.get_all()) - before == {ref, other}
        assert pykka.ActorRegistry.get_by_class_name("Counter") == [other]
        assert pykka.ActorRegistry.get_by_urn(other.actor_urn) is other
        assert ref.actor_urn != other.actor_urn != net["a"].ref.actor_urn
        other.tell("x")
    assert set(pykka.ActorRegistry.get_all()) == before
    assert ref.actor_stopped.is_set()


def test_the_registry_can_stop_our_agents() -> None:
    ref = Counter().start(runtime=Runtime("thread"))
    pykka.ActorRegistry.stop_all(timeout=DEADLINE)
    assert not ref.is_alive()


@pytest.mark.parametrize("host", HOSTS)
def test_speaking_to_a_stopped_agent_raises_pykkas_error_and_makes_a_dead_letter(
    host: Host,
) -> None:
    runtime = Runtime(host)
    ref = Counter(name="counter").start(runtime=runtime)
    assert ref.stop()
    for word in (ref.tell, ref.ask):
        with pytest.raises(pykka.ActorDeadError, match="counter"):
            word("x")
    with pytest.raises(AgentStopped):
        list(ref.stream("x"))
    with pytest.raises(AgentStopped):
        ref.ask("x", block=False).get()
    with pytest.raises(pykka.ActorDeadError):
        ref.proxy()
    assert {letter.reason for letter in runtime.dead_letters} == {"stopped"}
    assert [letter.receiver for letter in runtime.dead_letters] == ["counter"] * 4
    assert runtime.statistics().dead == 4
    assert ref.path == "counter"
    assert "counter" in repr(ref)


@pytest.mark.parametrize("host", HOSTS)
def test_a_proxy_reads_and_writes_fields_and_calls_methods(host: Host) -> None:
    agent = Counter()
    with agent.start(runtime=Runtime(host)) as ref:
        ref.tell("x")
        proxy: Any = ref.proxy()
        assert proxy.count.get(timeout=DEADLINE) == 1
        assert proxy.double(4, plus=1).get(timeout=DEADLINE) == 9
        proxy.count = 5
        assert proxy.count.get(timeout=DEADLINE) == 5
        with pytest.raises(KeyError):
            proxy.broken().get(timeout=DEADLINE)
        proxy.double.defer(1)
        assert body(ref.ask("y")) == "6: y"
    assert agent.count == 6


@pytest.mark.parametrize("host", HOSTS)
def test_the_future_of_a_proxys_call_fails_when_the_agent_stops_first(host: Host) -> None:
    gate = Gate()
    ref = gate.start(runtime=Runtime(host))
    proxy: Any = ref.proxy()
    ref.tell("x")
    if host == "thread":
        assert gate._entered.wait(DEADLINE)
    pending = proxy.name
    stopping = ref.stop(block=False, drain=False)
    gate._gate.set()
    assert stopping.get(timeout=DEADLINE)
    with pytest.raises(pykka.ActorDeadError):
        pending.get(timeout=DEADLINE)


def test_no_message_can_make_a_proxys_call() -> None:
    agent = Counter()
    with agent.start(runtime=Runtime("inline")) as ref, pytest.raises(HandlerError):
        ref.ask(Message("count", method="<call>"))


# -- stop


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_stop_handles_what_was_sent_before(kind: type[Counter], host: Host) -> None:
    agent = kind(name="counter")
    ref = agent.start(runtime=Runtime(host))
    for _ in range(200):
        ref.tell("x")
    assert ref.stop() is True
    assert agent.count == 200
    assert not ref.is_alive()
    assert ref.stop() is False


def test_what_is_sent_after_a_stop_dies() -> None:
    gate = Gate(name="gate")
    runtime = Runtime("thread")
    ref = gate.start(runtime=runtime)
    ref.tell("x")
    assert gate._entered.wait(DEADLINE)
    ref.tell(Message("before", method="quick"))
    stopping = ref.stop(block=False)
    after = ref.ask(Message("after", method="quick"), block=False)
    gate._gate.set()
    assert stopping.get(timeout=DEADLINE) is True
    with pytest.raises(AgentStopped):
        after.get(timeout=DEADLINE)
    reasons = {(letter.message.body, letter.reason) for letter in runtime.dead_letters}
    assert ("after", "stopped") in reasons
    assert ("before", "stopped") not in reasons


@pytest.mark.parametrize("kind", [Gate, AsyncGate])
def test_a_stop_without_drain_overtakes_the_mailbox(kind: type[Gate]) -> None:
    gate = kind(name="gate")
    runtime = Runtime("thread")
    ref = gate.start(runtime=runtime)
    open_ask = ref.ask("first", block=False)
    assert gate._entered.wait(DEADLINE)
    queued = [ref.ask(Message(str(n), method="quick"), block=False) for n in range(3)]
    stopping = ref.stop(block=False, drain=False)
    if kind is Gate:
        for future in queued:
            with pytest.raises(AgentStopped):
                future.get(timeout=DEADLINE)
        gate._gate.set()
    assert stopping.get(timeout=DEADLINE) is True
    for future in [open_ask, *queued]:
        with pytest.raises(AgentStopped):
            future.get(timeout=DEADLINE)
    assert [(letter.message.body, letter.reason) for letter in runtime.dead_letters] == [
        (str(number), "stopped") for number in range(3)
    ]
    if isinstance(gate, AsyncGate):
        assert gate.cancelled
    assert runtime.statistics().queued == 0


@pytest.mark.parametrize("drain", [True, False])
def test_a_stop_that_outlasts_its_timeout_names_the_handler(*, drain: bool) -> None:
    gate = Gate(name="gate")
    net = GenNetwork(name="net", agents=[gate], entry="gate")
    ref = net.start(runtime=Runtime("thread"))
    ref.tell("x")
    assert gate._entered.wait(DEADLINE)
    with pytest.raises(AskTimeout, match="net/gate"):
        ref.stop(timeout=0.02, drain=drain)
    gate._gate.set()
    ref.actor_stopped.wait(DEADLINE)
    assert not ref.is_alive()


@pytest.mark.parametrize("hook", ["on_start", "on_stop"])
def test_a_stop_that_waits_for_a_hook_names_its_agent(hook: str) -> None:
    go = threading.Event()

    class Hooked(GenAgent):
        pass

    def wait(self: Any) -> None:
        assert go.wait(DEADLINE)

    cls: Any = type("Slow", (Hooked,), {"__module__": __name__, hook: wait})
    net = GenNetwork(name="net", agents=[cls(name="slow")], entry="slow")
    ref = net.start(runtime=Runtime("thread"))
    try:
        with pytest.raises(AskTimeout, match="net/slow"):
            ref.stop(timeout=0.05)
    finally:
        go.set()
        ref.actor_stopped.wait(DEADLINE)


def test_an_agent_that_is_still_busy_cannot_be_started_again_until_it_returns() -> None:
    gate = Gate(name="gate")
    ref = gate.start(runtime=Runtime("thread"))
    ref.tell("x")
    assert gate._entered.wait(DEADLINE)
    with pytest.raises(AskTimeout):
        ref.stop(timeout=0.02, drain=False)
    with pytest.raises(UsageError, match="live"):
        gate.start(runtime=Runtime("thread"))
    gate._gate.set()
    ref.actor_stopped.wait(DEADLINE)
    with gate.start(runtime=Runtime("thread")) as again:
        assert body(again.ask("x")) == "open"


def test_a_context_that_is_left_by_an_error_does_not_drain() -> None:
    gate = AsyncGate(name="gate")
    runtime = Runtime("thread")
    with pytest.raises(ZeroDivisionError), gate.start(runtime=runtime) as ref:  # noqa: PT012 - the words differ
        ref.tell("x")
        assert gate._entered.wait(DEADLINE)
        ref.tell(Message("queued", method="quick"))
        raise ZeroDivisionError
    assert gate.cancelled
    assert [letter.message.body for letter in runtime.dead_letters] == ["queued"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_agent_may_stop_itself(kind: type[Counter]) -> None:
    class Mortal(kind):  # type: ignore[misc,valid-type]
        def quit(self, message: Message) -> str:
            self.stop()
            return "goodbye"

    ref = Mortal(name="mortal").start(runtime=Runtime("thread"))
    assert body(ref.ask(Message(method="quit"))) == "goodbye"
    assert ref.actor_stopped.wait(DEADLINE)


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("drain", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_no_thread_is_left_behind_after_a_stop(
    kind: type[Counter], host: Host, *, drain: bool
) -> None:
    before = engine_threads()
    ref = kind(name="counter").start(runtime=Runtime(host))
    ref.ask("x")
    list(ref.stream(Message(method="three")))
    ref.stop(drain=drain)
    assert engine_threads() <= before


def test_no_thread_or_task_is_left_behind_on_a_loop() -> None:
    async def program() -> None:
        before = set(asyncio.all_tasks())
        threads = engine_threads()
        async with AsyncCounter().astart() as ref:
            await ref.aask("x")
            replies = ref.astream(Message(method="three"))
            assert (await anext(aiter(replies))).body == "a"
            await replies.aclose()  # type: ignore[attr-defined]
            ref.tell("x")
        assert set(asyncio.all_tasks()) == before
        gate = AsyncGate()
        ref = await gate.astart()
        ref.tell("x")
        await asyncio.sleep(0)
        await ref.astop(drain=False)
        assert set(asyncio.all_tasks()) == before
        assert engine_threads() <= threads

    asyncio.run(program())


def test_a_runtime_serves_several_agents_one_after_the_other_and_at_once() -> None:
    runtime = Runtime("thread")
    for _ in range(3):
        with Counter().start(runtime=runtime) as one, Counter().start(runtime=runtime) as two:
            assert body(one.ask("x")) == body(two.ask("x")) == "1: x"
    assert runtime.statistics().sent == runtime.statistics().delivered == 12


def test_a_runtime_of_host_loop_may_serve_one_loop_after_another() -> None:
    runtime = Runtime("loop")

    async def program() -> str:
        async with Counter().astart(runtime=runtime) as ref:
            return body(await ref.aask("x"))

    assert [asyncio.run(program()) for _ in range(2)] == ["1: x", "1: x"]


def test_a_runtime_of_host_loop_needs_a_running_loop() -> None:
    with pytest.raises(UsageError):
        Counter().start(runtime=Runtime("loop"))


def test_a_host_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UsageError):
        Runtime("process")  # type: ignore[arg-type]


def test_agents_of_two_runtimes_may_ask_and_tell_each_other() -> None:
    class Asker(GenAgent):
        other: Any = None

        async def step(self, message: Message) -> str:
            return body(await self.other.aask("async", timeout=DEADLINE))

        def sync(self, message: Message) -> str:
            return body(self.other.ask("sync", timeout=DEADLINE))

        def told(self, message: Message) -> None:
            self.send(Message("told", receiver=self.other))

    counter = Counter()
    with (
        counter.start(runtime=Runtime("thread")) as ref,
        Asker(other=ref).start(runtime=Runtime("thread")) as asker,
    ):
        assert body(asker.ask("", timeout=DEADLINE)) == "1: async"
        assert body(asker.ask(Message(method="sync"), timeout=DEADLINE)) == "2: sync"
        asker.ask(Message(method="told"), timeout=DEADLINE)
    assert counter.count == 3


def test_asking_a_network_without_an_entry_raises_and_telling_it_makes_a_dead_letter() -> None:
    runtime = Runtime("inline")
    with GenNetwork(name="net", agents=[Counter()]).start(runtime=runtime) as ref:
        with pytest.raises(UsageError, match="entry"):
            ref.ask("x")
        ref.tell("x")
    assert [letter.reason for letter in runtime.dead_letters] == ["no_entry"]


def test_an_unknown_path_raises_and_the_error_helps() -> None:
    net = GenNetwork(name="net", agents=[Counter(name="seller")])
    with pytest.raises(UnknownAgent, match="seller"):
        net["seler"]
    with pytest.raises(KeyError):
        net["seler"]


@pytest.mark.parametrize("kind", KINDS)
def test_statistics_of_an_agent_count_its_present_life(kind: type[Counter]) -> None:
    agent = kind(name="counter")
    with agent.start(runtime=Runtime("thread")) as ref:
        ref.ask("x")
        ref.ask("y")
        with pytest.raises(HandlerError):
            ref.ask(Message(method="fail"))
        counts = agent.statistics()
        assert (counts.sent, counts.delivered, counts.queued, counts.dead) == (2, 3, 0, 0)
        assert counts.failures == 1
    assert agent.statistics().delivered == 0
