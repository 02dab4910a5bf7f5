"""The figures of budgets: what may be taken, what was taken, how a budget stands.

Model tower, floor 1. Values only; `llm_net.llm.budget` counts with them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

from llm_net.errors import UsageError, is_number

__all__ = ["Allowance", "Amount", "BudgetStatistics", "Kind", "Spending", "to_picos"]

Kind: TypeAlias = Literal["calls", "tokens", "usd", "seconds"]

_PICOS = 1_000_000_000_000


def to_picos(usd: float) -> int:
    """Dollars as whole picodollars: a million tiny sums of these add up exactly."""
    return round(usd * _PICOS)


@dataclass(frozen=True, kw_only=True)
class Allowance:
    """What may be taken; None is any amount.

    Attributes:
        calls: Calls.
        tokens: Read and written.
        usd: US dollars.
        seconds: By the clock on the wall, since the first call.

    Raises:
        UsageError: If one of them is no amount.
    """

    calls: int | None = None
    tokens: int | None = None
    usd: float | None = None
    seconds: float | None = None

    def plus(self, other: Allowance) -> Allowance:
        """This, raised by what the other has; what may be any amount stays so."""
        return Allowance(
            calls=_more(self.calls, other.calls),
            tokens=_more(self.tokens, other.tokens),
            usd=_more(self.usd, other.usd),
            seconds=_more(self.seconds, other.seconds),
        )

    def check(self) -> None:
        """Can each of them be a limit?

        Raises:
            UsageError: If one is zero, negative, or no number.
        """
        for kind, value in vars(self).items():
            whole = kind in {"calls", "tokens"}
            if value is None:
                continue
            number = is_number(value) and 0 < value < math.inf
            if not number or (whole and value != int(value)):
                wanted = "a whole number, 1 or more" if whole else "a number above 0"
                raise UsageError(
                    f"Budget({kind}={value!r}) is no limit that calls could be held to. Give "
                    f"{wanted}, or None for no limit. To forbid calls, give no model."
                )


def _more(limit: float | None, by: float | None) -> Any:
    return limit if limit is None or by is None else limit + by


@dataclass(frozen=True, kw_only=True)
class Spending:
    """What was taken.

    Attributes:
        calls: Calls made, those that failed included, retries not.
        tokens: Read and written.
        usd: US dollars, as far as prices are known.
        seconds: By the clock on the wall, since the first call.
    """

    calls: int = 0
    tokens: int = 0
    usd: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class BudgetStatistics:
    """How a budget stands.

    Attributes:
        limits: What may be taken altogether.
        spent: What calls that are over took.
        reserved: What calls under way can take at most; `calls` says how many these are.
        left: What further calls may take.
        refused: Calls that were not made, for they could have taken more than was left.
    """

    limits: Allowance
    spent: Spending
    reserved: Spending
    left: Allowance
    refused: int


class Amount(NamedTuple):
    """A sum in whole numbers, so that it is exact."""

    calls: int = 0
    tokens: int = 0
    picos: int = 0

    def plus(self, other: Amount) -> Amount:
        """The sum of both."""
        return Amount(
            self.calls + other.calls, self.tokens + other.tokens, self.picos + other.picos
        )

    def minus(self, other: Amount) -> Amount:
        """What is left of it."""
        return Amount(
            self.calls - other.calls, self.tokens - other.tokens, self.picos - other.picos
        )

    @property
    def usd(self) -> float:
        """US dollars."""
        return self.picos / _PICOS
