"""Sugarscape: traders who ask a language model with whom to trade, and at what price.

Source: Epstein and Axtell, "Growing Artificial Societies", 1996, chapter IV. They walk, eat, die
and settle a trade as Mesa's own `Trader` does; its `trade_with_neighbors` is the rule-based twin,
which begins with the same traders in the same places.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Literal

import mesa
import numpy as np
from mesa.discrete_space import OrthogonalVonNeumannGrid, PropertyLayer
from mesa.examples.advanced.sugarscape_g1mt.agents import Trader, get_distance

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

SIZE = 6
NAMES = ("Ann", "Bob", "Cyd", "Dee", "Eli")
TOOLS = ToolManager()


@tool(tool_manager=TOOLS)
def propose_trade(
    agent: Thinker,
    partner: Literal["Ann", "Bob", "Cyd", "Dee", "Eli"],
    price: Literal["1/4", "1/2", "1", "2", "4"],
) -> str:
    """Propose a trade of sugar against spice to a neighbour, who takes it if both are better off.

    Args:
        agent: Who proposes.
        partner: The neighbour.
        price: How much spice one unit of sugar is to cost.
    """
    near = {each.name: each for each in agent.neighbours()}
    if partner not in near:
        raise ValueError(f"{partner} is not near you; near are {', '.join(near)}.")
    agent.send_message(f"I propose a trade at {price} spice for one sugar.", [near[partner]])
    done = agent.settle(near[partner], float(Fraction(price)))
    return f"{partner} {'takes' if done else 'declines'} it."


class Walker(Trader):
    """Mesa's trader; where places are equally good it chooses alike in every version of Mesa."""

    def __init__(self, model: Any, name: str, **body: Any) -> None:
        super().__init__(model, **body)
        self.name = name

    def neighbours(self) -> list[Walker]:
        """Those it sees."""
        near = self.cell.get_neighborhood(radius=self.vision).agents
        return sorted(near, key=lambda each: each.unique_id)

    def move(self) -> None:
        here: Any = self.cell  # type: ignore[has-type]
        around = here.get_neighborhood(self.vision, include_center=True)
        cells = [cell for cell in around if cell.is_empty or cell is here]
        self.cell = max(cells, key=self._merit)

    def _merit(self, cell: Any) -> tuple[float, float, Any]:
        welfare = self.calculate_welfare(self.sugar + cell.sugar, self.spice + cell.spice)
        return round(welfare, 9), -get_distance(self.cell, cell), cell.coordinate

    def step(self) -> None:
        """Trade by rule."""
        for each in self.neighbours():
            self.trade(each)


class Thinker(LLMAgent, Walker):
    """Thinks about whom to trade with, and at what price."""

    def __init__(self, model: Any, llm: ModuleLLM, **body: Any) -> None:
        super().__init__(model, reasoning=CoTReasoning, **body)
        self.llm = llm
        self.memory = ShortTermMemory(self, n=2)
        self.tool_manager = TOOLS
        self.system_prompt = (
            f"You are {self.name}, a trader. Each day you eat {self.metabolism_sugar} sugar and "
            f"{self.metabolism_spice} spice; without either you die."
        )

    def step(self) -> None:
        near = self.neighbours()
        if not near:
            return
        others = ", ".join(f"{each.name} ({_stock(each)})" for each in near)
        plan = self.reasoning.plan(
            prompt=f"You have {_stock(self)}. Your neighbours: {others}. Propose one trade.",
            selected_tools=["propose_trade"],
            tool_calls="required",
        )
        self.apply_plan(plan)

    def settle(self, other: Walker, price: float) -> bool:
        """Exchange at this price if both are better off; who values sugar more buys it."""
        sides = sorted((self, other), key=_worth, reverse=True)
        buyer, seller = sides
        welfare = [each.calculate_welfare(each.sugar, each.spice) for each in sides]
        done = bool(buyer.maybe_sell_spice(seller, price, *welfare))
        if done:
            self.prices.append(price)
        return done


class SugarTrade(mesa.Model):
    """Sugar grows in one corner and spice in the other.

    Args:
        llm: What traders ask; None if they follow Mesa's rule.
        budget: What they may spend.
        rng: As Mesa's.
    """

    def __init__(self, llm: ModuleLLM | None, budget: Budget, rng: int = 2) -> None:
        super().__init__(rng=rng)
        self.budget = budget
        self.recorder = SimulationRecorder(self)
        self.grid = OrthogonalVonNeumannGrid((SIZE, SIZE), torus=False, random=self.random)
        slope = np.add.outer(np.arange(SIZE), np.arange(SIZE)) * 4 // (2 * SIZE - 2)
        self.richest = {"sugar": slope, "spice": slope.max() - slope}
        for name, most in self.richest.items():
            self.grid.add_property_layer(PropertyLayer.from_data(name, most))
        cells = sorted(self.grid.all_cells, key=lambda cell: cell.coordinate)
        for name, cell in zip(NAMES, self.random.sample(cells, len(NAMES)), strict=True):
            numbers = (self.random.randint(1, 3) for _ in range(2))
            body = dict(zip(("metabolism_sugar", "metabolism_spice"), numbers, strict=True))
            body |= {"sugar": self.random.randint(4, 16), "spice": self.random.randint(4, 16)}
            body |= {"name": name, "cell": cell, "vision": 3}
            Walker(self, **body) if llm is None else Thinker(self, llm, **body)
        self.datacollector = mesa.DataCollector({"traders": alive, "trades": trades})
        self.datacollector.collect(self)
        enable_automatic_parallel_stepping(self)

    def step(self) -> None:
        for name, most in self.richest.items():
            layer = getattr(self.grid, name)
            layer.data = np.minimum(layer.data + 1, most)
        for trader in self.agents.shuffle():
            trader.prices = []
            trader.move()
            trader.eat()
            trader.maybe_die()
        self.agents.shuffle_do("step")
        self.datacollector.collect(self)


def _worth(trader: Walker) -> float:
    return float(trader.calculate_MRS(trader.sugar, trader.spice))


def _stock(trader: Walker) -> str:
    return f"{trader.sugar} sugar, {trader.spice} spice"


def alive(model: SugarTrade) -> int:
    """How many traders live."""
    return len(model.agents)


def trades(model: SugarTrade) -> int:
    """How many trades there were in the latest step."""
    return sum(len(each.prices) for each in model.agents)


def by_rule() -> SugarTrade:
    """The same traders, who trade by Mesa's rule."""
    return SugarTrade(None, Budget())


def line(model: SugarTrade) -> str:
    """Who lives, and how trade goes."""
    prices = ", ".join(f"{price:.2f}" for each in model.agents for price in each.prices)
    return f"{alive(model)} alive, {trades(model)} trades{f' at {prices}' if prices else ''}"
