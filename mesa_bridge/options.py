"""What is called on agents, and how: `Call`, `Options`.

Bridge, floor 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from llm_net.errors import UsageError

__all__ = ["MAX_ROUNDS", "BeforePlans", "Call", "Mode", "OnError", "Options"]

Mode: TypeAlias = Literal["asyncio", "threading", "sequential"]
Fallback: TypeAlias = Callable[[Any, Exception], object]
OnError: TypeAlias = Literal["skip", "raise", "retry"] | Fallback
BeforePlans: TypeAlias = Callable[[Sequence[tuple[Any, Any]]], object]

MAX_ROUNDS = 50
"""Rounds in which messages are handled in one activation, where nobody says otherwise."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How agents are activated.

    Attributes:
        mode: `asyncio` prefers `astep`, `threading` prefers `step`; `sequential` is as `asyncio`,
            but makes one plan at a time: the same result, and the reference for it.
        max_in_flight: So many plans at the same time, at most; None for all.
        on_error: What becomes of an agent's turn that raises. All others go on in any case, and it
            is recorded. `skip`: nothing more. `raise`: what was raised, is raised as a group when
            all others are done. `retry`: a plan that fails is made once more; what fails outside of
            plans is skipped, since it may have changed the world already. A function
            `(agent, error)`: called in the agent's turn.
        before_plans: Called with the agents and their reasoning, in order, before the plans of a
            round are made; for budgets. What it raises ends the activation.
        max_rounds: Rounds in which messages between agents are handled, at most. The rest waits
            for the next activation, before anybody's turn in it, and what is still asked is
            answered with a timeout.
    """

    mode: Mode = "asyncio"
    max_in_flight: int | None = None
    on_error: OnError = "skip"
    before_plans: BeforePlans | None = None
    max_rounds: int = MAX_ROUNDS

    def __post_init__(self) -> None:
        modes = get_args(Mode)
        if self.mode not in modes:
            raise UsageError(
                f"There is no mode {self.mode!r} of stepping. "
                f"Modes are: {', '.join(modes)}. Give one of them."
            )
        most = self.max_in_flight
        if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
            raise UsageError(
                f"max_in_flight={most!r} cannot be a number of plans at the same time. "
                "With less than one no plan would ever be made. Give 1 or more, or None for all."
            )
        rounds = self.max_rounds
        if isinstance(rounds, bool) or not isinstance(rounds, int) or rounds < 1:
            raise UsageError(
                f"max_rounds={rounds!r} cannot be a number of rounds. "
                "With less than one no message would ever arrive. Give 1 or more."
            )
        if self.on_error not in ("skip", "raise", "retry") and not callable(self.on_error):
            raise UsageError(
                f"on_error={self.on_error!r} is not known. "
                "It is 'skip', 'raise', 'retry', or a function (agent, error). Give one of them."
            )

    @property
    def cap(self) -> int | None:
        """Plans at the same time, at most; None for all."""
        return 1 if self.mode == "sequential" else self.max_in_flight


class Call(NamedTuple):
    """What is called on each agent.

    Attributes:
        method: The name of the method; `a` and the name is its async twin.
        args: What it is called with.
        kwargs: Likewise.
    """

    method: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = MappingProxyType({})
