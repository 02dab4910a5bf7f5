"""A network as a Mesa model: rounds, frames, batches."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import mesa
import networkx as nx
import pykka
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from llm_net import GenAgent, GenNetwork, Message
from mesa_bridge.network_model import NetworkModel
from tests.waiting import within_deadline


class Gossip(GenAgent):
    """Passes on what it hears first."""

    known: bool = False
    heard: int = 0

    def step(self, message: Message) -> None:
        self.heard += 1
        if not self.known:
            self.known = True
            self.emit("step", message.body)


def village(graph: Any = None) -> GenNetwork:
    """A village in which news spreads along a path."""
    found = nx.path_graph(5) if graph is None else graph
    net = GenNetwork.from_graph(found, agent=Gossip(name="g"), name="village")
    net.entry = "0"
    return net


def knowing(model: NetworkModel) -> int:
    return sum(getattr(each.agent, "known", False) for each in model.agents)


def test_news_goes_one_hop_a_step() -> None:
    model = NetworkModel(village(), rng=1, entry_message="fire")
    seen = [knowing(model)]
    for _ in range(6):
        model.step()
        seen.append(knowing(model))
    assert seen == [0, 1, 2, 3, 4, 5, 5]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 99), n=st.integers(2, 8))
def test_every_step_delivers_exactly_what_was_queued_when_it_began(seed: int, n: int) -> None:
    graph = nx.gnp_random_graph(n, 0.5, seed=seed)
    model = NetworkModel(village(graph), rng=seed, entry_message="fire")
    for _ in range(6):
        before = model.statistics()
        model.step()
        after = model.statistics()
        assert after.delivered - before.delivered == before.queued
        assert after.sent == after.delivered + after.queued + after.dead
    reachable = len(nx.node_connected_component(graph, 0))
    farthest = max(nx.single_source_shortest_path_length(graph, 0).values())
    if farthest < 6:
        assert knowing(model) == reachable


def test_frames_are_tidy() -> None:
    model = NetworkModel(village(), rng=1, entry_message="fire")
    for _ in range(3):
        model.step()
    messages = model.messages_frame()
    assert list(messages.columns) == ["step", "sender", "receiver", "method", "body"]
    assert list(messages["step"]) == [1, 2, 3, 3]
    edges = model.edges_frame()
    used = {(u, v): n for u, _, v, n in edges.itertuples(index=False)}
    assert used["0", "1"] == 1
    assert used["4", "3"] == 0
    collected = model.datacollector.get_model_vars_dataframe()
    assert list(collected["delivered"]) == [0, 1, 2, 4]


def test_a_model_runs_in_a_batch() -> None:
    rows = mesa.batch_run(
        NetworkModel,
        {"network": village, "entry_message": "fire"},
        max_steps=3,
        number_processes=1,
        display_progress=False,
        **({"iterations": 2} if mesa.__version__ < "3.4" else {"rng": [1, 2]}),
    )
    assert {row["delivered"] for row in rows if row["Step"] == 3} == {4}


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_goes_on_as_the_original(copied: Any) -> None:
    model = NetworkModel(village(), rng=1, entry_message="fire")
    model.step()
    twin = copied(model)
    for each in (model, twin):
        for _ in range(3):
            each.step()
    assert model.messages == twin.messages
    assert knowing(model) == knowing(twin) == 4


def test_timers_go_off_a_second_a_step() -> None:
    class Clock(GenAgent):
        rings: list[int] = Field(default_factory=list)

        def step(self, message: Message) -> None:
            self.schedule(2, Message("ring", method="ring"))

        def ring(self, message: Message) -> None:
            self.rings.append(1)

    net = GenNetwork(name="net", agents=[Clock(name="clock")], entry="clock")
    model = NetworkModel(net, rng=1, entry_message="go")
    counts = []
    for _ in range(5):
        model.step()
        clock: Any = model.network["clock"]
        counts.append(len(clock.rings))
    assert counts == [0, 0, 1, 1, 1]


def test_nested_networks_have_a_mesa_agent_for_each_agent_inside() -> None:
    inner = GenNetwork(name="inner", agents=[Gossip(name="a")], entry="a")
    net = GenNetwork(name="net", agents=[inner, Gossip(name="b")], entry=["inner", "b"])
    model = NetworkModel(net, rng=1, entry_message="x")
    assert [each.path for each in model.agents] == ["net/inner/a", "net/b"]
    model.step()
    assert knowing(model) == 2


def test_a_network_that_waits_for_its_next_step_can_be_stopped() -> None:
    model = NetworkModel(village(), rng=1, entry_message="fire")
    model.step()
    ref = model.network.ref
    assert model.statistics().queued
    within_deadline(pykka.ActorRegistry.stop_all)
    assert not ref.is_alive()
