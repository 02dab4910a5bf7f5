"""Randomness of an agent's own while it plans.

Bridge, floor 1. Plans are made at the same time, so they may not draw from the model's stream: who
would draw first? Each agent draws from its own, which the model's seed, the agent's id and the step
decide. Outside of plans agents draw from the model's stream, as ever.
"""

from __future__ import annotations

import hashlib
import random
import weakref
from contextvars import ContextVar, Token
from functools import cached_property
from typing import Any

import numpy as np

from mesa_bridge import versions

__all__ = [
    "PlanningRandom",
    "begin_planning",
    "derived_seed",
    "end_planning",
    "is_planning",
    "planning_random",
]


def derived_seed(model: Any, purpose: str) -> int:
    """A seed that the model's seed decides; another for each purpose, and drawn from nothing."""
    text = f"{versions.seed_material(model)} {purpose}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big")


class _Streams:
    """The random streams of one agent for one plan; made when they are used."""

    def __init__(self, agent: Any) -> None:
        self._agent = agent

    @cached_property
    def random(self) -> random.Random:
        return random.Random(self._seed)  # noqa: S311 - a simulation's, not a secret's

    @cached_property
    def rng(self) -> np.random.Generator:
        return np.random.default_rng(self._seed)

    @cached_property
    def _seed(self) -> int:
        agent, step = self._agent, versions.steps(self._agent.model)
        before, count = _used.get(agent, (step, 0))
        count = count if before == step else 0
        _used[agent] = (step, count + 1)  # a second plan in one step does not repeat the first
        return derived_seed(agent.model, f"{agent.unique_id} {step} {count}")


_streams: ContextVar[_Streams | None] = ContextVar("mesa_bridge_streams", default=None)
# Not on the agent: nothing of ours stays on what a model pickles.
_used: weakref.WeakKeyDictionary[Any, tuple[int, int]] = weakref.WeakKeyDictionary()


def begin_planning(agent: Any) -> Token[_Streams | None]:
    """From now on, in this context, the agent plans, and draws from its own streams."""
    return _streams.set(_Streams(agent))


def end_planning(token: Token[_Streams | None]) -> None:
    """What was, before planning began."""
    _streams.reset(token)


def is_planning() -> bool:
    """Whether a plan is made here, beside others."""
    return _streams.get() is not None


def planning_random(agent: Any) -> random.Random:
    """The stream to draw from: in a plan the planner's own, else the model's."""
    own = _streams.get()
    return agent.model.random if own is None else own.random


class PlanningRandom:
    """For agents: `random` and `rng` are the agent's own while it plans, else the model's.

    Goes before `mesa.Agent` in the list of bases. What is drawn from `model.random` itself during a
    plan cannot be seen from here, and depends on who answers first.
    """

    model: Any

    @property
    def random(self) -> random.Random:
        """A seeded random number generator."""
        return planning_random(self)

    @property
    def rng(self) -> np.random.Generator:
        """A seeded numpy generator."""
        own = _streams.get()
        return self.model.rng if own is None else own.rng
