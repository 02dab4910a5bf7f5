"""Civil violence after Epstein: citizens rebel, cops arrest; two sets of tools.

As Mesa-LLM's users write it: hand-written `step` and `astep`, tools in a manager for each class.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

import mesa
from mesa.discrete_space import CellAgent, OrthogonalMooreGrid

from mesa_bridge import (
    LLMAgent,
    STLTMemory,
    ToolManager,
    enable_automatic_parallel_stepping,
    tool,
)

if TYPE_CHECKING:
    from nowhere import Agent  # type: ignore[import-not-found]  # pyright: ignore[reportMissingImports]

citizen_tool_manager = ToolManager()
cop_tool_manager = ToolManager()


class CitizenState(Enum):
    QUIET = 1
    ACTIVE = 2
    ARRESTED = 3


@tool(tool_manager=citizen_tool_manager)
def change_state(agent: Agent, state: str) -> str:  # noqa: D417
    """Change your state.

    Args:
        state: The new state, "QUIET" or "ACTIVE".
    """
    agent.state = CitizenState[state]
    return f"agent {agent.unique_id} is now {state}"


@tool(tool_manager=cop_tool_manager)
def arrest_citizen(agent: Agent, citizen_id: int) -> str:  # noqa: D417
    """Arrest an active citizen nearby.

    Args:
        citizen_id: Whom to arrest.
    """
    citizen = next(each for each in agent.model.agents if each.unique_id == citizen_id)
    citizen.state = CitizenState.ARRESTED
    citizen.jail_sentence_left = 2
    return f"agent {citizen_id} arrested by {agent.unique_id}"


class Citizen(LLMAgent, CellAgent):
    def __init__(self, model: Any, reasoning: Any, llm_model: Any, vision: int) -> None:
        super().__init__(
            model=model,
            reasoning=reasoning,
            llm_model=llm_model,
            system_prompt="You are a citizen in a country with an unpopular regime.",
            vision=vision,
            internal_state=None,
            step_prompt="Decide whether to rebel. Move if you like.",
        )
        self.hardship = self.random.random()
        self.state = CitizenState.QUIET
        self.jail_sentence_left = 0
        self.memory = STLTMemory(agent=self, display=False)
        self.tool_manager = citizen_tool_manager
        self.internal_state.append(f"hardship {self.hardship:.2f}")
        self.internal_state.append(f"state {self.state.name}")

    def update(self) -> bool:
        self.internal_state[-1] = f"state {self.state.name}"
        if self.state is not CitizenState.ARRESTED:
            return True
        self.jail_sentence_left -= 1
        if self.jail_sentence_left <= 0:
            self.state = CitizenState.QUIET
        return False

    def step(self) -> None:
        if self.update():
            plan = self.reasoning.plan(
                obs=self.generate_obs(), selected_tools=["change_state", "move_one_step"]
            )
            self.apply_plan(plan)

    async def astep(self) -> None:
        if self.update():
            plan = await self.reasoning.aplan(
                obs=await self.agenerate_obs(), selected_tools=["change_state", "move_one_step"]
            )
            await self.aapply_plan(plan)


class Cop(LLMAgent, CellAgent):
    def __init__(self, model: Any, reasoning: Any, llm_model: Any, vision: int) -> None:
        super().__init__(
            model=model,
            reasoning=reasoning,
            llm_model=llm_model,
            system_prompt="You are a cop.",
            vision=vision,
            internal_state="on duty",
            step_prompt="Arrest an active citizen you see, else move.",
        )
        self.tool_manager = cop_tool_manager

    def step(self) -> None:
        observation = self.generate_obs()
        plan = self.reasoning.plan(
            obs=observation, selected_tools=["move_one_step", "arrest_citizen"]
        )
        self.apply_plan(plan)

    async def astep(self) -> None:
        # As Mesa-LLM's documents have it: the plan is awaited, the rest is not.
        observation = self.generate_obs()
        plan = await self.reasoning.aplan(
            obs=observation, selected_tools=["move_one_step", "arrest_citizen"]
        )
        self.apply_plan(plan)


def count_active(model: Any) -> int:
    return sum(getattr(each, "state", None) is CitizenState.ACTIVE for each in model.agents)


class EpsteinModel(mesa.Model):
    def __init__(
        self,
        reasoning: Any,
        llm_model: Any,
        *,
        width: int = 6,
        citizens: int = 8,
        cops: int = 2,
        vision: int = 2,
        parallel_stepping: bool = False,
        mode: Any = "asyncio",
        seed: int = 1,
    ) -> None:
        super().__init__(rng=seed)
        self.parallel_stepping = parallel_stepping
        if parallel_stepping:
            enable_automatic_parallel_stepping(mode=mode)
        self.grid: Any = OrthogonalMooreGrid((width, width), torus=True, random=self.random)
        self.datacollector = mesa.DataCollector(model_reporters={"active": count_active})
        agents: list[Any] = [
            *Citizen.create_agents(self, citizens, reasoning, llm_model, vision),
            *Cop.create_agents(self, cops, reasoning, llm_model, vision),
        ]
        for agent in agents:
            agent.cell = self.grid.select_random_empty_cell()

    def step(self) -> None:
        self.agents.shuffle_do("step")
        self.datacollector.collect(self)
