"""A turnstile before model calls: whoever makes many agents plan may let them call in order.

Model tower, floor 0. Who reserves first gets what is left of a budget. Where that must not depend
on who is faster, whoever runs the agents lets one at a time come as far as its call, which is paid
for by then; so the call alone runs beside those of others.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Protocol, TypeVar

__all__ = ["TURNSTILE", "Turnstile"]

T = TypeVar("T")


class Turnstile(Protocol):
    """Holds calls; stands in the context of those who make them.

    While one goes through, it takes itself out of the context: a call within a call is none to
    hold.
    """

    def hold(self, make: Callable[[], T]) -> T:
        """Make a call when it may be made; go on when it is the caller's turn again."""
        ...

    def ahold(self, make: Callable[[], Awaitable[T]]) -> Awaitable[T]:
        """As `hold`, for what is awaited."""
        ...


TURNSTILE: ContextVar[Turnstile | None] = ContextVar("llm_net_turnstile", default=None)
"""What calls that are paid for pass through; None lets them be made at once."""
