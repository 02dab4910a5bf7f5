"""`LLMAgent`: Mesa-LLM's words, held to what they promise."""

from __future__ import annotations

import asyncio
import json
import threading
import warnings
from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import mesa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mesa.discrete_space import CellAgent, OrthogonalMooreGrid
from mesa.experimental.continuous_space import ContinuousSpace, ContinuousSpaceAgent
from mesa.space import MultiGrid

from llm_net.errors import UsageError
from llm_net.llm.budget import Budget
from llm_net.llm.model import AssistantMessage, Request, ToolCall
from llm_net.llm.module_llm import ModuleLLM
from llm_net.memory.long_term import LongTermMemory
from llm_net.memory.short_long import STLTMemory
from llm_net.memory.short_term import ShortTermMemory
from llm_net.reasoning.cot import CoTReasoning
from llm_net.reasoning.plan import Action, Observation, Plan
from llm_net.reasoning.react import ReActReasoning
from llm_net.reasoning.rewoo import ReWOOReasoning
from llm_net.reasoning.strategy import Reasoning
from llm_net.tools.tool import tool
from mesa_bridge.hook import (
    disable_automatic_parallel_stepping,
    enable_automatic_parallel_stepping,
)
from mesa_bridge.llm_agent import LLMAgent
from mesa_bridge.stepping import step_agents_parallel_sync
from mesa_bridge.toolset import ToolManager
from tests.waiting import DEADLINE_S


@pytest.fixture(autouse=True)
def _mesa_is_given_back() -> Iterator[None]:
    yield
    disable_automatic_parallel_stepping()


class Town(mesa.Model):
    price = 7

    def __init__(self) -> None:
        super().__init__(rng=1)

    def step(self) -> None:
        self.agents.do("step")


@tool
def pay(agent: Any, amount: int) -> str:
    """Pay."""
    if amount > 100:
        raise ValueError("too much")
    agent.paid = [*getattr(agent, "paid", []), amount]
    return f"paid {amount}"


@tool
async def pay_slowly(agent: Any, amount: int) -> str:
    """Pay, after a while."""
    await asyncio.sleep(0)
    return pay(agent, amount)


class Pays:
    """A brain that plans these payments each time it is asked; it counts how often it was."""

    def __init__(self, *amounts: int) -> None:
        self.__name__ = "pays"
        self.calls = 0
        self._amounts = amounts

    def __call__(self, request: Request) -> Any:
        self.calls += 1
        calls = [{"name": "pay", "arguments": json.dumps({"amount": n})} for n in self._amounts]
        return {"content": "I pay.", "tool_calls": calls}


def says(request: Request) -> str:
    return "Thought 1: well."


def agent_in(model: mesa.Model, reasoning: Any = CoTReasoning, brain: Any = says) -> Any:
    agent = LLMAgent(model, reasoning, brain, step_prompt="Go on.")
    agent.tool_manager = ToolManager([pay, pay_slowly])
    return agent


# --- Made ----------------------------------------------------------------------------------------


def test_it_is_made_without_a_key_and_has_what_mesa_llm_gives_it() -> None:
    agent = LLMAgent(Town(), CoTReasoning)
    assert agent.llm.llm_model == "gemini/gemini-2.0-flash"
    assert isinstance(agent.memory, STLTMemory)
    assert isinstance(agent.reasoning, CoTReasoning)
    assert agent.system_prompt is agent.step_prompt is agent.vision is agent.recorder is None
    assert agent.internal_state == []
    assert "move_one_step" in agent.tool_manager.tools
    assert agent._step_display_data == {}


def test_agents_may_share_a_handle_and_its_ledger_says_whose_calls_they_were() -> None:
    budget = Budget()
    llm = ModuleLLM(says, budget=budget)
    town = Town()
    for _ in range(2):
        agent = agent_in(town, brain=llm)
        assert agent.llm is llm
        agent.memory = LongTermMemory(agent, llm_model=llm)
        agent.reasoning.plan()
        agent.post_step()
    rows = [(row.agent, row.method, row.calls) for row in budget.ledger.table()]
    assert rows == [
        (f"LLMAgent {number}", word, 1) for number in (1, 2) for word in ("plan", "memory")
    ]


def test_a_handle_knows_its_own_address() -> None:
    with pytest.raises(UsageError, match="Give it to the ModuleLLM"):
        LLMAgent(Town(), CoTReasoning, ModuleLLM(says), api_base="http://localhost")


def test_what_belongs_elsewhere_is_sent_there() -> None:
    with pytest.raises(UsageError, match=r"ModuleLLM\('…', temperature=…\)"):
        LLMAgent(Town(), CoTReasoning, says, temperature=1)
    with pytest.raises(UsageError, match="'cot' is no way of reasoning"):
        LLMAgent(Town(), "cot", says)
    agent = agent_in(Town())
    with pytest.raises(UsageError, match="None is no plan"):
        agent.apply_plan(None)
    with pytest.raises(UsageError, match=r"Write \[agent\]"):
        agent.send_message("Good morning.", agent)


def test_what_it_has_may_be_assigned_later() -> None:
    agent = LLMAgent(Town(), CoTReasoning, says)
    memory = ShortTermMemory(agent, n=2)
    agent.memory, agent.vision, agent.system_prompt = memory, 3, "You are calm."
    agent.reasoning = ReActReasoning(agent)
    agent.step_prompt = "Go on."
    agent.reasoning.plan()
    assert agent.memory is memory
    agent.reasoning = CoTReasoning
    assert isinstance(agent.reasoning, CoTReasoning)
    assert agent.reasoning.agent is agent


def test_an_internal_state_is_a_list_of_its_own_that_may_change() -> None:
    model, given_state = Town(), ["calm"]
    first = LLMAgent(model, CoTReasoning, internal_state=given_state)
    second = LLMAgent(model, CoTReasoning, internal_state=given_state)
    first.internal_state.append("angry")
    assert (first.internal_state, second.internal_state) == (["calm", "angry"], ["calm"])
    assert LLMAgent(model, CoTReasoning, internal_state="calm").internal_state == ["calm"]


@pytest.mark.parametrize(
    "reasoning", [ReActReasoning, partial(ReActReasoning, max_steps=3), ReActReasoning(max_steps=3)]
)
def test_reasoning_is_a_class_a_partial_or_an_instance_that_is_nobodys(reasoning: Any) -> None:
    model = Town()
    first, second = agent_in(model, reasoning), agent_in(model, reasoning)
    assert first.reasoning is not second.reasoning
    assert first.reasoning.agent is first
    assert second.reasoning.agent is second
    if not isinstance(reasoning, type):
        assert first.reasoning.max_steps == 3


def test_an_instance_that_is_another_agents_is_not_taken_from_it() -> None:
    model = Town()
    first, second = agent_in(model), agent_in(model)
    second.reasoning = first.reasoning
    assert first.reasoning.agent is first
    assert second.reasoning.agent is second


def test_it_goes_with_every_kind_of_mesa_agent() -> None:
    class Citizen(LLMAgent, CellAgent):
        pass

    class Cop(CellAgent, LLMAgent):
        pass

    class Bird(LLMAgent, ContinuousSpaceAgent):
        pass

    model: Any = Town()
    model.grid = OrthogonalMooreGrid((4, 4), random=model.random)
    model.air = ContinuousSpace([[0, 5], [0, 5]], random=model.random)
    model.town = MultiGrid(4, 4, torus=False)
    citizen, cop = (make(model, CoTReasoning, says, vision=1) for make in (Citizen, Cop))
    citizen.cell, cop.cell = model.grid[0, 0], model.grid[0, 1]
    birds = [Bird(model, CoTReasoning, says, vision=1, space=model.air) for _ in range(2)]
    for bird in birds:
        bird.position = (1.0, 1.0)
    plain = [LLMAgent(model, CoTReasoning, says, vision=1) for _ in range(2)]
    for each in plain:
        model.town.place_agent(each, (1, 1))
    seen = [list(each.generate_obs().local_state) for each in (citizen, cop, *birds, *plain)]
    assert seen == [
        ["Cop 2"],
        ["Citizen 1"],
        ["Bird 4"],
        ["Bird 3"],
        ["LLMAgent 6"],
        ["LLMAgent 5"],
    ]
    assert citizen.generate_obs().self_state["location"] == [0, 0]


def test_many_are_made_at_once_as_mesa_makes_them() -> None:
    agents = LLMAgent.create_agents(Town(), 3, reasoning=CoTReasoning, llm_model=says)
    assert len({id(each.memory) for each in agents}) == 3


# --- Observing and remembering -------------------------------------------------------------------


def test_what_it_sees_is_remembered() -> None:
    class Trader(LLMAgent):
        global_keys = ("price",)

    agent = Trader(Town(), CoTReasoning, says, internal_state="hungry")
    seen = agent.generate_obs()
    assert seen.global_keys == {"price": 7}
    agent.post_step()
    (entry,) = agent.memory.short_term_memory
    assert entry.content["observation"]["self_state"]["internal_state"] == ["hungry"]
    assert entry.content["observation"]["global_keys"] == {"price": 7}
    assert json.loads(json.dumps(entry.content)) == entry.content


def test_looking_without_blocking_honours_an_overridden_generate_obs() -> None:
    class Dreamer(LLMAgent):
        def generate_obs(self) -> Observation:
            return Observation(step=4, self_state={"asleep": True})

    agent = Dreamer(Town(), CoTReasoning, says)
    assert asyncio.run(agent.agenerate_obs()).self_state == {"asleep": True}


def steps_of(agent: Any) -> list[int | None]:
    agent.memory.process_step()
    return [entry.step for entry in agent.memory.short_term_memory]


def test_each_step_is_one_entry_however_often_it_looks_and_acts() -> None:
    class Busy(LLMAgent):
        def step(self) -> None:
            self.generate_obs()
            self.apply_plan(self.reasoning.plan("Go on.", obs=self.generate_obs()))

    model = Town()
    agent: Any = Busy(model, CoTReasoning, says)
    for _ in range(3):
        model.step()
    assert steps_of(agent) == [1, 2, 3]


def test_a_step_that_raises_leaves_no_entry_without_a_step() -> None:
    class Clumsy(LLMAgent):
        def step(self) -> None:
            self.generate_obs()
            if self.model.steps == 2:
                raise RuntimeError("stumbled")

    model = Town()
    enable_automatic_parallel_stepping(model)
    agent: Any = Clumsy(model, CoTReasoning, says)
    for _ in range(3):
        model.step()
    assert steps_of(agent) == [1, 2, 3]


def test_three_classes_that_call_their_parents_step_leave_one_entry_a_step() -> None:
    class A(LLMAgent):
        def step(self) -> None:
            self.generate_obs()

    class B(A):
        def step(self) -> None:
            super().step()

    class C(B):
        def step(self) -> None:
            super().step()
            self.apply_plan(Plan(thoughts="done"))

    model = Town()
    agent: Any = C(model, CoTReasoning, says)
    model.step()
    model.step()
    assert steps_of(agent) == [1, 2]


def test_the_hooks_of_a_step_may_be_called_by_hand() -> None:
    agent = agent_in(Town())
    agent.pre_step()
    agent.generate_obs()
    agent.post_step()

    async def once_more() -> None:
        await agent.apre_step()
        await agent.agenerate_obs()
        await agent.apost_step()

    asyncio.run(once_more())
    assert len(agent.memory.short_term_memory) == 2


class Old(LLMAgent):
    def step(self) -> None:
        self.generate_obs()


class OldAsync(LLMAgent):
    async def astep(self) -> None:
        await self.agenerate_obs()


@pytest.mark.parametrize("make", [Old, OldAsync])
def test_memories_with_a_model_are_condensed_at_the_same_time(make: Any) -> None:
    together = threading.Barrier(3)

    def summary(request: Request) -> str:
        together.wait(DEADLINE_S)  # nobody's ends before everybody's has begun
        return "It was long ago."

    model = Town()
    agents: list[Any] = [make(model, CoTReasoning, says) for _ in range(3)]
    for agent in agents:
        agent.memory = STLTMemory(agent, 1, 1, llm_model=summary)
    enable_automatic_parallel_stepping(model)
    for _ in range(4):
        model.step()
    for agent in agents:
        assert agent.memory.calls > agent.memory.failed_calls == 0
        assert "long ago" in agent.memory.format_long_term()


def test_an_agent_may_do_without_memory() -> None:
    agent = agent_in(Town(), brain=Pays(1))
    agent.memory = None
    agent.apply_plan(agent.reasoning.plan(obs=agent.generate_obs()))
    agent.post_step()
    assert agent.paid == [1]


# --- Acting --------------------------------------------------------------------------------------


@given(amounts=st.lists(st.integers(1, 200), max_size=6), in_loop=st.booleans())
def test_every_action_of_a_plan_is_carried_out_in_order_and_once(
    *, amounts: list[int], in_loop: bool
) -> None:
    agent = agent_in(Town())
    plan = Plan(actions=[Action("pay", {"amount": each}, f"c{each}") for each in amounts])
    told = asyncio.run(agent.aapply_plan(plan)) if in_loop else agent.apply_plan(plan)
    fine = [each for each in amounts if each <= 100]
    assert getattr(agent, "paid", []) == fine
    expected = [
        f"paid {each}" if each <= 100 else "Error: ValueError: too much" for each in amounts
    ]
    assert told == [{"name": "pay", "response": each} for each in expected]
    agent.post_step()
    kept = agent.memory.short_term_memory
    assert [entry.content["action"] for entry in kept] == ([told] if told else [])


def test_async_tools_are_awaited_in_both_ways() -> None:
    agent = agent_in(Town())
    plan = Plan(actions=[Action("pay_slowly", {"amount": 3})])
    assert agent.apply_plan(plan) == [{"name": "pay_slowly", "response": "paid 3"}]
    assert asyncio.run(agent.aapply_plan(plan)) == [{"name": "pay_slowly", "response": "paid 3"}]


def test_a_plan_made_by_hand_of_a_models_message_is_carried_out() -> None:
    agent = agent_in(Town())
    call = ToolCall(name="pay", arguments='{"amount": 5}', id="a")
    plan = Plan(step=1, llm_plan=AssistantMessage(content="I pay.", tool_calls=[call]), ttl=1)
    assert agent.apply_plan(plan) == [{"name": "pay", "response": "paid 5"}]
    assert agent._step_display_data["plan_content"] == "I pay."


@pytest.mark.parametrize("arguments", ['{"amount": 5', "[5]", "5", '"five"'])
def test_a_call_that_nobody_can_read_is_an_error_that_the_agent_is_told(arguments: str) -> None:
    agent = agent_in(Town())
    good = ToolCall(name="pay", arguments='{"amount": 5}', id="a")
    bad = ToolCall(name="pay", arguments=arguments, id="b")
    message = SimpleNamespace(content="I pay.", tool_calls=[bad, good])
    told = agent.apply_plan(Plan(step=1, llm_plan=message))
    assert [each["response"].startswith("Error:") for each in told] == [False, True]
    assert agent.paid == [5]
    agent.post_step()
    assert len(agent.memory.short_term_memory[0].content["action"]) == 2


def test_a_tool_that_it_does_not_have_is_an_error_that_it_is_told() -> None:
    agent = agent_in(Town())
    (told,) = agent.apply_plan(Plan(actions=[Action("fly")]))
    assert told["response"].startswith("Error: No tool 'fly'")


class Payer(LLMAgent):
    def step(self) -> None:
        plan = self.reasoning.plan(obs=self.generate_obs(), selected_tools=["pay"], ttl=self.ttl)
        self.apply_plan(plan)

    ttl = 1


def payer(reasoning: Any, brain: Any, ttl: int) -> Any:
    agent: Any = Payer(Town(), reasoning, brain, step_prompt="Go on.")
    agent.tool_manager = ToolManager([pay])
    agent.ttl = ttl
    return agent


def test_a_plan_of_three_actions_is_carried_out_one_a_step_by_rewoo_each_once() -> None:
    brain = Pays(1, 2, 3)
    agent = payer(ReWOOReasoning, brain, ttl=1)
    for paid in ([1], [1, 2], [1, 2, 3], [1, 2, 3, 1]):
        agent.model.step()
        assert agent.paid == paid
    assert brain.calls == 2


def test_a_plan_that_lives_answers_for_its_steps_without_a_model() -> None:
    brain = Pays(1)
    agent = payer(CoTReasoning, brain, ttl=3)
    for _ in range(6):
        agent.model.step()
    assert brain.calls == 2
    assert agent.paid == [1, 1]


def test_an_action_that_fails_ends_the_life_of_its_plan() -> None:
    brain = Pays(500, 2, 3)
    agent = payer(ReWOOReasoning, brain, ttl=3)
    agent.model.step()
    agent.model.step()
    assert brain.calls == 2
    assert not hasattr(agent, "paid")


def test_a_reasoning_of_ones_own_works_with_what_a_model_answered() -> None:
    class Hasty(Reasoning):
        def plan(self, *args: Any, **kwargs: Any) -> Plan:
            schema = self.agent.tool_manager.get_all_tools_schema(["pay"])
            answer = self.agent.llm.generate(prompt="Go on.", tool_schema=schema)
            return Plan(step=1, llm_plan=answer.choices[0].message, ttl=1)

    agent = payer(Hasty, Pays(4), ttl=1)
    agent.model.step()
    assert agent.paid == [4]


def test_a_prompt_may_be_overridden_as_in_mesa_llm() -> None:
    asked: list[Request] = []

    class Terse(CoTReasoning):
        def get_cot_system_prompt(self, obs: Observation) -> str:
            return "Be terse."

    def brain(request: Request) -> str:
        asked.append(request)
        return "Yes."

    agent = agent_in(Town(), Terse, brain)
    assert str(agent.reasoning.plan()) == "Yes."
    assert asked[0].messages[0]["content"] == "Be terse."


def test_without_any_prompt_there_is_nothing_to_plan_for() -> None:
    with pytest.raises(ValueError, match="step_prompt"):
        LLMAgent(Town(), CoTReasoning, says).reasoning.plan()


# --- Stepping ------------------------------------------------------------------------------------


class OnlySync(LLMAgent):
    count = 0

    def step(self) -> None:
        self.count += 1


class OnlyAsync(LLMAgent):
    count = 0

    async def astep(self) -> None:
        await asyncio.sleep(0)
        self.count += 1


@pytest.mark.parametrize("make", [OnlySync, OnlyAsync])
def test_one_of_step_and_astep_is_enough_in_every_way_of_stepping(make: Any) -> None:
    model = Town()
    agent = make(model, CoTReasoning, says)
    model.step()
    agent.step()
    asyncio.run(agent.astep())
    for mode in ("asyncio", "threading", "sequential"):
        with enable_automatic_parallel_stepping(model, mode):
            model.step()
    step_agents_parallel_sync([agent])
    assert agent.count == 7


def test_both_of_step_and_astep_may_call_their_parents_and_run_once() -> None:
    class Both(LLMAgent):
        count = 0

        def step(self) -> None:
            super().step()
            self.count += 1

        async def astep(self) -> None:
            await super().astep()
            self.count += 1

    agent = Both(Town(), CoTReasoning, says)
    agent.step()
    asyncio.run(agent.astep())
    assert agent.count == 2


def test_an_agent_without_any_step_does_nothing() -> None:
    agent = LLMAgent(Town(), CoTReasoning, says)
    agent.step()
    asyncio.run(agent.astep())
    agent.model.step()


def test_a_flag_that_nothing_heeds_is_warned_of_once_with_the_line_to_add() -> None:
    model: Any = Town()
    model.parallel_stepping = True
    agent = agent_in(model)
    with pytest.warns(UserWarning, match=r"enable_automatic_parallel_stepping\(\)"):
        agent.generate_obs()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            model.step()
            agent.generate_obs()


def test_a_flag_that_is_heeded_is_not_warned_of() -> None:
    class Looker(LLMAgent):
        def step(self) -> None:
            self.generate_obs()

    for use in (enable_automatic_parallel_stepping, lambda: None):
        model: Any = Town()
        model.parallel_stepping = True
        agent = Looker(model, CoTReasoning, says)
        use()
        step_agents_parallel_sync([agent])
        if use is enable_automatic_parallel_stepping:
            model.step()
            agent.step()
            disable_automatic_parallel_stepping()


def test_chance_in_a_plan_is_the_agents_own_and_leaves_the_models_alone() -> None:
    drawn: list[float] = []

    class Gambler(Reasoning):
        def plan(self, *args: Any, **kwargs: Any) -> Plan:
            drawn.append(self.agent.random.random())
            drawn.append(float(self.agent.rng.random()))
            return Plan()

    class Player(LLMAgent):
        def step(self) -> None:
            self.reasoning.plan()

    for _ in range(2):
        model = Town()
        Player(model, Gambler, says)
        before = model.random.getstate()
        with enable_automatic_parallel_stepping(model):
            model.step()
        assert model.random.getstate() == before
    assert drawn[:2] == drawn[2:]


# --- Speaking ------------------------------------------------------------------------------------


class Listener(mesa.Agent):
    def receive_message(self, message: str, sender: Any) -> None:
        self.heard = (message, sender.unique_id)


def test_a_message_reaches_every_kind_of_agent_that_can_hear() -> None:
    model = Town()
    speaker, friend = agent_in(model), agent_in(model)
    listener: Any = Listener(model)
    keeper: Any = mesa.Agent(model)
    keeper.memory = ShortTermMemory(keeper)
    deaf = mesa.Agent(model)
    told = speaker.send_message("Hello", [friend, listener, keeper, deaf])
    assert told == (
        "LLMAgent 1 told LLMAgent 2, Listener 3, Agent 4: Hello "
        "Agent 5 cannot hear: no receive_message, no memory."
    )
    assert listener.heard == ("Hello", 1)
    for memory in (friend.memory, keeper.memory):
        memory.process_step()
        (entry,) = memory.short_term_memory
        assert entry.content["message"] == [{"message": "Hello", "sender": 1}]
    with pytest.raises(ValueError, match="nobody was told"):
        speaker.send_message("Hello", [deaf])


@given(texts=st.lists(st.text(max_size=5), min_size=1, max_size=6))
def test_every_message_of_a_step_is_kept_in_order(texts: list[str]) -> None:
    model = Town()
    speaker, friend = agent_in(model), agent_in(model)
    friend.generate_obs()
    for text in texts:
        asyncio.run(speaker.asend_message(text, [friend]))
    friend.post_step()
    (entry,) = friend.memory.short_term_memory
    assert [each["message"] for each in entry.content["message"]] == texts


def test_a_message_does_not_end_in_the_step_before_the_one_in_which_it_was_sent() -> None:
    model = Town()
    speaker, friend = agent_in(model), agent_in(model)
    model.step()
    friend.generate_obs()
    model.step()
    speaker.send_message("Hello", [friend])
    assert "Hello" in friend.memory.format_short_term()
    friend.generate_obs()
    assert "Hello" in friend.memory.get_communication_history()
    friend.post_step()
    first, second = friend.memory.short_term_memory
    assert (first.step, "message" in first.content) == (1, False)
    assert (second.step, "message" in second.content) == (2, True)
