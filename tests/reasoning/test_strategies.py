"""What each strategy asks, does and gives."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from llm_net.errors import UsageError
from llm_net.llm.model import Completion
from llm_net.memory.episodic import EpisodicMemory
from llm_net.memory.long_term import LongTermMemory
from llm_net.memory.short_long import STLTMemory
from llm_net.memory.short_term import ShortTermMemory
from llm_net.reasoning.cot import CoTReasoning
from llm_net.reasoning.plan import Observation
from llm_net.reasoning.react import ReActReasoning
from llm_net.reasoning.rewoo import ReWOOReasoning
from tests.reasoning.thinkers import DRIVES, Thinker, call, calls, think

ALL = [CoTReasoning, ReActReasoning, ReWOOReasoning]


def said(agent: Thinker, number: int = 0) -> str:
    """All that the model was told in one request."""
    return "\n".join(str(each.get("content")) for each in agent.requests[number].messages)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("memory", [ShortTermMemory, LongTermMemory, STLTMemory, EpisodicMemory])
def test_every_strategy_sees_persona_observation_and_every_memory(memory: Any, kind: Any) -> None:
    agent = Thinker("fine")
    agent.memory = memory(agent)
    agent.memory.process_step(pre_step=True)
    agent.memory.add_to_memory("message", {"message": "the bridge is closed", "sender": "bob"})
    agent.memory.process_step()
    think("plan", kind(agent))
    told = said(agent)
    for part in ("You are Ada.", "the bridge is closed", '"money": 7', "Go on."):
        assert part in told
    assert told.count("You are Ada.") == 1


def test_a_chain_of_thought_has_its_parts_in_order() -> None:
    agent = Thinker("fine")
    think("plan", CoTReasoning(agent))
    told = said(agent)
    parts = ["You are Ada.", "Current Observation", "Thought 1", "Thought 4", "Action", "Go on."]
    assert sorted(parts, key=told.index) == parts


@pytest.mark.parametrize("way", DRIVES)
def test_a_chain_of_thought_thinks_and_calls_in_one_answer(way: str) -> None:
    agent = Thinker(calls(call("pay", amount=1), call("look", what="sky"), text="Thought 1: …"))
    plan = think(way, CoTReasoning(agent))
    assert plan.thoughts == "Thought 1: …"
    assert [each.name for each in plan.actions] == ["pay", "look"]
    assert agent.log == []  # planning changes nothing
    assert plan.llm_plan.tool_calls[0].function.name == "pay"


def test_thoughts_may_come_as_reasoning_content_or_not_at_all() -> None:
    thinking = Completion(text="", reasoning="hm, hm", finish_reason="stop")
    assert think("plan", CoTReasoning(Thinker(thinking))).thoughts == "hm, hm"
    silent = think("plan", CoTReasoning(Thinker(calls(call("pay", amount=1)))))
    assert silent.thoughts == ""
    assert len(silent.actions) == 1


@pytest.mark.parametrize("way", DRIVES)
def test_in_two_passes_the_thoughts_are_remembered_and_then_executed(way: str) -> None:
    agent = Thinker("I pay one.", calls(call("pay", amount=1)))
    agent.memory.process_step(pre_step=True)
    plan = think(way, CoTReasoning(agent, passes=2))
    assert [each.tool_choice for each in agent.requests] == ["none", "auto"]
    assert agent.requests[1].prompt == "I pay one."
    assert plan.thoughts == "I pay one."
    assert [str(each) for each in plan.actions] == ["pay(amount=1)"]
    agent.memory.process_step()
    assert "I pay one." in agent.memory.format_short_term()


@pytest.mark.parametrize("passes", [0, 3])
def test_there_are_one_or_two_passes(passes: int) -> None:
    with pytest.raises(UsageError, match="passes"):
        CoTReasoning(passes=passes)


@pytest.mark.parametrize("way", DRIVES)
def test_react_looks_until_it_acts(way: str) -> None:
    agent = Thinker(
        calls(call("look", what="door"), text="What is there?"),
        calls(call("look", what="window"), text="And there?"),
        calls(call("look", what="roof"), call("pay", amount=4), text="Pay, then."),
    )
    plan = think(way, ReActReasoning(agent))
    assert agent.log == ["look door", "look window", "look roof"]
    assert [str(each) for each in plan.actions] == ["pay(amount=4)"]
    for part in ("What is there?", "Action: look(what='door')", "Observation: 4", "Pay, then."):
        assert part in plan.thoughts
    answers = [m["content"] for m in agent.requests[2].messages if m["role"] == "tool"]
    assert answers == ["4", "6"]


@pytest.mark.parametrize("way", DRIVES)
def test_react_ends_with_an_answer_that_calls_nothing(way: str) -> None:
    agent = Thinker(calls(call("look", what="door")), "There are four.")
    plan = think(way, ReActReasoning(agent))
    assert plan.actions == []
    assert plan.llm_plan.content == "There are four."


@pytest.mark.parametrize("way", DRIVES)
def test_react_takes_no_more_steps_than_allowed(way: str) -> None:
    agent = Thinker(*[calls(call("look", what="door"))] * 9)
    plan = think(way, ReActReasoning(agent, max_steps=3))
    assert len(agent.requests) == 3
    assert plan.actions == []
    assert "3 turns" in plan.thoughts


@pytest.mark.parametrize("steps", [0, -1, 1.5, True])
def test_react_needs_a_number_of_steps(steps: Any) -> None:
    with pytest.raises(UsageError, match="max_steps"):
        ReActReasoning(max_steps=steps)


def test_an_agent_that_is_free_to_act_runs_all_tools_while_it_reasons() -> None:
    agent = Thinker(calls(call("pay", amount=4)), "Paid.")
    agent.acts_while_planning = True
    plan = think("plan", ReActReasoning(agent))
    assert agent.log == ["pay 4"]
    assert plan.actions == []


@pytest.mark.parametrize("way", DRIVES)
def test_rewoo_gathers_evidence_once_and_solves_with_one_more_call(way: str) -> None:
    agent = Thinker(
        calls(call("look", what="door"), call("look", what="#E1 doors"), text="Look twice."),
        "Four, then seven.",
    )
    plan = think(way, ReWOOReasoning(agent))
    assert agent.log == ["look door", "look 4 doors"]
    assert len(agent.requests) == 2
    assert not agent.requests[1].tools
    assert plan.llm_plan.content == "Four, then seven."
    assert plan.actions == []


def test_rewoo_puts_evidence_of_any_type_where_it_is_referred_to() -> None:
    agent = Thinker(calls(call("look", what="door"), call("pay", amount="#E1")))
    plan = think("plan", ReWOOReasoning(agent))
    assert [each.arguments for each in plan.actions] == [{"amount": 4}]
    assert len(agent.requests) == 1


def test_rewoo_hands_later_actions_what_earlier_ones_gave() -> None:
    agent = Thinker(calls(call("move", direction="north"), call("move", direction="#E1")))
    mind = ReWOOReasoning(agent)
    first = mind.plan(obs=Observation(1))
    mind.took(first.actions[0], failed=False, value="moved north")
    assert mind.plan(obs=Observation(2)).actions[0].arguments == {"direction": "moved north"}


def test_rewoo_reads_a_plan_that_stands_in_words() -> None:
    words = 'Plan: look first.\n#E1 = look["door"]\nThen pay.\n#E2 = pay[{"amount": "#E1"}]'
    agent = Thinker(words)
    plan = think("plan", ReWOOReasoning(agent))
    assert agent.log == ["look door"]
    assert [str(each) for each in plan.actions] == ["pay(amount=4)"]


def test_rewoo_takes_at_most_half_of_the_prompt_tokens_of_react() -> None:
    """Five tools to call: one plan and one solution against six turns."""
    looks = [call("look", what=word) for word in ("door", "roof", "wall", "yard", "well")]
    turns = [calls(each, text="One after the other.") for each in looks]
    react = Thinker(*turns, "All seen.")
    rewoo = Thinker(calls(*looks, text="All at once."), "All seen.")
    for agent, kind in ((react, ReActReasoning), (rewoo, ReWOOReasoning)):
        agent.system_prompt = "You are Ada, an inspector of houses, thorough and brief. " * 20
        think("plan", kind(agent))
    assert react.log == rewoo.log
    tokens = [sum(len(said(each, n)) for n in range(len(each.requests))) for each in (rewoo, react)]
    assert tokens[0] <= tokens[1] / 2


@pytest.mark.parametrize("way", DRIVES)
def test_a_decision_in_words_is_turned_into_calls(way: str) -> None:
    agent = Thinker(calls(call("pay", amount=1)))
    mind = CoTReasoning(agent)
    if way == "plan":
        plan = mind.execute_tool_call("Pay one.", ttl=2)
    else:
        plan = asyncio.run(mind.aexecute_tool_call("Pay one.", ttl=2))
    assert [str(each) for each in plan.actions] == ["pay(amount=1)"]
    assert plan.ttl == 2
