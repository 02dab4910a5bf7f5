"""Traders with sugar and spice on a grid of resources that grow again."""

from __future__ import annotations

from typing import Any

import mesa
from mesa.discrete_space import CellAgent, FixedAgent, OrthogonalVonNeumannGrid

from mesa_bridge import (
    EpisodicMemory,
    LLMAgent,
    enable_automatic_parallel_stepping,
    step_agents_parallel_sync,
    tool,
)


@tool
def move_to_best_resource(agent: Any) -> str:
    """Move to the neighbouring cell with the most resources, and harvest it."""
    fields = [
        each
        for cell in [agent.cell, *agent.cell.connections.values()]
        for each in cell.agents
        if isinstance(each, Resource)
    ]
    best = max(fields, key=lambda each: (each.amount, -each.unique_id))
    agent.cell = best.cell
    harvested, best.amount = best.amount, 0
    agent.sugar += harvested
    return f"harvested {harvested}"


@tool
def propose_trade(agent: Any, other_agent_id: int, sugar: int, spice: int = 1) -> str:  # noqa: D417
    """Offer sugar for spice.

    Args:
        other_agent_id: To whom.
        sugar: How much you give.
        spice: How much you take.
    """
    other: Any = next(each for each in agent.model.agents if each.unique_id == other_agent_id)
    if agent.sugar < sugar or other.spice < spice:
        return "rejected"
    agent.sugar, other.sugar = agent.sugar - sugar, other.sugar + sugar
    agent.spice, other.spice = agent.spice + spice, other.spice - spice
    agent.send_message(f"I gave {sugar} sugar for {spice} spice.", [other])
    return "accepted"


class Resource(FixedAgent):
    def __init__(self, model: Any, cell: Any) -> None:
        super().__init__(model)
        self.cell = cell
        self.amount = 3
        self.internal_state = [f"sugar field of {self.amount}"]

    def step(self) -> None:
        self.amount = min(self.amount + 1, 3)
        self.internal_state[0] = f"sugar field of {self.amount}"


class Trader(LLMAgent, CellAgent):
    def __init__(self, model: Any, reasoning: Any, llm_model: Any, cell: Any) -> None:
        super().__init__(
            model=model, reasoning=reasoning, llm_model=llm_model, vision=1, step_prompt="Trade."
        )
        self.cell = cell
        self.sugar = int(self.random.randint(2, 6))
        self.spice = int(self.random.randint(2, 6))
        self.memory = EpisodicMemory(agent=self, display=False)

    def astep_state(self) -> None:
        self.internal_state = [f"sugar {self.sugar}", f"spice {self.spice}"]

    async def astep(self) -> None:  # the only one: it is enough
        self.sugar -= 1
        self.astep_state()
        if self.sugar <= 0:
            self.remove()
            return
        plan = await self.reasoning.aplan(
            obs=self.generate_obs(), selected_tools=["move_to_best_resource", "propose_trade"]
        )
        await self.aapply_plan(plan)


class SugarScapeModel(mesa.Model):
    def __init__(
        self,
        reasoning: Any,
        llm_model: Any,
        *,
        traders: int = 5,
        manual: bool = False,
        parallel_stepping: bool = False,
        seed: int = 1,
    ) -> None:
        super().__init__(rng=seed)
        self.parallel_stepping = parallel_stepping
        if parallel_stepping:
            enable_automatic_parallel_stepping()
        self.manual = manual
        self.grid: Any = OrthogonalVonNeumannGrid((4, 4), random=self.random)
        for cell in self.grid.all_cells:
            Resource(self, cell)
        for _ in range(traders):
            Trader(self, reasoning, llm_model, self.random.choice(list(self.grid.all_cells)))

    def step(self) -> None:
        self.agents_by_type[Resource].do("step")
        if self.manual:
            step_agents_parallel_sync([each for each in self.agents if isinstance(each, Trader)])
        else:
            self.agents_by_type[Trader].shuffle_do("step")
