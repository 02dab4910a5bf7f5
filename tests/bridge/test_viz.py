"""What is shown of a model: the latest of each mind, words as words, costs; never a script."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mesa
import pytest
import solara
from hypothesis import given
from hypothesis import strategies as st

from llm_net import Action, Budget, GenAgent, GenNetwork, Message, ModuleLLM, Plan
from mesa_bridge import (
    CoTReasoning,
    LLMAgent,
    NetworkAgent,
    NetworkModel,
    SimulationRecorder,
    enable_automatic_parallel_stepping,
)
from mesa_bridge.viz import AgentMind, Conversation, Costs, NetworkView, reading

HOSTILE = "<img src=x onerror='window.taken=1'><script>window.taken=1</script> **bold** ${7*7}"


class Town(mesa.Model):
    def __init__(self, answer: Any = HOSTILE) -> None:
        super().__init__(rng=1)
        self.budget = Budget(calls=9)
        self.recorder = SimulationRecorder(self)
        self.llm = ModuleLLM(lambda request: answer, budget=self.budget)
        self.people = [Person(self), Person(self)]
        enable_automatic_parallel_stepping(self)

    def step(self) -> None:
        self.agents.shuffle_do("step")


class Person(LLMAgent):
    def __init__(self, model: Town) -> None:
        super().__init__(model, CoTReasoning, vision=-1)
        self.llm = model.llm

    def step(self) -> None:
        self.apply_plan(self.reasoning.plan("Speak.", tool_calls="none"))
        others = [each for each in self.model.agents if each is not self]
        self.send_message(f"{HOSTILE} {self.model.steps}", others)


class Speaker(GenAgent):
    def step(self, message: Message) -> str:
        return HOSTILE


class House(mesa.Model):
    def __init__(self) -> None:
        super().__init__(rng=1)
        network = GenNetwork(name="house", agents=[Speaker()], entry="speaker")
        self.agent = NetworkAgent(self, network)


def shown(component: Any, model: Any) -> list[Any]:
    """All widgets that a component shows."""
    box, _ = solara.render_fixed(component(model), handle_error=False)
    return list(widgets(box))


def widgets(widget: Any) -> Iterator[Any]:
    yield widget
    for child in getattr(widget, "children", ()):
        if not isinstance(child, str):
            yield from widgets(child)


def texts(found: list[Any]) -> str:
    """What stands on the page as text."""
    children = [child for each in found for child in getattr(each, "children", ())]
    return "\n".join(child for child in children if isinstance(child, str))


# -- minds


def test_a_mind_is_shown_as_it_was_in_its_latest_step() -> None:
    town = Town("I greet.")
    for _ in range(2):
        town.step()

    view = reading.mind(town, 1)

    assert view is not None
    assert (view.step, view.thoughts, view.actions) == (2, "I greet.", ())
    assert '"agent_unique_id": 1' in view.observation
    assert "Person 2" in view.observation
    assert reading.thinkers(town) == [1, 2]


def test_what_an_agent_did_is_shown_with_what_came_of_it() -> None:
    call = {"name": "speak_to", "arguments": {"listener_agents_unique_ids": [2], "message": "Hi"}}
    town = Town()
    plan = Plan(step=0, actions=[])
    person = town.people[0]
    person.apply_plan(plan)
    person.apply_plan(Plan.model_validate({"actions": [call]}))

    view = reading.mind(town, 1)

    assert view is not None
    assert view.actions == (
        "speak_to(listener_agents_unique_ids=[2], message=Hi): Person 1 told Person 2: Hi",
    )


@pytest.mark.parametrize("model", [mesa.Model(rng=1), Town()])
def test_of_who_has_done_nothing_nothing_is_shown(model: Any) -> None:
    assert reading.mind(model, 1) is None
    assert reading.thinkers(model) == []
    assert "Nothing is recorded yet." in texts(shown(AgentMind(), model))


@given(
    events=st.lists(
        st.tuples(
            st.integers(0, 3), st.integers(1, 3), st.sampled_from(["observation", "plan", "action"])
        ),
        max_size=12,
    ),
    agent_id=st.integers(1, 3),
)
def test_a_mind_never_mixes_steps_or_agents(
    events: list[tuple[int, int, str]], agent_id: int
) -> None:
    model: Any = mesa.Model(rng=1)
    model.recorder = SimulationRecorder(model)
    events.sort(key=lambda each: each[0])  # a recording is in order
    for number, (step, agent, kind) in enumerate(events):
        content = {
            "observation": {"number": number},
            "plan": {"thoughts": str(number)},
            "action": {"name": "do", "response": str(number), "arguments": {}},
        }[kind]
        model.recorder.record_event(kind, content, step=step, agent_id=agent)

    view = reading.mind(model, agent_id)

    own = [(n, *event) for n, event in enumerate(events) if event[1] == agent_id]
    if not own:
        assert view is None
        return
    latest = [each for each in own if each[1] == own[-1][1]]
    assert view is not None
    assert view.step == own[-1][1]
    assert view.actions == tuple(f"do(): {n}" for n, *_, kind in latest if kind == "action")
    thoughts = [str(n) for n, *_, kind in latest if kind == "plan"]
    assert view.thoughts == (thoughts[-1] if thoughts else "")


# -- words


@given(last=st.integers(1, 9), many=st.integers(0, 6))
def test_the_latest_words_are_shown_in_order_and_no_more_than_asked_for(
    last: int, many: int
) -> None:
    model: Any = mesa.Model(rng=1)
    model.recorder = SimulationRecorder(model)
    for number in range(many):
        content = {"message": str(number), "recipients": [2, 3]}
        model.recorder.record_event("message", content, step=number, agent_id=1)

    lines = [f"step {number}: 1 to 2, 3: {number}" for number in range(many)]
    assert reading.said(model, last) == lines[-last:]


def test_the_words_of_a_network_that_is_a_model_are_shown_without_a_recorder() -> None:
    network = GenNetwork(name="house", agents=[Speaker()], entry="speaker")
    model = NetworkModel(network, rng=1, entry_message="hello")
    model.step()

    assert reading.said(model) == [
        "step 1: outside to house/speaker [step] hello",
        f"step 1: house to outside [response] {HOSTILE}",
    ]


# -- networks, costs


def test_a_network_is_drawn_with_what_it_said() -> None:
    house = House()
    found = shown(NetworkView(), house)
    assert "(nothing)" in texts(found)

    house.agent.step()
    found = shown(NetworkView(), house)

    assert HOSTILE in texts(found)
    [image] = [each for each in found if type(each).__name__ == "Image"]
    assert bytes(image.value).startswith(b"data:image/svg+xml;base64,")


class Planner(GenAgent):
    said: str

    def step(self, message: Message) -> Message:
        return Message(self.said, method="plan")


PLAN = Plan(thoughts="We need food.", actions=[Action("shop", {"meals": 4, "where": "here"})])


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (PLAN.model_dump_json(), "We need food.\nshop(meals=4, where=here)"),
        ("{no plan}", "{no plan}"),
    ],
)
def test_a_plan_that_leaves_a_network_is_shown_as_what_is_to_be_done(said: str, shown: str) -> None:
    agent = NetworkAgent(mesa.Model(rng=1), Planner(said=said))
    agent.step()

    assert reading.answered(agent) == shown


def test_a_model_without_networks_says_so() -> None:
    assert "No agent of this model is a network." in texts(shown(NetworkView(), Town()))


def test_costs_are_those_of_the_models_budget_and_failures_stand_below() -> None:
    def doomed(request: Any) -> str:
        raise ValueError("the model is out")

    town = Town()
    town.llm = ModuleLLM(doomed, budget=town.budget)
    town.people[0].llm = town.llm
    town.step()

    text = texts(shown(Costs(), town))

    assert str(town.budget.ledger) in text
    spent = f"spent: 2 calls, {town.budget.spent.tokens} tokens, $0.0000"
    assert text.index(spent) < text.index(str(town.budget.ledger)), "the table may be cut off"
    assert "left: 7 calls" in text
    assert "2 agents, 2 plans" in text
    assert "failed: Person 1: " in text
    assert "the model is out" in text


@pytest.mark.parametrize("budget", [None, 12.5])
def test_a_model_without_a_budget_for_calls_costs_nothing(budget: float | None) -> None:
    model: Any = mesa.Model(rng=1)
    model.budget = budget  # a household's, say
    assert reading.costs(model) == ""


# -- what a model wrote


def test_what_a_model_wrote_is_shown_as_text_and_nothing_else() -> None:
    town = Town()
    town.step()
    house = House()
    house.agent.step()

    for component, model in [
        (AgentMind(), town),
        (Conversation(), town),
        (NetworkView(), house),
        (Costs(), town),
    ]:
        found = shown(component, model)
        if component.__name__ != "Ledger":
            assert HOSTILE in texts(found)
        for widget in found:
            # What is not a child of text could be read as HTML: templates, and the like.
            other = [str(value) for name, value in widget.get_state().items() if name != "children"]
            assert not any("onerror" in each for each in other), type(widget)
