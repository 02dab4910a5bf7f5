"""Supervision in time: back-off, state that is kept, messages that are tried again, watching."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from llm_net import (
    DeadLetter,
    Deterministic,
    Envelope,
    GenAgent,
    GenNetwork,
    HandlerError,
    Instrument,
    Message,
    Run,
    Runtime,
    Supervision,
    Terminated,
    UnknownAgent,
    UsageError,
)
from llm_net.testing import collect

HOSTS = ["thread", "inline", "deterministic"]
START = Deterministic().now()


def runtime_of(host: str, *instruments: Instrument) -> Runtime:
    if host == "deterministic":
        return Deterministic(5, instruments=instruments)
    return Runtime(host, instruments=instruments)  # type: ignore[arg-type]


class Fragile(GenAgent):
    """Raises where it is told to, and notes when it handled what."""

    blocking = False
    count: int = 0
    seen: list[tuple[str, float]] = Field(default_factory=list)

    def on_start(self) -> None:
        STARTS.append(self.name)

    def terminated(self, message: Message) -> None:
        """Hear of it."""

    def step(self, message: Message) -> str:
        self.count += 1
        LOG.append((message.body, (self.now() - START).total_seconds()))
        if message.body.startswith("bad"):
            raise ValueError(message.body)
        return f"{self.count}"


LOG: list[tuple[str, float]] = []
STARTS: list[str] = []


@pytest.fixture(autouse=True)
def fresh() -> None:
    LOG.clear()
    STARTS.clear()


def network(supervision: Supervision, *names: str) -> GenNetwork:
    return GenNetwork(
        name="net",
        agents=[Fragile(name=name) for name in names or ("a",)],
        entry="a",
        supervision=supervision,
    )


def conserved(run: Run) -> bool:
    counts = run.statistics
    return counts.queued == 0 and counts.sent == counts.delivered + counts.dead


# -- back-off


def test_before_each_restart_that_counts_it_waits_twice_as_long() -> None:
    net = network(Supervision(directive="restart", backoff_s=1, max_backoff_s=3))
    with net.start(runtime=Deterministic(0)):
        for number in range(5):
            net["a"].ref.tell(Message(f"bad {number}"))
        net["a"].ref.ask("good", timeout=None)
    times = [when for _, when in LOG]
    assert times == [0, 1, 3, 6, 9, 12]
    assert net["a"].count == 1


@given(restarts=st.integers(1, 60), first=st.floats(0.001, 10), most=st.floats(0.001, 100))
def test_back_off_grows_up_to_its_bound(restarts: int, first: float, most: float) -> None:
    supervision = Supervision(directive="restart", backoff_s=first, max_backoff_s=most)
    assert supervision.backoff(restarts) == min(most, first * 2.0 ** (restarts - 1))


def test_the_window_forgets_restarts_and_the_back_off_begins_anew() -> None:
    net = network(Supervision(directive="restart", backoff_s=1, window_s=10))
    with net.start(runtime=Deterministic(0)):
        ref = net["a"].ref
        ref.tell("bad 1")
        ref.ask("good", timeout=None)  # at 1
        ref.tell("bad 2")
        ref.ask("good", timeout=None)  # at 3
        net["a"].schedule(10, "bad 3")
        ref.stop()
    assert [when for _, when in LOG] == [0, 1, 1, 3]


def test_a_run_waits_for_a_restart_that_is_to_come() -> None:
    net = network(Supervision(directive="restart", backoff_s=60))
    run = net.run("bad", runtime=Deterministic(0))
    assert run.ended == "idle"
    assert run.statistics.restarts == 1
    assert STARTS == ["a", "a"]


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("drain", [True, False])
def test_a_stop_does_not_wait_for_a_restart_that_is_to_come(host: str, drain: bool) -> None:  # noqa: FBT001
    net = network(Supervision(directive="restart", backoff_s=3600))
    runtime = runtime_of(host)
    with net.start(runtime=runtime) as ref:
        with pytest.raises(HandlerError):
            net["a"].ref.ask("bad")
        net["a"].ref.tell("queued")
        assert ref.stop(drain=drain) is True
    assert [body for body, _ in LOG] == (["bad", "queued"] if drain else ["bad"])
    counts = runtime.statistics()
    assert counts.sent == counts.delivered + counts.dead
    assert runtime.engine.held == 0


@pytest.mark.parametrize("host", HOSTS)
def test_a_limit_does_not_wait_for_a_restart_that_is_to_come(host: str) -> None:
    net = network(Supervision(directive="restart", backoff_s=3600))
    run = net.run("bad", runtime=runtime_of(host), timeout=0.01)
    assert run.ended == "timeout"
    assert conserved(run)


@pytest.mark.parametrize(
    ("strategy", "touched"), [("one_for_one", "b"), ("all_for_one", "abc"), ("rest_for_one", "bc")]
)
def test_all_whom_the_strategy_touches_wait_and_are_restarted(strategy: Any, touched: str) -> None:
    net = network(Supervision(strategy=strategy, directive="restart", backoff_s=5), *"abc")
    with net.start(runtime=Deterministic(0)):
        for name in "abc":
            net[name].ref.ask(Message(method="terminated"))
        STARTS.clear()
        net["b"].ref.tell("bad")
        futures = [net[name].ref.ask("good", block=False) for name in "abc"]
        for future in futures:
            future.get()
    assert "".join(sorted(STARTS)) == touched
    waited = sorted(when for body, when in LOG if body == "good")
    assert waited.count(5) >= (1 if strategy == "one_for_one" else len(touched) - 2)
    assert max(waited) == 5
    assert {name: net[name].count for name in "abc"} == dict.fromkeys("abc", 1)


# -- state


@pytest.mark.parametrize(("keep", "count"), [(True, 3), (False, 1)])
@pytest.mark.parametrize("host", HOSTS)
def test_a_restart_keeps_the_fields_by_choice(host: str, keep: bool, count: int) -> None:  # noqa: FBT001
    net = network(Supervision(directive="restart", keep_state=keep))
    with net.start(runtime=runtime_of(host)):
        net["a"].ref.ask("good")
        with pytest.raises(HandlerError):
            net["a"].ref.ask("bad")
        net["a"].ref.ask("good")
    assert net["a"].count == count
    assert STARTS == ["a", "a"]


# -- tries


class Law(Instrument):
    """Conservation, at every event."""

    def __init__(self) -> None:
        self.runtime: Runtime | None = None
        self.broken: list[Any] = []

    def _look(self) -> None:
        assert self.runtime is not None
        counts = self.runtime.statistics()
        if counts.sent != counts.delivered + counts.queued + counts.dead:
            self.broken.append(counts)

    def send(self, envelope: Envelope, receiver: str) -> None:
        self._look()

    def deliver(self, envelope: Envelope, receiver: str) -> None:
        self._look()

    def finish(self, envelope: Envelope, receiver: str) -> None:
        self._look()

    def fail(self, error: HandlerError) -> None:
        self._look()

    def drop(self, letter: DeadLetter) -> None:
        self._look()


@pytest.mark.parametrize("directive", ["resume", "restart"])
@pytest.mark.parametrize("tries", [1, 2, 5])
@pytest.mark.parametrize("host", HOSTS)
def test_a_poisonous_message_dies_after_so_many_tries(
    host: str, tries: int, directive: Any
) -> None:
    law = Law()
    net = network(Supervision(directive=directive, max_tries=tries))
    runtime = law.runtime = runtime_of(host, law)
    with net.start(runtime=runtime):
        ref = net["a"].ref
        failing = ref.ask("bad", block=False)
        following = ref.ask("next", block=False)
        with pytest.raises(HandlerError) as caught:
            failing.get()
        assert isinstance(caught.value.__cause__, ValueError)
        following.get()
        ref.ask("last")
    assert [body for body, _ in LOG] == ["bad"] * tries + ["next", "last"]
    assert [letter.reason for letter in runtime.dead_letters] == ["poison"]
    counts = runtime.statistics()
    assert (counts.failures, counts.dead, counts.queued) == (tries, 1, 0)
    assert counts.sent == counts.delivered + counts.dead
    assert law.broken == []


class Recovering(GenAgent):
    """Succeeds at the third try; async, or on a thread."""

    tries: int = 0

    async def astep(self, message: Message) -> str:
        return self.work(message.body)

    def on_thread(self, message: Message) -> str:
        return self.work(message.body)

    def work(self, body: str) -> str:
        self.tries += 1
        if self.tries < 3:
            raise ValueError(body)
        return f"at try {self.tries}"


@pytest.mark.parametrize("method", ["step", "on_thread"])
@pytest.mark.parametrize("host", HOSTS)
def test_a_message_that_succeeds_at_last_is_delivered_and_answered(host: str, method: str) -> None:
    net = GenNetwork(agents=[Recovering(supervision=Supervision(max_tries=3))], entry="recovering")
    run = net.run(Message("x", method=method), runtime=runtime_of(host))
    assert [output.body for output in run.outputs] == ["at try 3"]
    assert len(run.failures) == 2
    assert run.dead_letters == ()
    assert conserved(run)


@pytest.mark.parametrize("directive", ["stop", "escalate"])
def test_a_message_is_not_tried_again_by_an_agent_that_is_given_up(directive: Any) -> None:
    net = network(Supervision(directive=directive, max_tries=9))
    run = net.run("bad", runtime=Deterministic(0))
    assert len(run.failures) == 1
    assert run.statistics.delivered == 1
    assert conserved(run)


def test_tries_with_back_off_wait_between_them() -> None:
    net = network(Supervision(directive="restart", backoff_s=1, max_tries=3))
    run = net.run("bad", runtime=Deterministic(0))
    assert [when for _, when in LOG] == [0, 1, 3]
    assert [letter.reason for letter in run.dead_letters] == ["poison"]
    assert conserved(run)


@pytest.mark.parametrize(
    "options",
    [
        {"backoff_s": -1},
        {"backoff_s": None},
        {"max_backoff_s": -1},
        {"max_tries": 0},
        {"max_tries": 1.5},
        {"max_tries": True},
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Supervision(**options)


# -- watching


class Watcher(GenAgent):
    blocking = False
    gone: list[tuple[str, str]] = Field(default_factory=list)

    def step(self, message: Message) -> str:
        self.watch(message.body)
        self.watch(message.body)
        return "watching"

    def forget(self, message: Message) -> str:
        self.unwatch(message.body)
        return "forgotten"

    def terminated(self, message: Terminated) -> None:
        assert str(message.sender) == message.path
        self.gone.append((message.path, message.reason))


def pair(**options: Any) -> GenNetwork:
    return GenNetwork(name="net", agents=[Watcher(), Fragile(name="a", **options)])


@pytest.mark.parametrize("host", HOSTS)
def test_a_watcher_is_told_once_that_an_agent_has_stopped(host: str) -> None:
    net = pair()
    with net.start(runtime=runtime_of(host)):
        net["watcher"].ref.ask("a")
        net["a"].ref.stop()
        net["watcher"].ref.ask(Message("a", method="forget"))
        assert net["watcher"].gone == [("net/a", "stopped")]


@pytest.mark.parametrize("host", HOSTS)
def test_a_watcher_is_told_of_one_that_was_given_up(host: str) -> None:
    net = pair(supervision=Supervision(directive="stop"))
    with net.start(runtime=runtime_of(host)):
        net["watcher"].ref.ask("a")
        with pytest.raises(HandlerError):
            net["a"].ref.ask("bad")
        net["a"].ref.stop()
        net["watcher"].ref.ask(Message("a", method="forget"))
        assert net["watcher"].gone == [("net/a", "failure")]


def test_a_watcher_is_told_of_a_member_that_is_removed_and_of_one_that_is_gone_already() -> None:
    net = pair()
    with net.start(runtime=Deterministic(0)):
        removed = net["a"]
        net["watcher"].ref.ask("a")
        net.remove("a")
        removed.ref.stop()  # waits for it
        net["watcher"].ref.ask(Message("watcher", method="forget"))
        assert [reason for _, reason in net["watcher"].gone] == ["stopped"]
        net["watcher"].watch(removed)
        net["watcher"].ref.ask(Message("watcher", method="forget"))
        assert len(net["watcher"].gone) == 2


def test_unwatch_takes_it_back_and_a_watcher_that_is_gone_hears_nothing() -> None:
    net = pair()
    runtime = Deterministic(0)
    with net.start(runtime=runtime):
        net["watcher"].ref.ask("a")
        net["watcher"].ref.ask(Message("a", method="forget"))
        net["a"].ref.stop()
        assert net["watcher"].gone == []
    net = pair()
    with net.start(runtime=runtime):
        net["watcher"].ref.ask("a")
        net["watcher"].ref.stop()
        net["a"].ref.stop()
    assert runtime.dead_letters == ()


def test_watching_across_runtimes() -> None:
    watcher, other = Watcher(), Fragile(name="a")
    with watcher.start(runtime=Runtime("thread")) as ref:
        other_ref = other.start(runtime=Runtime("thread"))
        watcher.watch(other_ref)
        other_ref.ask("good")
        other_ref.stop()
        ref.stop()
    assert watcher.gone == [("a", "stopped")]


def test_a_network_can_be_watched_and_strangers_cannot() -> None:
    inner = GenNetwork(name="inner", agents=[Fragile(name="a")])
    net = GenNetwork(name="net", agents=[Watcher(), inner])
    with net.start(runtime=Deterministic(0)):
        net["watcher"].watch("inner")
        with pytest.raises(UnknownAgent):
            net["watcher"].watch("nobody")
        inner.ref.stop()
        net["watcher"].ref.ask(Message("watcher", method="forget"))
        assert net["watcher"].gone == [("net/inner", "stopped")]


def test_a_test_sees_whom_a_handler_watches() -> None:
    watcher = Watcher()
    with collect(watcher) as said:
        watcher.step(Message("a"))
        assert said.watched == ["a", "a"]
        watcher.forget(Message("a"))
    assert said.watched == ["a"]
