"""Agents with minds: messages in, plans, actions and replies out; every step a message."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import Field

from llm_net import (
    AnswerError,
    Deterministic,
    GenAgent,
    GenNetwork,
    Message,
    ModuleLLM,
    UsageError,
)
from llm_net.memory.short_term import ShortTermMemory
from llm_net.mind_agent import MindAgent, Thought, ToolUse
from llm_net.protocols import Propose
from llm_net.reasoning.cot import CoTReasoning
from llm_net.reasoning.plan import Plan
from llm_net.reasoning.react import ReActReasoning
from llm_net.reasoning.rewoo import ReWOOReasoning
from llm_net.reasoning.strategy import Reasoning
from llm_net.tools.tool import tool
from tests.reasoning.thinkers import call, calls


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool
async def shout(text: str) -> str:
    """Say it loudly."""
    await asyncio.sleep(0)
    return text.upper()


@tool
def rename(agent: MindAgent, prompt: str) -> str:
    """Become another."""
    agent.system_prompt = prompt
    return "done"


def scripted(*replies: Any) -> ModuleLLM:
    return ModuleLLM("scripted", replies=list(replies))


def test_a_message_is_answered_with_what_the_plan_says_in_the_end() -> None:
    llm = scripted("Good morning.")
    with MindAgent(name="clerk", llm=llm, system_prompt="You are a clerk.").start() as clerk:
        answer = clerk.ask("Greet me.")
    assert answer is not None
    assert answer.body == "Good morning."
    assert "You are a clerk." in str(llm.calls[0].messages[0])
    assert llm.calls[0].prompt == "Greet me."
    assert llm.calls[0].place == "clerk:step"


@pytest.mark.parametrize("kind", [CoTReasoning, ReActReasoning, ReWOOReasoning])
def test_tools_of_all_kinds_run_in_the_agents_own_turn_exactly_once(kind: Any) -> None:
    made = calls(
        call("add", a=1, b=2), call("shout", text="hey"), call("rename", prompt="You are new.")
    )
    llm = scripted(made, "Three, HEY, done.")
    agent = MindAgent(name="a", llm=llm, reasoning=kind, tools=[add, shout, rename])
    net = GenNetwork(name="net", agents=[agent], entry="a")
    steps = [each for each in net.stream("go") if isinstance(each, ToolUse)]
    assert [each.body for each in steps] == ["3", "HEY", "done"]
    assert net["a"].system_prompt == "You are new."


def test_every_thought_and_every_use_of_a_tool_is_a_message_that_is_counted() -> None:
    llm = scripted(calls(call("add", a=1, b=2), text="I add."), "It is three.")
    agent = MindAgent(name="a", llm=llm, reasoning=ReActReasoning(), tools=[add])
    net = GenNetwork(name="net", agents=[agent], entry="a")
    stream = net.stream("1 + 2?")
    seen = [(type(each).__name__, each.body) for each in stream]
    assert seen == [
        ("Message", "1 + 2?"),
        ("Thought", "I add."),
        ("ToolUse", "3"),
        ("Thought", "It is three."),
        ("Message", "It is three."),
    ]
    counts = stream.run.statistics
    assert (counts.sent, counts.delivered, counts.dead) == (5, 5, 0)


def test_who_listens_hears_the_steps_of_another() -> None:
    class Scribe(GenAgent):
        heard: list[str] = Field(default_factory=list)

        def thought(self, message: Thought) -> None:
            self.heard.append(message.body)

    agent = MindAgent(name="a", llm=scripted("Hm."))
    edges = [("a", "thought", "scribe")]
    net = GenNetwork(name="net", agents=[agent, Scribe()], edges=edges, entry="a")
    net.run("go")
    assert net["scribe"].heard == ["Hm."]


def test_a_deterministic_run_of_minds_has_one_trace() -> None:
    def trace() -> str | None:
        made = calls(call("add", a=1, b=2), text="I add.")
        agents = [
            MindAgent(
                name=name, llm=scripted(made, "Three."), tools=[add], reasoning=ReActReasoning()
            )
            for name in ("a", "b")
        ]
        net = GenNetwork(name="net", agents=agents, entry=["a", "b"])
        return net.run("go", runtime=Deterministic(4)).trace

    assert trace() == trace()


def test_the_memory_of_a_mind_is_state() -> None:
    agent = MindAgent(name="a", llm=scripted("Noted.", "You said: salt."))
    net = GenNetwork(name="net", agents=[agent], entry="a")
    net.run("Remember the salt.")
    dump = net.model_dump(mode="json")
    llm = scripted("You said: salt.")
    again = GenNetwork(name="net", agents=[MindAgent(name="a", llm=llm)], entry="a")
    again.restore(dump)
    again.run("What did I say?")
    assert "Remember the salt." in str(llm.calls[0].messages)


def test_copies_of_a_mind_remember_apart() -> None:
    first = MindAgent(name="a", llm=scripted("x", "y"))
    second = first.model_copy(deep=True)
    with first.start() as ref:
        ref.ask("only for the first")
    assert "only for the first" in first.memory.format_short_term()
    assert "only for the first" not in second.memory.format_short_term()


def test_a_strategy_may_be_given_to_many_and_a_memory_to_one() -> None:
    mind = ReActReasoning(max_steps=2)
    agents = [MindAgent(name=name, llm=scripted(), reasoning=mind) for name in "ab"]
    assert agents[0].reasoning is not agents[1].reasoning
    memory = ShortTermMemory()
    owner = MindAgent(name="a", llm=scripted("x"), memory=memory)
    with owner.start() as ref:
        ref.ask("mine")
    with pytest.raises(UsageError, match="memory"):
        MindAgent(name="b", llm=scripted(), memory=memory)


def test_a_tool_that_fails_is_a_value_that_the_agent_sees() -> None:
    @tool
    def break_it() -> None:
        """Break."""
        raise RuntimeError("the lever is stuck")

    llm = scripted(calls(call("break_it")), "It is stuck.")
    agent = MindAgent(name="a", llm=llm, tools=[break_it], reasoning=ReActReasoning())
    with agent.start() as ref:
        answer = ref.ask("pull")
    assert answer is not None
    assert answer.body == "It is stuck."
    assert "the lever is stuck" in str(llm.calls[1].messages)


def test_a_model_fills_in_a_typed_message() -> None:
    class Bidder(MindAgent):
        async def acfp(self, message: Message) -> Propose:
            return await self.ask_model(Propose, message.body)

    llm = scripted(calls(call("Propose", body="cheap", price="x")), calls(call("Propose", price=3)))
    with Bidder(llm=llm).start() as ref:
        bid = ref.ask(Message("bench", method="cfp"))
    assert isinstance(bid, Propose)
    assert bid.price == 3
    assert len(llm.calls) == 2


def test_a_typed_message_may_stand_in_the_text() -> None:
    class Bidder(MindAgent):
        async def astep(self, message: Message) -> Propose:
            return await self.ask_model(Propose, message.body)

    with Bidder(llm=scripted('Here: ```json\n{"price": 4}\n```')).start() as ref:
        bid = ref.ask("bench")
    assert isinstance(bid, Propose)
    assert bid.price == 4


def test_a_model_that_cannot_fill_it_in_is_an_error_after_two_tries() -> None:
    class Bidder(MindAgent):
        async def astep(self, message: Message) -> Propose:
            return await self.ask_model(Propose, message.body)

    llm = scripted("no", "never")
    with Bidder(llm=llm).start() as ref, pytest.raises(Exception, match="Propose") as caught:
        ref.ask("bench")
    assert isinstance(caught.value.__cause__, AnswerError)
    assert len(llm.calls) == 2


def test_a_strategy_written_by_hand_will_do() -> None:
    class Same(Reasoning):
        async def aplan(self, *_: Any, **__: Any) -> Plan:
            return Plan(step=1, thoughts="always the same")

    with MindAgent(name="a", llm=scripted(), reasoning=Same()).start() as ref:
        answer = ref.ask("x")
    assert answer is not None
    assert answer.body == "always the same"
