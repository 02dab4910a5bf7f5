"""Whatever a model answers, a plan comes of it; it is told once what was wrong."""

from __future__ import annotations

from typing import Any

import pytest

from llm_net.errors import ModelCallError
from llm_net.llm.model import Completion, ToolCall
from llm_net.reasoning.cot import CoTReasoning
from llm_net.reasoning.plan import Plan
from llm_net.reasoning.react import ReActReasoning
from llm_net.reasoning.rewoo import ReWOOReasoning
from tests.reasoning.thinkers import DRIVES, Thinker, call, calls, think


class _Twice(CoTReasoning):
    """The form with two calls."""

    def __init__(self, agent: Any = None) -> None:
        super().__init__(agent, passes=2)


KINDS = [CoTReasoning, ReActReasoning, ReWOOReasoning]


def raw(arguments: str, name: str = "pay") -> Completion:
    """A completion whose call has these arguments, letter by letter."""
    return Completion(tool_calls=(ToolCall(name=name, arguments=arguments, id="c1"),))


BROKEN: dict[str, Any] = {
    "half JSON": raw('{"amount": '),
    "prose for arguments": raw("five, please"),
    "fenced arguments": raw('```json\n{"amount": }\n```'),
    "a list for arguments": raw("[1]"),
    "a number for arguments": raw("7"),
    "null for arguments": raw("null"),
    "a text for a number": calls(call("pay", amount="lots")),
    "a missing argument": calls(call("pay")),
    "an argument too many": calls(call("pay", amount=1, tip=2)),
    "a forged agent": calls(call("pay", amount=1, agent="root")),
    "a tool that nobody has": calls(call("arrest", name="bob")),
    "a tool without a name": calls(call("", amount=1)),
    "a good call and a bad one": calls(call("pay", amount=1), call("pay", amount="x")),
    "nothing": "",
    "white space": "  \n ",
    "a call that was cut off": Completion(
        tool_calls=(ToolCall(name="pay", arguments='{"amo', id="c1"),), finish_reason="length"
    ),
}


@pytest.mark.parametrize("way", DRIVES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_answer_is_repaired_once(case: str, kind: Any, way: str) -> None:
    agent = Thinker(BROKEN[case], calls(call("pay", amount=2)))
    plan = think(way, kind(agent))
    assert [str(each) for each in plan.actions] == ["pay(amount=2)"]
    assert len(agent.requests) == 2
    assert agent.log == []
    last = agent.requests[1].messages[-1]
    assert "Nothing was done" in last["content"]


@pytest.mark.parametrize("way", DRIVES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", BROKEN)
def test_an_answer_that_stays_broken_makes_a_plan_that_does_nothing_and_says_why(
    case: str, kind: Any, way: str
) -> None:
    agent = Thinker(BROKEN[case], BROKEN[case])
    plan = think(way, kind(agent))
    assert plan.actions == []
    assert "No action was taken" in plan.thoughts
    assert len(agent.requests) == 2
    assert agent.log == []


@pytest.mark.parametrize("way", DRIVES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "text",
    [
        "I will wait here.",
        '```json\n{"name": "pay"}\n```',
        '{"reasoning": "hm"',
        "#E1 = fly[now]",
        "\u202e\U000e0041hidden",
    ],
)
def test_an_answer_without_calls_is_thoughts(text: str, kind: Any, way: str) -> None:
    agent = Thinker(text)
    plan = think(way, kind(agent))
    assert plan.actions == []
    assert text in plan.thoughts
    assert len(agent.requests) == 1


@pytest.mark.parametrize("way", DRIVES)
@pytest.mark.parametrize("kind", KINDS)
def test_where_a_call_is_required_prose_is_repaired_once(kind: Any, way: str) -> None:
    agent = Thinker("I would rather talk.", "No.")
    plan = think(way, kind(agent), tool_calls="required")
    assert plan.actions == []
    assert "A tool must be called" in plan.thoughts
    assert len(agent.requests) == 2
    assert agent.requests[0].tool_choice == "required"


@pytest.mark.parametrize("way", DRIVES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_refusal_is_not_asked_again(kind: Any, way: str) -> None:
    agent = Thinker(Completion(text="", finish_reason="content_filter"))
    plan = think(way, kind(agent))
    assert plan.actions == []
    assert "withheld" in plan.thoughts
    assert len(agent.requests) == 1


@pytest.mark.parametrize("way", DRIVES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_provider_that_fails_is_no_malformed_answer(kind: Any, way: str) -> None:
    agent = Thinker(ModelCallError("out of order"))
    with pytest.raises(ModelCallError):
        think(way, kind(agent))


@pytest.mark.parametrize("way", DRIVES)
@pytest.mark.parametrize("kind", KINDS)
def test_calls_that_were_not_wanted_are_not_planned(kind: Any, way: str) -> None:
    said = calls(call("pay", amount=1), text="I would pay.")
    plan = think(way, kind(Thinker(said)), tool_calls="none")
    assert plan.actions == []
    assert "I would pay." in plan.thoughts


@pytest.mark.parametrize("way", DRIVES)
@pytest.mark.parametrize("kind", [*KINDS, _Twice])
@pytest.mark.parametrize("selected", [[], None])
def test_without_tools_neither_tools_nor_a_choice_are_sent(
    selected: list[str] | None, kind: Any, way: str
) -> None:
    agent = Thinker("fine", "fine", tools=selected is not None)
    think(way, kind(agent), selected_tools=selected)
    assert all(not each.tools and each.tool_choice is None for each in agent.requests)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("choice", [None, "none", "auto", "required"])
def test_the_choice_of_tools_is_the_callers(choice: str | None, kind: Any) -> None:
    agent = Thinker(calls(call("pay", amount=1), text="so be it"))
    think("plan", kind(agent), tool_calls=choice)
    assert agent.requests[0].tool_choice == choice
    assert {each["function"]["name"] for each in agent.requests[0].tools} == {"move", "look", "pay"}


@pytest.mark.parametrize("kind", KINDS)
def test_only_selected_tools_are_offered_and_taken(kind: Any) -> None:
    agent = Thinker(calls(call("pay", amount=1)), "then not")
    plan: Plan = think("plan", kind(agent), selected_tools=["look"])
    assert [each["function"]["name"] for each in agent.requests[0].tools] == ["look"]
    assert plan.actions == []


@pytest.mark.parametrize("kind", KINDS)
def test_calls_without_ids_or_with_equal_ones_get_ids_of_their_own(kind: Any) -> None:
    twins = [call("pay", id="same", amount=1), call("move", id="same", direction="up")]
    agent = Thinker(calls(*twins))
    mind = kind(agent)
    plan = mind.plan()
    found = [each.id for each in plan.actions]
    if mind.one_by_one:
        found += [
            each.id
            for each in mind.plan(obs=agent.generate_obs().model_copy(update={"step": 2})).actions
        ]
    assert len(set(found)) == len(found) == 2
