"""Mesa's own words, led through a parallel activation: when, for whom, and how it is undone."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import mesa
import pytest
from mesa.agent import AgentSet

from llm_net.errors import UsageError
from mesa_bridge import versions
from mesa_bridge.hook import (
    disable_automatic_parallel_stepping,
    enable_automatic_parallel_stepping,
)
from mesa_bridge.served import is_served
from mesa_bridge.stepping import last_report, step_agents_parallel_sync
from tests.bridge.thinking import Blocking, Oracle, Society, Twofold

CLASSES = {AgentSet, type(mesa.Model(rng=0).agents)}
MESAS_OWN = {(each, word): vars(each)[word] for each in CLASSES for word in ("do", "shuffle_do")}


def patched() -> bool:
    return any(vars(each)[word] is not own for (each, word), own in MESAS_OWN.items())


def model(**more: Any) -> Society:
    return Society([[[("plan", 0)]]], **more)


def test_the_flag_of_a_model_turns_it_on_where_no_model_is_named() -> None:
    flagged, other = model(oracle=Oracle(together=4)), model()
    flagged.parallel_stepping = True
    enable_automatic_parallel_stepping()
    flagged.step()
    assert is_served(flagged)
    assert not is_served(other)
    report = last_report(flagged)
    assert report is not None
    assert report.max_in_flight == 4
    other.agents.do("step")
    assert last_report(other) is None


def test_a_model_that_is_named_needs_no_flag() -> None:
    named, other = model(), model()
    enable_automatic_parallel_stepping(named, "threading")
    assert (is_served(named), is_served(other)) == (True, False)


def test_a_string_in_first_place_is_the_mode() -> None:
    flagged = model()
    flagged.parallel_stepping = True
    enable_automatic_parallel_stepping("sequential")
    flagged.step()
    report = last_report(flagged)
    assert report is not None
    assert report.max_in_flight == 1


def test_stepping_by_hand_goes_by_what_is_enabled_unless_it_says_otherwise() -> None:
    named = model()
    with enable_automatic_parallel_stepping(named, "sequential"):
        assert step_agents_parallel_sync(named.agents).max_in_flight == 1
        named.oracle = Oracle(together=4)
        assert step_agents_parallel_sync(named.agents, mode="asyncio").max_in_flight == 4
    named.oracle = Oracle(together=4)
    assert step_agents_parallel_sync(named.agents).max_in_flight == 4


def test_enabling_again_changes_the_settings_and_disabling_once_undoes_all() -> None:
    named = model()
    for mode in ("asyncio", "threading", "sequential"):
        enable_automatic_parallel_stepping(named, mode)
        enable_automatic_parallel_stepping(mode)
    named.step()
    report = last_report(named)
    assert report is not None
    assert report.max_in_flight == 1
    disable_automatic_parallel_stepping()
    assert not is_served(named)
    assert not patched()
    disable_automatic_parallel_stepping()


def test_as_a_context_it_gives_back_what_was_before() -> None:
    named = model()
    with enable_automatic_parallel_stepping(named):
        with (
            enable_automatic_parallel_stepping(named, "sequential"),
            enable_automatic_parallel_stepping("sequential"),
        ):
            named.step()
            assert (report := last_report(named)) is not None
            assert report.max_in_flight == 1
        named.step()
        assert (report := last_report(named)) is not None
        assert report.max_in_flight == 4
    assert not patched()


def test_a_model_may_enable_it_before_anything_else_of_it_is_made() -> None:
    class Eager(Society):
        def __init__(self) -> None:
            enable_automatic_parallel_stepping(self)
            super().__init__([[[("plan", 0)]]], Oracle(together=4))

    eager = Eager()
    eager.step()
    assert (report := last_report(eager)) is not None
    assert report.max_in_flight == 4


def test_every_set_of_agents_is_served_and_given_back() -> None:
    named = Society([[[("plan", 0)]]], kinds=(Twofold, Blocking), size=6)
    with enable_automatic_parallel_stepping(named):
        for agents in (
            named.agents,
            named.agents_by_type[Twofold],
            named.agents.select(agent_type=Blocking),
            named.agents.shuffle(),
        ):
            assert agents.do("step") is agents
            assert (report := last_report(named)) is not None
            assert report.plans == len(agents)
        groups = named.agents.groupby(type)
        groups.do("shuffle_do", "step")
        assert (report := last_report(named)) is not None
        assert report.plans == 3


def test_functions_maps_and_empty_sets_go_to_mesa_untouched() -> None:
    named = model()
    with enable_automatic_parallel_stepping(named):
        seen: list[Any] = []
        named.agents.do(lambda agent, word: seen.append((agent.unique_id, word)), "hi")
        named.agents.shuffle_do(lambda agent: seen.append(agent.unique_id))
        assert len(seen) == 8
        assert named.agents.map("generate_obs")
        AgentSet([], random=named.random).do("step")
    assert last_report(named) is None


def test_arguments_go_to_every_agent() -> None:
    named = model()
    with enable_automatic_parallel_stepping(named):
        named.agents.do("hear", number=3)
        named.agents.do("hear", 4)
    assert next(iter(named.agents)).log == [("heard", 3, 1), ("heard", 4, 5)]


def test_a_mesa_that_is_not_as_we_know_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def do(self: Any, what: str) -> None:
        """Not as it was."""

    monkeypatch.setattr(AgentSet, "do", do)
    with pytest.raises(UsageError, match=r"AgentSet\.do is not the method that we know"):
        enable_automatic_parallel_stepping()
    with pytest.raises(UsageError, match="Use ParallelStepping"):
        versions.agent_set_classes()
    assert not is_served(model())


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(UsageError, match="no Mesa model"):
        enable_automatic_parallel_stepping(model().agents)
    with pytest.raises(UsageError, match="no mode 'async'"):
        enable_automatic_parallel_stepping("async")
    assert not patched()


def test_importing_changes_nothing_in_mesa_and_starts_nothing() -> None:
    code = """
import threading, mesa
from mesa.agent import AgentSet
kinds = {AgentSet, type(mesa.Model(rng=0).agents)}
before = [(dict(vars(each)), threading.active_count()) for each in kinds]
import mesa_bridge.hook, mesa_bridge.stepping
assert before == [(dict(vars(each)), threading.active_count()) for each in kinds]
"""
    subprocess.run([sys.executable, "-c", code], check=True)


class Swept(Society):
    """For `batch_run`: enables parallel stepping in the process in which it is made."""

    def __init__(self, size: int = 1, rng: int | None = None) -> None:
        enable_automatic_parallel_stepping(self)
        super().__init__([[[("plan", 0), ("pay", 1)]]], Oracle(together=size), size=size)

    def step(self) -> None:
        super().step()
        report = last_report(self)
        assert report is not None
        assert report.max_in_flight == len(self.agents)
        self.running = self.steps < 2


def test_models_enable_it_in_the_processes_of_batch_run() -> None:
    results = mesa.batch_run(
        Swept, {"size": [2, 3]}, number_processes=2, max_steps=1, display_progress=False
    )
    assert len(results) == 2
