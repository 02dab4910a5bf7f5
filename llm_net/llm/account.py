"""Accounts: reserve before, settle after, in several at once.

Model tower, floor 1. The counting under `llm_net.llm.budget`. A call is reserved in all of its
accounts or in none, as much as it can take at most; what it took is settled when it is over. What
is reserved counts as spent until then. Invariant: in no account are spent and reserved together
more than its limits, unless a provider takes more than it was allowed to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from llm_net.errors import UsageError
from llm_net.llm.allowance import Allowance, Amount, Kind, to_picos
from llm_net.llm.estimate import DEFAULT_MAX_TOKENS, FREE, Price
from llm_net.llm.model import Usage
from llm_net.llm.serial import Serial

__all__ = ["Account", "Charge", "Demand", "Reservation", "Shortage", "reserve"]

# One for all accounts: a call is reserved in several at once, which takes microseconds.
_serial = Serial()


class Account:
    """Limits, and what of them is gone.

    Attributes:
        limits: What may be taken altogether.
        spent: What calls that are over took.
        reserved: What calls under way can take at most.
        refused: How often there was too little.
        begun: When the first call was reserved, on the clock; None before.
        clock: Seconds that never go back.
    """

    def __init__(self, limits: Allowance, clock: Callable[[], float]) -> None:
        self.limits = limits
        self.spent = Amount()
        self.reserved = Amount()
        self.refused = 0
        self.begun: float | None = None
        self.clock = clock

    def elapsed(self) -> float:
        """Seconds since the first call."""
        return 0.0 if self.begun is None else self.clock() - self.begun

    def left(self) -> Allowance:
        """The limits, less what is spent or reserved."""
        limits = self.limits
        gone = self.spent.plus(self.reserved)
        return Allowance(
            calls=None if limits.calls is None else max(limits.calls - gone.calls, 0),
            tokens=None if limits.tokens is None else max(limits.tokens - gone.tokens, 0),
            usd=None if limits.usd is None else max(limits.usd - gone.usd, 0.0),
            seconds=None if limits.seconds is None else max(limits.seconds - self.elapsed(), 0.0),
        )

    def extend(self, by: Allowance) -> None:
        """Raise the limits, while calls are under way too."""
        with _serial:
            self.limits = self.limits.plus(by)

    def short_of(self, wanted: Amount) -> Kind | None:
        """Of what there is too little for this; what takes none of it always fits."""
        limits = self.limits
        gone = self.spent.plus(self.reserved).plus(wanted)
        if limits.calls is not None and wanted.calls and gone.calls > limits.calls:
            return "calls"
        if limits.tokens is not None and wanted.tokens and gone.tokens > limits.tokens:
            return "tokens"
        if limits.usd is not None and wanted.picos and gone.picos > to_picos(limits.usd):
            return "usd"
        if limits.seconds is not None and wanted.calls and self.elapsed() >= limits.seconds:
            return "seconds"
        return None


class Demand(NamedTuple):
    """What a call can take.

    Attributes:
        calls: How many calls it counts as.
        prompt: Tokens that it reads, at most.
        answer: Tokens that it writes, at most; None for as many as there is room for, but not
            more than `DEFAULT_MAX_TOKENS`.
        usd: What it costs at least, whatever its tokens say.
    """

    calls: int = 1
    prompt: int = 0
    answer: int | None = 0
    usd: float = 0.0


class Charge(NamedTuple):
    """One of the accounts that a call is charged to.

    Attributes:
        account: The account.
        price: What a token costs there.
        fixed: Whether that is so whatever the provider says that the call cost.
        dollars_only: Whether only dollars are charged: the account's limits are passed, and another
            model than the one they are meant for answers.
    """

    account: Account
    price: Price
    fixed: bool = False
    dollars_only: bool = False

    @property
    def counts_tokens(self) -> bool:
        """Whether it matters here how many tokens a call takes."""
        limits = self.account.limits
        if limits.tokens is not None and not self.dollars_only:
            return True
        return limits.usd is not None and self.price != FREE

    def room(self, prompt: int) -> float:
        """The longest answer to such a prompt that can be paid, in tokens."""
        account, price = self.account, self.price
        limits, room = account.limits, math.inf
        if limits.tokens is not None and not self.dollars_only:
            room = limits.tokens - account.spent.tokens - account.reserved.tokens - prompt
        if limits.usd is not None and price.completion:
            usd = limits.usd - account.spent.usd - account.reserved.usd - price.prompt * prompt
            room = min(room, usd // price.completion)
        return room

    def amount(self, calls: int, tokens: int, usd: float) -> Amount:
        """What is charged for calls that take so much."""
        picos = to_picos(usd) if usd else 0
        return Amount(0, 0, picos) if self.dollars_only else Amount(calls, tokens, picos)


class Shortage(NamedTuple):
    """Why nothing was reserved.

    Attributes:
        charge: The first of the charges that did not fit.
        kind: Of what its account had too little.
        wanted: What the call can take at most.
    """

    charge: Charge
    kind: Kind
    wanted: Amount


class Reservation:
    """What is held back for a call under way; made by `reserve`.

    Attributes:
        answer: The longest answer, in tokens, that is paid for.
        seconds: How long the call may take; None for as long as it likes.
    """

    __slots__ = ("_amounts", "_charges", "_open", "answer", "seconds")

    def __init__(
        self, charges: Sequence[Charge], amounts: Sequence[Amount], answer: int, seconds: float
    ) -> None:
        self._charges = charges
        self._amounts = amounts
        self._open = True
        self.answer = answer
        self.seconds = None if seconds == math.inf else seconds

    def settle(self, usage: Usage, cost: float | None = None, *, calls: int = 1) -> list[float]:
        """The call is over, and took this.

        Args:
            usage: Tokens.
            cost: US dollars, if the provider said so.
            calls: How many calls it was after all.

        Returns:
            The US dollars charged to each account.

        Raises:
            UsageError: If it has been settled before.
        """
        read, written = usage.prompt_tokens, usage.completion_tokens
        usd = [
            charge.price.of(read, written) if cost is None or charge.fixed else cost
            for charge in self._charges
        ]
        if not self._open:
            raise UsageError(
                "This reservation has been settled: its call would be counted twice. "
                "Reserve once for each call."
            )
        self._open = False
        took = [
            charge.amount(calls, read + written, paid)
            for charge, paid in zip(self._charges, usd, strict=True)
        ]
        _serial.soon(partial(self._settle, took))
        return usd

    def _settle(self, took: Sequence[Amount]) -> None:
        for charge, held, amount in zip(self._charges, self._amounts, took, strict=True):
            account = charge.account
            account.reserved = account.reserved.minus(held)
            account.spent = account.spent.plus(amount)

    def release(self, *, calls: int = 0) -> None:
        """The call is over, and took nothing, but that it was made if `calls` says so."""
        self.settle(Usage(), 0.0, calls=calls)


def reserve(charges: Sequence[Charge], demand: Demand) -> Reservation | Shortage:
    """Reserve what a call can take, in all of its accounts or, if it does not fit, in none."""
    with _serial:
        answer = demand.answer
        if answer is None:
            rooms = [charge.room(demand.prompt) for charge in charges]
            # Without room it is one token, which then does not fit: the shortage says so.
            answer = max(1, int(min([DEFAULT_MAX_TOKENS, *rooms])))
        tokens = demand.prompt + answer
        amounts: list[Amount] = []
        for charge in charges:
            usd = charge.price.of(demand.prompt, answer)
            usd = usd if charge.fixed else max(usd, demand.usd)
            wanted = charge.amount(demand.calls, tokens, usd)
            short = charge.account.short_of(wanted)
            if short is not None:
                charge.account.refused += 1
                return Shortage(charge, short, wanted)
            amounts.append(wanted)
        seconds = math.inf
        for charge, wanted in zip(charges, amounts, strict=True):
            account = charge.account
            account.reserved = account.reserved.plus(wanted)
            if account.begun is None:
                account.begun = account.clock()
            if account.limits.seconds is not None and not charge.dollars_only:
                seconds = min(seconds, account.limits.seconds - account.elapsed())
    return Reservation(charges, amounts, answer, seconds)
