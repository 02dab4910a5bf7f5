"""An agent that can only think, and the tools it thinks with."""

from __future__ import annotations

import asyncio
from typing import Any

from llm_net.llm.model import Request
from llm_net.llm.module_llm import ModuleLLM
from llm_net.memory.short_term import ShortTermMemory
from llm_net.reasoning.plan import Observation, Plan
from llm_net.reasoning.strategy import Reasoning
from llm_net.tools.manager import ToolManager
from llm_net.tools.tool import tool

__all__ = ["DRIVES", "Thinker", "call", "calls", "think"]

DRIVES = ["plan", "aplan"]


def call(name: str, /, *, id: str | None = None, **arguments: Any) -> dict[str, Any]:  # noqa: A002
    """A tool call, as a function model gives it."""
    made: dict[str, Any] = {"name": name, "arguments": arguments}
    return made if id is None else {**made, "id": id}


def calls(*made: dict[str, Any], text: str = "") -> dict[str, Any]:
    """An answer that calls tools."""
    return {"tool_calls": list(made), "content": text} if text else {"tool_calls": list(made)}


class Thinker:
    """What a strategy needs, and a log of the tools that ran."""

    acts_while_planning = False

    def __init__(self, *replies: Any, tools: bool = True) -> None:
        self.log: list[str] = []
        self.llm = ModuleLLM("scripted", replies=list(replies))
        self.memory: Any = ShortTermMemory(self)
        self.system_prompt: str | None = "You are Ada."
        self.step_prompt: str | None = "Go on."
        self.tool_manager = ToolManager(self._tools() if tools else [])
        self.step = 1

    def generate_obs(self) -> Observation:
        """Nothing but the step."""
        return Observation(self.step, {"money": 7})

    @property
    def requests(self) -> list[Request]:
        """What the model was asked."""
        return self.llm.calls

    def _tools(self) -> list[Any]:
        @tool
        def move(direction: str, steps: int = 1) -> str:
            """Go somewhere.

            Args:
                direction: Where to.
                steps: How far.
            """
            self.log.append(f"move {direction} {steps}")
            return f"moved {direction}"

        @tool(reads=True)
        def look(what: str) -> int:
            """Look at something; gives how many there are."""
            self.log.append(f"look {what}")
            return len(what)

        @tool
        def pay(amount: int) -> None:
            """Pay."""
            self.log.append(f"pay {amount}")

        return [move, look, pay]


def think(way: str, strategy: Reasoning, **words: Any) -> Plan:
    """Make a plan, blocking or awaiting."""
    if way == "plan":
        return strategy.plan(**words)
    return asyncio.run(strategy.aplan(**words))
