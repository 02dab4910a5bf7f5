"""A town of households, each of them a network of people who talk before they act.

To Mesa a household is one agent. In it, a table asks one person after the other what to do today;
the others hear what is said, and what most of them want is done.
"""

from __future__ import annotations

from typing import Any, Literal

import mesa
from mesa.discrete_space import CellAgent, OrthogonalMooreGrid

from llm_net import AnswerError, Budget, GenAgent, GenNetwork, Message, MindAgent, ModuleLLM
from mesa_bridge import (
    Action,
    NetworkAgent,
    Observation,
    Plan,
    SimulationRecorder,
    ToolManager,
    enable_automatic_parallel_stepping,
    tool,
)

FAMILIES = {"marin": ("ana", "ben"), "okoye": ("chi", "dayo"), "vogel": ("eva", "finn")}
SIZE = 3
WAGE, BASKET, ENOUGH = 2, 4, 2
TOOLS = ToolManager()


class Question(Message):
    """What do we do today?"""

    food: int
    money: int


class Wish(Message):
    """What I want us to do today, and why, in at most ten words."""

    deed: Literal["visit", "shop", "work"]


class Person(GenAgent):
    """Says what it wants, by a rule."""

    heard: str = ""

    def said(self, message: Message) -> None:
        self.heard = message.body

    async def aquestion(self, message: Question) -> Wish:
        wish = await self.wish(message)
        self.emit("said", f"{self.name}: {' '.join(wish.body.split())} ({wish.deed})")
        return wish

    async def wish(self, question: Question) -> Wish:
        if question.food > ENOUGH:
            return Wish("We have enough; let us see the neighbours.", deed="visit")
        if question.money:
            return Wish("There is little food left.", deed="shop")
        return Wish("We are out of money.", deed="work")


class Thinker(MindAgent, Person):
    """Says what it wants, as a language model puts it."""

    async def wish(self, question: Question) -> Wish:
        heard = f" {self.heard}." if self.heard else ""
        told = f"There is food for {question.food} meals, and there are {question.money} coins."
        try:
            return await self.ask_model(Wish, f"{told}{heard} Do we shop, visit somebody, or work?")
        except AnswerError:  # a small model may ramble
            return Wish("I do not know.", deed="work")


class Table(GenAgent):
    """Asks everybody, and makes a plan of it."""

    people: tuple[str, ...]

    async def astep(self, message: Message) -> Message:
        seen = Observation.model_validate_json(message.body)
        deeds: list[str] = []
        for person in self.people:
            question = Question(food=seen.self_state["food"], money=seen.self_state["money"])
            wish = await self.aask(person, question)
            assert isinstance(wish, Wish), "people answer with a wish"
            deeds.append(wish.deed)
        deed = max(deeds, key=deeds.count)  # of equal ones the first
        plan = Plan(step=seen.step, actions=[Action(deed)])
        return Message(plan.model_dump_json(), method="plan")


def family(name: str, people: tuple[str, ...], llm: ModuleLLM | None) -> GenNetwork:
    """The people of a household, who hear each other, and their table."""
    persona = "You are {}, of the family {}. You share a house, food and money."
    members: list[GenAgent] = [
        Person(name=each)
        if llm is None
        else Thinker(name=each, llm=llm, system_prompt=persona.format(each, name))
        for each in people
    ]
    return GenNetwork(
        name=name,
        agents=[Table(people=people), *members],
        edges=[(u, "said", v) for u in people for v in people if u != v],
        entry="table",
        expose=["said"],
    )


@tool(tool_manager=TOOLS)
def work(agent: Household) -> str:
    """Earn money."""
    agent.money += WAGE
    return f"The {agent.name}s earn {WAGE} coins."


@tool(tool_manager=TOOLS)
def shop(agent: Household) -> str:
    """Buy food."""
    if not agent.money:
        raise ValueError("there is no money left.")
    agent.money -= 1
    agent.food += BASKET
    return f"The {agent.name}s buy {BASKET} meals."


@tool(tool_manager=TOOLS)
def visit(agent: Household) -> str:
    """Eat with the neighbours whom you know least."""
    others = [each for each in agent.model.agents if each is not agent]
    host = min(others, key=lambda each: (agent.visits.get(each.name, 0), each.unique_id))
    agent.visits[host.name] = agent.visits.get(host.name, 0) + 1
    host.visits[agent.name] = host.visits.get(agent.name, 0) + 1
    return f"The {agent.name}s visit the {host.name}s."


class Household(NetworkAgent, CellAgent):
    """A family, as one agent of Mesa."""

    def __init__(self, model: Town, name: str, network: GenNetwork) -> None:
        super().__init__(model, network, tool_manager=TOOLS)
        self.name = name
        self.food = 4
        self.money = 1
        self.visits: dict[str, int] = {}
        self.hungry = 0

    def observe(self) -> Observation:
        seen = super().observe()
        own = {**seen.self_state, "food": self.food, "money": self.money}
        return seen.model_copy(update={"self_state": own})

    def act(self, plan: Plan) -> list[Any]:
        results = super().act(plan)
        eaten = min(self.food, len(FAMILIES[self.name]))
        self.hungry += len(FAMILIES[self.name]) - eaten
        self.food -= eaten
        return results


class Town(mesa.Model):
    """A town.

    Args:
        llm: What people ask; None if they follow rules.
        budget: What they may spend.
        rng: As Mesa's.
    """

    def __init__(self, llm: ModuleLLM | None, budget: Budget, rng: int = 4) -> None:
        super().__init__(rng=rng)
        self.budget = budget
        self.recorder = SimulationRecorder(self)
        self.grid = OrthogonalMooreGrid((SIZE, SIZE), capacity=1, random=self.random)
        cells = sorted(self.grid.all_cells, key=lambda cell: cell.coordinate)
        places = self.random.sample(cells, len(FAMILIES))
        for (name, people), cell in zip(FAMILIES.items(), places, strict=True):
            Household(self, name, family(name, people, llm)).move_to(cell)
        self.datacollector = mesa.DataCollector(
            {"hungry": hungry, "visits": visits}, {"food": "food", "money": "money"}
        )
        self.datacollector.collect(self)
        enable_automatic_parallel_stepping(self)

    def step(self) -> None:
        self.agents.shuffle_do("step")
        self.datacollector.collect(self)


def hungry(town: Town) -> int:
    """How many meals nobody had."""
    return sum(each.hungry for each in town.agents)


def visits(town: Town) -> int:
    """How often households saw each other."""
    return sum(sum(each.visits.values()) for each in town.agents) // 2


def by_rule() -> Town:
    """The same town, of people who follow a rule."""
    return Town(None, Budget())


def line(town: Town) -> str:
    """How everybody lives."""
    stocks = "; ".join(f"{each.name} {each.food} food {each.money} money" for each in town.agents)
    return f"{stocks}; {visits(town)} visits, {hungry(town)} meals missed"
