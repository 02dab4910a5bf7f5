"""A network as one Mesa agent: observe, exchange, act; bounded, repeatable, put away."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import weakref
from typing import Any

import mesa
import pytest

from llm_net import GenAgent, GenNetwork, Message, MindAgent, UsageError
from llm_net.llm.module_llm import ModuleLLM
from llm_net.reasoning.plan import Action, Observation, Plan
from llm_net.tools.manager import ToolManager
from llm_net.tools.tool import tool
from mesa_bridge.network_agent import NetworkAgent
from mesa_bridge.recording import SimulationRecorder


class Head(GenAgent):
    """Asks the household, and decides."""

    asked: int = 0

    def step(self, message: Message) -> None:
        self.asked += 1
        self.emit("query", message.body)

    def answer(self, message: Message) -> None:
        plan = Plan(thoughts=message.body, actions=[Action("earn", {"amount": 2})])
        self.emit("plan", Message(plan.model_dump_json(), method="plan"))


class Child(GenAgent):
    """Answers, with some luck."""

    heard: int = 0

    def query(self, message: Message) -> None:
        self.heard += 1
        self.emit("answer", f"{self.heard} {self.random.random():.6f}")


def household() -> GenNetwork:
    return GenNetwork(
        name="home",
        agents=[Head(name="head"), Child(name="child")],
        edges=[("head", "query", "child"), ("child", "answer", "head")],
        entry="head",
        expose=["plan"],
    )


@tool
def earn(agent: Household, amount: int) -> int:
    """Earn money."""
    agent.money += amount
    return agent.money


class Household(NetworkAgent):
    """A Mesa agent with some money."""

    def __init__(self, model: mesa.Model, network: GenAgent | None = None, **bounds: Any) -> None:
        tools = ToolManager([earn])
        super().__init__(model, network or household(), tool_manager=tools, **bounds)
        self.money = 0
        self.plans: list[Plan] = []

    def act(self, plan: Plan) -> Any:
        self.plans.append(plan)
        return super().act(plan)


class Town(mesa.Model):
    """So many households."""

    weather = "rain"

    def __init__(self, n: int = 3, rng: int = 1, **bounds: Any) -> None:
        super().__init__(rng=rng)
        for _ in range(n):
            Household(self, **bounds)

    def step(self) -> None:
        self.agents.shuffle_do("step")


def told(model: mesa.Model) -> list[Any]:
    """All that may be compared of a town."""
    return [(a.unique_id, a.money, [p.thoughts for p in a.plans]) for a in model.agents]


def test_a_step_is_an_observation_an_exchange_and_a_plan() -> None:
    town = Town()
    for _ in range(3):
        town.step()
    for each in town.agents:
        assert each.money == 6
        home: Any = each.network
        assert home["head"].asked == 3
        assert len({p.thoughts for p in each.plans}) == 3
        assert each.last_exchange is not None
        assert each.last_exchange.bound is None
        assert each.last_exchange.statistics.queued == 0


def test_the_blueprint_is_copied() -> None:
    town = mesa.Model(rng=1)
    blueprint = household()
    one, two = Household(town, blueprint), Household(town, blueprint)
    one.step()
    homes: list[Any] = [one.network, two.network]
    assert [each["head"].asked for each in homes] == [1, 0]
    assert blueprint["head"].asked == 0


def test_the_observation_enters_as_json_and_can_be_read_back() -> None:
    seen: list[Observation] = []

    class Reader(GenAgent):
        def step(self, message: Message) -> str:
            seen.append(Observation.model_validate_json(message.body))
            return "read"

    town = Town(n=0)
    agent = Household(town, Reader(), vision=-1, global_keys=["weather"])
    Household(town)
    agent.step()
    assert seen[0].global_keys == {"weather": "rain"}
    assert len(seen[0].local_state) == 1
    assert agent.plans[0].thoughts == "read"


def test_plans_are_joined_and_other_words_are_thoughts() -> None:
    agent = Household(Town(n=0))
    plans = [
        Plan(thoughts="a", actions=[Action("earn", {"amount": 1})], ttl=3),
        Plan(thoughts="b", actions=[Action("earn", {"amount": 2})], ttl=2),
    ]
    outputs = [Message(each.model_dump_json(), method="plan") for each in plans]
    outputs += [Message("no plan", method="plan"), Message("a word")]
    plan = agent.to_plan(Observation(4), outputs)
    assert plan.thoughts == "a\nb\nno plan\na word"
    assert [each.arguments["amount"] for each in plan.actions] == [1, 2]
    assert (plan.ttl, plan.step) == (2, 4)
    silent = agent.to_plan(Observation(4), [])
    assert silent.actions == []
    assert "nothing to say" in silent.thoughts


class Chatter(GenAgent):
    """Writes to itself for ever."""

    said: int = 0

    def step(self, message: Message) -> str:
        self.said += 1
        self.send(Message("and", receiver="chatter"))
        return "well"


@pytest.mark.parametrize(
    ("bound", "said"), [({"max_messages": 7}, 4), ({"max_rounds": 5, "max_messages": None}, 6)]
)
def test_at_a_bound_what_came_out_counts_and_the_rest_waits(
    bound: dict[str, Any], said: int
) -> None:
    agent = Household(Town(n=0), Chatter(), **bound)
    agent.step()
    chatter: Any = agent.network
    assert chatter.said == said
    assert agent.plans[0].thoughts == "well"
    exchange = agent.last_exchange
    assert exchange is not None
    assert exchange.bound == next(iter(bound))
    assert exchange.statistics.queued > 0
    assert exchange.statistics.dead == 0
    agent.step()
    assert chatter.said > said


def test_seconds_bound_an_exchange_too() -> None:
    agent = Household(Town(n=0), Chatter(), max_messages=None, max_rounds=None, max_seconds=0.01)
    agent.step()
    assert agent.last_exchange is not None
    assert agent.last_exchange.bound == "max_seconds"


@pytest.mark.parametrize("bad", [{"max_messages": 0}, {"max_rounds": -1}, {"max_seconds": True}])
def test_a_bound_that_is_none_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="max_"):
        Household(Town(n=0), **bad)


def test_the_same_seed_gives_the_same_town_and_draws_nothing_from_mesa() -> None:
    towns = [Town(rng=5), Town(rng=5), Town(rng=6)]
    plain = mesa.Model(rng=5)
    for _ in range(3):
        for each in towns:
            each.step()
        list(range(3))
    assert told(towns[0]) == told(towns[1])
    assert told(towns[0]) != told(towns[2])
    numbers = list(range(3))
    for _ in range(3):
        plain.random.shuffle(numbers[:])
    assert towns[0].random.getstate() == plain.random.getstate()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
@pytest.mark.parametrize("steps", [0, 2])
def test_a_copy_goes_on_as_the_original(copied: Any, steps: int) -> None:
    town = Town(max_messages=3)
    for _ in range(steps):
        town.step()
    twin = copied(town)
    for each in (town, twin):
        for _ in range(3):
            each.step()
    assert told(town) == told(twin)
    homes = [list(each.agents) for each in (town, twin)]
    assert homes[0][0].network is not homes[1][0].network
    counts = [[a.last_exchange.statistics for a in each.agents] for each in (town, twin)]
    assert counts[0] == counts[1]


def test_in_the_middle_of_a_step_it_refuses_to_be_copied() -> None:
    refused: list[Exception] = []

    class Nosy(GenAgent):
        def step(self, message: Message) -> None:
            for copied in (pickle.dumps, copy.deepcopy):
                try:
                    copied(agent)
                except UsageError as error:
                    refused.append(error)

    agent = Household(Town(n=0), Nosy())
    agent.step()
    assert ["middle of a step" in str(each) for each in refused] == [True, True]
    copy.deepcopy(agent)


def test_a_network_stops_with_its_agent() -> None:
    agent = Household(Town(n=0))
    agent.step()
    ref = agent.network.ref
    agent.remove()
    assert not ref.is_alive()
    with pytest.raises(UsageError, match="removed"):
        agent.step()


def test_dropped_models_leave_nothing_behind() -> None:
    before = {each.name for each in threading.enumerate()}
    towns = []
    for _ in range(5):
        town = Town()
        town.step()
        towns.append((weakref.ref(town), [a.network.ref for a in town.agents]))
        getattr(mesa.Agent, "_ids", {}).pop(town, None)  # Mesa 3.3 itself keeps every model
        del town
    gc.collect()
    for dropped, refs in towns:
        assert dropped() is None
        assert not any(ref.is_alive() for ref in refs)
    gc.collect()
    assert {each.name for each in threading.enumerate()} <= before | {"llm_net-models"}


def test_minds_inside_think_with_a_model() -> None:
    llm = ModuleLLM(lambda request: "Stay at home.")
    agent = Household(Town(n=0), MindAgent(name="mind", llm=llm))
    agent.step()
    assert agent.plans[0].thoughts == "Stay at home."


def test_a_failing_handler_does_not_fail_the_step() -> None:
    class Broken(GenAgent):
        def step(self, message: Message) -> None:
            raise RuntimeError("out of order")

    agent = Household(Town(n=0), Broken())
    agent.step()
    assert agent.last_exchange is not None
    assert "out of order" in str(agent.last_exchange.failures[0].__cause__)
    assert "nothing to say" in agent.plans[0].thoughts


def test_many_agents_with_handlers_on_threads_keep_no_threads() -> None:
    town = Town(n=20)
    before = threading.active_count()
    town.step()
    assert threading.active_count() <= before + 1


def test_what_it_saw_planned_and_did_is_recorded() -> None:
    model = Town()
    model.recorder = SimulationRecorder(model)
    family = Household(model)
    model.step()
    events = [event for event in model.recorder.events if event.agent_id == family.unique_id]
    assert [event.event_type for event in events] == ["observation", "plan", "action"]
    assert events[-1].content["arguments"] == {"amount": 2}


class Mute(GenAgent):
    """Fails, or plans what nobody can do."""

    blocking = False
    action: str = ""

    def step(self, message: Message) -> Message:
        if not self.action:
            raise RuntimeError("I have no words.")
        return Message(Plan(actions=[Action(self.action, {})]).model_dump_json(), method="plan")


@pytest.mark.parametrize(("action", "word"), [("", "no words"), ("fly", "fly")])
def test_a_network_that_comes_to_nothing_is_not_silent_about_it(
    action: str, word: str, caplog: pytest.LogCaptureFixture
) -> None:
    network = GenNetwork(name="home", agents=[Mute(name="mute", action=action)], entry="mute")
    NetworkAgent(mesa.Model(rng=1), network).step()
    assert word in caplog.text


@pytest.mark.parametrize("network", ["home", GenNetwork, None])
def test_what_is_no_network_is_refused_when_it_is_given(network: Any) -> None:
    with pytest.raises(UsageError, match="is no network"):
        NetworkAgent(mesa.Model(rng=1), network)
