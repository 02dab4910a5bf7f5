"""Agents that think and do as a program says, and models of them, for tests of stepping.

The answers of their model depend on the question alone; how long they take does not.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import random
import threading
import time
from collections.abc import Generator, Sequence
from typing import Any

import mesa

from llm_net.reasoning.needs import Ask, Flow, Task
from llm_net.reasoning.plan import Observation, Plan
from llm_net.reasoning.strategy import Reasoning
from mesa_bridge.gate import later
from mesa_bridge.randomness import PlanningRandom
from tests.waiting import DEADLINE_S

Deed = tuple[str, int]
Program = Sequence[Sequence[Sequence[Deed]]]
"""For each agent, for each step, what it does; both are repeated."""


class Oracle:
    """A language model whose answers are a function of the question.

    Args:
        longest_s: Each answer takes up to so many seconds.
        seed: Decides how many.
        together: No answer is given before so many questions have been asked.
    """

    def __init__(self, longest_s: float = 0.0, seed: int = 0, together: int = 0) -> None:
        self.asked = 0
        self.open = 0
        self.most = 0
        self._longest_s = longest_s
        self._luck = random.Random(seed)
        self._lock = threading.Lock()
        self._together = together
        self._all_there = threading.Event()

    def generate(self, prompt: str, **_: Any) -> str:
        self._begin()
        time.sleep(self._latency_s())
        if self._together and not self._all_there.wait(DEADLINE_S):
            raise TimeoutError(f"{self.asked} questions")
        return self._end(prompt)

    async def agenerate(self, prompt: str, **_: Any) -> str:
        self._begin()
        await asyncio.sleep(self._latency_s())
        if self._together:
            await asyncio.to_thread(self._all_there.wait, DEADLINE_S)
            if not self._all_there.is_set():
                raise TimeoutError(f"{self.asked} questions")
        return self._end(prompt)

    def _latency_s(self) -> float:
        return self._luck.random() * self._longest_s

    def _begin(self) -> None:
        with self._lock:
            self.asked += 1
            self.open += 1
            self.most = max(self.most, self.open)
            if self.asked == self._together:
                self._all_there.set()

    def _end(self, prompt: str) -> str:
        with self._lock:
            self.open -= 1
        if "doomed" in prompt:
            raise ValueError("the oracle is silent")
        return hashlib.sha256(prompt.encode()).hexdigest()[:8]


class OneQuestion(Reasoning):
    """Asks once, and says in the question what it drew while planning."""

    def flow(self, task: Task) -> Flow:
        luck = self.agent.random.random()
        answer = yield Ask(prompt=f"{task.prompt} {task.obs} {luck}")
        return Plan(step=task.obs.step, thoughts=str(answer))


class Citizen(PlanningRandom, mesa.Agent):
    """Does what the program says; `acts` is what the sync and the async step share."""

    memory = None
    tool_manager = None
    system_prompt = None
    step_prompt = "go"
    model: Any

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.wealth = 10
        self.place = 0
        self.log: list[Any] = []

    @property
    def llm(self) -> Oracle:
        oracle: Oracle = self.model.oracle
        return oracle

    def generate_obs(self) -> Observation:
        return Observation(self.model.steps, {"id": self.unique_id, "wealth": self.wealth})

    def acts(self) -> Generator[str, Plan, None]:
        mind = self.model.program[self.unique_id % len(self.model.program)]
        for deed, number in mind[self.model.steps % len(mind)]:
            if deed in ("plan", "doom"):
                plan = yield "doomed" if deed == "doom" else f"plan {number}"
                self.log.append((plan.thoughts, self.model.tick()))
            else:
                getattr(self, deed)(number)

    def pay(self, number: int) -> None:
        self.wealth -= 1
        self._other(number).wealth += 1

    def move(self, number: int) -> None:
        self.place = self.random.randrange(100) + number

    def eat(self, number: int) -> None:
        other = self._other(number)
        self.log.append(("ate", other.unique_id))
        other.remove()

    def bear(self, number: int) -> None:
        if len(self.model.agents) < 12:
            type(self)(self.model).log.append(("born", self.model.tick()))

    def fail(self, number: int) -> None:
        raise RuntimeError(f"failed {number} at {self.model.tick()}")

    def talk(self, number: int) -> None:
        """An activation within a turn."""
        self.model.agents.do("hear", number)

    def hear(self, number: int) -> None:
        self.log.append(("heard", number, self.model.tick()))

    def rest(self, number: int) -> None:
        later(lambda: self.log.append(("rested", number)))

    def _other(self, number: int) -> Any:
        everyone = sorted(self.model.agents, key=lambda agent: agent.unique_id)
        return everyone[number % len(everyone)] if everyone else self


class Twofold(Citizen):
    """Has a step and an astep."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.reasoning = OneQuestion(self)

    def step(self) -> None:
        drive(self.acts(), self.reasoning)

    async def astep(self) -> None:
        await adrive(self.acts(), self.reasoning)


class Awaiting(Citizen):
    """Has an astep only."""

    async def astep(self) -> None:
        await adrive(self.acts(), OneQuestion(self))


class Blocking(Citizen):
    """Has a step only, and nothing in it that says that it plans."""

    def step(self) -> None:
        drive(self.acts(), OneQuestion(self))


class Society(mesa.Model):
    """Some of each, stepped as Mesa's documents say."""

    def __init__(
        self,
        program: Program,
        oracle: Oracle | None = None,
        *,
        kinds: Sequence[type[Citizen]] = (Twofold,),
        size: int = 4,
        rng: int = 7,
    ) -> None:
        super().__init__(rng=rng)
        self.program = program
        self.oracle = Oracle() if oracle is None else oracle
        self.ticks = 0
        for _, kind in zip(range(size), itertools.cycle(kinds), strict=False):
            kind(self)
        self.datacollector = mesa.DataCollector({"wealth": _wealth})

    def tick(self) -> int:
        """Which event this is; tells apart every order of two that see it."""
        self.ticks += 1
        return self.ticks

    def step(self) -> None:
        self.agents.shuffle_do("step")
        self.datacollector.collect(self)


def _wealth(model: Any) -> list[int]:
    return [agent.wealth for agent in model.agents]


def drive(acts: Generator[str, Plan, None], reasoning: Reasoning) -> None:
    """Make the plans that somebody's acts ask for."""
    try:
        prompt = next(acts)
        while True:
            try:
                plan = reasoning.plan(prompt)
            except ValueError as error:
                prompt = acts.throw(error)
            else:
                prompt = acts.send(plan)
    except StopIteration:
        pass


async def adrive(acts: Generator[str, Plan, None], reasoning: Reasoning) -> None:
    """As `drive`, for a coroutine."""
    try:
        prompt = next(acts)
        while True:
            try:
                plan = await reasoning.aplan(prompt)
            except ValueError as error:
                prompt = acts.throw(error)
            else:
                prompt = acts.send(plan)
    except StopIteration:
        pass


def digest(model: Society) -> Any:
    """All that a model is."""
    return (
        [
            (agent.unique_id, type(agent).__name__, agent.wealth, agent.place, agent.log)
            for agent in model.agents
        ],
        model.ticks,
        model.random.getstate(),
        str(model.rng.bit_generator.state),
        model.datacollector.model_vars,
    )
