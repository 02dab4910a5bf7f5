"""Civil violence: citizens who ask a language model whether to rebel, and police who follow rules.

Source: Joshua M. Epstein, "Modeling civil violence: an agent-based computational approach", PNAS,
2002. Its rule-based twin is Mesa's own `EpsteinCivilViolence`; both begin with the same people in
the same places, with the same hardships.
"""

from __future__ import annotations

import math
from typing import Any

import mesa
from mesa.discrete_space import CellAgent, OrthogonalVonNeumannGrid
from mesa.examples.advanced.epstein_civil_violence import model as mesas

from llm_net import Budget, ModuleLLM
from mesa_bridge import (
    CoTReasoning,
    LLMAgent,
    ShortTermMemory,
    SimulationRecorder,
    ToolManager,
    enable_automatic_parallel_stepping,
    tool,
)

SIZE = 5
SETTINGS: dict[str, Any] = {
    "citizen_density": 0.3,
    "cop_density": 0.1,
    "citizen_vision": 2,
    "cop_vision": 2,
    "legitimacy": 0.2,
    "max_jail_term": 3,
}
STATES = ("ACTIVE", "QUIET", "ARRESTED")
ARREST_CONSTANT = 2.3  # one policeman for each rebel in sight makes an arrest 90 % likely
CHOICES = ToolManager()


@tool(tool_manager=CHOICES)
def decide(agent: Citizen, reason: str, rebel: bool) -> str:  # noqa: ARG001, FBT001 - the model's
    """Decide what to do today.

    Args:
        agent: Who decides.
        reason: Why, in at most ten words.
        rebel: True to rebel in the open, false to stay quiet.
    """
    agent.state = "ACTIVE" if rebel else "QUIET"
    return f"You {'rebel' if rebel else 'stay quiet'}."


class Walker(CellAgent):
    """Goes to any free place that it sees."""

    model: CivilViolence

    def in_sight(self, vision: int) -> list[Any]:
        """Those it sees, in an order that is the same in every version of Mesa."""
        near = self.cell.get_neighborhood(radius=vision).agents
        return sorted(near, key=lambda each: each.unique_id)

    def walk(self, vision: int) -> None:
        free = [cell for cell in self.cell.get_neighborhood(radius=vision) if cell.is_empty]
        if free:
            free.sort(key=lambda cell: cell.coordinate)
            self.move_to(self.random.choice(free))


class Citizen(LLMAgent, Walker):
    """Decides each day whether to rebel; in jail it waits."""

    def __init__(self, model: CivilViolence, llm: ModuleLLM) -> None:
        super().__init__(model, CoTReasoning, llm_model=llm.model)
        self.llm = llm  # with its cassette and its budget
        self.memory = ShortTermMemory(self, n=2)
        self.tool_manager = CHOICES
        self.hardship = self.random.random()
        self.risk_aversion = self.random.random()
        self.state = "QUIET"
        self.jail_sentence = 0
        self.system_prompt = (
            f"You are a citizen. On a scale of 10, your life is hard by {self.hardship * 10:.0f}, "
            f"the government is just by {SETTINGS['legitimacy'] * 10:.0f}, and your fear of risk "
            f"is {self.risk_aversion * 10:.0f}."
        )

    def step(self) -> None:
        if self.jail_sentence:
            self.jail_sentence -= 1
            return
        near = self.in_sight(SETTINGS["citizen_vision"])
        police = sum(isinstance(each, Cop) for each in near)
        rebels = 1 + sum(getattr(each, "state", "") == "ACTIVE" for each in near)
        arrest = 1 - math.exp(-ARREST_CONSTANT * round(police / rebels))
        plan = self.reasoning.plan(
            prompt=f"You see {police} police and {rebels - 1} rebels. If you rebel, the risk of "
            f"an arrest is {arrest:.0%}. Do you rebel, or stay quiet?",
            selected_tools=["decide"],
            tool_calls="required",
        )
        if not self.jail_sentence:  # it may have been arrested while it thought
            self.apply_plan(plan)
            self.walk(SETTINGS["citizen_vision"])


class Cop(Walker):
    """Arrests a rebel that it sees."""

    def step(self) -> None:
        near = self.in_sight(SETTINGS["cop_vision"])
        rebels = [each for each in near if getattr(each, "state", "") == "ACTIVE"]
        if rebels:
            arrested = self.random.choice(rebels)
            arrested.state = "ARRESTED"
            arrested.jail_sentence = self.random.randint(0, SETTINGS["max_jail_term"])
        self.walk(SETTINGS["cop_vision"])


class CivilViolence(mesa.Model):
    """A small town square.

    Args:
        llm: What the citizens ask.
        budget: What they may spend.
        rng: As Mesa's.
    """

    def __init__(self, llm: ModuleLLM, budget: Budget, rng: int = 3) -> None:
        super().__init__(rng=rng)
        self.budget = budget
        self.recorder = SimulationRecorder(self)
        self.grid = OrthogonalVonNeumannGrid(
            (SIZE, SIZE), capacity=1, torus=True, random=self.random
        )
        citizens, cops = SETTINGS["citizen_density"], SETTINGS["cop_density"]
        for cell in self.grid.all_cells:  # drawn as Mesa's model draws
            [kind] = self.random.choices("CP ", cum_weights=[citizens, citizens + cops, 1])
            if kind != " ":
                agent = Citizen(self, llm) if kind == "C" else Cop(self)
                agent.move_to(cell)
        self.datacollector = mesa.DataCollector({state: state for state in STATES})
        self._count()
        enable_automatic_parallel_stepping(self)

    def step(self) -> None:
        self.agents.shuffle_do("step")
        self._count()

    def _count(self) -> None:
        states = [each.state for each in self.agents_by_type[Citizen]]
        self.ACTIVE, self.QUIET, self.ARRESTED = (states.count(state) for state in STATES)
        self.datacollector.collect(self)


def by_rule(rng: int = 3) -> Any:
    """Mesa's own model of the same town square, whatever the version of Mesa."""
    scenario = getattr(mesas, "EpsteinScenario", None)
    if scenario is None:
        return mesas.EpsteinCivilViolence(SIZE, SIZE, seed=rng, **SETTINGS)
    return mesas.EpsteinCivilViolence(SIZE, SIZE, scenario=scenario(rng=rng, **SETTINGS))


def line(model: Any) -> str:
    """How many citizens do what."""
    return ", ".join(f"{getattr(model, state)} {state.lower()}" for state in STATES)
