"""A gate before planning: whoever steps many agents may hold each where it begins to plan.

Mind, floor 0. Only what happens inside a plan may then run beside other agents' plans; what comes
before and after it has the turn to itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

__all__ = ["GATE", "Gate", "through", "through_async"]

T = TypeVar("T")


class Gate(Protocol):
    """Lets plans through; stands in the context of the agents that are stepped."""

    def plan(self, reasoning: Any, make: Callable[[], T]) -> T:
        """Make a plan when it may be made; go on when it is this agent's turn again."""
        ...

    async def aplan(self, reasoning: Any, make: Callable[[], Awaitable[T]]) -> T:
        """As `plan`, for a coroutine."""
        ...


GATE: ContextVar[Gate | None] = ContextVar("llm_net_gate", default=None)
"""What plans made here pass through; None lets them be made at once."""


def through(reasoning: Any, make: Callable[[], T]) -> T:
    """Make a plan, behind the gate if there is one; not again for a plan within a plan."""
    gate = GATE.get()
    if gate is None:
        return make()
    token = GATE.set(None)
    try:
        return gate.plan(reasoning, make)
    finally:
        GATE.reset(token)


async def through_async(reasoning: Any, make: Callable[[], Awaitable[T]]) -> T:
    """As `through`, for a coroutine."""
    gate = GATE.get()
    if gate is None:
        return await make()
    token = GATE.set(None)
    try:
        return await gate.aplan(reasoning, make)
    finally:
        GATE.reset(token)
