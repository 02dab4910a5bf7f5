"""Runs: what comes out, in which order, when they end and what they leave behind."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import math
import signal
import threading
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, ClassVar, Literal, TypeVar

import pytest
from pydantic import Field

from llm_net import (
    GenAgent,
    GenNetwork,
    Message,
    Run,
    Runtime,
    Supervision,
    UnknownAgent,
    UsageError,
)
from tests.waiting import DEADLINE_S, within_deadline

T = TypeVar("T")
HostName = Literal["thread", "inline"]
HOSTS: list[HostName] = ["inline", "thread"]


def assert_conserved(run: Run) -> None:
    counts = run.statistics
    assert counts.queued == 0
    assert counts.sent == counts.delivered + counts.dead
    assert counts.dead == len(run.dead_letters)
    assert counts.failures == len(run.failures)


class Echo(GenAgent):
    blocking: ClassVar[bool] = False

    def step(self, message: Message) -> str:
        return message.body.upper()


class Quiet(GenAgent):
    blocking: ClassVar[bool] = False
    heard: list[str] = Field(default_factory=list)

    def step(self, message: Message) -> None:
        self.heard.append(message.body)


class Loop(GenAgent):
    """Sends every message round, for ever."""

    blocking: ClassVar[bool] = False
    turns: int = 0

    def step(self, message: Message) -> None:
        self.turns += 1
        self.emit("go", Message(message.body))


class BlockingLoop(GenAgent):
    turns: int = 0

    def step(self, message: Message) -> None:
        self.turns += 1
        self.emit("go", Message(message.body))


class AsyncLoop(GenAgent):
    turns: int = 0

    async def astep(self, message: Message) -> None:
        self.turns += 1
        self.emit("go", Message(message.body))


LOOPS: list[type[GenAgent]] = [Loop, BlockingLoop, AsyncLoop]


class Counting(GenAgent):
    """Sends a number round that grows."""

    blocking: ClassVar[bool] = False

    def step(self, message: Message) -> None:
        self.emit("go", Message(str(int(message.body) + 1)))


def ring(kind: type[GenAgent] = Loop, size: int = 3, **options: Any) -> GenNetwork:
    names = [f"a{n}" for n in range(size)]
    return GenNetwork(
        name="net",
        agents=[kind(name=name) for name in names],
        edges=[(u, "go", v) for u, v in zip(names, [*names[1:], names[0]], strict=True)],
        entry="a0",
        **options,
    )


class Stuck(GenAgent):
    """A sync handler that blocks until it is let go."""

    gate: Any = None
    entered: Any = None

    def step(self, message: Message) -> str:
        self.entered.set()
        self.gate.wait(DEADLINE_S * 3)
        return "too late"


def stuck() -> tuple[GenNetwork, threading.Event, threading.Event]:
    gate, entered = threading.Event(), threading.Event()
    net = GenNetwork(name="net", agents=[Stuck(gate=gate, entered=entered)], entry="stuck")
    return net, gate, entered


def ours() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("llm_net")]


# -- outputs


class Busy(GenAgent):
    """Emits, replies, emits."""

    blocking: ClassVar[bool] = False

    def step(self, message: Message) -> Any:
        self.emit("news", "1")
        yield "2"
        self.emit("news", "3")
        self.emit("secret", "no")
        self.send(message.reply("4"))
        self.emit("news", "5")


class BlockingBusy(Busy):
    blocking: ClassVar[bool] = True


class AsyncBusy(GenAgent):
    async def astep(self, message: Message) -> Any:
        self.emit("news", "1")
        yield "2"
        self.emit("news", "3")
        await self.sleep(0)
        self.emit("secret", "no")
        self.send(message.reply("4"))
        self.emit("news", "5")


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("kind", [Busy, BlockingBusy, AsyncBusy])
def test_outputs_are_replies_and_exposed_events_in_the_order_they_left(
    kind: type[GenAgent], host: HostName
) -> None:
    net = GenNetwork(name="net", agents=[kind(name="busy")], entry="busy", expose=["news"])
    run = net.run("go", runtime=Runtime(host))
    assert [message.body for message in run.outputs] == ["1", "2", "3", "4", "5"]
    assert run.statistics.sent == run.statistics.delivered == 6
    assert run.ended == "idle"
    assert_conserved(run)


def test_outputs_are_the_same_message_objects() -> None:
    seen: list[Message] = []
    net = GenNetwork(name="net", agents=[Busy()], entry="busy", expose=["news"])
    net["busy"].on("news", seen.append)
    stream = net.stream("go")
    streamed = list(stream)
    assert [id(message) for message in seen] == [
        id(message) for message in stream.run.outputs if message.method == "news"
    ]
    assert {id(message) for message in stream.run.outputs} <= {id(message) for message in streamed}


def test_a_message_that_is_emitted_whole_comes_out_as_it_is() -> None:
    made: list[Message] = []

    class Maker(GenAgent):
        blocking: ClassVar[bool] = False

        def step(self, message: Message) -> None:
            made.append(Message("x", sender=self.path, method="anything"))
            self.emit("news", made[0])

    net = GenNetwork(name="net", agents=[Maker()], entry="maker", expose=["news"])
    assert net.run("go").outputs[0] is made[0]


def test_a_run_is_frozen() -> None:
    run = GenNetwork(agents=[Echo()], entry="echo").run("x")
    with pytest.raises(dataclasses.FrozenInstanceError):
        run.ended = "no"  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        run.statistics.sent = 0  # type: ignore[misc]


@pytest.mark.parametrize("receiver", ["quiet", "net/quiet", "echo"])
def test_a_message_with_a_receiver_goes_there_instead_of_to_the_entry(receiver: str) -> None:
    net = GenNetwork(name="net", agents=[Echo(), Quiet()], entry="echo")
    run = net.run(Message("x", receiver=receiver))
    assert [m.body for m in run.outputs] == (["X"] if receiver == "echo" else [])
    assert net["quiet"].heard == ([] if receiver == "echo" else ["x"])


def test_a_message_may_go_to_an_agent_deep_inside() -> None:
    inner = GenNetwork(name="inner", agents=[Echo()])
    net = GenNetwork(name="net", agents=[inner])
    assert net.run(Message("x", receiver="inner/echo")).outputs[0].body == "X"
    assert net.run(Message("x", receiver=inner["echo"])).outputs[0].body == "X"


def test_an_unknown_receiver_raises_and_starts_nothing() -> None:
    net = GenNetwork(name="net", agents=[Echo()], entry="echo")
    with pytest.raises(UnknownAgent):
        net.run(Message("x", receiver="ghost"))
    with pytest.raises(UsageError):
        _ = net["echo"].ref


def test_one_message_object_may_be_run_again_and_again() -> None:
    net = GenNetwork(name="net", agents=[Echo()], entry="echo")
    message = Message("x")
    assert [net.run(message).outputs[0].body for _ in range(3)] == ["X", "X", "X"]
    assert message.receiver is None


@pytest.mark.parametrize("wrong", [None, 3, {"body": "x"}, Echo])
def test_what_is_no_message_cannot_be_run(wrong: Any) -> None:
    with pytest.raises(UsageError):
        GenNetwork(agents=[Echo()], entry="echo").run(wrong)


def test_a_second_run_goes_on_from_the_fields() -> None:
    net = GenNetwork(name="net", agents=[Quiet()], entry="quiet")
    net.run("1")
    net.run("2")
    assert net["quiet"].heard == ["1", "2"]


def test_failures_do_not_raise_and_harm_only_their_turn() -> None:
    class Fussy(GenAgent):
        blocking: ClassVar[bool] = False

        def step(self, message: Message) -> str:
            if message.body == "bad":
                raise ValueError("no")
            return "fine"

    net = GenNetwork(name="net", agents=[Fussy(name="f"), Echo()], entry=["f", "echo"])
    run = net.run("bad")
    assert [message.body for message in run.outputs] == ["BAD"]
    (failure,) = run.failures
    assert failure.path == "net/f"
    assert failure.message is not None
    assert failure.message.body == "bad"
    assert isinstance(failure.__cause__, ValueError)
    assert run.ended == "idle"
    assert run.statistics.failures == 1
    assert run.statistics.delivered == 3
    assert_conserved(run)
    assert [m.body for m in net.run("good").outputs] == ["fine", "GOOD"]


def test_a_failure_past_the_outermost_network_ends_the_run() -> None:
    class Bad(GenAgent):
        blocking: ClassVar[bool] = False

        def step(self, message: Message) -> None:
            self.send(Message("left over", receiver="echo"))
            self.send(Message("left over", receiver="echo"))
            raise ValueError("no")

    net = GenNetwork(
        name="net",
        agents=[Bad(), Echo()],
        entry="bad",
        supervision=Supervision(directive="escalate"),
    )
    run = within_deadline(lambda: net.run("x"))
    assert run.ended == "failure"
    assert {letter.reason for letter in run.dead_letters} == {"stopped"}
    assert len(run.dead_letters) == 2
    assert_conserved(run)


# -- live networks


@pytest.mark.parametrize("host", HOSTS)
def test_a_run_on_a_live_network_neither_starts_nor_stops_it(host: HostName) -> None:
    net = GenNetwork(name="net", agents=[Echo()], entry="echo")
    with net.start(runtime=Runtime(host)) as ref:
        assert net.run("x").outputs[0].body == "X"
        assert ref.is_alive()
        assert net.run("y").outputs[0].body == "Y"
        assert ref.is_alive()
    assert not ref.is_alive()


def test_a_stream_made_before_the_start_does_not_stop_what_was_started_since() -> None:
    net = GenNetwork(name="net", agents=[Echo()], entry="echo")
    stream = net.stream("x")
    with net.start(runtime=Runtime()) as ref:
        assert [message.body for message in stream] == ["x", "X"]
        assert ref.is_alive()
        assert net.run("y").outputs


def test_a_stream_made_while_live_starts_the_network_if_it_has_been_stopped_since() -> None:
    net = GenNetwork(name="net", agents=[Echo()], entry="echo")
    with net.start(runtime=Runtime()):
        stream = net.stream("x")
    bodies = within_deadline(lambda: [message.body for message in stream])
    assert bodies == ["x", "X"]
    assert not net["echo"].ref.is_alive()


@pytest.mark.parametrize("host", HOSTS)
def test_concurrent_runs_on_one_live_network_keep_apart(host: HostName) -> None:
    net = ring(Counting, expose=["go"])
    with net.start(runtime=Runtime(host)):
        runs: dict[int, Run] = {}

        def work(number: int) -> None:
            runs[number] = net.run(str(number * 1000), max_messages=20 + number)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE_S)
    assert sorted(runs) == list(range(5))
    for number, run in runs.items():
        assert run.ended == "max_messages"
        assert [int(m.body) for m in run.outputs] == [
            number * 1000 + n for n in range(1, 21 + number)
        ]
        assert {letter.reason for letter in run.dead_letters} == {"max_messages"}
        assert_conserved(run)


def test_concurrent_async_runs_on_one_live_network_keep_apart() -> None:
    async def main() -> list[Run]:
        net = ring(AsyncLoop, expose=["go"])
        async with net.astart():
            return await asyncio.gather(*(net.arun(str(n), max_messages=9) for n in range(5)))

    for number, run in enumerate(asyncio.run(main())):
        assert [message.body for message in run.outputs] == [str(number)] * 9
        assert_conserved(run)


def test_two_async_runs_at_once_on_a_network_that_was_not_started_both_finish() -> None:
    class Slow(GenAgent):
        async def astep(self, message: Message) -> str:
            for _ in range(int(message.body)):
                await self.sleep(0)
            return message.body

    async def main() -> list[Run]:
        net = GenNetwork(name="net", agents=[Slow(), Slow(name="other")], entry=["slow", "other"])
        return list(await asyncio.gather(net.arun("3"), net.arun("30")))

    runs = asyncio.run(main())
    assert [[m.body for m in run.outputs] for run in runs] == [["3"] * 2, ["30"] * 2]
    assert [run.ended for run in runs] == ["idle", "idle"]


def test_a_limit_of_one_run_does_not_touch_another() -> None:
    net, gate, entered = stuck()
    net.add(Echo())
    with net.start(runtime=Runtime()):
        results: list[Run] = []
        other = threading.Thread(target=lambda: results.append(net.run("x")))
        other.start()
        assert entered.wait(DEADLINE_S)
        limited = net.run(Message("y", receiver="echo"), max_messages=0)
        assert limited.ended == "max_messages"
        gate.set()
        other.join(DEADLINE_S)
    assert [m.body for m in results[0].outputs] == ["too late"]
    assert results[0].ended == "idle"


# -- limits


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("kind", LOOPS)
@pytest.mark.parametrize("bound", [0, 1, 7, 100])
def test_max_messages_ends_a_run_after_so_many_deliveries(
    kind: type[GenAgent], host: HostName, bound: int
) -> None:
    net = ring(kind)
    run = net.run("x", max_messages=bound, runtime=Runtime(host))
    assert run.ended == "max_messages"
    assert run.statistics.delivered == bound
    assert sum(agent.turns for agent in net.directory.values()) == bound
    assert [letter.reason for letter in run.dead_letters] == ["max_messages"]
    assert_conserved(run)


def test_a_run_that_needs_no_more_than_its_bounds_ends_idle() -> None:
    class Countdown(GenAgent):
        blocking: ClassVar[bool] = False

        def step(self, message: Message) -> None:
            if message.body != "0":
                self.emit("go", Message(str(int(message.body) - 1)))

    net = ring(Countdown)
    run = net.run("4", max_messages=5, max_hops=4, max_repeats=1, timeout=DEADLINE_S)
    assert run.ended == "idle"
    assert not run.dead_letters
    assert run.statistics.delivered == 5


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("kind", LOOPS)
@pytest.mark.parametrize("bound", [0, 1, 5])
def test_max_hops_ends_a_run_when_so_many_messages_caused_each_other(
    kind: type[GenAgent], host: HostName, bound: int
) -> None:
    net = ring(kind)
    run = net.run("x", max_hops=bound, runtime=Runtime(host))
    assert run.ended == "max_hops"
    assert run.statistics.delivered == bound + 1
    assert [letter.reason for letter in run.dead_letters] == ["max_hops"]
    assert_conserved(run)


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("kind", LOOPS)
@pytest.mark.parametrize("bound", [1, 3])
def test_max_repeats_ends_a_loop_and_names_it(
    kind: type[GenAgent], host: HostName, bound: int
) -> None:
    net = ring(kind)
    run = net.run("x", max_repeats=bound, runtime=Runtime(host))
    assert run.ended == "max_repeats"
    # The first message comes from outside; each of the others is sent `bound` times, and one
    # of them was about to be sent once more.
    assert run.statistics.delivered == 1 + 3 * bound
    assert [letter.reason for letter in run.dead_letters] == ["max_repeats"]
    assert set(run.loop) == {"net/a0", "net/a1", "net/a2"}
    assert_conserved(run)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_the_named_loop_goes_round_along_the_edges(size: int) -> None:
    net = ring(Loop, size)
    loop = [path.rsplit("/", 1)[1] for path in net.run("x", max_repeats=1).loop]
    assert len(set(loop)) == size
    steps = list(pairwise(loop))
    there = all(net.graph.has_edge(u, v) for u, v in steps)
    back = all(net.graph.has_edge(v, u) for u, v in steps)
    assert there or back, loop


def test_a_loop_of_addressed_messages_is_found() -> None:
    class PingPong(GenAgent):
        blocking: ClassVar[bool] = False

        def step(self, message: Message) -> None:
            self.send(Message("ball", receiver="b" if self.name == "a" else "a"))

    net = GenNetwork(name="net", agents=[PingPong(name="a"), PingPong(name="b")], entry="a")
    run = net.run("x", max_repeats=2)
    assert run.ended == "max_repeats"
    assert run.statistics.delivered == 5
    assert set(run.loop) == {"net/a", "net/b"}
    assert_conserved(run)


def test_a_loop_that_changes_what_it_says_is_no_repeat() -> None:
    run = ring(Counting).run("0", max_repeats=1, max_hops=50)
    assert run.ended == "max_hops"


@pytest.mark.parametrize("how", ["events", "sends"])
def test_the_same_words_to_different_receivers_are_no_repeat(how: str) -> None:
    class Chair(GenAgent):
        """Calls one worker after the other, with the same words."""

        blocking: ClassVar[bool] = False
        turn: int = 0

        def step(self, message: Message) -> None:
            if self.turn < 3:
                worker = f"w{self.turn}"
                self.turn += 1
                if how == "events":
                    self.emit(worker, Message("your turn", method="call"))
                else:
                    self.send(Message("your turn", method="call", receiver=worker))

    class Worker(GenAgent):
        blocking: ClassVar[bool] = False

        def call(self, message: Message) -> None:
            self.send(Message(f"{self.name} is done", receiver="chair"))

    names = ["w0", "w1", "w2"]
    net = GenNetwork(
        name="net",
        agents=[Chair(), *(Worker(name=name) for name in names)],
        edges=[("chair", name, name) for name in names],
        entry="chair",
    )
    run = net.run("start", max_repeats=1)
    assert run.ended == "idle"
    assert run.statistics.delivered == 7


def test_one_emit_to_many_is_no_repeat() -> None:
    class Tell(GenAgent):
        blocking: ClassVar[bool] = False

        def step(self, message: Message) -> None:
            self.emit("go", Message("x", method="hear"))

    class Hear(GenAgent):
        blocking: ClassVar[bool] = False

        def hear(self, message: Message) -> None: ...

    net = GenNetwork(
        agents=[Tell(), *(Hear(name=f"h{n}") for n in range(5))],
        edges=[("tell", "go", f"h{n}") for n in range(5)],
        entry="tell",
    )
    assert net.run("x", max_repeats=1).ended == "idle"


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("kind", LOOPS)
def test_timeout_ends_an_endless_run(kind: type[GenAgent], host: HostName) -> None:
    net = ring(kind)
    run = within_deadline(lambda: net.run("x", timeout=0.05, runtime=Runtime(host)))
    assert run.ended == "timeout"
    assert {letter.reason for letter in run.dead_letters} <= {"timeout"}
    assert_conserved(run)


def test_timeout_cancels_async_handlers_that_wait() -> None:
    cancelled: list[str] = []

    class Sleeper(GenAgent):
        async def astep(self, message: Message) -> str:
            try:
                await self.sleep(3600)
            except asyncio.CancelledError:
                cancelled.append(message.body)
                raise
            return "never"

    net = GenNetwork(name="net", agents=[Sleeper()], entry="sleeper")
    run = within_deadline(lambda: net.run("x", timeout=0.02))
    assert run.ended == "timeout"
    assert not run.outputs
    assert not run.failures
    assert cancelled == ["x"]
    assert run.statistics.delivered == 1


@pytest.mark.parametrize("host", HOSTS)
def test_a_stuck_sync_handler_does_not_hold_a_run_with_a_timeout(host: HostName) -> None:
    net, gate, entered = stuck()
    run = within_deadline(lambda: net.run("x", timeout=0.05, runtime=Runtime(host)))
    assert run.ended == "timeout"
    assert not run.outputs
    assert_conserved(run)
    assert entered.is_set()
    ref = net["stuck"].ref
    with pytest.raises(UsageError, match="net/stuck"):
        net.run("again")
    gate.set()
    assert ref.actor_stopped.wait(DEADLINE_S)
    assert net.ref.actor_stopped.wait(DEADLINE_S)
    assert [m.body for m in within_deadline(lambda: net.run("again")).outputs] == ["too late"]


@pytest.mark.parametrize("blocking", [True, False])
def test_a_stuck_agent_with_a_last_hook_is_free_again_when_its_handler_returns(
    blocking: bool,  # noqa: FBT001
) -> None:
    stopped: list[str] = []

    class Tidy(Stuck):
        def on_stop(self) -> None:
            stopped.append(self.name)

    class AsyncTidy(Stuck):
        async def aon_stop(self) -> None:
            stopped.append(self.name)

    gate, entered = threading.Event(), threading.Event()
    kind = Tidy if blocking else AsyncTidy
    net = GenNetwork(
        name="net", agents=[kind(name="tidy", gate=gate, entered=entered)], entry="tidy"
    )
    assert within_deadline(lambda: net.run("x", timeout=0.05)).ended == "timeout"
    ref = net.ref
    gate.set()
    assert ref.actor_stopped.wait(DEADLINE_S)
    assert stopped == ["tidy"]
    assert within_deadline(lambda: net.run("again")).ended == "idle"


def test_a_stuck_handler_on_a_live_network_does_not_hold_the_run_but_keeps_its_agent_busy() -> None:
    net, gate, _ = stuck()
    with net.start(runtime=Runtime()):
        run = within_deadline(lambda: net.run("x", timeout=0.05))
        assert run.ended == "timeout"
        assert_conserved(run)
        results: list[Run] = []
        second = threading.Thread(target=lambda: results.append(net.run("y")))
        second.start()
        gate.set()
        second.join(DEADLINE_S)
    assert [m.body for m in results[0].outputs] == ["too late"]
    assert not run.outputs


@pytest.mark.parametrize("name", ["max_messages", "max_hops", "max_repeats", "timeout"])
@pytest.mark.parametrize("value", [-1, -0.5, math.nan, True, False, "3", -math.inf])
@pytest.mark.parametrize("word", ["run", "stream", "astream", "arun"])
def test_a_limit_that_is_no_bound_is_refused(name: str, value: Any, word: str) -> None:
    net = GenNetwork(name="net", agents=[Echo()], entry="echo")
    call = getattr(net, word)
    if word == "arun":
        call = lambda *args, **options: asyncio.run(net.arun(*args, **options))  # noqa: E731
    with pytest.raises(UsageError, match=name):
        call("x", **{name: value})


def test_a_limit_leaves_what_came_out_before() -> None:
    run = ring(Counting, expose=["go"]).run("0", max_messages=4)
    assert [message.body for message in run.outputs] == ["1", "2", "3", "4"]


def test_a_network_can_run_again_after_a_limit() -> None:
    net = ring(Loop)
    for _ in range(3):
        run = net.run("x", max_messages=10)
        assert run.statistics.delivered == 10
        assert_conserved(run)


# -- timers


def test_a_one_shot_timer_holds_a_run() -> None:
    class Later(GenAgent):
        blocking: ClassVar[bool] = False

        def step(self, message: Message) -> str | None:
            if message.body == "now":
                self.schedule(0.02, "later")
                return None
            self.emit("news", "done")
            return None

    net = GenNetwork(name="net", agents=[Later()], entry="later", expose=["news"])
    run = net.run("now")
    assert [message.body for message in run.outputs] == ["done"]
    assert_conserved(run)


def test_a_cancelled_timer_holds_no_run() -> None:
    class Never(GenAgent):
        blocking: ClassVar[bool] = False

        def step(self, message: Message) -> None:
            timer = self.schedule(3600, "later")
            timer.cancel()
            timer.cancel()

    net = GenNetwork(name="net", agents=[Never()], entry="never")
    assert within_deadline(lambda: net.run("now")).ended == "idle"


@pytest.mark.parametrize("delay", [0, 3600])
def test_a_periodic_timer_does_not_hold_a_run(delay: float) -> None:
    class Clock(GenAgent):
        blocking: ClassVar[bool] = False

        def step(self, message: Message) -> None:
            if message.body == "start":
                self.schedule(delay, "tick", every=3600)

    before = set(ours())
    net = GenNetwork(name="net", agents=[Clock()], entry="clock")
    run = within_deadline(lambda: net.run("start"))
    assert run.ended == "idle"
    assert_conserved(run)
    assert set(ours()) <= before


def test_a_one_shot_timer_dies_with_the_run_that_a_limit_ended() -> None:
    class Later(GenAgent):
        blocking: ClassVar[bool] = False

        def step(self, message: Message) -> None:
            self.schedule(3600, "later")

    net = GenNetwork(name="net", agents=[Later()], entry="later")
    with net.start(runtime=Runtime()):
        run = within_deadline(lambda: net.run("x", timeout=0.02))
        assert run.ended == "timeout"
        assert run.statistics.delivered == 1
        assert within_deadline(lambda: net.run("x", max_messages=0)).ended == "max_messages"


def test_the_counts_add_up_while_a_periodic_timer_outlives_its_run() -> None:
    """On a live network a periodic timer goes on after the run in which it was set."""
    samples: list[Any] = []
    enough = threading.Event()
    runtime = Runtime()

    class Clock(GenAgent):
        blocking: ClassVar[bool] = False

        def step(self, message: Message) -> None:
            if message.body == "start":
                self.schedule(0.001, "tick", every=0.001)
            elif over.is_set():
                self.send(Message("noted", receiver="quiet"))
                samples.append(runtime.statistics())
                if len(samples) > 3:
                    enough.set()

    over = threading.Event()
    net = GenNetwork(name="net", agents=[Clock(), Quiet()], entry="clock")
    with net.start(runtime=runtime):
        assert net.run("start").ended == "idle"
        over.set()
        assert enough.wait(DEADLINE_S)
    for counts in samples:
        assert counts.sent == counts.delivered + counts.queued + counts.dead
        assert counts.queued >= 1


# -- what begins with the start


@pytest.mark.parametrize("way", ["send", "schedule"])
def test_a_run_waits_for_what_began_with_the_start_of_its_network(way: str) -> None:
    class Starter(GenAgent):
        def on_start(self) -> None:
            first = Message("3", receiver="starter", method="count")
            if way == "send":
                self.send(first)
            else:
                self.schedule(0.01, first)

        def count(self, message: Message) -> None:
            if message.body == "0":
                self.emit("news", "done")
            else:
                self.send(Message(str(int(message.body) - 1), receiver="starter", method="count"))

    heard: list[str] = []
    net = GenNetwork(name="net", agents=[Starter(), Quiet()], entry="quiet")
    net["starter"].on("news", lambda message: heard.append(message.body))
    net.run("x")
    assert heard == ["done"]


# -- streams


def test_a_stream_gives_every_message_as_it_is_sent() -> None:
    net = GenNetwork(
        name="net",
        agents=[Busy(), Quiet()],
        edges=[("busy", "news", "quiet")],
        entry="busy",
        expose=["news"],
    )
    stream = net.stream("go")
    with pytest.raises(UsageError, match="not over"):
        _ = stream.run
    assert [message.body for message in stream] == ["go", "1", "2", "3", "4", "5"]
    run = stream.run
    assert [message.body for message in run.outputs] == ["1", "2", "3", "4", "5"]
    assert run.ended == "idle"
    assert_conserved(run)
    assert list(stream) == []


def test_a_stream_shows_messages_that_become_dead_letters_too() -> None:
    class Lost(GenAgent):
        blocking: ClassVar[bool] = False

        def step(self, message: Message) -> None:
            self.send(Message("to nobody", receiver="ghost"))
            self.send(Message("not understood", receiver="quiet", method="ghost"))

    net = GenNetwork(name="net", agents=[Lost(), Quiet()], entry="lost")
    stream = net.stream("x")
    assert [message.body for message in stream] == ["x", "to nobody", "not understood"]
    assert {letter.reason for letter in stream.run.dead_letters} == {"no_receiver", "no_handler"}


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("kind", LOOPS)
def test_closing_a_stream_early_ends_the_run_and_stops_what_it_started(
    kind: type[GenAgent], host: HostName
) -> None:
    net = ring(kind)
    stream = net.stream("x", runtime=Runtime(host))
    for number, _ in enumerate(stream):
        if number == 10:
            break
    stream.close()
    stream.close()
    assert not net["a0"].ref.is_alive()
    assert_conserved(stream.run)
    assert stream.run.ended != "idle"
    assert net.run("x", max_messages=3).ended == "max_messages"


def test_closing_a_stream_on_a_live_network_ends_that_run_only() -> None:
    net = ring(Loop)
    with net.start(runtime=Runtime()) as ref:
        stream = net.stream("x")
        next(stream)
        stream.close()
        assert ref.is_alive()
        assert_conserved(stream.run)
        assert net.run("y", max_messages=5).statistics.delivered == 5


def test_a_stream_that_is_dropped_ends_its_run() -> None:
    net = ring(Loop)
    stream = net.stream("x")
    next(stream)
    ref = net.ref
    del stream, net
    gc.collect()
    assert not ref.is_alive()


def test_a_stream_that_is_closed_before_it_began_starts_nothing() -> None:
    net = ring(Loop)
    stream = net.stream("x")
    stream.close()
    with pytest.raises(UsageError):
        _ = net.ref
    assert list(stream) == []


@pytest.mark.parametrize("limit", ["max_messages", "max_hops", "max_repeats"])
def test_a_stream_ends_at_a_limit(limit: str) -> None:
    limits: dict[str, Any] = {limit: 4}
    stream = ring(Loop).stream("x", **limits)
    assert len(list(stream)) >= 4
    assert stream.run.ended == limit
    assert_conserved(stream.run)


def test_an_async_stream_gives_the_same_as_a_stream() -> None:
    def build() -> GenNetwork:
        return GenNetwork(
            name="net", agents=[AsyncBusy(name="busy")], entry="busy", expose=["news"]
        )

    async def main() -> tuple[list[str], Run]:
        stream = build().astream("go")
        with pytest.raises(UsageError):
            _ = stream.run
        bodies = [message.body async for message in stream]
        return bodies, stream.run

    bodies, run = asyncio.run(main())
    assert bodies == [message.body for message in build().stream("go")]
    assert [message.body for message in run.outputs] == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize("kind", LOOPS)
def test_closing_an_async_stream_early_leaves_nothing_behind(kind: type[GenAgent]) -> None:
    async def main() -> Run:
        net = ring(kind)
        stream = net.astream("x")
        async for _ in stream:
            break
        await stream.aclose()
        assert not net["a0"].ref.is_alive()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return stream.run

    assert_conserved(asyncio.run(main()))


# -- async words


@pytest.mark.parametrize("kind", LOOPS)
def test_arun_lives_on_the_running_loop(kind: type[GenAgent]) -> None:
    threads: set[int] = set()

    async def main() -> Run:
        net = ring(kind)
        net["a0"].on("go", lambda message: threads.add(threading.get_ident()))
        run = await net.arun("x", max_messages=10)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return run

    run = asyncio.run(main())
    assert run.statistics.delivered == 10
    assert threads == {threading.get_ident()}
    assert_conserved(run)


@pytest.mark.parametrize("host", HOSTS)
def test_arun_takes_another_runtime(host: HostName) -> None:
    net = GenNetwork(name="net", agents=[Echo()], entry="echo")

    def call() -> Run:
        return asyncio.run(net.arun("x", runtime=Runtime(host)))

    assert within_deadline(call).outputs[0].body == "X"


@pytest.mark.parametrize("host", HOSTS)
def test_arun_on_a_network_that_lives_elsewhere_waits_for_it(host: HostName) -> None:
    net = GenNetwork(name="net", agents=[Echo()], entry="echo")
    ref = net.start(runtime=Runtime(host))
    run = within_deadline(lambda: asyncio.run(net.arun("x")))
    assert run.outputs[0].body == "X"
    assert ref.is_alive()
    ref.stop()


def test_a_cancelled_arun_ends_the_run_and_stops_what_it_started() -> None:
    class Sleeper(GenAgent):
        async def astep(self, message: Message) -> None:
            entered.set()
            await self.sleep(3600)

    entered: asyncio.Event

    async def main() -> None:
        nonlocal entered
        entered = asyncio.Event()
        net = GenNetwork(name="net", agents=[Sleeper()], entry="sleeper")
        task = asyncio.ensure_future(net.arun("x"))
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not net["sleeper"].ref.is_alive()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


@pytest.mark.parametrize("runtime", [None, "inline", "thread"])
@pytest.mark.parametrize("kind", LOOPS)
def test_run_works_inside_a_running_event_loop(
    kind: type[GenAgent], runtime: HostName | None
) -> None:
    async def main() -> Run:
        return ring(kind).run(
            "x", max_messages=10, runtime=None if runtime is None else Runtime(runtime)
        )

    before = set(ours())
    run = within_deadline(lambda: asyncio.run(main()))
    assert run.statistics.delivered == 10
    assert set(ours()) <= before


def test_stream_works_inside_a_running_event_loop() -> None:
    async def main() -> list[str]:
        net = GenNetwork(name="net", agents=[Echo()], entry="echo")
        return [message.body for message in net.stream("x")]

    assert within_deadline(lambda: asyncio.run(main())) == ["x", "X"]


def test_a_sync_run_on_a_network_of_the_running_loop_is_refused() -> None:
    async def main() -> None:
        net = GenNetwork(name="net", agents=[Echo()], entry="echo")
        async with net.astart() as ref:
            with pytest.raises(UsageError, match="await"):
                net.run("x")
            assert ref.is_alive()
            assert (await net.arun("y")).outputs[0].body == "Y"

    within_deadline(lambda: asyncio.run(main()))


def test_a_loop_runtime_where_no_loop_runs_is_refused_and_leaves_nothing() -> None:
    net = GenNetwork(name="net", agents=[Echo()], entry="echo")
    with pytest.raises(UsageError, match="loop"):
        net.run("x", runtime=Runtime("loop"))
    assert net.run("x").outputs[0].body == "X"
    with pytest.raises(UsageError, match="loop"):
        list(net.stream("x", runtime=Runtime("loop")))


# -- runs inside of handlers


@pytest.mark.parametrize("blocking", [True, False])
def test_a_handler_may_run_another_network(blocking: bool) -> None:  # noqa: FBT001
    inner = GenNetwork(name="inner", agents=[Echo()], entry="echo")

    class Caller(GenAgent):
        def step(self, message: Message) -> str:
            return inner.run(message.body).outputs[0].body + "!"

    class InlineCaller(Caller):
        blocking: ClassVar[bool] = False

    kind = Caller if blocking else InlineCaller
    net = GenNetwork(name="net", agents=[kind(name="caller")], entry="caller")
    run = within_deadline(lambda: net.run("x"))
    assert not run.failures
    assert [message.body for message in run.outputs] == ["X!"]


def test_an_async_handler_may_run_another_network() -> None:
    inner = GenNetwork(name="inner", agents=[Echo()], entry="echo")

    class Caller(GenAgent):
        async def astep(self, message: Message) -> str:
            return (await inner.arun(message.body)).outputs[0].body + "!"

    net = GenNetwork(name="net", agents=[Caller()], entry="caller")
    run = within_deadline(lambda: net.run("x"))
    assert not run.failures
    assert [message.body for message in run.outputs] == ["X!"]


def test_a_handler_on_a_thread_may_run_its_own_live_network() -> None:
    class Caller(GenAgent):
        def step(self, message: Message) -> str:
            assert self.network is not None
            return self.network.run(Message(message.body, receiver="echo")).outputs[0].body

    net = GenNetwork(name="net", agents=[Caller(), Echo()], entry="caller")
    for host in HOSTS:
        run = within_deadline(lambda host=host: net.run("x", runtime=Runtime(host)))  # type: ignore[misc]
        assert not run.failures
        assert [message.body for message in run.outputs] == ["X"]


# -- interrupts


def test_a_keyboard_interrupt_in_a_handler_of_the_callers_thread_reaches_the_caller() -> None:
    class User(GenAgent):
        blocking: ClassVar[bool] = False

        def step(self, message: Message) -> None:
            raise KeyboardInterrupt

    net = GenNetwork(name="net", agents=[User(), Quiet()], entry=["user", "quiet"])

    def call() -> str:
        with pytest.raises(KeyboardInterrupt):
            net.run("x")
        return "interrupted"

    assert within_deadline(call) == "interrupted"
    assert not net["quiet"].ref.is_alive()
    assert not net["user"].ref.is_alive()


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C as in a terminal: a shell that starts the tests in the background has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("when", ["a turn begins", "the loop turns", "all sleep"])
def test_a_keyboard_interrupt_stops_what_the_run_started(when: str, host: HostName) -> None:
    """The user presses Ctrl-C while a handler works on a thread, or waits in the loop."""
    main = threading.main_thread().ident
    assert main == threading.get_ident()
    gate, in_time = threading.Event(), []
    runtime = Runtime(host)

    def press() -> None:
        assert main is not None
        signal.pthread_kill(main, signal.SIGINT)

    class Worker(GenAgent):
        def step(self, message: Message) -> None:
            if when == "a turn begins":
                press()
            else:
                assert runtime.engine.loop is not None
                runtime.engine.loop.call_soon_threadsafe(press)
            in_time.append(gate.wait(DEADLINE_S))

    class Sleeper(GenAgent):
        async def astep(self, message: Message) -> None:
            asyncio.get_running_loop().call_soon(press)
            await self.sleep(3600)

    agent: GenAgent = Sleeper(name="a") if when == "all sleep" else Worker(name="a")
    net = GenNetwork(name="net", agents=[agent], entry="a")
    with pytest.raises(KeyboardInterrupt):
        net.run("x", runtime=runtime)
    gate.set()
    assert net.ref.actor_stopped.wait(DEADLINE_S)
    assert not net["a"].ref.is_alive()
    assert all(in_time)


# -- nothing stays


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("kind", LOOPS)
def test_no_thread_stays_after_a_run(kind: type[GenAgent], host: HostName) -> None:
    before = set(ours())
    ring(kind).run("x", max_messages=20, runtime=Runtime(host))
    assert set(ours()) <= before


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("kind", LOOPS)
@pytest.mark.parametrize("bound", [0, 1, 20])
def test_a_run_that_goes_well_writes_nothing_to_the_log(
    kind: type[GenAgent], host: HostName, bound: int, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(10):
        ring(kind, 5).run("x", max_messages=bound, runtime=Runtime(host))
        ring(kind, 5).add(Quiet()).run(Message("x", receiver="quiet"), runtime=Runtime(host))
    assert [record.getMessage() for record in caplog.records if record.levelname != "DEBUG"] == []


def test_a_run_holds_nothing_of_the_network_but_messages() -> None:
    import weakref

    net = GenNetwork(name="net", agents=[Echo()], entry="echo")
    run = net.run("x")
    gone = weakref.ref(net)
    del net
    gc.collect()
    assert gone() is None
    assert run.outputs[0].sender == "net"


def test_an_instrument_that_raises_disturbs_no_run(caplog: pytest.LogCaptureFixture) -> None:
    class Wrong:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError(name)

    wrong: Any = Wrong()
    net = GenNetwork(name="net", agents=[Echo()], entry="echo")
    run = net.run("x", runtime=Runtime("inline", instruments=[wrong]))
    assert run.outputs[0].body == "X"
    assert "Wrong" in caplog.text


# -- progress and pictures


@pytest.mark.parametrize("word", ["run", "arun"])
def test_progress_writes_to_standard_error_only_when_asked(
    word: str, capfd: pytest.CaptureFixture[str]
) -> None:
    def call(**options: Any) -> Run:
        net = GenNetwork(name="net", agents=[Echo()], entry="echo")
        if word == "run":
            return net.run("x", **options)
        return asyncio.run(net.arun("x", **options))

    call()
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")
    call(progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "net" in err
    assert err.endswith("\n")


def test_the_sequence_diagram_shows_who_said_what_to_whom() -> None:
    class Asker(GenAgent):
        async def astep(self, message: Message) -> str:
            reply = await self.aask("echo", "question")
            assert reply is not None
            return reply.body

    net = GenNetwork(name="net", agents=[Asker(), Echo()], entry="asker")
    lines = net.run("hello").to_mermaid().rstrip("\n").split("\n")
    assert lines[0] == "sequenceDiagram"
    participants = {
        line.split(" as ")[1]: line.split()[1] for line in lines if " participant " in line
    }
    assert set(participants) == {"outside", "net/asker", "net/echo"} | (
        {"net"} if "net" in participants else set()
    )
    asker, echo = participants["net/asker"], participants["net/echo"]
    assert any(f"{asker}->>{echo}" in line and "question" in line for line in lines)
    assert any(f"{echo}-->>{asker}" in line and "QUESTION" in line for line in lines)


@pytest.mark.parametrize(
    "body",
    [
        "x\nNote over p0: forged",
        "<script>alert(1)</script>",
        "a; b %% c",
        '"#quot;"',
        "x" * 500,
        "",
        " \n ",
    ],
)
def test_hostile_bodies_do_not_break_the_sequence_diagram(body: str) -> None:
    net = GenNetwork(name="net", agents=[Quiet()], entry="quiet")
    text = net.run(body).to_mermaid()
    lines = text.rstrip("\n").split("\n")
    assert len(lines) == 1 + 2 + 1
    assert "<" not in text
    assert "%%" not in text
    assert max(map(len, lines)) < 600


def test_a_long_run_is_drawn_in_part_and_says_so() -> None:
    text = ring(Loop).run("x", max_messages=700).to_mermaid()
    assert text.count("->>") == 500
    assert "200 more messages" in text or "201 more messages" in text
