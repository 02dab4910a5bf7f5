"""Budgets: what model calls may take, in calls, tokens, US dollars and seconds.

Model tower, floor 2. What users hold: limits, prices, and what happens at the limit. The counting
is `llm_net.llm.account`'s; `llm_net.llm.metered` puts budgets around a model.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from pydantic_core import core_schema

from llm_net.errors import BudgetExceeded, UsageError, is_number
from llm_net.llm.account import Account, Charge, Demand, Reservation, Shortage
from llm_net.llm.account import reserve as reserve_in
from llm_net.llm.allowance import Allowance, Amount, BudgetStatistics, Spending, to_picos
from llm_net.llm.estimate import FREE, Price
from llm_net.llm.ledger import Ledger

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler

__all__ = ["DEGRADE", "Budget", "Handler", "exceeded", "reserve"]

DEGRADE = "degrade:"
_MILLION = 1_000_000


class Budget:
    """Limits for model calls, and what of them is left.

    One budget may be shared by any agents, threads and loops. A copy, deep or not, has the same
    limits and has spent nothing: each copy of a blueprint has a budget of its own. A pickle, and
    the JSON of an agent that has it as a field, keep what was spent.

    ```python
    from llm_net import Budget

    budget = Budget(calls=100, usd=0.5)
    print(budget.left.calls)
    ```

    Args:
        calls: At most so many.
        tokens: At most so many, read and written. Where tokens or dollars are limited, a request
            without `max_tokens` gets one: 1,024, or what is left if that is less.
        usd: At most so many US dollars. The price of every model that is asked must be known.
        seconds: By the clock on the wall, from the first call on. Calls under way end then.
        on_exceed: What becomes of a call that could take more than is left: `stop` refuses it;
            `degrade:provider/model` has that model answer, at its own price in dollars, but for no
            calls, tokens or seconds of this budget; a function, sync or async, is given the error
            and gives a budget by which to raise this one, or None.
        prices: US dollars for a million tokens read, and for a million written, by the model's
            name. They come before the price that a provider is known to have.
        name: Whose it is, for errors.
        clock: Seconds that never go back.

    Attributes:
        ledger: Who spent it.

    Raises:
        UsageError: If a limit can never be kept to.
    """

    def __init__(
        self,
        calls: int | None = None,
        tokens: int | None = None,
        usd: float | None = None,
        seconds: float | None = None,
        *,
        on_exceed: str | Handler = "stop",
        prices: Mapping[str, tuple[float, float]] | None = None,
        name: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        limits = Allowance(calls=calls, tokens=tokens, usd=usd, seconds=seconds)
        limits.check()
        self.account = Account(limits, clock)
        self.on_exceed = _checked(on_exceed)
        self.name = name
        self.ledger = Ledger()
        self._prices = {model: _price(model, pair) for model, pair in (prices or {}).items()}

    def __repr__(self) -> str:
        limits = [f"{kind}={n}" for kind, n in vars(self.limits).items() if n is not None]
        return f"{type(self).__name__}({', '.join(limits)})"

    @property
    def limits(self) -> Allowance:
        """What may be taken altogether."""
        return self.account.limits

    @property
    def spent(self) -> Spending:
        """What calls that are over took."""
        return _spending(self.account.spent, self.account.elapsed())

    @property
    def left(self) -> Allowance:
        """What further calls may take: the limits, less what is spent or reserved."""
        return self.account.left()

    def statistics(self) -> BudgetStatistics:
        """How it stands."""
        return BudgetStatistics(
            limits=self.limits,
            spent=self.spent,
            reserved=_spending(self.account.reserved, 0.0),
            left=self.left,
            refused=self.account.refused,
        )

    def price(self, model: str) -> Price | None:
        """The price that this budget was given for a model."""
        return self._prices.get(model)

    def extend(self, by: Budget) -> None:
        """Raise the limits by those of another budget, while calls are under way too."""
        self.account.extend(by.limits)

    # -- copies, pickles, JSON

    def __copy__(self) -> Self:
        return self._with_account(Account(self.limits, self.account.clock))

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self.__copy__()

    def _with_account(self, account: Account) -> Self:
        other = type(self).__new__(type(self))
        vars(other).update(vars(self))
        other.account = account
        other.ledger = Ledger()
        return other

    def __getstate__(self) -> dict[str, Any]:
        # Seconds, not when it began: another process's clock shows another time. Calls under way
        # stay here.
        account = self.account
        kept = {k: v for k, v in vars(self).items() if k not in {"account", "ledger"}}
        figures = (account.limits, account.clock, account.spent, account.elapsed())
        return {**kept, "account": figures}

    def __setstate__(self, state: dict[str, Any]) -> None:
        limits, clock, spent, seconds = state["account"]
        vars(self).update(state)
        self.account = _account(limits, clock, spent, seconds)
        self.ledger = Ledger()

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        """A field of this type holds a budget; in JSON, its limits and what was spent of them."""
        return core_schema.no_info_plain_validator_function(
            cls._validated,
            serialization=core_schema.plain_serializer_function_ser_schema(
                cls._to_json, when_used="json"
            ),
        )

    @classmethod
    def _validated(cls, value: Any) -> Self:
        if isinstance(value, cls):
            return value
        try:
            budget = cls(**value["limits"])
            spent = Spending(**value["spent"])
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"{value!r} is no budget. Give a Budget, or its JSON: limits and spent."
            ) from error
        amount = Amount(spent.calls, spent.tokens, to_picos(spent.usd))
        budget.account = _account(budget.limits, time.monotonic, amount, spent.seconds)
        return budget

    def _to_json(self) -> dict[str, Any]:
        return {"limits": vars(self.limits), "spent": vars(self.spent)}


Handler: TypeAlias = Callable[[BudgetExceeded], Budget | Awaitable[Budget | None] | None]
"""Asked at the limit: gives a budget by which to raise the one at its limit, or None."""


def reserve(
    budgets: Sequence[Budget],
    *,
    calls: int = 0,
    tokens: int = 0,
    usd: float = 0.0,
    place: str = "",
) -> Reservation:
    """Reserve for something else than a model call, in all of the budgets or in none.

    Args:
        budgets: Who pays, inner ones first.
        calls: How many calls it counts as.
        tokens: How many tokens it takes at most.
        usd: How many US dollars it costs at most.
        place: Who calls, for the error.

    Returns:
        The reservation, to be settled or released.

    Raises:
        BudgetExceeded: If one of the budgets has too little left.
    """
    charges = [Charge(budget.account, FREE) for budget in budgets]
    result = reserve_in(charges, Demand(calls, tokens, 0, usd))
    if isinstance(result, Reservation):
        return result
    short = next(budget for budget in budgets if budget.account is result.charge.account)
    raise exceeded(short, result, place)


def exceeded(budget: Budget, shortage: Shortage, place: str) -> BudgetExceeded:
    """The error that says of what this budget has too little."""
    kind = shortage.kind
    limit, left = getattr(budget.limits, kind), getattr(budget.left, kind)
    held = budget.statistics().reserved
    whose = f"The budget {budget.name!r}" if budget.name else "A budget"
    who = f" of {place!r}" if place else ""
    if kind == "seconds":
        why = f"its {limit:g} seconds since the first call are over"
    else:
        why = (
            f"it could take {getattr(shortage.wanted, kind):,.6g}, and {left:,.6g} of "
            f"{limit:,.6g} {kind} are left"
        )
        if held.calls:
            why += f" ({getattr(held, kind):,.6g} are reserved by {held.calls} calls under way)"
    return BudgetExceeded(
        f"{whose} has no room for a call{who}: {why}. Raise {kind}=, ask for less (a shorter "
        "prompt, a smaller max_tokens=), or say with on_exceed= what is to happen.",
        limit=kind,
        place=budget.name or place,
    )


def _account(
    limits: Allowance, clock: Callable[[], float], spent: Amount, seconds: float
) -> Account:
    account = Account(limits, clock)
    account.spent = spent
    if seconds or spent.calls:
        account.begun = clock() - seconds
    return account


def _spending(amount: Amount, seconds: float) -> Spending:
    return Spending(calls=amount.calls, tokens=amount.tokens, usd=amount.usd, seconds=seconds)


def _checked(on_exceed: str | Handler) -> str | Handler:
    if callable(on_exceed) or on_exceed == "stop":
        return on_exceed
    if isinstance(on_exceed, str) and on_exceed.startswith(DEGRADE) and on_exceed != DEGRADE:
        return on_exceed
    raise UsageError(
        f"on_exceed={on_exceed!r} says nothing about what happens at the limit. Write 'stop', "
        "'degrade:provider/model', or give a function of the error."
    )


def _price(model: str, pair: tuple[float, float]) -> Price:
    try:
        prompt, completion = pair
        good = all(is_number(usd) and 0 <= usd < math.inf for usd in pair)
    except (TypeError, ValueError):
        good = False
        prompt = completion = 0.0
    if not good:
        raise UsageError(
            f"prices={{{model!r}: {pair!r}}} is no price. Give US dollars for a million tokens "
            f"read, and for a million written: prices={{{model!r}: (0.15, 0.60)}}."
        )
    return Price(prompt / _MILLION, completion / _MILLION)
