"""Where agents are held: a turn is the gate that the plans of its agent pass.

Bridge, floor 2. A turn runs its agent's method until that reaches a plan, where it stands, or until
the method ends. Who stands, waits twice: until plans may be made, and until it is its agent's turn
again. In between it may run beside all others, and only there.

Where a budget may run out, only its model calls run beside others, and not the whole plan: a plan
goes on in its turn from call to call, so that what is left is reserved in the order of turns.

A turn does not say when; the `Stage` does. What it promises is that at most one of its agent's
lines runs outside of plans between `go` and the moment at which `go` is over.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextvars import Context
from typing import Any, Literal, Protocol, TypeVar

from llm_net.llm.budget import Budget
from llm_net.llm.turnstile import TURNSTILE, Turnstile
from llm_net.llm.waiting import run_coroutine
from llm_net.reasoning.gate import GATE
from mesa_bridge import threads
from mesa_bridge.randomness import begin_planning, end_planning
from mesa_bridge.signals import Awaiting, Blocking, Calling, Signal

__all__ = ["Dropped", "Hold", "LoopTurn", "Mail", "Stage", "ThreadTurn", "Turn", "later"]

T = TypeVar("T")
Work = Callable[[], "Awaitable[object] | object"]
Kind = Literal["plan", "ration", "call", "rest"]

_log = logging.getLogger("mesa_bridge")


class Dropped(BaseException):
    """Raised at the gate in the code of an agent that was removed while it planned.

    No `Exception`, since it is no error: the code is to end, as a generator that is closed.
    """


class Hold:
    """A stay at the gate.

    Attributes:
        turn: Whose.
        reasoning: What will plan; None for other work that is done in the time of plans.
        begin: Opened when the plan may be made.
        resume: Opened when it is the agent's turn again.
        kind: What is made there: a `plan` (or other work), a `call` of a rationed plan; in a
            `ration`, such a plan waits to begin. In a `rest` there is nothing to make.
        made: Whether that has been made.
    """

    __slots__ = ("began", "begin", "kind", "made", "reasoning", "resume", "turn")

    def __init__(
        self, turn: Turn, reasoning: Any, begin: Signal, resume: Signal, kind: Kind = "plan"
    ) -> None:
        self.turn = turn
        self.kind: Kind = kind
        self.made = False
        self.reasoning = reasoning
        self.begin = begin
        self.resume = resume
        self.began = 0.0


class Stage(Protocol):
    """What turns need of the activation that they are part of."""

    retries: bool

    def call(self, agent: Any) -> Any:
        """Call what is activated, on this agent."""
        ...

    def context(self) -> Context:
        """A context for a turn of its own."""
        ...

    def displaced(self, turn: Turn) -> None:
        """The turn holds the thread of whoever drives: somebody else must."""
        ...

    def begins(self, hold: Hold) -> None:
        """A plan is made now."""
        ...

    def ends(self, hold: Hold) -> None:
        """The plan has been made, or could not be; called once for each that was let begin."""
        ...

    def failed(self, turn: Turn, error: BaseException) -> None:
        """The turn has ended with this."""
        ...


class Mail(Protocol):
    """What agents send to each other while they are activated."""

    def end(self, standing: Sequence[Turn]) -> bool:
        """A round is over, in which these came to stand; gives whether there is mail for more."""
        ...

    def turns(self, stage: Stage) -> Iterator[Turn]:
        """The turns in which it is handled in the next round, each made when the last has gone."""
        ...


class Turn:
    """One agent in one activation, and the gate that its plans pass."""

    def __init__(self, stage: Stage, agent: Any) -> None:
        self.agent: Any = agent  # until it is done
        self.holds: list[Hold] = []
        self.done = False
        self.dropped = False
        self.jobs: list[Work] = []
        self._stage = stage
        self._waiting: list[Signal] = []  # at most one: whoever waits for this turn to stand

    def plan(self, reasoning: Any, make: Callable[[], T]) -> T:
        """Make a plan when it may be made; go on when it is this agent's turn again."""
        if self.done or not _is_rationed(getattr(reasoning, "agent", None)):
            return self.hold(make, reasoning)
        return self._rationed(reasoning, make)

    def _rationed(self, reasoning: Any, make: Callable[[], T]) -> T:
        try:
            self._pause("ration", reasoning)
            return self._make(make, turnstile=self)
        except KeyboardInterrupt as error:
            self._stage.failed(self, error)
            raise
        finally:
            self._pause("rest")

    def aplan(self, reasoning: Any, make: Callable[[], Awaitable[T]]) -> Awaitable[T]:
        """As `plan`, for what is awaited."""
        if self.done or not _is_rationed(getattr(reasoning, "agent", None)):
            return self.ahold(make, reasoning)
        return self._arationed(reasoning, make)

    async def _arationed(self, reasoning: Any, make: Callable[[], Awaitable[T]]) -> T:
        try:
            await self._apause("ration", reasoning)
            return await self._amake(make, turnstile=self)
        finally:
            await self._apause("rest")

    def hold(self, make: Callable[[], T], reasoning: Any = None) -> T:
        """Stand at the gate, and run `make` beside what others do there."""
        if self.done:  # something that the agent left behind, in nobody's turn
            return make()
        kind: Kind = "plan" if TURNSTILE.get() is None else "call"
        hold = Hold(self, reasoning, begin := Blocking(), resume := Blocking(), kind)
        self._stand(hold)
        begin.wait()
        self._leave_if_dropped()
        self._stage.begins(hold)
        try:
            return self._make(make)
        except KeyboardInterrupt as error:
            self._stage.failed(self, error)  # so that the wait below is not for all the others
            raise
        finally:
            self._stage.ends(hold)
            resume.wait()
            self._leave_if_dropped()

    async def ahold(self, make: Callable[[], Awaitable[T]], reasoning: Any = None) -> T:
        """As `hold`, for a coroutine."""
        if self.done:
            return await make()
        kind: Kind = "plan" if TURNSTILE.get() is None else "call"
        hold = Hold(self, reasoning, begin := Awaiting(), resume := Awaiting(), kind)
        self._stand(hold)
        cancelled = await begin.wait()
        self._leave_if_dropped()
        self._stage.begins(hold)
        try:
            if cancelled is not None:
                raise cancelled
            return await self._amake(make)
        finally:
            self._stage.ends(hold)
            cancelled = await resume.wait()
            self._leave_if_dropped()
            if cancelled is not None:
                raise cancelled

    def rest(self) -> None:
        """Stand at the gate until the next round, with nothing to do there."""
        if not self.done:
            self._pause("rest")

    async def arest(self) -> None:
        """As `rest`, for a coroutine."""
        if not self.done:
            await self._apause("rest")

    def stands_at(self, kind: Kind) -> bool:
        """Whether it stands there, and nobody has let it go on."""
        return any(hold.kind == kind for hold in self.holds)

    def drop(self) -> None:
        """End the agent's code where it stands."""
        self.dropped = True
        for hold in self.holds:
            hold.begin.open()
            hold.resume.open()

    def _pause(self, kind: Kind, reasoning: Any = None) -> None:
        resume = Blocking()
        self._stand(Hold(self, reasoning, resume, resume, kind))
        resume.wait()
        self._leave_if_dropped()

    async def _apause(self, kind: Kind, reasoning: Any = None) -> None:
        resume = Awaiting()
        self._stand(Hold(self, reasoning, resume, resume, kind))
        cancelled = await resume.wait()
        self._leave_if_dropped()
        if cancelled is not None:
            raise cancelled

    def _make(self, make: Callable[[], T], *, turnstile: Turnstile | None = None) -> T:
        """Plan; with a turnstile, only calls are held there, and the plan goes on in its turn."""
        retries = self._stage.retries and TURNSTILE.get() is None  # the plan is, and not its call
        token = GATE.set(None)  # what plans within a plan, is planning already
        calls = TURNSTILE.set(turnstile)
        streams = begin_planning(self.agent)
        try:
            try:
                return make()
            except Exception:
                if not retries:
                    raise
            return make()
        finally:
            end_planning(streams)
            TURNSTILE.reset(calls)
            GATE.reset(token)

    async def _amake(
        self, make: Callable[[], Awaitable[T]], *, turnstile: Turnstile | None = None
    ) -> T:
        retries = self._stage.retries and TURNSTILE.get() is None
        token = GATE.set(None)
        calls = TURNSTILE.set(turnstile)
        streams = begin_planning(self.agent)
        try:
            try:
                return await make()
            except Exception:
                if not retries:
                    raise
            return await make()
        finally:
            end_planning(streams)
            TURNSTILE.reset(calls)
            GATE.reset(token)

    def _stand(self, hold: Hold) -> None:
        self._leave_if_dropped()
        self.holds.append(hold)
        self._settle()

    def _settle(self) -> None:
        """Tell whoever waits for it that the agent stands, or is done."""
        try:
            waiting = self._waiting.pop()
        except IndexError:
            return
        waiting.open()

    def _resume(self) -> None:
        holds, self.holds = self.holds, []
        for hold in holds:
            hold.begin.open()  # not open yet, if the agent was removed before plans were made
            hold.resume.open()

    def _leave_if_dropped(self) -> None:
        if self.dropped:
            raise Dropped

    def _ended(self, error: BaseException | None) -> None:
        if error is not None and not self.dropped:
            self._stage.failed(self, error)
        self.done = True
        if self.holds:  # what the agent left at the gate without waiting for it
            self.drop()
            self.holds = []
        # Mesa may hold agents weakly. A thread of ours that has not quite ended yet must not keep
        # one alive that is removed in a moment.
        self.agent = None
        self._settle()


class ThreadTurn(Turn):
    """A turn of blocking code.

    Args:
        stage: The activation.
        agent: Whose turn it is.
        in_place: Whether it begins in the thread of whoever drives, which costs nothing. If it
            reaches the gate after all, that thread is held there, and another one drives on.
    """

    def __init__(self, stage: Stage, agent: Any, *, in_place: bool) -> None:
        super().__init__(stage, agent)
        self._in_place = in_place
        self._begun = False

    def go(self) -> None:
        """Run the agent's code until it stands, or is done."""
        if not self._begun and self._in_place:
            self._begun = True
            self._run()
            return
        settled = Blocking()
        self._waiting.append(settled)
        if self._begun:
            self._resume()
        else:
            self._begun = True
            context = self._stage.context()
            threads.submit(lambda: context.run(self._run))
        settled.wait()

    def _run(self) -> None:
        token = GATE.set(self)
        try:
            self._stage.call(self.agent)
            while self.jobs:
                jobs, self.jobs = self.jobs, []
                work = functools.partial(_do, jobs)
                rationed = _is_rationed(getattr(self.agent, "memory", None))
                self._rationed(None, work) if rationed else self.hold(work)
        except BaseException as error:  # noqa: BLE001 - whose it is, the stage knows
            self._ended(error)
        else:
            self._ended(None)
        finally:
            GATE.reset(token)

    def _stand(self, hold: Hold) -> None:
        in_place, self._in_place = self._in_place, False
        super()._stand(hold)
        if in_place:
            self._stage.displaced(self)


class LoopTurn(Turn):
    """A turn of a coroutine, in the stage's event loop."""

    task: asyncio.Task[None] | None = None
    _thread = 0

    def go(self, settled: Callable[[], None]) -> None:
        """Run the agent's code until it stands, or is done; call `settled` then."""
        # A function and not a coroutine that waits: the loop turns once for an agent, not twice.
        loop = asyncio.get_running_loop()
        self._waiting.append(Calling(loop, settled))
        if self.task is None:
            self._thread = threading.get_ident()
            self.task = loop.create_task(self._run(), context=self._stage.context())
        else:
            self._resume()

    def warm(self) -> None:
        """Come back soon from the gate, to see whose turn it is; called in the event loop."""
        for hold in self.holds:
            if isinstance(hold.resume, Awaiting):
                hold.resume.warm()

    def plan(self, reasoning: Any, make: Callable[[], T]) -> T:
        """Make a plan when it may be made; in the event loop itself, at once."""
        if threading.get_ident() == self._thread:
            return self.hold(make, reasoning)
        return super().plan(reasoning, make)

    def hold(self, make: Callable[[], T], reasoning: Any = None) -> T:
        """Stand at the gate; in the event loop itself there is no standing, for all would."""
        if threading.get_ident() != self._thread:
            return super().hold(make, reasoning)
        _log.warning(
            "%s plans by a blocking call inside of a coroutine: its plan is made at once, while "
            "all others wait. Let it await aplan(), or write the method without async.",
            type(self.agent).__name__,
        )
        return self._make(make)

    async def _run(self) -> None:
        GATE.set(self)
        try:
            await self._stage.call(self.agent)
            while self.jobs:
                jobs, self.jobs = self.jobs, []
                work = functools.partial(_ado, jobs)
                rationed = _is_rationed(getattr(self.agent, "memory", None))
                await (self._arationed(None, work) if rationed else self.ahold(work))
        except BaseException as error:  # noqa: BLE001
            self._ended(error)
        else:
            self._ended(None)


def later(work: Work) -> bool:
    """Leave work of this agent's own (condensing its memory) to the time when plans are made.

    It is done when the agent's method has ended, beside the plans and the work of others.

    Args:
        work: Without arguments; may give an awaitable.

    Returns:
        Whether it was taken; if not, no agent's turn is under way: do it yourself.
    """
    turn = GATE.get()
    if not isinstance(turn, Turn):
        return False
    turn.jobs.append(work)
    return True


def _is_rationed(thinker: Any) -> bool:
    """Whether calls of this agent's or memory's model may be refused, for others spend, too."""
    budget = getattr(getattr(thinker, "llm", None), "budget", None)
    if not isinstance(budget, Budget):
        return False
    limits = budget.limits
    return (limits.calls, limits.tokens, limits.usd) != (None, None, None)


def _do(jobs: list[Work]) -> None:
    for job in jobs:
        result = job()
        if inspect.isawaitable(result):
            run_coroutine(_awaited(result))


async def _ado(jobs: list[Work]) -> None:
    for job in jobs:
        result = job()
        if inspect.isawaitable(result):
            await result


async def _awaited(result: Awaitable[object]) -> object:
    return await result
