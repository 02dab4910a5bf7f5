"""How long a plan lives, and that each of its actions is handed out once."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_net.errors import UsageError
from llm_net.reasoning.cot import CoTReasoning
from llm_net.reasoning.needs import Flow, Task
from llm_net.reasoning.plan import Action, Observation, Plan
from llm_net.reasoning.react import ReActReasoning
from llm_net.reasoning.rewoo import ReWOOReasoning
from llm_net.reasoning.strategy import Reasoning
from tests.reasoning.thinkers import DRIVES, Thinker, call, calls, think

ALL = [CoTReasoning, ReActReasoning, ReWOOReasoning]


@pytest.mark.parametrize("way", DRIVES)
@pytest.mark.parametrize("kind", ALL)
def test_a_plan_takes_one_model_call_and_none_while_it_lives(kind: Any, way: str) -> None:
    agent = Thinker(calls(call("move", direction="north")), calls(call("pay", amount=3)))
    mind = kind(agent)
    names = []
    for step in (1, 2, 3, 4):
        plan = think(way, mind, obs=Observation(step), ttl=3)
        names.append([each.name for each in plan.actions])
        assert plan.step == step
    assert names == [["move"], [], [], ["pay"]]
    assert len(agent.requests) == 2
    assert agent.log == []


@pytest.mark.parametrize("kind", ALL)
def test_within_its_own_step_a_further_call_plans_anew(kind: Any) -> None:
    agent = Thinker(calls(call("pay", amount=1)), calls(call("pay", amount=2)))
    mind = kind(agent)
    first, second = (mind.plan(obs=Observation(5), ttl=9) for _ in range(2))
    assert first.actions[0].arguments == {"amount": 1}
    assert second.actions[0].arguments == {"amount": 2}


def test_rewoo_hands_out_one_action_a_step_and_lives_as_long_as_it_has_some() -> None:
    agent = Thinker(calls(*(call("pay", amount=n) for n in (1, 2, 3))), "over")
    mind = ReWOOReasoning(agent)
    plans = [mind.plan(obs=Observation(step)) for step in (1, 2, 3)]
    assert [[a.arguments["amount"] for a in p.actions] for p in plans] == [[1], [2], [3]]
    assert [p.ttl for p in plans] == [3, 2, 1]
    assert len(agent.requests) == 1
    assert mind.plan(obs=Observation(4)).actions == []
    assert len(agent.requests) == 2


@pytest.mark.parametrize("kind", ALL)
def test_a_failed_action_ends_the_life_of_the_plan(kind: Any) -> None:
    agent = Thinker(calls(call("pay", amount=1)), "something else")
    mind = kind(agent)
    plan = mind.plan(obs=Observation(1), ttl=5)
    mind.took(plan.actions[0], failed=True)
    assert mind.plan(obs=Observation(2), ttl=5).thoughts.endswith("something else")


@pytest.mark.parametrize("kind", ALL)
def test_an_action_that_went_well_does_not_end_it(kind: Any) -> None:
    agent = Thinker(calls(call("pay", amount=1)))
    mind = kind(agent)
    plan = mind.plan(obs=Observation(1), ttl=5)
    mind.took(plan.actions[0], failed=False, value=None)
    assert mind.plan(obs=Observation(2), ttl=5).actions == []


@pytest.mark.parametrize("kind", ALL)
def test_a_tool_that_is_no_longer_selected_ends_the_life_of_the_plan(kind: Any) -> None:
    agent = Thinker(calls(call("pay", amount=1)), "something else")
    mind = kind(agent)
    mind.plan(obs=Observation(1), ttl=5, selected_tools=["pay"])
    assert mind.plan(obs=Observation(2), selected_tools=["move"]).thoughts.endswith(
        "something else"
    )


@pytest.mark.parametrize("way", DRIVES)
@pytest.mark.parametrize("kind", ALL)
def test_without_any_prompt_there_is_nothing_to_plan(kind: Any, way: str) -> None:
    agent = Thinker()
    agent.step_prompt = None
    with pytest.raises(ValueError, match="step_prompt"):
        think(way, kind(agent))


@pytest.mark.parametrize("way", DRIVES)
@pytest.mark.parametrize("kind", ALL)
def test_a_prompt_that_is_given_wins_over_the_step_prompt(kind: Any, way: str) -> None:
    agent = Thinker("fine", "fine")
    think(way, kind(agent), prompt="Sing.")
    think(way, kind(agent))
    assert [each.prompt for each in agent.requests] == ["Sing.", "Go on."]


@pytest.mark.parametrize("kind", ALL)
def test_a_strange_tool_among_the_selected_is_an_error_of_the_developer(kind: Any) -> None:
    with pytest.raises(UsageError, match="move"):
        kind(Thinker("x")).plan(selected_tools=["mov"])


class Flipper(Reasoning):
    """A strategy with a script of its own; asks nobody."""

    def flow(self, task: Task) -> Flow:
        """Plan so many actions as the prompt says."""
        actions = [Action("pay", {"amount": n}, str(n)) for n in range(int(task.prompt))]
        return Plan(step=task.obs.step, actions=actions, ttl=task.ttl)
        yield


class OneByOne(Flipper):
    """The same, one action a step."""

    one_by_one = True


@given(
    kind=st.sampled_from([Flipper, OneByOne]),
    asked=st.lists(st.tuples(st.integers(1, 3), st.integers(0, 3), st.integers(1, 4)), max_size=30),
)
def test_every_action_is_handed_out_at_most_once_and_never_after_its_ttl(
    kind: type[Flipper], asked: list[tuple[int, int, int]]
) -> None:
    """Steps that jump, plans of any length and life; beside a model of the rule."""
    agent = Thinker()
    mind = kind(agent)
    step, born, life, left = 0, 0, 0, list[int]()
    for jump, many, ttl in asked:
        step += jump
        plan = mind.plan(prompt=str(many), obs=Observation(step), ttl=ttl)
        if not born < step < born + life:
            born, left = step, list(range(many))
            life = max(ttl, many) if kind.one_by_one else ttl
        now, left = (left[:1], left[1:]) if kind.one_by_one else (left, [])
        assert [each.arguments["amount"] for each in plan.actions] == now
        assert plan.ttl == born + life - step


class Blocking(Reasoning):
    """As users of Mesa-LLM write it: plan() by hand."""

    def plan(self, *_: Any, **__: Any) -> Plan:
        """Always the same."""
        return Plan(step=1, thoughts="by hand")


class Awaiting(Reasoning):
    """The other one by hand."""

    async def aplan(self, *_: Any, **__: Any) -> Plan:
        """Always the same."""
        return Plan(step=1, thoughts="by hand")


@pytest.mark.parametrize("way", DRIVES)
@pytest.mark.parametrize("kind", [Blocking, Awaiting])
def test_one_of_plan_and_aplan_is_enough(kind: Any, way: str) -> None:
    assert think(way, kind(Thinker())).thoughts == "by hand"


def test_a_strategy_that_says_nothing_says_so() -> None:
    with pytest.raises(NotImplementedError, match="flow"):
        Reasoning(Thinker()).plan()


@pytest.mark.parametrize("kind", ALL)
def test_copies_of_a_strategy_keep_its_plan(kind: Any) -> None:
    agent = Thinker(calls(call("pay", amount=1)))
    mind = kind(agent)
    mind.plan(obs=Observation(1), ttl=3)
    mind.agent = None
    for twin in (copy.deepcopy(mind), pickle.loads(pickle.dumps(mind))):
        twin.agent = agent
        assert twin.plan(obs=Observation(2)).actions == []
    assert len(agent.requests) == 1


def test_plans_and_observations_are_json() -> None:
    plan = Plan(step=2, thoughts="hm", actions=[Action("pay", {"amount": 1}, "a")], ttl=2)
    assert Plan.model_validate_json(plan.model_dump_json()) == plan
    obs = Observation(2, {"a": (1, {2})}, {"bob 3": {"at": [0, 1]}}, {"day": 4})
    assert Observation.model_validate_json(obs.model_dump_json()) == obs


def test_an_observation_is_a_snapshot() -> None:
    state = {"goods": ["salt"]}
    obs = Observation(1, state)
    state["goods"].append("rice")
    assert obs.self_state == {"goods": ["salt"]}
