"""The tutorial's first model: agents in one room who think aloud, and do nothing."""

from __future__ import annotations

from typing import Any

import mesa

from mesa_bridge import LLMAgent, record_model


class RoomAgent(LLMAgent):
    thoughts: str = ""

    def step(self) -> None:
        observation = self.generate_obs()
        plan = self.reasoning.plan(
            prompt="You are in a room. What do you think of it?",
            obs=observation,
            selected_tools=[],
        )
        self.thoughts = str(plan)
        self.apply_plan(plan)


@record_model
class RoomModel(mesa.Model):
    def __init__(self, reasoning: Any, llm_model: Any, *, agents: int = 3, seed: int = 1) -> None:
        super().__init__(rng=seed)
        for _ in range(agents):
            RoomAgent(
                model=self,
                reasoning=reasoning,
                llm_model=llm_model,
                system_prompt="You are a thoughtful person.",
                vision=-1,
                internal_state=["curious"],
            )

    def step(self) -> None:
        self.agents.shuffle_do("step")
