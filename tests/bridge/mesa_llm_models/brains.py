"""Language models that are functions: they read the prompt, and decide by a simple rule."""

from __future__ import annotations

import asyncio
import json
import random
import re
from typing import Any

from llm_net.llm.model import Request, content_text

STATE = re.compile(r"^Your state: (\{.*\})$", re.MULTILINE)
AROUND = re.compile(r"^Around you: (\{.*\})$", re.MULTILINE)


def written(request: Request) -> str:
    return "\n".join(content_text(each) for each in request.messages)


def read(pattern: re.Pattern[str], text: str) -> dict[str, Any]:
    found = pattern.findall(text)
    return json.loads(found[-1]) if found else {}


def call(tool: str, why: str = "It seems best.", **arguments: Any) -> dict[str, Any]:
    return {
        "content": f"Thought 4: {why}",
        "tool_calls": [{"name": tool, "arguments": json.dumps(arguments)}],
    }


def citizen_or_cop(request: Request) -> Any:
    text = written(request)
    tools = {each["function"]["name"] for each in request.tools}
    around = read(AROUND, text)
    if "arrest_citizen" in tools:
        for name, seen in around.items():
            if "state ACTIVE" in seen["internal_state"]:
                return call("arrest_citizen", citizen_id=int(name.split()[1]))
        return call("move_one_step", direction=("North", "East")[len(around) % 2])
    state = read(STATE, text)["internal_state"]
    hardship = float(state[0].split()[1])
    if hardship > 0.5 and "state QUIET" in state:
        return call("change_state", "Enough is enough.", state="ACTIVE")
    return call("move_one_step", direction="SouthWest")


def trader_on_the_market(request: Request) -> Any:
    text = written(request)
    tools = {each["function"]["name"] for each in request.tools}
    if "speak_to" in tools:
        listeners = [
            int(name.split()[1]) for name in read(AROUND, text) if name.startswith("Buyer")
        ]
        brand = "premium" if "premium" in text else "budget"
        return call("speak_to", listener_agents_unique_ids=listeners, message=f"Buy {brand}!")
    if "Buy premium!" in text:
        return call("buy_product", chosen_brand="premium")
    return call("teleport_to_location", target_coordinates=[2, 2])


def trader_in_sugar(request: Request) -> Any:
    text = written(request)
    others = [name for name in read(AROUND, text) if name.startswith("Trader")]
    if others and "sugar 9" in text:
        return call("propose_trade", other_agent_id=int(others[0].split()[1]), sugar=2)
    return call("move_to_best_resource")


def thoughtful(request: Request) -> str:
    return f"Thought 1: It is step {len(request.messages)} of my life in a room."


class Hurried:
    """Another brain, whose answers take their time: a different one each, decided by a seed."""

    def __init__(self, brain: Any, seed: int) -> None:
        self.brain = brain
        self.__name__ = "hurried"
        self._random = random.Random(seed)

    async def __call__(self, request: Request) -> Any:
        for _ in range(self._random.randrange(4)):
            await asyncio.sleep(0)
        return self.brain(request)
