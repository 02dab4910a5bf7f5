"""A model whose calls are paid for: reserved before, settled after, entered in the ledgers.

Model tower, floor 2. Who pays is asked of the context: the turn in which a call is made knows the
budgets of its agent, of the networks above it, and of the run. Stands around everything else, so a
call that a cassette answers is paid for as the recorded one was.
"""

from __future__ import annotations

import inspect
import math
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from llm_net.context import AUTHOR, Author
from llm_net.errors import (
    BudgetExceeded,
    CassetteMiss,
    CircuitOpen,
    LiveCallBlocked,
    ModelSetupError,
    UnscriptedCall,
    UsageError,
)
from llm_net.llm.account import Charge, Demand, Reservation, reserve
from llm_net.llm.budget import DEGRADE, Budget, Handler, exceeded
from llm_net.llm.estimate import (
    FREE,
    Price,
    likely_usage,
    max_answer_tokens,
    plausible_usage,
    prompt_bound,
)
from llm_net.llm.flows import Ask, Flow, Flowing, Step
from llm_net.llm.ledger import NO_USAGE, NOTE, Note
from llm_net.llm.model import Completion, Model, Request, Usage
from llm_net.llm.turnstile import TURNSTILE
from llm_net.llm.waiting import run_coroutine

__all__ = ["Degrade", "Metered", "Priced", "free"]

_UNSENT = (
    CassetteMiss,
    CircuitOpen,
    LiveCallBlocked,
    ModelSetupError,
    UnscriptedCall,
    UsageError,
)
"""Nothing was sent, so no call was made."""


def free() -> Price:
    """The price of what runs on this machine."""
    return FREE


@dataclass(frozen=True)
class Priced:
    """A model, and what it costs.

    Attributes:
        model: Who answers.
        name: Its name, in `prices=` and in ledgers.
        price: Gives the price, None if nobody knows it; asked only if dollars are limited.
    """

    model: Model
    name: str
    price: Callable[[], Price | None] = free


Degrade: TypeAlias = Callable[[str], Priced]
"""Makes the model that answers at a limit, by its name."""


@dataclass(frozen=True, slots=True)
class _Consult:
    """A step: ask the handler of a budget that is at its limit."""

    handler: Handler
    error: BudgetExceeded

    def run(self) -> Budget | None:
        said = self.handler(self.error)
        return run_coroutine(_awaited(said)) if inspect.isawaitable(said) else said

    async def arun(self) -> Budget | None:
        said = self.handler(self.error)
        return await said if inspect.isawaitable(said) else said


async def _awaited(answer: Awaitable[Budget | None]) -> Budget | None:
    return await answer


@dataclass(slots=True)
class _Habit:
    """In what a model takes more than its requests say; learnt from its answers.

    Attributes:
        tokens: Read beyond what we sent: words that the provider puts around tools and the like.
        usd: What a call costs of a model that has no price.
    """

    tokens: int = 0
    usd: float = 0.0


class Metered(Flowing):
    """A model that is asked as long as those who pay have enough left.

    Args:
        priced: The model, its name and its price.
        budget: Whoever pays besides those that the context names; the innermost of them.
        degrade: Makes the models of `on_exceed="degrade:…"`.
        clock: Seconds that never go back, for latencies.
    """

    def __init__(
        self,
        priced: Priced,
        *,
        budget: Budget | None = None,
        degrade: Degrade | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.name = priced.name
        self._priced = priced
        self._budget = budget
        self._degrade = degrade
        self._clock = clock
        self._habits: defaultdict[str, _Habit] = defaultdict(_Habit)

    def complete(self, request: Request) -> Completion:
        """Answer; raises what `flow` does."""
        if self._payers(AUTHOR.get()):
            return super().complete(request)
        return self._priced.model.complete(request)

    async def acomplete(self, request: Request) -> Completion:
        """Answer without blocking the event loop; raises what `flow` does."""
        if self._payers(AUTHOR.get()):
            return await super().acomplete(request)
        return await self._priced.model.acomplete(request)

    def flow(self, request: Request) -> Flow:
        """Reserve, ask, settle.

        Raises:
            BudgetExceeded: If one of those who pay has too little left, and would have it so.
            UsageError: If dollars are limited and nobody knows the model's price.
        """
        author = AUTHOR.get()
        budgets = self._payers(author)
        if not budgets:
            answer: Completion = yield Ask(self._priced.model, request)
            return answer
        place = request.place or ("" if author is None else author.place)
        paid = yield from self._reserve(budgets, request, place, author)
        ask = Ask(paid.target.model, paid.request(request), TURNSTILE.get())
        note, outer = Note(), NOTE.get()
        # Set back, not reset: a stream may be followed in another context than it began in.
        NOTE.set(note)
        start = self._clock()
        try:
            completion: Completion = yield ask
        except BaseException as error:
            self._failed(paid, ask, error, latency=self._clock() - start, retries=note.retries)
            raise
        finally:
            NOTE.set(outer)
        # A recorded answer took as long as it took then, so that tables can be replayed, too.
        latency = completion.latency or self._clock() - start
        self._answered(paid, ask, completion, latency=latency, retries=note.retries)
        return completion

    def _payers(self, author: Author | None) -> list[Budget]:
        budgets: list[Budget] = [] if self._budget is None else [self._budget]
        if author is not None:
            for budget in author.accounts:
                if budget not in budgets:  # an agent's and its run's may be one
                    budgets.append(budget)
        return budgets

    def _reserve(
        self, budgets: list[Budget], request: Request, place: str, author: Author | None
    ) -> Generator[Step, Any, _Paid]:
        """Reserve, as those who pay would have it where it does not fit."""
        target = self._priced
        passed: list[Budget] = []
        while True:
            charges = [self._charge(budget, target, budget in passed) for budget in budgets]
            demand, bounded = self._demand(charges, target, request)
            result = reserve(charges, demand)
            if isinstance(result, Reservation):
                return _Paid(target, budgets, place, demand, result, bounded=bounded)
            budget = budgets[charges.index(result.charge)]
            error = exceeded(budget, result, place)
            policy = budget.on_exceed
            if callable(policy):
                more: Budget | None = yield _Consult(policy, error)
                if more is not None and getattr(more.limits, error.limit) is not None:
                    budget.extend(more)
                    continue
            elif policy != "stop" and budget not in passed:
                passed.append(budget)
                target = self._cheaper(policy.removeprefix(DEGRADE))
                continue
            if author is not None:
                author.spent(budget)
            raise error

    def _charge(self, budget: Budget, target: Priced, passed: bool) -> Charge:  # noqa: FBT001
        given = budget.price(target.name)
        if given is not None:
            return Charge(budget.account, given, fixed=True, dollars_only=passed)
        price = FREE if budget.limits.usd is None else target.price()
        if price is None:
            raise UsageError(
                f"A budget of {budget.limits.usd:g} US dollars cannot be kept to: nobody knows "
                f"what {target.name!r} costs. Say it, in US dollars for a million tokens read and "
                f"written: Budget(…, prices={{{target.name!r}: (0.15, 0.60)}})."
            )
        return Charge(budget.account, price, dollars_only=passed)

    def _demand(
        self, charges: list[Charge], target: Priced, request: Request
    ) -> tuple[Demand, bool]:
        """What the request can take at most, and whether its answer must be bounded for that."""
        habit = self._habits[target.name]
        bounded = any(charge.counts_tokens for charge in charges)
        if not bounded:
            return Demand(usd=habit.usd), False
        prompt = prompt_bound(request) + habit.tokens
        return Demand(prompt=prompt, answer=max_answer_tokens(request), usd=habit.usd), True

    def _cheaper(self, name: str) -> Priced:
        if self._degrade is None:
            raise UsageError(
                f"on_exceed='{DEGRADE}{name}': this model has nobody who makes another by its "
                "name. Ask through a ModuleLLM, or give Metered(…, degrade=…)."
            )
        return self._degrade(name)

    def _answered(
        self, paid: _Paid, ask: Ask, completion: Completion, *, latency: float, retries: int
    ) -> None:
        usage = plausible_usage(completion, ask.request)
        cost = completion.cost
        if cost is not None and not 0 <= cost < math.inf:
            cost = None
        habit = self._habits[paid.target.name]
        if paid.bounded:
            over = usage.prompt_tokens - paid.demand.prompt
            habit.tokens += max(over, 0)
        if paid.target.price is free:
            habit.usd = max(habit.usd, cost or 0.0)
        paid.settle(usage, cost, latency=latency, retries=retries)

    def _failed(
        self, paid: _Paid, ask: Ask, error: BaseException, *, latency: float, retries: int
    ) -> None:
        made = int(ask.sent and not isinstance(error, _UNSENT))
        # What was handed out was paid for, though nobody says how much it was.
        usage = likely_usage(ask.request, ask.characters) if ask.begun else NO_USAGE
        left = isinstance(error, GeneratorExit)  # the reader did; that is no error
        paid.settle(usage, None, latency=latency, retries=retries, calls=made, errors=int(not left))


@dataclass(slots=True)
class _Paid:
    """A call that is reserved, with all that its end needs.

    Attributes:
        bounded: Whether the answer must not be longer than was reserved.
    """

    target: Priced
    budgets: list[Budget]
    place: str
    demand: Demand
    reservation: Reservation
    bounded: bool

    def request(self, request: Request) -> Request:
        """The request, held to what was reserved for it."""
        params: dict[str, Any] = {}
        if self.bounded and self.demand.answer is None:
            params["max_tokens"] = self.reservation.answer
        seconds, timeout = self.reservation.seconds, request.timeout
        if seconds is not None and (timeout is None or seconds < timeout):
            params["timeout"] = seconds
        return replace(request, params={**request.params, **params}) if params else request

    def settle(
        self,
        usage: Usage,
        cost: float | None,
        *,
        latency: float,
        retries: int,
        calls: int = 1,
        errors: int = 0,
    ) -> None:
        """The call is over: settle it, and enter it in the ledgers of those who pay."""
        dollars = self.reservation.settle(usage, cost, calls=calls)
        for budget, usd in zip(self.budgets, dollars, strict=True):
            budget.ledger.enter(
                self.place,
                self.target.name,
                usage,
                calls=calls,
                errors=errors,
                retries=retries,
                usd=usd,
                latency=latency,
            )
