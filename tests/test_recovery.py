"""Recovery where several things happen at once: failures, hooks, threads, stops, ends of runs."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from typing import Any, ClassVar, Literal

import pytest
from pydantic import Field

from llm_net import (
    AgentRef,
    Deterministic,
    GenAgent,
    GenNetwork,
    HandlerError,
    Message,
    Runtime,
    Supervision,
    Terminated,
)
from llm_net.supervision import Intensity

Host = Literal["thread", "loop", "inline", "deterministic"]
HOSTS: list[Host] = ["thread", "loop", "inline", "deterministic"]
DEADLINE = 20.0
START = Deterministic().now()


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Failures that nobody asked for are logged; here they are made on purpose."""
    caplog.set_level(logging.CRITICAL, logger="llm_net")
    caplog.set_level(logging.CRITICAL, logger="asyncio")


class Fragile(GenAgent):
    """Counts, notes when, and fails when it is told to."""

    blocking = False
    count: int = 0
    log: list[tuple[str, float]] = Field(default_factory=list)

    def seconds(self) -> float:
        return round((self.now() - START).total_seconds(), 3)

    def step(self, message: Message) -> str:
        self.count += 1
        LOG.append((self.name, message.body, self.seconds()))
        if message.body.startswith("bad"):
            raise ValueError(message.body)
        return str(self.count)


class Clock(GenAgent):
    """Lets virtual time pass."""

    async def astep(self, message: Message) -> str:
        await self.sleep(float(message.body))
        return ""


LOG: list[tuple[str, str, float]] = []


@pytest.fixture(autouse=True)
def _fresh() -> None:
    LOG.clear()


def handled(body: str) -> list[float]:
    return [when for _, text, when in LOG if text == body]


async def in_host(host: Host, net: GenNetwork, *bodies: str) -> Any:
    """Run a network once for each body, and give the last run."""
    run: Any = None
    for body in bodies:
        if host == "loop":
            run = await net.arun(body, runtime=Runtime("loop"))
        else:
            runtime = Deterministic(1) if host == "deterministic" else Runtime(host)
            run = await asyncio.to_thread(net.run, body, runtime=runtime)
    return run


# -- back-off


@pytest.mark.parametrize("host", HOSTS)
def test_a_run_ends_after_the_restart_that_it_caused(host: Host) -> None:
    net = GenNetwork(
        name="net",
        agents=[Fragile(name="a", supervision=Supervision(directive="restart", backoff_s=0.01))],
        entry="a",
    )
    run = asyncio.run(in_host(host, net, "bad"))
    assert run.ended == "idle"
    assert run.statistics.restarts == 1
    assert net["a"].model_dump()["count"] == 0


def test_members_of_a_network_that_waits_for_its_restart_wait_with_it() -> None:
    inner = GenNetwork(
        name="inner",
        agents=[Fragile(name="a"), Fragile(name="b")],
        entry="a",
        supervision=Supervision(directive="escalate"),
    )
    outer = GenNetwork(
        name="outer",
        agents=[inner, Fragile(name="c")],
        supervision=Supervision(directive="restart", backoff_s=5),
    )
    with outer.start(runtime=Deterministic(0)):
        inner["b"].ref.ask("before")
        with pytest.raises(HandlerError):
            inner["a"].ref.ask("bad")
        answers = [inner["a"].ref.ask("x", block=False), inner["b"].ref.ask("y", block=False)]
        outer["c"].ref.ask("z")
        assert [answer.get().body for answer in answers] == ["1", "1"]
        assert [agent.statistics().restarts for agent in (inner["a"], inner["b"])] == [1, 1]
    assert (handled("x"), handled("y"), handled("z")) == ([5.0], [5.0], [0.0])


def test_a_back_off_outlives_the_run_on_a_network_that_was_live_before() -> None:
    net = GenNetwork(
        name="net",
        agents=[Fragile(name="a")],
        entry="a",
        supervision=Supervision(directive="restart", backoff_s=10),
    )
    runtime = Deterministic(0)
    with net.start(runtime=runtime) as ref:
        assert net.run("bad", timeout=1).ended == "timeout"
        ref.ask("good")
        counts = runtime.statistics()
        assert counts.restarts == 1
        assert counts.sent == counts.delivered + counts.queued + counts.dead
    assert handled("good") == [10.0]
    assert runtime.engine.held == 0
    assert runtime.world.open == 0


def test_one_hook_that_ends_does_not_end_the_back_off_of_its_agent() -> None:
    class Hooked(Fragile):
        async def aon_failure(self, kind: Any, error: Any, traceback: Any) -> None:
            await self.sleep(1)

    net = GenNetwork(
        name="net",
        agents=[Fragile(name="a"), Hooked(name="b", supervision=Supervision(directive="resume"))],
        supervision=Supervision(strategy="all_for_one", directive="restart", backoff_s=9),
    )
    with net.start(runtime=Deterministic(0)):
        with pytest.raises(HandlerError):
            net["b"].ref.ask("bad b")
        net["a"].ref.tell("bad a")
        net["b"].ref.ask("good")
    assert handled("good") == [9.0]


def test_what_supervision_says_of_an_agent_that_waits_for_its_restart_is_done() -> None:
    class Hooked(Fragile):
        async def aon_failure(self, kind: Any, error: Any, traceback: Any) -> None:
            await self.sleep(1)

    net = GenNetwork(
        name="net",
        agents=[Fragile(name="a"), Hooked(name="b", supervision=Supervision(directive="stop"))],
        supervision=Supervision(strategy="all_for_one", directive="restart", backoff_s=9),
    )
    runtime = Deterministic(0)
    with Clock().start(runtime=runtime) as clock, net.start(runtime=runtime):
        b = net["b"].ref
        with pytest.raises(HandlerError):
            b.ask("bad b")
        net["a"].ref.tell("bad a")
        clock.ask("2")
        assert not b.is_alive()
        assert net["a"].ref.ask("good") is not None


def test_a_back_off_is_short_again_when_the_window_has_forgotten_the_restarts_before() -> None:
    agent = Fragile(supervision=Supervision(directive="restart", window_s=10, backoff_s=1))
    runtime = Deterministic(0)
    with Clock().start(runtime=runtime) as clock, agent.start(runtime=runtime) as ref:
        for body, gap in (("1", "2"), ("2", "15"), ("3", "0")):
            ref.tell("bad")
            ref.ask(body)
            clock.ask(gap)
    assert (handled("1"), handled("2"), handled("3")) == ([1.0], [5.0], [21.0])


def test_past_the_bound_the_strategy_stops_no_other_for_the_network_above_decides() -> None:
    inner = GenNetwork(
        name="inner",
        agents=[Fragile(name="a"), Fragile(name="b")],
        supervision=Supervision(strategy="all_for_one", directive="restart", max_restarts=0),
    )
    outer = GenNetwork(name="outer", agents=[inner], supervision=Supervision(directive="resume"))
    with outer.start(runtime=Deterministic(0)):
        with pytest.raises(HandlerError):
            inner["a"].ref.ask("bad")
        inner["b"].ref.ask("x")
        assert not inner["a"].ref.is_alive()
        assert inner["b"].statistics().restarts == 0


def test_two_restarts_that_wait_become_one_at_the_later_time() -> None:
    class Two(Fragile):
        concurrency: ClassVar[int] = 2

        async def astep(self, message: Message) -> str:
            await self.sleep(1)
            return Fragile.step(self, message)

        async def aon_failure(self, kind: Any, error: Any, traceback: Any) -> None:
            await self.sleep(1)

    agent = Two(name="a", supervision=Supervision(directive="restart", backoff_s=4))
    with agent.start(runtime=Deterministic(0)) as ref:
        ref.tell("bad 1")
        ref.tell("bad 2")
        ref.ask("good")
        assert agent.count == 1
    assert handled("good") == [1 + 1 + 8 + 1]


@pytest.mark.parametrize("most", [1, 2, 3])
def test_in_no_window_are_more_restarts_than_allowed_although_they_wait(most: int) -> None:
    supervision = Supervision(directive="restart", max_restarts=most, window_s=10, backoff_s=3)
    intensity, now, times = Intensity(), 0.0, list[float]()
    for _ in range(60):
        if intensity.allows(supervision, now):
            now += intensity.delay
            times.append(now)
        else:
            now += 0.5
    assert len(times) > 5
    assert all(sum(t - 10 < time <= t for time in times) <= most for t in times)


def test_a_restart_is_forgotten_just_when_the_window_has_passed() -> None:
    supervision = Supervision(directive="restart", window_s=10, backoff_s=1)
    intensity, delays = Intensity(), list[float]()
    for now in (0.0, 11.0, 13.0, 30.0):
        assert intensity.allows(supervision, now)
        delays.append(intensity.delay)
    assert delays == [1, 1, 2, 1]


# -- hooks


def test_an_agent_whose_start_is_broken_off_by_a_restart_starts_again() -> None:
    class Slow(Fragile):
        async def aon_start(self) -> None:
            self.count = 40
            await self.sleep(5)

    net = GenNetwork(
        name="net",
        agents=[Fragile(name="a"), Slow(name="b")],
        supervision=Supervision(strategy="all_for_one", directive="restart"),
    )
    runtime = Deterministic(0)
    with Clock().start(runtime=runtime) as clock, net.start(runtime=runtime):
        clock.ask("1")
        net["a"].ref.tell("bad")
        assert net["b"].ref.ask("good").body == "41"
        assert net["b"].statistics().failures == 0
    assert handled("good") == [6.0]


@pytest.mark.parametrize("host", ["thread", "inline", "deterministic"])
def test_a_start_that_fails_where_the_directive_cannot_be_had_ends_the_run(host: Host) -> None:
    class Bad(Fragile):
        def on_start(self) -> None:
            raise ValueError

    def decide(error: BaseException) -> Any:
        raise error

    net = GenNetwork(
        name="net",
        agents=[Bad(name="a", supervision=Supervision(directive=decide)), Fragile(name="b")],
        entry="b",
    )
    runtime = Deterministic(1) if host == "deterministic" else Runtime(host)
    assert net.run("x", runtime=runtime, timeout=3).ended == "failure"


def test_a_start_that_fails_at_a_restart_stops_the_agent_and_no_message_is_lost() -> None:
    class Once(Fragile):
        starts: ClassVar[int] = 0

        def on_start(self) -> None:
            Once.starts += 1
            if Once.starts > 1:
                raise ValueError

    agent = Once(supervision=Supervision(directive="restart", max_tries=3))
    run = GenNetwork(name="net", agents=[agent], entry="once").run("bad", runtime=Deterministic(0))
    assert [letter.reason for letter in run.dead_letters] == ["stopped"]
    assert (run.statistics.sent, run.statistics.dead, run.statistics.queued) == (1, 1, 0)


def test_an_agent_on_its_way_out_is_not_restarted_by_the_failure_of_another() -> None:
    stops: list[str] = []

    class Leaving(Fragile):
        async def aon_stop(self) -> None:
            await self.sleep(5)
            stops.append("over")

    net = GenNetwork(
        name="net",
        agents=[Fragile(name="a"), Leaving(name="b")],
        supervision=Supervision(strategy="all_for_one", directive="restart"),
    )
    runtime = Deterministic(0)
    with Clock().start(runtime=runtime) as clock, net.start(runtime=runtime):
        leaving = net["b"]
        leaving.stop()
        clock.ask("1")
        net["a"].ref.tell("bad")
        clock.ask("9")
        assert stops == ["over"]
        assert not leaving.ref.is_alive()


# -- threads


@pytest.mark.parametrize("host", ["thread", "inline"])
def test_a_handler_on_a_thread_does_not_write_into_the_fields_after_a_restart(
    host: Literal["thread", "inline"],
) -> None:
    entered, go = threading.Event(), threading.Event()

    class Slow(GenAgent):
        count: int = 0

        def on_start(self) -> None:
            starts.append(self.count)

        def step(self, message: Message) -> str:
            if message.body == "slow":
                entered.set()
                assert go.wait(DEADLINE)
                self.count = 99
            self.count += 1
            return str(self.count)

    def let_go() -> None:
        assert entered.wait(DEADLINE)
        go.set()

    starts: list[int] = []
    net = GenNetwork(
        name="net",
        agents=[Fragile(name="a"), Slow(name="b")],
        supervision=Supervision(strategy="all_for_one", directive="restart"),
    )
    with net.start(runtime=Runtime(host)):
        b = net["b"].ref
        b.tell("slow")
        answer = b.ask("next", block=False)
        if host == "thread":
            assert entered.wait(DEADLINE)
        else:
            threading.Thread(target=let_go).start()
        with pytest.raises(HandlerError):
            net["a"].ref.ask("bad", timeout=DEADLINE)
        go.set()
        if host == "thread":
            assert answer.get(timeout=DEADLINE).body == "1"
            assert starts == [0, 0]
        else:  # which of the two came first is the machine's choice
            assert answer.get(timeout=DEADLINE).body in {"1", "101"}


# -- who is restarted to what


def test_a_sibling_with_a_supervision_of_its_own_is_put_back_as_well() -> None:
    net = GenNetwork(
        name="net",
        agents=[
            Fragile(name="a", supervision=Supervision(strategy="all_for_one", directive="restart")),
            Fragile(name="b"),
        ],
    )
    with net.start(runtime=Deterministic(0)):
        net["b"].ref.ask("x")
        with pytest.raises(HandlerError):
            net["a"].ref.ask("bad")
        assert net["b"].ref.ask("y").body == "1"


def test_an_agent_whose_state_is_kept_may_hold_what_cannot_be_copied() -> None:
    agent = Fragile(supervision=Supervision(directive="restart", keep_state=True))
    object.__setattr__(agent, "log", [threading.Lock()])
    with agent.start(runtime=Deterministic(0)) as ref, pytest.raises(HandlerError):
        ref.ask("bad")


@pytest.mark.parametrize("level", [0, 1, 2])
def test_an_escalation_climbs_as_far_as_somebody_restarts_and_no_further(level: int) -> None:
    net: GenNetwork = GenNetwork(
        name="n0",
        agents=[Fragile(name="a"), Fragile(name="b0")],
        entry="a",
        supervision=Supervision(directive="restart" if level == 0 else "escalate"),
    )
    for depth in (1, 2, 3):
        net = GenNetwork(
            name=f"n{depth}",
            agents=[net, Fragile(name=f"b{depth}")],
            entry=net.name,
            supervision=Supervision(directive="restart" if level == depth else "escalate"),
        )
    with net.start(runtime=Deterministic(0)) as ref:
        with pytest.raises(HandlerError):
            ref.ask("bad")
        restarts = {
            each.node.name: each.restarts for root in ref._runtime.roots for each in root.tree()
        }
    touched = {name for name, count in restarts.items() if count}
    below = {f"n{depth}" for depth in range(level)} | {f"b{depth}" for depth in range(level)}
    assert touched == {"a"} | below
    assert set(restarts.values()) <= {0, 1}


# -- tries


@pytest.mark.parametrize("host", ["thread", "inline", "deterministic"])
def test_an_agent_that_may_restart_no_more_tells_its_asker_what_failed(host: Host) -> None:
    net = GenNetwork(
        name="net",
        agents=[
            Fragile(
                name="a",
                supervision=Supervision(directive="restart", max_restarts=1, max_tries=5),
            ),
            Fragile(name="b"),
        ],
    )
    runtime = Deterministic(1) if host == "deterministic" else Runtime(host)
    with net.start(runtime=runtime):
        with pytest.raises(HandlerError, match="bad"):
            net["a"].ref.ask("bad", timeout=DEADLINE)
        counts = net["a"].statistics()
    assert len(LOG) == 2
    assert runtime.dead_letters == ()
    assert counts.dead == 0


def test_each_copy_of_a_message_that_an_agent_hears_twice_has_its_own_tries() -> None:
    class Source(GenAgent):
        blocking = False

        def step(self, message: Message) -> None:
            self.emit("news", Message("bad", method="step"))

    class Twice(Fragile):
        concurrency: ClassVar[int] = 2

        async def astep(self, message: Message) -> str:
            await self.sleep(1)
            return Fragile.step(self, message)

    source, twice = Source(), Twice(name="twice")
    net = GenNetwork(
        name="net",
        agents=[source, twice],
        edges=[("source", "news", "twice")],
        entry="source",
        supervision=Supervision(max_tries=3),
    )
    twice.listen(source, "news")
    run = net.run("go", runtime=Deterministic(0))
    assert len(LOG) == 6
    assert [letter.reason for letter in run.dead_letters] == ["poison", "poison"]
    assert (run.statistics.sent, run.statistics.delivered) == (3, 1)


def test_a_run_that_a_limit_ends_between_two_tries_adds_up() -> None:
    net = GenNetwork(
        name="net",
        agents=[Fragile(name="a")],
        entry="a",
        supervision=Supervision(directive="restart", backoff_s=5, max_tries=9),
    )
    runtime = Deterministic(0)
    with net.start(runtime=runtime):
        run = net.run("bad", timeout=7)
        assert run.ended == "timeout"
        assert [letter.reason for letter in run.dead_letters] == ["timeout"]
        for counts in (run.statistics, runtime.statistics()):
            assert counts.sent == counts.delivered + counts.dead
            assert counts.queued == 0


def test_a_message_of_a_run_that_is_reported_is_not_tried_again() -> None:
    class Hooked(Fragile):
        async def aon_failure(self, kind: Any, error: Any, traceback: Any) -> None:
            await self.sleep(5)

    net = GenNetwork(
        name="net",
        agents=[Hooked(name="a", supervision=Supervision(max_tries=9))],
        entry="a",
    )
    runtime = Deterministic(0)
    with net.start(runtime=runtime) as ref:
        run = net.run("bad", timeout=1)
        assert (run.ended, run.statistics.delivered) == ("timeout", 1)
        ref.ask("good")
        assert len(LOG) == 2
        counts = runtime.statistics()
        assert counts.sent == counts.delivered + counts.dead


def test_a_message_that_is_tried_again_stays_before_those_of_its_sender() -> None:
    class Flaky(GenAgent):
        concurrency: ClassVar[int] = 1

        async def astep(self, message: Message) -> None:
            heard.append(message.body)
            await self.sleep(1)
            if heard.count(message.body) < 3:
                raise ValueError(message.body)

    heard: list[str] = []

    class Source(GenAgent):
        blocking = False

        def step(self, message: Message) -> None:
            for text in "xyz":  # in another's name
                self.send(Message(text, sender="net/flaky", receiver="flaky"))

    for seed in range(5):
        heard.clear()
        GenNetwork(
            name="net",
            agents=[Source(), Flaky(supervision=Supervision(max_tries=3))],
            entry="source",
        ).run("", runtime=Deterministic(seed))
        assert "".join(heard) == "xxxyyyzzz"


# -- watching


class Watcher(GenAgent):
    blocking = False
    gone: list[tuple[str, str]] = Field(default_factory=list)

    def step(self, message: Message) -> None:
        self.watch(message.body)

    def terminated(self, message: Terminated) -> None:
        assert message.sender == message.path
        self.gone.append((message.path, message.reason))


def settled(ref: AgentRef) -> None:
    ref.ask("1")


def test_the_path_of_a_removed_agent_is_the_one_it_had() -> None:
    runtime = Deterministic(0)
    watcher = Watcher()
    inner = GenNetwork(name="inner", agents=[Fragile(name="a")])
    net = GenNetwork(name="net", agents=[inner])
    with (
        Clock().start(runtime=runtime) as clock,
        watcher.start(runtime=runtime),
        net.start(runtime=runtime),
    ):
        watcher.watch(inner)
        watcher.watch("net/inner/a")
        net.remove(inner)
        settled(clock)
    assert sorted(watcher.gone) == [("net/inner", "stopped"), ("net/inner/a", "stopped")]


@pytest.mark.parametrize("strategy", ["one_for_one", "all_for_one"])
def test_whoever_a_failure_brings_down_is_gone_by_failure(strategy: Any) -> None:
    runtime = Deterministic(0)
    watcher = Watcher()
    net = GenNetwork(
        name="net",
        agents=[
            Fragile(name="a"),
            GenNetwork(name="inner", agents=[Fragile(name="b")]),
        ],
        supervision=Supervision(strategy=strategy, directive="stop"),
    )
    with (
        Clock().start(runtime=runtime) as clock,
        watcher.start(runtime=runtime),
        net.start(runtime=runtime),
    ):
        for path in ("net/a", "net/inner/b"):
            watcher.watch(path)
        net["a"].ref.tell("bad")
        settled(clock)
    expected = {"net/a": "failure"}
    if strategy == "all_for_one":
        expected["net/inner/b"] = "failure"
    else:
        expected["net/inner/b"] = "stopped"
    assert dict(watcher.gone) == expected


def test_a_watch_counts_in_the_run_in_which_it_was_made() -> None:
    class Ends(Watcher):
        def step(self, message: Message) -> None:
            self.watch("a")
            self.send(Message("bad", receiver="a"))

    net = GenNetwork(
        name="net",
        agents=[Ends(name="w"), Fragile(name="a", supervision=Supervision(directive="stop"))],
        entry="w",
    )
    runtime = Deterministic(0)
    run = net.run("go", runtime=runtime)
    assert net["w"].model_dump()["gone"] == [("net/a", "failure")]
    assert (run.statistics.sent, run.statistics.delivered) == (3, 3)
    assert runtime.world.sent == 0


def test_a_watch_that_outlives_its_run_counts_in_the_world_and_holds_no_run() -> None:
    net = GenNetwork(name="net", agents=[Watcher(), Fragile(name="a")], entry="watcher")
    runtime = Deterministic(0)
    with Clock().start(runtime=runtime) as clock, net.start(runtime=runtime):
        net.run("a")
        net["a"].ref.stop()
        settled(clock)
        assert net["watcher"].model_dump()["gone"] == [("net/a", "stopped")]
        assert runtime.world.sent == 3  # and the clock's message and its answer


def watch_and_stop(runtime: Runtime, ref: AgentRef) -> None:
    watcher = Watcher()
    with watcher.start(runtime=runtime):
        watcher.watch(ref)


def test_a_watched_agent_holds_no_watcher() -> None:
    runtime = Deterministic(0)
    with Fragile(name="a").start(runtime=runtime) as ref:
        for _ in range(20):
            watch_and_stop(runtime, ref)
        gc.collect()
        watchers = runtime.roots[0].watchers
        assert watchers is not None
        assert len(watchers) == 0
    assert runtime.dead_letters == ()


def test_a_watcher_in_its_next_life_is_not_told_of_what_it_watched_before() -> None:
    runtime = Deterministic(0)
    watcher = Watcher()
    with Clock().start(runtime=runtime) as clock, Fragile(name="a").start(runtime=runtime) as ref:
        with watcher.start(runtime=runtime):
            watcher.watch(ref)
        with watcher.start(runtime=runtime):
            ref.stop()
            settled(clock)
    assert watcher.gone == []


def test_an_agent_that_nobody_holds_any_more_is_gone_even_if_another_has_its_path() -> None:
    runtime = Deterministic(0)
    watcher = Watcher()
    first = Fragile(name="a")
    first.start(runtime=runtime).stop()
    address = first.__address__()
    del first
    gc.collect()
    with (
        Clock().start(runtime=runtime) as clock,
        watcher.start(runtime=runtime),
        Fragile(name="a").start(runtime=runtime),
    ):
        watcher.watch(address)
        settled(clock)
        assert watcher.gone == [("a", "stopped")]
        watcher.unwatch(address)


@pytest.mark.parametrize("theirs", ["thread", "inline"])
def test_many_watchers_in_other_runtimes_are_all_told(theirs: Literal["thread", "inline"]) -> None:
    watchers = [Watcher(name=f"w{number}") for number in range(20)]
    runtimes = [Runtime("thread") for _ in range(3)]
    refs = [watcher.start(runtime=runtimes[number % 3]) for number, watcher in enumerate(watchers)]
    with Fragile(name="a").start(runtime=Runtime(theirs)) as ref:
        threads = [threading.Thread(target=watcher.watch, args=(ref,)) for watcher in watchers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for each in refs:
        each.stop()
    assert [watcher.gone for watcher in watchers] == [[("a", "stopped")]] * 20
