"""A model within limits: so many calls at once, so many a minute, and some of them once more.

Model tower, floor 2. A model around a model.

LiteLLM's Router does some of this; it is not used, for it knows only LiteLLM's models, belongs to
one event loop, costs a tenth of the calls a second that LiteLLM makes without it, and keeps to a
rate only in one mode, by failing.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from llm_net.context import AUTHOR
from llm_net.errors import CircuitOpen, ModelCallError
from llm_net.llm.endpoint import Endpoint, Limits
from llm_net.llm.estimate import likely_tokens, plausible_usage
from llm_net.llm.flows import Ask, Flow, Flowing, Pause, Step
from llm_net.llm.gate import Enter
from llm_net.llm.ledger import note_retry
from llm_net.llm.model import Chunk, Completion, Model, Request
from llm_net.llm.waiting import await_future, in_background, wait

__all__ = ["Limited", "Limits"]

FIRST_PAUSE_S = 0.5
"""The first pause before a retry is at most this, each further one twice the one before."""
LATENESS = 0.1
"""Whoever is told to come back later comes up to a tenth later, so that not all come at once."""
UNTOLD_S = 0.001
"""So short a time in line is not taken off a request's timeout: it goes on as it is."""


class Limited(Flowing):
    """A model that is asked no more than its endpoint's limits allow, and again if that may help.

    Only what may pass is tried again: no connection, a timeout of the provider's, a rate limit, an
    error of its server. What was refused will be refused again; an open circuit is left alone; an
    answer of which a piece was handed out cannot begin anew.

    Args:
        model: Who is asked.
        limits: How.
        endpoint: What is shared with other callers; None for nothing.
        luck: Where the jitter of pauses comes from.
    """

    def __init__(
        self,
        model: Model,
        limits: Limits,
        endpoint: Endpoint | None = None,
        *,
        luck: random.Random | None = None,
    ) -> None:
        self.model = model
        self.limits = limits
        self.name: str = getattr(model, "name", type(model).__name__)
        self._endpoint = endpoint or Endpoint(limits, name=self.name)
        self._luck = luck or random.Random()  # noqa: S311 - jitter is no secret

    def complete(self, request: Request) -> Completion:
        """Ask, and wait; for a place, a minute, a better time too.

        Raises:
            CircuitOpen: If the endpoint is left alone for a while.
            ModelCallError: If the last attempt failed, or no time is left for another.
        """
        if _one_at_a_time():
            return wait(in_background(super().acomplete(request)), timeout=None, who=self.name)
        return super().complete(request)

    async def acomplete(self, request: Request) -> Completion:
        """Ask without blocking the event loop; raises what `complete` does."""
        if _one_at_a_time():
            outside = in_background(super().acomplete(request))
            return await await_future(outside, timeout=None, who=self.name)
        return await super().acomplete(request)

    def stream(self, request: Request) -> Iterator[Chunk]:
        """Answer piece by piece, the place at the endpoint kept until the last; see `complete`."""
        if not _one_at_a_time():
            return super().stream(request)
        completion = self.complete(request)
        return iter((Chunk(completion.text, completion),))

    async def astream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """Answer piece by piece without blocking the event loop; see `stream`."""
        if _one_at_a_time():
            completion = await self.acomplete(request)
            yield Chunk(completion.text, completion)
            return
        async with aclosing(super().astream(request)) as chunks:
            async for chunk in chunks:
                yield chunk

    def flow(self, request: Request) -> Flow:
        """Attempts, and pauses between them."""
        timeout = request.timeout
        deadline = None if timeout is None else self._endpoint.clock() + timeout
        for attempt in itertools.count():
            ask = Ask(self.model, request)
            try:
                return (yield from self._attempt(ask, deadline))
            except CircuitOpen:
                raise
            except ModelCallError as error:
                if not error.passing or ask.begun or attempt >= self.limits.retries:
                    raise
                pause = self._pause(attempt, error.retry_after)
                self._check_pause(pause, deadline, error)
            note_retry()
            yield Pause(pause)
        raise AssertionError("counting has no end")

    def _attempt(self, ask: Ask, deadline: float | None) -> Generator[Step, Any, Completion]:
        """One call, from its place in line to its answer."""
        gate = self._endpoint.gate
        if gate is None:
            return (yield from self._watched(ask, deadline))
        if not (yield Enter(gate, self._left(deadline))):
            raise self._late(f"all {self.limits.max_concurrency} places of max_concurrency= taken")
        try:
            return (yield from self._watched(ask, deadline))
        finally:
            gate.leave()

    def _watched(self, ask: Ask, deadline: float | None) -> Generator[Step, Any, Completion]:
        """One call that has its place: the circuit hears how it ends."""
        circuit = self._endpoint.circuit
        if circuit is None:
            return (yield from self._booked(ask, deadline))
        era = circuit.enter()
        well: bool | None = None
        try:
            completion = yield from self._booked(ask, deadline)
            well = True
        except ModelCallError as error:
            # What failed before it was sent says nothing about the endpoint.
            well = not error.passing if ask.sent else None
            raise
        finally:
            circuit.leave(era, well=well)
        return completion

    def _booked(self, ask: Ask, deadline: float | None) -> Generator[Step, Any, Completion]:
        """One call, not before its minute."""
        rates = self._endpoint.rates
        if rates is None:
            answer: Completion = yield self._in_time(ask, deadline)
            return answer
        expected = likely_tokens(ask.request) if rates.counts_tokens else 0
        booking = rates.book(expected, until=deadline)
        if booking is None:
            raise self._late("too many calls or tokens in the minute before")
        pause = booking.at - self._endpoint.clock()
        if pause > 0:
            try:
                yield Pause(pause)
            except BaseException:
                rates.cancel(booking)
                raise
        completion: Completion = yield self._in_time(ask, deadline)
        if rates.counts_tokens:
            rates.correct(booking, plausible_usage(completion, ask.request).total_tokens)
        return completion

    def _in_time(self, ask: Ask, deadline: float | None) -> Ask:
        """The ask, with as much time as there is left."""
        left = self._left(deadline)
        timeout = ask.request.timeout
        if left is not None and timeout is not None and timeout - left > UNTOLD_S:
            if left <= 0:
                raise self._late("it stood in line until then")
            ask.request = replace(ask.request, params={**ask.request.params, "timeout": left})
        return ask

    def _left(self, deadline: float | None) -> float | None:
        return None if deadline is None else deadline - self._endpoint.clock()

    def _pause(self, attempt: int, retry_after: float | None) -> float:
        if retry_after is not None:
            return retry_after * (1 + self._luck.uniform(0, LATENESS))
        return self._luck.uniform(0, min(FIRST_PAUSE_S * 2**attempt, self.limits.max_wait_s))

    def _check_pause(self, pause: float, deadline: float | None, error: ModelCallError) -> None:
        """Is there time for this pause?"""
        asked = error.retry_after
        left = self._left(deadline)
        if asked is not None and asked > self.limits.max_wait_s:
            why = f"longer than max_wait_s={self.limits.max_wait_s:g}. Try again then, or raise it"
        elif left is not None and pause >= left:
            why = f"but {left:.3g} s of its timeout are left. Raise timeout="
        else:
            return
        again = ModelCallError(
            f"{self.name} was not tried again: the next attempt would have come after "
            f"{pause:.3g} s, {why}. The failure was: {error}"
        )
        again.status, again.passing, again.retry_after = error.status, True, asked
        raise again from error

    def _late(self, why: str) -> ModelCallError:
        error = ModelCallError(
            f"{self.name} was not asked: the call's timeout would have ended before its turn came "
            f"({why}). Raise timeout=, raise the limit, or ask for less at once."
        )
        error.passing = True
        return error


def _one_at_a_time() -> bool:
    """Whether this is a deterministic run: who waits there for a place must do it outside.

    The run waits for all calls that are out before it goes on, and one that waits inside of it for
    the place of another would wait for ever.
    """
    author = AUTHOR.get()
    return author is not None and author.one_at_a_time
