"""One side of `beside_mesa_llm.py`: a town of agents that think, with mesa_bridge or with Mesa-LLM.

`python bench_mesa_llm.py mesa_llm`, in an environment that has it, reads commands from standard
input, one JSON line each, and answers with what it measured, likewise. The town is written once;
only where its names are imported from differs, and where the stub stands that answers: behind
`ModuleLLM` here, in the place of LiteLLM there. That one hands out a real `ModelResponse`, but
always the same, so that Mesa-LLM pays nothing for building it.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import sys
import time
from typing import Any

import mesa

SIDE = sys.argv[1]
HOMES = {
    "CoTReasoning": "mesa_llm.reasoning.cot",
    "LLMAgent": "mesa_llm.llm_agent",
    "enable_automatic_parallel_stepping": "mesa_llm",
    "step_agents_multithreaded": "mesa_llm.parallel_stepping",
    "step_agents_parallel_sync": "mesa_llm",
}
ANSWER = "Thought 1: it is a quiet day. Action: I stay where I am."


def find(name: str) -> Any:
    """What this library has under the name; mesa_bridge has all of them in one place."""
    home = HOMES[name] if SIDE == "mesa_llm" else SIDE
    return getattr(importlib.import_module(home), name)


class Stub:
    """A model that takes so long for an answer, and counts what it was asked.

    Attributes:
        calls: One entry a call; to append one is safe on threads, to count up is not.
        latency_s: How long an answer takes.
    """

    def __init__(self) -> None:
        self.calls: list[None] = []
        self.latency_s = 0.0

    def wait(self) -> None:
        self.calls.append(None)
        if self.latency_s:
            time.sleep(self.latency_s)

    async def await_(self) -> None:
        self.calls.append(None)
        await asyncio.sleep(self.latency_s)


def answered_by(stub: Stub, mode: str) -> Any:
    """What to give as `llm_model`, so that the stub answers."""
    if SIDE == "mesa_llm":
        litellm: Any = importlib.import_module("litellm")
        caller: Any = importlib.import_module("mesa_llm.module_llm")
        choice = {"message": {"role": "assistant", "content": ANSWER}, "finish_reason": "stop"}
        response = litellm.ModelResponse(choices=[choice])

        def completion(**_: Any) -> Any:
            stub.wait()
            return response

        async def acompletion(**_: Any) -> Any:
            await stub.await_()
            return response

        caller.completion, caller.acompletion = completion, acompletion
        os.environ["OPENAI_API_KEY"] = "none"  # it asks for one before it is used
        return "openai/gpt-4o-mini"

    def answer(_: Any) -> str:
        stub.wait()
        return ANSWER

    async def answer_later(_: Any) -> str:
        await stub.await_()
        return ANSWER

    return answer if mode == "threading" else answer_later


class Villager(find("LLMAgent")):  # type: ignore[misc]  # one of two
    """Looks, plans, acts: the cycle that both libraries teach."""

    def __init__(self, model: Any, llm_model: Any) -> None:
        super().__init__(
            model,
            find("CoTReasoning"),
            llm_model,
            system_prompt="You live in a small town.",
            internal_state=["patient", "curious"],
            step_prompt="What do you do now?",
        )
        self.memory.display = False  # else Mesa-LLM would be measured with a terminal
        self.plans = 0

    def step(self) -> None:
        obs = self.generate_obs()
        plan = self.reasoning.plan(obs=obs)
        self.apply_plan(plan)
        self.plans += 1

    async def astep(self) -> None:
        obs = await self.agenerate_obs()
        plan = await self.reasoning.aplan(obs=obs)
        await self.aapply_plan(plan)
        self.plans += 1


class Town(mesa.Model):
    """Steps its villagers in one of three ways.

    `automatic` is what both libraries document. Where Mesa's own set of agents has escaped
    Mesa-LLM's patch (Mesa >= 3.5), a copy of the set has not: `automatic-copy`. `by-hand` passes
    a list.
    """

    def __init__(self, way: str, mode: str, size: int, llm_model: Any) -> None:
        super().__init__(rng=1)
        find("enable_automatic_parallel_stepping")(mode=mode)
        self.parallel_stepping = way != "by-hand"
        self._way = way
        threads = mode == "threading"
        self._step_all = find(
            "step_agents_multithreaded" if threads else "step_agents_parallel_sync"
        )
        for _ in range(size):
            Villager(self, llm_model)

    def step(self) -> None:
        if self._way == "by-hand":
            self._step_all(list(self.agents))
        elif self._way == "automatic-copy":
            self.agents.select().shuffle_do("step")
        else:
            self.agents.shuffle_do("step")


def timed(town: Town, stub: Stub, steps: int) -> dict[str, float]:
    """Let the town make some steps; the figures of one."""
    size = len(town.agents)
    plans = sum(each.plans for each in town.agents)
    calls = len(stub.calls)
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(steps):
        town.step()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    if sum(each.plans for each in town.agents) != plans + steps * size:
        sys.exit(f"{SIDE}: not all of {size} agents have made their plans.")
    return {
        "wall_s": wall / steps,
        "cpu_us": cpu / steps / size * 1e6,
        "calls": (len(stub.calls) - calls) / steps / size,
    }


def main() -> None:
    """Obey. A command names a town; the one of the last command goes on, any other is built."""
    answers = sys.stdout
    town, key, stub = None, None, Stub()
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        for line in sys.stdin:
            command = json.loads(line)
            steps, latency_s = command.pop("steps"), command.pop("latency_s")
            if town is None or command != key:
                stub = Stub()
                town = Town(**command, llm_model=answered_by(stub, command["mode"]))
                key = command
            stub.latency_s = latency_s
            print(json.dumps(timed(town, stub, steps)), file=answers, flush=True)


if __name__ == "__main__":
    main()
