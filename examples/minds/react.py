"""A clerk with two tools: it thinks, looks a price up, thinks again, converts it, and answers."""

from llm_net import GenNetwork, Message, MindAgent, ModuleLLM, ReActReasoning, tool

QUESTION = "What does a kilo of salt cost, in dollars?"
PRICES = {"salt": 1.20, "rice": 2.50}
RATES = {"USD": 1.10, "CHF": 0.95}


@tool(reads=True)
def price_of(item: str) -> float:
    """Look up what a kilo of something costs.

    Args:
        item: One word, as in salt.

    Returns:
        The price in euros.
    """
    return PRICES[item.lower()]


@tool(reads=True)
def convert(amount: float, currency: str) -> float:
    """Convert euros into another currency.

    Args:
        amount: Euros.
        currency: Its code, as in USD.
    """
    return round(amount * RATES[currency.upper()], 2)


def network(llm: ModuleLLM) -> GenNetwork:
    """A shop with one clerk."""
    clerk = MindAgent(
        name="clerk",
        llm=llm,
        reasoning=ReActReasoning(max_steps=5),
        tools=[price_of, convert],
        system_prompt="You are the clerk of a small shop. You answer in one sentence.",
    )
    return GenNetwork(name="shop", agents=[clerk], entry="clerk")


def opening() -> Message:
    """What the customer asks."""
    return Message(QUESTION)
