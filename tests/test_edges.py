"""Edges that take time, lose messages or hold only so many; agents that move while messages fly."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from llm_net import Deterministic, GenAgent, GenNetwork, Message, Run, Runtime, UsageError

DEADLINE = 10


class Source(GenAgent):
    blocking = False
    count: int = 20

    def step(self, message: Message) -> None:
        for number in range(self.count):
            self.emit("out", str(number))


class Hearing(GenAgent):
    blocking = False
    heard: list[tuple[str, float]] = Field(default_factory=list)

    def out(self, message: Message) -> None:
        since = self.now() - START
        self.heard.append((message.body, since.total_seconds()))


START = Deterministic().now()


def pair(count: int = 20, **edge: Any) -> GenNetwork:
    return GenNetwork(
        name="net",
        agents=[Source(count=count), Hearing()],
        edges=[("source", "out", "hearing", edge)],
        entry="source",
    )


def bodies(net: GenNetwork) -> list[str]:
    return [body for body, _ in net["hearing"].heard]


def conserved(run: Run) -> bool:
    counts = run.statistics
    return counts.queued == 0 and counts.sent == counts.delivered + counts.dead


def test_latency_is_time_on_the_runtimes_clock_and_holds_the_run() -> None:
    net = pair(3, latency=2.5)
    run = net.run("go", runtime=Deterministic(1))
    assert net["hearing"].heard == [("0", 2.5), ("1", 2.5), ("2", 2.5)]
    assert run.ended == "idle"
    assert conserved(run)


@given(seed=st.integers(0, 1000), count=st.integers(1, 30))
def test_an_edge_keeps_its_own_order_whatever_its_latency_draws(seed: int, count: int) -> None:
    net = pair(count, latency=random.Random.random)
    run = net.run("go", runtime=Deterministic(seed))
    assert bodies(net) == [str(number) for number in range(count)]
    times = [when for _, when in net["hearing"].heard]
    assert times == sorted(times)
    assert conserved(run)


def test_another_edge_may_overtake() -> None:
    slow, fast = Hearing(name="slow"), Hearing(name="fast")
    net = GenNetwork(
        name="net",
        agents=[Source(count=1), slow, fast],
        edges=[("source", "out", "slow", {"latency": 3}), ("source", "out", "fast")],
        entry="source",
    )
    net.run("go", runtime=Deterministic(0))
    assert (slow.heard[0][1], fast.heard[0][1]) == (3, 0)


@given(seed=st.integers(0, 1000), loss=st.floats(0, 1))
def test_what_is_lost_is_a_dead_letter_and_the_seed_says_which(seed: int, loss: float) -> None:
    traces: list[str | None] = []
    lost: list[str] = []
    for _ in range(2):
        net = pair(loss=loss)
        run = net.run("go", runtime=Deterministic(seed))
        lost = [letter.message.body for letter in run.dead_letters]
        assert {letter.reason for letter in run.dead_letters} <= {"loss"}
        assert sorted([*lost, *bodies(net)], key=int) == [str(number) for number in range(20)]
        assert conserved(run)
        traces.append(run.trace)
    assert traces[0] == traces[1]
    if loss == 1:
        assert len(lost) == 20
    if loss == 0:
        assert lost == []


def test_a_capacity_bounds_what_is_under_way() -> None:
    net = pair(latency=1, capacity=3)
    run = net.run("go", runtime=Deterministic(0))
    assert bodies(net) == ["0", "1", "2"]
    assert [letter.reason for letter in run.dead_letters] == ["overflow"] * 17
    assert conserved(run)


@pytest.mark.parametrize("runtime", [lambda: Runtime("thread"), lambda: Runtime("inline")])
def test_latency_works_on_the_real_clock_too(runtime: Any) -> None:
    net = pair(5, latency=0.001)
    run = net.run("go", runtime=runtime())
    assert bodies(net) == ["0", "1", "2", "3", "4"]
    assert conserved(run)


@pytest.mark.parametrize("host", ["thread", "inline", "deterministic"])
def test_what_is_under_way_when_a_run_ends_is_dead(host: Any) -> None:
    net = pair(5, latency=60)
    runtime = Deterministic(0) if host == "deterministic" else Runtime(host)
    run = net.run("go", runtime=runtime, timeout=0.01)
    assert run.ended == "timeout"
    assert {letter.reason for letter in run.dead_letters} == {"timeout"}
    assert (run.statistics.dead, run.statistics.delivered) == (5, 1)
    assert conserved(run)
    assert net.run("go", runtime=Deterministic(0)).statistics.delivered == 6


def test_what_is_under_way_when_all_stops_is_dead() -> None:
    net = pair(5, latency=60)
    runtime = Runtime("thread")
    ref = net.start(runtime=runtime)
    ref.ask("go")
    assert runtime.statistics().queued == 5
    ref.stop()
    counts = runtime.statistics()
    assert (counts.queued, counts.dead) == (0, 5)


def test_an_edge_that_is_linked_again_changes_and_keeps_its_place() -> None:
    net = pair(1, latency=5)
    net.link("source", "out", "hearing", latency=1)
    assert net.graph.edges["source", "hearing", "out"] == {"latency": 1}
    net.run("go", runtime=Deterministic(0))
    assert net["hearing"].heard == [("0", 1)]
    net.link("source", "out", "hearing", note="seen")
    assert net.graph.edges["source", "hearing", "out"] == {"latency": 1, "note": "seen"}


@pytest.mark.parametrize(
    "edge",
    [
        {"latency": -1},
        {"latency": "soon"},
        {"loss": 1.5},
        {"loss": "some"},
        {"capacity": 3},
        {"capacity": 0, "latency": 1},
        {"capacity": 1.5, "latency": 1},
    ],
)
def test_an_attribute_without_a_meaning_is_refused_and_nothing_is_linked(
    edge: dict[str, Any],
) -> None:
    net = GenNetwork(name="net", agents=[Source(), Hearing()])
    with pytest.raises(UsageError, match="edge 'source' 'out' 'hearing'"):
        net.link("source", "out", "hearing", **edge)
    assert net.edges == ()


# -- moving


def two() -> tuple[GenNetwork, GenNetwork, GenNetwork]:
    left = GenNetwork(
        name="left",
        agents=[Source(count=3), Hearing()],
        edges=[("source", "out", "hearing")],
        entry="source",
    )
    right = GenNetwork(name="right", agents=[Source(name="other", count=3)])
    return GenNetwork(name="all", agents=[left, right], entry="left"), left, right


@pytest.mark.parametrize("host", ["thread", "inline", "deterministic"])
def test_a_member_moves_with_its_state_and_what_was_sent_to_it(host: Any) -> None:
    whole, left, right = two()
    agent = left["hearing"]
    runtime = Deterministic(1) if host == "deterministic" else Runtime(host)
    with whole.start(runtime=runtime) as ref:
        whole.run("go")
        held = agent.ref
        held.tell(Message("sent before", method="out"))
        assert left.move("hearing", right) is agent
        held.tell(Message("sent after", method="out"))
        assert agent.path == "all/right/hearing"
        assert "hearing" not in left
        assert right["hearing"] is agent
        right.link("other", "out", "hearing")
        right["other"].ref.ask("go")
        held.ask(Message("last", method="out"))
        assert held.is_alive()
        assert ref.is_alive()
    assert bodies_of(agent)[:3] == ["0", "1", "2"]
    assert sorted(bodies_of(agent)[3:]) == ["0", "1", "2", "last", "sent after", "sent before"]
    assert not held.is_alive()
    counts = runtime.statistics()
    assert counts.sent == counts.delivered + counts.dead


def bodies_of(agent: Any) -> list[str]:
    return [body for body, _ in agent.heard]


def test_a_move_that_cannot_be_is_refused_and_nothing_has_changed() -> None:
    whole, left, right = two()
    other = GenNetwork(name="other", agents=[Hearing()])
    with pytest.raises(UsageError, match="already has a member"):
        left.move("hearing", other)
    with pytest.raises(UsageError, match="itself"):
        whole.move("left", left)
    with whole.start(runtime=Runtime("inline")), pytest.raises(UsageError, match="both networks"):
        left.move("source", other)
    assert set(left.directory) == {"source", "hearing"}
    assert left.edges == (("source", "out", "hearing"),)
    left.move("source", right)  # nobody is live
    assert right["source"].path == "all/right/source"
    assert left.edges == ()


def test_members_move_back_and_forth_while_messages_fly() -> None:
    whole, left, right = two()
    agent = left["hearing"]
    over = threading.Event()
    sent = 0
    with whole.start(runtime=Runtime("thread")):
        held = agent.ref

        def tell() -> None:
            nonlocal sent
            while not over.is_set() and sent < 20_000:
                held.tell(Message(str(sent), method="out"))
                sent += 1

        teller = threading.Thread(target=tell)
        teller.start()
        for _ in range(100):
            left.move("hearing", right)
            right.move("hearing", left)
        over.set()
        teller.join(DEADLINE)
        held.ask(Message("last", method="out"))
    assert bodies_of(agent) == [*map(str, range(sent)), "last"]
