"""Parallel is sequential: the same model, whatever the mode, the cap and the latencies."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesa_bridge.hook import enable_automatic_parallel_stepping
from mesa_bridge.options import Mode
from mesa_bridge.stepping import last_report
from tests.bridge.thinking import (
    Awaiting,
    Blocking,
    Citizen,
    Oracle,
    Program,
    Society,
    Twofold,
    digest,
)

DEEDS = ("plan", "plan", "plan", "doom", "pay", "move", "eat", "bear", "fail", "talk", "rest")
KINDS: tuple[type[Citizen], ...] = (Twofold, Awaiting, Blocking)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Failures are part of the programs: say nothing about them."""
    logging.getLogger("mesa_bridge").disabled = True
    yield
    logging.getLogger("mesa_bridge").disabled = False


def programs() -> st.SearchStrategy[Program]:
    deeds = st.tuples(st.sampled_from(DEEDS), st.integers(0, 7))
    return st.lists(
        st.lists(st.lists(deeds, max_size=5), min_size=1, max_size=3), min_size=1, max_size=5
    )


def stepped(
    program: Program,
    kinds: tuple[type[Citizen], ...],
    mode: Mode,
    oracle: Oracle,
    cap: int | None = None,
) -> Any:
    model = Society(program, oracle, kinds=kinds, size=6)
    reports: list[Any] = []
    with enable_automatic_parallel_stepping(model, mode, max_in_flight=cap):
        for _ in range(3):
            model.step()
            report = last_report(model)
            assert report is not None
            failures = [str(each) for each in report.failures]
            reports.append((report.agents, report.plans, failures, report.dropped))
            assert cap is None or report.max_in_flight <= cap
    return digest(model), reports


@settings(max_examples=60)
@given(
    program=programs(),
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=3).map(tuple),
    mode=st.sampled_from(["asyncio", "threading", "sequential"]),
    cap=st.none() | st.integers(1, 64),
    oracle=st.builds(Oracle, st.sampled_from([0.0, 0.003]), st.integers(0, 99)),
)
def test_every_mode_cap_and_latency_gives_the_model_that_one_worker_gives(
    program: Program,
    kinds: tuple[type[Citizen], ...],
    mode: Mode,
    cap: int | None,
    oracle: Oracle,
) -> None:
    reference = stepped(program, kinds, "sequential", Oracle())
    assert stepped(program, kinds, mode, oracle, cap) == reference


@settings(max_examples=60)
@given(program=programs(), mode=st.sampled_from(["asyncio", "threading", "sequential"]))
def test_without_plans_every_model_is_what_plain_mesa_makes_of_it(
    program: Program, mode: Mode
) -> None:
    calm = {"plan": "move", "doom": "pay", "fail": "move", "rest": "pay"}
    tamed = [
        [[(calm.get(deed, deed), number) for deed, number in deeds] for deeds in mind]
        for mind in program
    ]
    plain = Society(tamed, kinds=(Blocking,), size=6)
    for _ in range(3):
        plain.step()
    hooked = Society(tamed, kinds=(Blocking,), size=6)
    with enable_automatic_parallel_stepping(hooked, mode):
        for _ in range(3):
            hooked.step()
    assert digest(hooked) == digest(plain)
