"""The examples of agent-based models: the same each time, beside their twins, with any model."""

from __future__ import annotations

import contextlib
import io
import random
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mesa.examples.advanced.epstein_civil_violence import agents as mesas

from examples.buyers_and_sellers.model import BUYERS, SELLERS, Buyer, Market
from examples.civil_violence.model import STATES, Citizen, CivilViolence, by_rule
from examples.simulation import Example, main
from examples.sugar_trade.model import SugarTrade, Thinker
from examples.town.model import Town
from llm_net import Budget, ModuleLLM, Request
from mesa_bridge import last_report

NAMES = ["buyers_and_sellers", "civil_violence", "sugar_trade", "town"]
POSSIBLE: dict[str, list[Any]] = {
    "boolean": [True, False],
    "number": [-1, 0, 3, 5.5, 7, 10, 1e300],
    "string": ["", "why not", "<b>" * 30],
}
WRONG: list[Any] = [None, [], {"a": 1}, "Nobody"]


def example(name: str) -> Example:
    found: Example = import_module(f"examples.{name}.__main__").EXAMPLE
    return found


def printed(name: str, *arguments: str) -> str:
    """What an example prints, run with these arguments; what it costs stands elsewhere."""
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        done = main(example(name), list(arguments))
    assert done == 0, errors.getvalue()
    assert "total" in errors.getvalue(), "the table of costs"
    return out.getvalue()


def rambling(seed: int) -> Callable[[Request], Any]:
    """A model that answers anything: words, nothing, calls with what is right, wrong or unknown.

    What it answers depends on the question and the seed alone.
    """

    def answer(request: Request) -> Any:
        luck = random.Random(f"{seed} {request.prompt}")
        if luck.random() < 0.2:
            return luck.choice(["", "I would rather not.", "{", '{"reply": 1}'])
        offered = [each["function"] for each in request.tools] or [{"name": "nobody"}]
        tool = luck.choice(offered)
        given: dict[str, Any] = {}
        for name, schema in tool.get("parameters", {}).get("properties", {}).items():
            good: list[Any] = schema.get("enum") or POSSIBLE[schema["type"]]
            given[name] = luck.choice(WRONG if luck.random() < 0.1 else good)
        return {"tool_calls": [{"name": tool["name"], "arguments": given}]}

    return answer


def run(model: Callable[[ModuleLLM, Budget], Any], seed: int, steps: int = 3) -> Any:
    """A model after some steps on a rambling language model."""
    made = model(ModuleLLM(rambling(seed)), Budget())
    for _ in range(steps):
        made.step()
        report = last_report(made)
        assert report is not None
        assert report.failures == ()
    return made


seeds = st.integers(0, 10_000)
few = settings(max_examples=25, deadline=None)


# -- recorded answers


@pytest.mark.parametrize("name", NAMES)
def test_on_recorded_answers_an_example_prints_the_same_twice_byte_for_byte(name: str) -> None:
    first = printed(name, "--recorded", "--rules")

    assert printed(name, "--recorded", "--rules") == first
    assert first.count("step ") == example(name).steps
    assert first.count("by rule: ") == example(name).steps


@pytest.mark.parametrize("name", NAMES)
def test_recorded_answers_are_small_enough_to_be_kept_and_name_no_place(name: str) -> None:
    text = example(name).recorded.read_text(encoding="utf-8")

    assert len(text) < 300_000
    assert str(Path.home()) not in text


def test_what_is_recorded_can_be_played_again_elsewhere(tmp_path: Path) -> None:
    played = printed("town", "--recorded")
    copy = tmp_path / "answers.jsonl"
    copy.write_bytes(example("town").recorded.read_bytes())

    assert printed("town", "--replay", str(copy)) == played


def test_beyond_its_recording_an_example_fails_and_says_why() -> None:
    errors = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
        done = main(example("civil_violence"), ["--recorded", "--steps", "9"])

    assert done == 1
    assert "CassetteMiss" in errors.getvalue()


def test_an_answer_file_that_is_not_there_is_an_error_in_a_line(tmp_path: Path) -> None:
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors):
        done = main(example("town"), ["--replay", str(tmp_path / "none.jsonl")])

    assert done == 1
    assert "It did not work: There is no recording in" in errors.getvalue()


# -- twins


@pytest.mark.parametrize("seed", range(1, 6))
def test_civil_violence_begins_with_the_people_of_mesas_own_model(seed: int) -> None:
    ours = CivilViolence(ModuleLLM(rambling(0)), Budget(), rng=seed)
    theirs = by_rule(rng=seed)

    def people(model: Any, kind: type[Any]) -> list[Any]:
        return [
            (each.cell.coordinate, each.hardship, each.risk_aversion)
            for each in model.agents_by_type[kind]
        ]

    assert people(ours, Citizen) == people(theirs, mesas.Citizen)
    assert len(ours.agents) == len(theirs.agents)


def test_sugar_trade_begins_with_the_same_traders_with_and_without_minds() -> None:
    def traders(model: Any) -> list[Any]:
        return [(a.name, a.cell.coordinate, a.sugar, a.spice, a.vision) for a in model.agents]

    minds = SugarTrade(ModuleLLM(rambling(0)), Budget())

    assert traders(minds) == traders(SugarTrade(None, Budget()))


# -- whatever the model answers


@few
@given(seed=seeds)
def test_citizens_are_always_in_one_of_three_states(seed: int) -> None:
    model = run(CivilViolence, seed)

    citizens = list(model.agents_by_type[Citizen])
    assert sum(getattr(model, state) for state in STATES) == len(citizens)
    assert all(each.state == "ARRESTED" for each in citizens if each.jail_sentence)


@few
@given(seed=seeds)
def test_nobody_pays_more_than_they_have_or_sells_below_cost(seed: int) -> None:
    market = run(Market, seed)

    for buyer in market.agents_by_type[Buyer]:
        assert buyer.paid is None or min(SELLERS.values()) <= buyer.paid <= BUYERS[buyer.name]


@few
@given(seed=seeds, price=st.sampled_from([0.25, 0.5, 1.0, 2.0, 4.0]))
def test_a_trade_makes_nothing_out_of_nothing_and_leaves_nobody_with_nothing(
    seed: int, price: float
) -> None:
    model = SugarTrade(ModuleLLM(rambling(seed)), Budget(), rng=seed)
    first, second, *_ = model.agents_by_type[Thinker]
    before = first.sugar + second.sugar, first.spice + second.spice

    first.settle(second, price)

    assert (first.sugar + second.sugar, first.spice + second.spice) == before
    assert all(each.sugar > 0 and each.spice > 0 for each in (first, second))


@few
@given(seed=seeds)
def test_traders_live_on_whatever_is_proposed(seed: int) -> None:
    model = run(SugarTrade, seed)

    assert all(each.sugar > 0 and each.spice > 0 for each in model.agents)


@few
@given(seed=seeds)
def test_no_household_has_less_than_nothing(seed: int) -> None:
    town = run(Town, seed)

    assert all(each.food >= 0 and each.money >= 0 for each in town.agents)
    assert len(town.recorder.get_events_by_type("action")) == 3 * len(town.agents)
