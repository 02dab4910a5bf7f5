"""A market: two sellers pitch, buyers listen and buy; conversations by `speak_to`."""

from __future__ import annotations

from typing import Any

import mesa
from mesa.space import MultiGrid

from mesa_bridge import LLMAgent, ToolManager, enable_automatic_parallel_stepping, tool

buyer_tool_manager = ToolManager()
seller_tool_manager = ToolManager()


class SellerAgent(LLMAgent):
    def __init__(self, model: Any, reasoning: Any, llm_model: Any, brand: str) -> None:
        super().__init__(
            model,
            reasoning,
            llm_model,
            f"You sell the {brand} brand.",
            4,
            ["always be closing"],
            "Pitch your brand to the buyers around you.",
        )
        self.brand = brand
        self.sales = 0
        self.tool_manager = seller_tool_manager

    def step(self) -> None:
        plan = self.reasoning.plan(obs=self.generate_obs(), selected_tools=["speak_to"])
        self.apply_plan(plan)


class BuyerAgent(LLMAgent):
    def __init__(self, model: Any, reasoning: Any, llm_model: Any, budget: int) -> None:
        super().__init__(model=model, reasoning=reasoning, llm_model=llm_model, vision=4)
        self.budget = budget
        self.products: list[str] = []
        self.tool_manager = buyer_tool_manager
        self.step_prompt = "Move about, and buy what convinces you."
        self.system_prompt = f"You are a buyer with a budget of {budget}."

    def step(self) -> None:
        self.internal_state = [f"owns {len(self.products)} products"]
        plan = self.reasoning.plan(
            obs=self.generate_obs(), selected_tools=["teleport_to_location", "buy_product"], ttl=2
        )
        self.apply_plan(plan)


@tool(tool_manager=buyer_tool_manager)
def buy_product(agent, chosen_brand: str):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """
    A tool for a buyer to buy a product.
        Args:
            agent : The agent that buys.
            chosen_brand : The brand that convinced you.
        Returns:
            What was bought.
    """  # noqa: D205, D212, D214, D410, D411 - as one finds it
    seller: Any = next(
        each for each in agent.model.agents if getattr(each, "brand", None) == chosen_brand
    )
    seller.sales += 1
    agent.products.append(chosen_brand)
    return chosen_brand


class NegotiationModel(mesa.Model):
    def __init__(
        self,
        reasoning: Any,
        llm_model: Any,
        *,
        buyers: int = 4,
        parallel_stepping: bool = False,
        mode: Any = "asyncio",
        seed: int = 1,
    ) -> None:
        super().__init__(rng=seed)
        self.parallel_stepping = parallel_stepping
        if parallel_stepping:
            enable_automatic_parallel_stepping(mode)
        self.grid = MultiGrid(5, 5, torus=False)
        agents: list[Any] = [
            SellerAgent(self, reasoning, llm_model, brand) for brand in ("budget", "premium")
        ]
        agents += BuyerAgent.create_agents(
            self, buyers, reasoning=reasoning, llm_model=llm_model, budget=50
        )
        for agent in agents:
            x, y = int(self.rng.integers(0, 5)), int(self.rng.integers(0, 5))
            self.grid.place_agent(agent, (x, y))

    def step(self) -> None:
        self.agents_by_type[SellerAgent].shuffle_do("step")
        self.agents_by_type[BuyerAgent].shuffle_do("step")
