"""Buyers and sellers who haggle: offers, answers and deals, in words that all of them remember.

Each day the buyers speak, all at once; then the sellers answer those who came to them. What a price
may be is the market's law, not the model's: nobody can spend more than they have.
"""

from __future__ import annotations

from typing import Literal

import mesa

from llm_net import Action, Budget, ModuleLLM, Plan
from mesa_bridge import (
    CoTReasoning,
    LLMAgent,
    ShortTermMemory,
    SimulationRecorder,
    ToolManager,
    enable_automatic_parallel_stepping,
    tool,
)

BUYERS = {"Cleo": 9.0, "Dara": 7.0, "Emil": 12.0}  # what they have
SELLERS = {"Ada": 4.0, "Ben": 6.0}  # what a pot costs them
FIRST_PRICE = 10.0
TOOLS = ToolManager()


@tool(tool_manager=TOOLS)
def offer(agent: Buyer, seller: Literal["Ada", "Ben"], price: float) -> str:
    """Offer a price for a pot.

    Args:
        agent: Who offers.
        seller: Who is to sell it.
        price: How much you would pay.
    """
    if not 0 < price <= agent.purse:
        raise ValueError(f"you have {agent.purse:g}, so you cannot offer {price:g}.")
    [chosen] = agent.model.agents_by_type[Seller].select(lambda each: each.name == seller)
    chosen.offers.append((round(price, 2), agent))
    return agent.send_message(f"I would pay {price:g} for a pot.", [chosen])


@tool(tool_manager=TOOLS)
def answer(agent: Seller, price: float) -> str:
    """Answer the best offer of the day: sell, or ask for more.

    Args:
        agent: Who answers.
        price: Your price; what the buyer offered, or less, is a deal.
    """
    offered, buyer = agent.best_offer()
    if price < agent.cost:
        raise ValueError(f"a pot costs you {agent.cost:g}; you do not sell it for {price:g}.")
    if price <= offered:
        buyer.paid = offered
        return agent.send_message(f"It is a deal: {offered:g}.", [buyer])
    agent.price = round(price, 2)
    return agent.send_message(f"I want {price:g} for it.", [buyer])


class Haggler(LLMAgent):
    """Asks a language model what to do; without one it follows its rule."""

    model: Market

    def __init__(self, model: Market, llm: ModuleLLM | None, name: str, persona: str) -> None:
        super().__init__(model, CoTReasoning, system_prompt=f"You are {name}. {persona}")
        self.name = name
        self.by_rule = llm is None
        self.llm = llm or self.llm
        self.memory = ShortTermMemory(self, n=2)
        self.tool_manager = TOOLS

    def decide(self, question: str, rule: Action) -> None:
        """Do what the model says, or the rule."""
        if self.by_rule:
            plan = Plan(step=self.model.steps, actions=[rule])
        else:
            plan = self.reasoning.plan(
                prompt=question, selected_tools=[rule.name], tool_calls="required"
            )
        self.apply_plan(plan)


class Buyer(Haggler):
    """Wants one pot, for as little as it can."""

    def __init__(self, model: Market, llm: ModuleLLM | None, name: str, purse: float) -> None:
        super().__init__(model, llm, name, f"You want one pot, cheap. You have {purse:g} coins.")
        self.purse = purse
        self.paid: float | None = None

    def step(self) -> None:
        if self.paid is not None:
            return
        sellers = sorted(self.model.agents_by_type[Seller], key=lambda each: each.price)
        asked = ", ".join(f"{each.name} asks {each.price:g}" for each in sellers)
        best = sellers[0]
        price = min(self.purse, round(best.price * 0.8, 2))  # the rule: a fifth off, of the best
        rule = Action("offer", {"seller": best.name, "price": price})
        self.decide(f"{asked}. You can pay up to {self.purse:g}. Make one offer.", rule)


class Seller(Haggler):
    """Has pots, and wants as much as it can get."""

    def __init__(self, model: Market, llm: ModuleLLM | None, name: str, cost: float) -> None:
        super().__init__(model, llm, name, f"You sell pots, dear. A pot costs you {cost:g} coins.")
        self.cost = cost
        self.price = FIRST_PRICE
        self.offers: list[tuple[float, Buyer]] = []

    def best_offer(self) -> tuple[float, Buyer]:
        """The highest of the day; of equal ones the first."""
        return max(self.offers, key=lambda each: each[0])

    def step(self) -> None:
        if not self.offers:
            return
        offered, buyer = self.best_offer()
        wanted = round((self.price + self.cost) / 2, 2)  # the rule: meet half way
        question = f"{buyer.name} offers {offered:g} for a pot. Name your price."
        self.decide(question, Action("answer", {"price": wanted}))
        self.offers.clear()


class Market(mesa.Model):
    """A market of pots.

    Args:
        llm: What buyers and sellers ask; None if they follow rules.
        budget: What they may spend on it.
        rng: As Mesa's.
    """

    def __init__(self, llm: ModuleLLM | None, budget: Budget, rng: int = 1) -> None:
        super().__init__(rng=rng)
        self.budget = budget
        self.recorder = SimulationRecorder(self)
        for name, purse in BUYERS.items():
            Buyer(self, llm, name, purse)
        for name, cost in SELLERS.items():
            Seller(self, llm, name, cost)
        self.datacollector = mesa.DataCollector({"sold": sold, "mean price": mean_price})
        self.datacollector.collect(self)
        enable_automatic_parallel_stepping(self)

    def step(self) -> None:
        self.agents_by_type[Buyer].shuffle_do("step")
        self.agents_by_type[Seller].shuffle_do("step")
        self.datacollector.collect(self)

    @property
    def paid(self) -> list[float]:
        """What was paid for a pot, by each who has one."""
        return [each.paid for each in self.agents_by_type[Buyer] if each.paid is not None]


def sold(market: Market) -> int:
    """How many pots were sold."""
    return len(market.paid)


def mean_price(market: Market) -> float:
    """What a pot was sold for; 0 if none was."""
    return sum(market.paid) / sold(market) if market.paid else 0.0


def by_rule() -> Market:
    """The same market, without a model."""
    return Market(None, Budget())


def line(market: Market) -> str:
    """How trade goes."""
    asked = ", ".join(f"{each.name} {each.price:g}" for each in market.agents_by_type[Seller])
    return f"{sold(market)} sold, mean price {mean_price(market):.2f}, now asked: {asked}"
