"""Limits of an endpoint, and what the callers of one share: places, rates, a breaker.

Model tower, floor 1. Shared by all of the process, on whatever threads and loops the callers are.
"""

from __future__ import annotations

import hashlib
import math
import os
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from llm_net.errors import UsageError, is_number
from llm_net.llm.breaker import Breaker, Circuit
from llm_net.llm.gate import Gate
from llm_net.llm.rates import Rates

__all__ = ["Endpoint", "Limits", "endpoint_key"]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How an endpoint may be used.

    Attributes:
        max_concurrency: So many calls are under way at once; None for any number.
        requests_per_minute: So many begin in any 60 seconds, retries included.
        tokens_per_minute: So many are read and written by calls that begin in any 60 seconds: what
            a call will take is guessed, and corrected when it has been taken.
        retries: How often a call that failed for a passing reason is made again.
        max_wait_s: The longest pause before a retry. Who is told to wait longer fails at once.
        breaker: When to leave the endpoint alone; None for never.

    A request's `timeout` covers all of it: standing in line, pauses, and every attempt.

    Raises:
        UsageError: If one of them can never work.
    """

    max_concurrency: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    retries: int = 0
    max_wait_s: float = 60.0
    breaker: Breaker | None = None

    def __post_init__(self) -> None:
        for name in ("max_concurrency", "requests_per_minute", "tokens_per_minute"):
            value: Any = getattr(self, name)
            if value is not None and not (_is_count(value) and value >= 1):
                raise _no_limit(name, value, "a whole number, 1 or more, or None for no limit")
        if not _is_count(self.retries) or self.retries < 0:
            raise _no_limit("retries", self.retries, "a whole number, 0 or more")
        if not is_number(self.max_wait_s) or not 0 < self.max_wait_s < math.inf:
            raise _no_limit("max_wait_s", self.max_wait_s, "a number of seconds above 0")
        if self.breaker is not None and not isinstance(self.breaker, Breaker):
            raise _no_limit("breaker", self.breaker, "Breaker(failures=…, cool_down_s=…), or None")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _no_limit(name: str, value: object, wanted: str) -> UsageError:
    return UsageError(f"Limits({name}={value!r}) can never be kept to. Give {wanted}.")


def endpoint_key(provider: str, api_base: str | None = None, api_key: str | None = None) -> str:
    """What calls to one endpoint have in common: whom, where, on whose account; shows no key."""
    account = hashlib.sha256((api_key or "").encode()).hexdigest()[:16]
    return f"{provider} {api_base or ''} {account}"


class Endpoint:
    """What the callers of an endpoint share.

    Made by `Endpoint.shared`, or by a test with a clock of its own.
    """

    def __init__(
        self, limits: Limits, *, name: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limits = limits
        self.name = name
        self.clock = clock
        self.renew()

    def renew(self) -> None:
        """Begin anew; a forked child does, for the calls under way are its parent's."""
        cap, breaker = self._limits.max_concurrency, self._limits.breaker
        rates = self._limits.requests_per_minute, self._limits.tokens_per_minute
        self.gate = None if cap is None else Gate(cap)
        self.rates = None if rates == (None, None) else Rates(*rates, clock=self.clock)
        self.circuit = (
            None if breaker is None else Circuit(breaker, name=self.name, clock=self.clock)
        )

    @classmethod
    def shared(cls, key: str, limits: Limits, *, name: str) -> Endpoint:
        """The one endpoint of this process with this key and these limits.

        Handles that have other limits for the same key keep to theirs, and do not see each other.
        """
        common = (key, replace(limits, retries=0, max_wait_s=Limits.max_wait_s))
        with _endpoints_lock:
            endpoint = _endpoints.get(common)
            if endpoint is None:
                endpoint = _endpoints[common] = cls(limits, name=name)
            return endpoint


_endpoints: weakref.WeakValueDictionary[tuple[str, Limits], Endpoint]
_endpoints = weakref.WeakValueDictionary()
_endpoints_lock = threading.Lock()


def _renew_all() -> None:
    global _endpoints_lock  # noqa: PLW0603 - a thread of the parent may have held it
    _endpoints_lock = threading.Lock()
    for endpoint in list(_endpoints.values()):
        endpoint.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
