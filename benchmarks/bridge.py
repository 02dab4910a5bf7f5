"""How long a step of thinking agents takes, beside what their plans alone would take.

Each agent asks a function model once a step, through `ModuleLLM`; the answer takes 50 ms, or none.
Printed: the median of some rounds, as a multiple of the ideal (all calls at once), and the CPU time
that an agent's step costs where answers take none. `gather` is the same work by `asyncio.gather`,
without phases and without order: what the event loop, the plan and the call cost anyhow.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Callable
from typing import Any, Literal, get_args

import mesa

from llm_net import ModuleLLM
from llm_net.reasoning.needs import Ask, Flow, Task
from llm_net.reasoning.plan import Observation, Plan
from llm_net.reasoning.strategy import Reasoning
from mesa_bridge.hook import enable_automatic_parallel_stepping
from mesa_bridge.options import Mode

LATENCY_S = 0.05


class OneCall(Reasoning):
    def flow(self, task: Task) -> Flow:
        answer = yield Ask(prompt=f"{task.prompt} {task.obs}")
        return Plan(step=task.obs.step, thoughts=str(answer))


class Thinker(mesa.Agent):
    memory = None
    tool_manager = None
    system_prompt = None
    step_prompt = "What now?"

    def __init__(self, model: Any, llm: ModuleLLM) -> None:
        super().__init__(model)
        self.llm = llm
        self.reasoning = OneCall(self)
        self.plans = 0

    def generate_obs(self) -> Observation:
        return Observation(self.model.steps, {"plans": self.plans})


class Awaiting(Thinker):
    async def astep(self) -> None:
        await self.reasoning.aplan()
        self.plans += 1


class Blocking(Thinker):
    def step(self) -> None:
        self.reasoning.plan()
        self.plans += 1


class Town(mesa.Model):
    def __init__(self, kind: type[Thinker], size: int, latency_s: float) -> None:
        super().__init__(rng=1)

        async def answer_later(_: Any) -> str:
            await asyncio.sleep(latency_s)
            return "yes"

        def answer(_: Any) -> str:
            if latency_s:
                time.sleep(latency_s)
            return "yes"

        llm = ModuleLLM(answer_later if kind is Awaiting else answer)
        for _ in range(size):
            kind(self, llm)

    def step(self) -> None:
        self.agents.shuffle_do("step")


async def _gathered(agents: Any) -> None:
    await asyncio.gather(*(agent.astep() for agent in agents))


def medians(step: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Seconds of wall time and of CPU time; after a round that is not counted."""
    step()
    walls: list[float] = []
    cpus: list[float] = []
    for _ in range(rounds):
        wall, cpu = time.perf_counter(), time.process_time()
        step()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return statistics.median(walls), statistics.median(cpus)


def row(mode: Mode | Literal["gather"], size: int, latency_s: float, rounds: int) -> dict[str, Any]:
    town = Town(Blocking if mode == "threading" else Awaiting, size, latency_s)
    if mode == "gather":
        wall, cpu = medians(lambda: asyncio.run(_gathered(town.agents)), rounds)
    else:
        with enable_automatic_parallel_stepping(town, mode):
            wall, cpu = medians(town.step, rounds)
    figures: dict[str, Any] = {"mode": mode, "agents": size, "latency_ms": latency_s * 1e3}
    figures["wall_ms"] = round(wall * 1e3, 1)
    if latency_s:
        waves = size if mode == "sequential" else 1
        figures["x_ideal"] = round(wall / (waves * latency_s), 3)
    figures["cpu_us_per_agent"] = round(cpu / size * 1e6, 1)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--sizes", type=int, nargs="*", default=[1, 10, 100, 1000])
    options = parser.parse_args()
    for size in options.sizes:
        for mode in ("gather", *get_args(Mode)):
            for latency_s in (LATENCY_S, 0.0):
                if mode == "sequential" and latency_s and size > 10:
                    continue  # nothing to learn: as many times 50 ms
                print(json.dumps(row(mode, size, latency_s, options.rounds)), flush=True)


if __name__ == "__main__":
    main()
