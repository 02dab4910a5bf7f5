"""A planner with workers: the model fills in a typed message, and the workers do its parts."""

import asyncio
from typing import Annotated

from pydantic import Field

from llm_net import GenNetwork, Message, MindAgent, ModuleLLM

TASK = "Prepare a stall for the spring fair."
Part = Annotated[str, Field(max_length=60)]


class Parts(Message):
    """The parts of a task, one for each worker."""

    parts: Annotated[list[Part], Field(min_length=2, max_length=2)]


class Planner(MindAgent):
    """Splits a task in two, has both parts done at once, and reports."""

    async def astep(self, message: Message) -> str:
        order = await self.ask_model(
            Parts, f"Split this task into two short parts: {message.body}", max_tokens=120
        )
        asked = [
            self.aask(f"worker{number}", Message(part))
            for number, part in enumerate(order.parts, 1)
        ]
        reports = await asyncio.gather(*asked)
        lines = [" ".join(report.body.split()) for report in reports if report is not None]
        return "\n".join(lines)


def network(llm: ModuleLLM) -> GenNetwork:
    """A workshop with a planner and two workers."""
    workers = [
        MindAgent(
            name=f"worker{number}",
            llm=llm,
            system_prompt="You do what you are asked, and say in one sentence what you did.",
        )
        for number in (1, 2)
    ]
    planner = Planner(name="planner", llm=llm, system_prompt="You plan the work of two people.")
    return GenNetwork(name="workshop", agents=[planner, *workers], entry="planner")


def opening() -> Message:
    """The task."""
    return Message(TASK)
