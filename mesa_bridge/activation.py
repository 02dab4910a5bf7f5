"""One activation: observe all, plan at once, apply in order.

Bridge, floor 3. First, what agents were sent before is handled. Then every agent runs, one at a
time and in the order drawn at the start, up to its first plan, or to its end. When all stand at the
gate or are done, the plans are made together. Then each goes on, in the same order, up to its next
plan (a new round) or its end. What is decided here depends on the order and on what the agents do,
never on how long anything takes.

Whoever drives is a thread: the caller's, which also runs blocking code that does not plan. Blocking
code that plans has a thread of its own to stand in, a coroutine runs in a loop of the bridge.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import logging
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextvars import Context, ContextVar, copy_context
from typing import Any

from llm_net.errors import is_interrupt
from mesa_bridge import threads, versions
from mesa_bridge.gate import Hold, LoopTurn, Mail, ThreadTurn, Turn
from mesa_bridge.options import Call, Options
from mesa_bridge.report import Failure, Gauge, StepReport

__all__ = ["Activation", "stand_in"]

_log = logging.getLogger("mesa_bridge")
_depth: ContextVar[int] = ContextVar("mesa_bridge_depth", default=0)
# Classes whose blocking code has planned before; they get a thread at once. This says where code
# runs, never in what order, so what is remembered from earlier models changes no result.
_planners: weakref.WeakSet[type] = weakref.WeakSet()

F = Callable[..., Any]


def stand_in(method: F) -> F:
    """Mark a default that does nothing but call its sync or async twin.

    Whoever writes only one of `step` and `astep` is then activated by what he wrote.
    """
    method.__dict__["stand_in"] = True
    return method


class Activation:
    """One call of a method on many agents; is run once.

    Args:
        order: Who, and in what order.
        call: What.
        options: How.
        mail: What agents send to each other meanwhile.
    """

    def __init__(self, order: versions.Order, call: Call, options: Options, mail: Mail) -> None:
        self.errors: list[Exception] = []
        self.retries = options.on_error == "retry"
        self._options = options
        self._order = order
        self._call = call
        self._mail = mail
        self._words: dict[type, tuple[str, bool]] = {}
        self._gauge = Gauge()
        self._agents = 0
        self._failures: list[Failure] = []
        self._dropped: list[int] = []
        # Who drives, and how far it has come. Handed on with the shift, never shared.
        self._shift = 0
        self._arriving = False
        self._visits: Iterator[Turn] = self._handlings()
        self._standing: list[Turn] = []
        self._round: list[Turn] | None = None  # who stood when plans of this round began
        self._over = threading.Event()
        self._error: BaseException | None = None
        # What can be held in a thread or loop, to be let go if the activation ends early.
        self._turns: list[Turn] = []
        # One round of plans.
        self._lock = threading.Lock()
        self._queue: deque[Hold] = deque()
        self._open = 0
        self._planned = threading.Event()

    def run(self) -> None:
        """Activate them all; blocks until it is done.

        Raises:
            BaseException: What ends all: the keyboard, or an agent without such a method.
        """
        token = _depth.set(_depth.get() + 1)
        self._context = copy_context()
        try:
            self._drive()
            self._over.wait()
        except BaseException as error:  # noqa: BLE001 - it is raised below
            self._abort(error)
        finally:
            _depth.reset(token)
            self._turns.clear()
        if self._error is not None:
            raise self._error

    def report(self) -> StepReport:
        """What came of it."""
        return StepReport(
            agents=self._agents,
            plans=self._gauge.plans,
            mean_in_flight=self._gauge.mean(),
            max_in_flight=self._gauge.most,
            wall_s=self._gauge.wall_s(),
            ideal_s=self._gauge.ideal_s,
            failures=tuple(self._failures),
            dropped=tuple(self._dropped),
        )

    # For turns.

    def call(self, agent: Any) -> Any:
        """Call the method on this agent; gives a coroutine for a turn in the loop."""
        word, _ = self._word(_class_of(agent))
        return getattr(agent, word)(*self._call.args, **self._call.kwargs)

    def context(self) -> Context:
        """A context for a turn of its own."""
        return self._context.copy()

    def begins(self, hold: Hold) -> None:
        """A plan is made now."""
        with self._lock:
            hold.began = self._gauge.up()

    def ends(self, hold: Hold) -> None:
        """The plan has been made, or could not be."""
        with self._lock:
            self._gauge.down(hold.began)
            self._open -= 1
            following = self._queue.popleft() if self._queue else None
            last = self._open == 0
        if following is not None:
            following.begin.open()
        if last:
            self._planned.set()

    def failed(self, turn: Turn, error: BaseException) -> None:
        """The turn has ended with this."""
        if is_interrupt(error):
            self._abort(error)
            return
        failure = Failure.of(turn.agent, error)
        # What fails all alike (a missing key) is told of each, and shown once.
        known = any(each.error == failure.error for each in self._failures)
        self._failures.append(failure)
        _log.warning("In %s of %s", self._call.method, failure, exc_info=None if known else error)
        act = self._options.on_error
        if act == "raise":
            self.errors.append(error if isinstance(error, Exception) else _wrapped(error))
        elif callable(act) and isinstance(error, Exception):
            try:
                act(turn.agent, error)
            except Exception as second:  # noqa: BLE001 - as any other of an agent's
                self._failures.append(Failure.of(turn.agent, second))
                _log.warning("%s, in on_error", self._failures[-1], exc_info=second)

    def displaced(self, turn: Turn) -> None:
        """The turn holds the thread of whoever drives: another drives on."""
        _planners.add(_class_of(turn.agent))
        self._turns.append(turn)
        self._standing.append(turn)
        self._shift += 1
        threads.submit(functools.partial(self._context.copy().run, self._drive_on))

    # For whoever drives.

    def _drive_on(self) -> None:
        try:
            self._drive()
        except BaseException as error:  # noqa: BLE001 - raised where the caller waits
            self._abort(error)

    def _drive(self) -> None:
        shift = self._shift
        while self._error is None:
            turn = next(self._visits, None)
            if turn is not None:
                self._advance(turn)
                if self._shift != shift:
                    return  # the turn held this thread, and another drives by now
            elif self._round is not None:
                self._go_on_planning(self._round)
            elif not (self._arriving or self._standing):
                self._arriving = True  # what waited from before has been handled
                self._visits = self._arrivals()
            elif self._mail.end(self._standing) or self._standing:
                self._round, self._standing = self._standing, []
                self._announce(self._round)
            else:
                break
        self._over.set()

    def _advance(self, turn: Turn) -> None:
        if isinstance(turn, LoopTurn):
            row: Future[None] = Future()
            self._loop.loop.call_soon_threadsafe(self._go_in_loop, turn, row)
            row.result()
        elif isinstance(turn, ThreadTurn):
            turn.go()
            self._note(turn)

    def _go_in_loop(self, turn: LoopTurn, row: Future[None]) -> None:
        turn.go(functools.partial(self._went_in_loop, turn, row))

    def _went_in_loop(self, turn: LoopTurn, row: Future[None]) -> None:
        """Go on with as many as are in a row in the loop: every change of threads costs."""
        try:
            self._note(turn)
            following = next(self._visits, None) if self._error is None else None
            if isinstance(following, LoopTurn):
                self._go_in_loop(following, row)
                return
            if following is not None:
                self._visits = itertools.chain([following], self._visits)
        except BaseException as error:  # noqa: BLE001 - for the driver, not for the agent before
            row.set_exception(error)
        else:
            row.set_result(None)

    def _note(self, turn: Turn) -> None:
        if turn.holds:
            self._standing.append(turn)

    def _arrivals(self) -> Iterator[Turn]:
        for entry in self._order.entries:
            agent = self._order.agent(entry)
            if agent is None:
                continue
            turn = self._turn(agent)
            if turn is not None:
                self._agents += 1
                yield turn
            # Where Mesa holds agents weakly, whoever is removed now must be gone before its turn.
            del agent, turn

    def _returns(self, standing: list[Turn]) -> Iterator[Turn]:
        for turn in standing:
            if not turn.dropped and not versions.is_registered(turn.agent):
                turn.dropped = True
                self._dropped.append(turn.agent.unique_id)
            yield turn

    def _handlings(self) -> Iterator[Turn]:
        for turn in self._mail.turns(self):
            self._turns.append(turn)
            yield turn

    def _turn(self, agent: Any) -> Turn | None:
        kind = _class_of(agent)
        word, in_loop = self._word(kind)
        getattr(agent, word)  # without it, the caller is at fault and not the agent
        thinks = in_loop or getattr(agent, "reasoning", None) is not None
        if thinks and not versions.is_registered(agent):
            return None  # Mesa would activate it, if it holds agents weakly and somebody has it
        if not thinks and kind not in _planners:
            return ThreadTurn(self, agent, in_place=True)
        turn = LoopTurn(self, agent) if in_loop else ThreadTurn(self, agent, in_place=False)
        self._turns.append(turn)
        return turn

    def _word(self, kind: type) -> tuple[str, bool]:
        """The method of a class that is called, and whether that is in the loop.

        Of two twins it is the one that the mode prefers, if it was written.
        """
        found = self._words.get(kind)
        if found is None:
            plain, twin = self._call.method, f"a{self._call.method}"
            if _is_async(kind, twin) and not (
                self._options.mode == "threading" and _is_written(kind, plain)
            ):
                found = twin, True
            else:
                found = plain, _is_async(kind, plain)
            self._words[kind] = found
        return found

    def _announce(self, standing: Sequence[Turn]) -> None:
        """Say which plans are about to be made."""
        holds = [hold for hold in _holds_of_the_living(standing) if hold.kind in {"plan", "ration"}]
        self._gauge.plans += sum(hold.reasoning is not None for hold in holds)
        if holds and self._options.before_plans is not None:
            self._options.before_plans([(hold.turn.agent, hold.reasoning) for hold in holds])

    def _go_on_planning(self, standing: list[Turn]) -> None:
        """Make the plans of a round; those that are rationed in their turns, from call to call."""
        going = [turn for turn in standing if turn.stands_at("ration")]
        if not going:
            self._make_together(standing)
            going = [turn for turn in standing if turn.stands_at("call")]
        if going:
            self._visits = self._returns(going)
        else:
            self._round, self._standing = None, []
            going = [turn for turn in standing if turn.holds]
            self._visits = itertools.chain(self._returns(going), self._handlings())
        in_loop = [turn for turn in going if isinstance(turn, LoopTurn)]
        if in_loop:
            self._loop.loop.call_soon_threadsafe(_warm_all, in_loop)

    def _make_together(self, standing: Sequence[Turn]) -> None:
        """Let all plans and calls be made that can be, and wait until they are."""
        holds = [
            hold
            for hold in _holds_of_the_living(standing)
            if hold.kind in {"plan", "call"} and not hold.made
        ]
        if not holds:
            return
        for hold in holds:
            hold.made = True
        cap = self._options.cap
        with self._lock:
            first, self._queue = holds[:cap], deque(holds[cap:] if cap else ())
            self._open = len(holds)
            self._planned.clear()
        if any(isinstance(hold.turn, LoopTurn) for hold in first):
            self._loop.loop.call_soon_threadsafe(_open_all, first)
        else:
            _open_all(first)
        self._planned.wait()
        self._gauge.end_round(cap)

    def _abort(self, error: BaseException) -> None:
        """End it early: let go whatever is held, and tell the caller why."""
        if self._error is None:
            self._error = error
        self._queue.clear()
        for turn in self._turns:
            turn.drop()
            if isinstance(turn, LoopTurn) and turn.task is not None and not turn.done:
                turn.task.get_loop().call_soon_threadsafe(turn.task.cancel)
        self._planned.set()
        self._over.set()

    @functools.cached_property
    def _loop(self) -> threads.Loop:
        return threads.loop_at(_depth.get() - 1)


def _class_of(agent: object) -> type:
    return type(agent)


def _is_async(kind: type, word: str) -> bool:
    method = getattr(kind, word, None)
    return inspect.iscoroutinefunction(method) and not hasattr(method, "stand_in")


def _is_written(kind: type, word: str) -> bool:
    method = getattr(kind, word, None)
    return not (method is None or hasattr(method, "stand_in") or versions.is_default(method))


def _holds_of_the_living(standing: Sequence[Turn]) -> list[Hold]:
    """Where agents stand that are still in their model; nobody needs the plans of others."""
    return [
        hold
        for turn in standing
        if turn.holds and versions.is_registered(turn.agent)
        for hold in turn.holds
    ]


def _open_all(holds: Sequence[Hold]) -> None:
    for hold in holds:
        hold.begin.open()


def _warm_all(turns: Sequence[LoopTurn]) -> None:
    for turn in turns:
        turn.warm()


def _wrapped(error: BaseException) -> Exception:
    """An exception that may stand in a group of such."""
    wrapped = RuntimeError(f"An agent's turn ended with {type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped
