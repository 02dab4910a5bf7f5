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
    """Lets plans through; stands in the context of the agents that are stepped.

    While it makes a plan it takes itself out of the context: a plan within a plan is none to hold.
    """

    def plan(self, reasoning: Any, make: Callable[[], T]) -> T:
        """Make a plan when it may be made; go on when it is this agent's turn again."""
        ...

    def aplan(self, reasoning: Any, make: Callable[[], Awaitable[T]]) -> Awaitable[T]:
        """As `plan`, for a coroutine."""
        ...


GATE: ContextVar[Gate | None] = ContextVar("llm_net_gate", default=None)
"""What plans made here pass through; None lets them be made at once."""


def through(reasoning: Any, make: Callable[[], T]) -> T:
    """Make a plan, behind the gate if there is one."""
    gate = GATE.get()
    return make() if gate is None else gate.plan(reasoning, make)


def through_async(reasoning: Any, make: Callable[[], Awaitable[T]]) -> Awaitable[T]:
    """As `through`, for what is awaited."""
    gate = GATE.get()
    return make() if gate is None else gate.aplan(reasoning, make)
