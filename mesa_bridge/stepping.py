"""The words for stepping agents in parallel, none of which needs a hook in Mesa.

Bridge, floor 5. Results are those of an activation that makes one plan at a time, whatever the mode
and however long models take; agents that never plan fare exactly as in Mesa.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import weakref
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, TypeVar

from mesa_bridge import served, threads, versions
from mesa_bridge.activation import Activation
from mesa_bridge.collector import room_for
from mesa_bridge.options import MAX_ROUNDS, BeforePlans, Call, Mode, OnError, Options
from mesa_bridge.report import StepReport
from mesa_bridge.rounds import opened

__all__ = [
    "ParallelStepping",
    "activate",
    "last_report",
    "model_step_async",
    "step_agents_multithreaded",
    "step_agents_parallel",
    "step_agents_parallel_sync",
]

T = TypeVar("T")

# Not on the models: they pickle, and they have no idea of us.
_reports: weakref.WeakKeyDictionary[Any, StepReport] = weakref.WeakKeyDictionary()
_locks: weakref.WeakKeyDictionary[Any, threading.Lock] = weakref.WeakKeyDictionary()
_guard = threading.Lock()


def last_report(model: Any) -> StepReport | None:
    """What came of the model's latest activation in parallel; None before the first."""
    return _reports.get(model)


def activate(model: Any, order: versions.Order, call: Call, options: Options) -> StepReport:
    """Call a method on agents: observe all, plan at once, apply in order.

    Raises:
        ExceptionGroup: With `on_error="raise"`, what agents raised; all others are done by then,
            and the model can be stepped on.
    """
    try:
        with opened(model, options.max_rounds) as rounds, room_for(len(order.entries)):
            activation = Activation(order, call, options, rounds)
            activation.run()
    except BaseException:
        versions.rearm(model)
        raise
    report = activation.report()
    if model is not None:
        _reports[model] = report
    if activation.errors:
        versions.rearm(model)
        raise ExceptionGroup(
            f"{len(activation.errors)} of {report.agents} agents failed in {call.method!r}",
            activation.errors,
        )
    return report


class ParallelStepping:
    """Steps a model's agents in parallel, where that is written down in the model itself.

    ```python
    import mesa

    from mesa_bridge import ParallelStepping


    class Town(mesa.Model):
        def __init__(self):
            super().__init__()
            self.stepping = ParallelStepping(self)

        def step(self):
            self.stepping.shuffle_do(self.agents, "step")
    ```

    Args:
        model: The model.
        mode: As in `enable_automatic_parallel_stepping`, like the others.
        max_in_flight: Plans at the same time, at most.
        on_error: What becomes of a turn that raises.
        before_plans: Called with (agent, reasoning) in order, before the plans of a round.
        max_rounds: Rounds in which messages between agents are handled, at most.
    """

    def __init__(
        self,
        model: Any,
        mode: Mode = "asyncio",
        *,
        max_in_flight: int | None = None,
        on_error: OnError = "skip",
        before_plans: BeforePlans | None = None,
        max_rounds: int = MAX_ROUNDS,
    ) -> None:
        self.model = model
        self.options = Options(
            mode=mode,
            max_in_flight=max_in_flight,
            on_error=on_error,
            before_plans=before_plans,
            max_rounds=max_rounds,
        )

    def do(self, agents: Any, method: str, *args: Any, **kwargs: Any) -> StepReport:
        """As the `do` of Mesa's agent sets: in their order."""
        order = versions.drawn(agents, shuffled=False)
        return activate(self.model, order, Call(method, args, kwargs), self.options)

    def shuffle_do(self, agents: Any, method: str, *args: Any, **kwargs: Any) -> StepReport:
        """As the `shuffle_do` of Mesa's agent sets: in an order drawn from their random stream."""
        order = versions.drawn(agents, shuffled=True)
        return activate(self.model, order, Call(method, args, kwargs), self.options)


def step_agents_parallel_sync(
    agents: Iterable[Any],
    *,
    mode: Mode | None = None,
    max_in_flight: int | None = None,
    on_error: OnError | None = None,
) -> StepReport:
    """Step these agents, in the order given.

    Options are those of `enable_automatic_parallel_stepping`. Those left out are as enabled for the
    agents' model, if they are, and else as they are there by default.
    """
    listed = list(agents)
    model = versions.model_of(listed)
    enabled = None if model is None else served.options_of(model)
    given = {"mode": mode, "max_in_flight": max_in_flight, "on_error": on_error}
    said: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    options = replace(enabled or Options(), **said)
    return activate(model, versions.listed(listed), Call("step"), options)


def step_agents_multithreaded(
    agents: Iterable[Any], *, max_in_flight: int | None = None, on_error: OnError | None = None
) -> StepReport:
    """Step these agents, in the order given; `step` is preferred to `astep`."""
    return step_agents_parallel_sync(
        agents, mode="threading", max_in_flight=max_in_flight, on_error=on_error
    )


async def step_agents_parallel(
    agents: Iterable[Any],
    *,
    mode: Mode | None = None,
    max_in_flight: int | None = None,
    on_error: OnError | None = None,
) -> StepReport:
    """As `step_agents_parallel_sync`, without blocking the event loop.

    The activation runs beside the loop and to its end, also if this is cancelled: half a step would
    be no state that a model can be in.
    """
    listed = list(agents)
    return await _beside(
        lambda: step_agents_parallel_sync(
            listed, mode=mode, max_in_flight=max_in_flight, on_error=on_error
        )
    )


async def model_step_async(model: Any) -> None:
    """Step the model without blocking the event loop.

    The step runs on a thread, one step of a model at a time. It runs to its end, also if this is
    cancelled.
    """
    with _guard:
        lock = _locks.setdefault(model, threading.Lock())

    def step() -> None:
        with lock:
            model.step()

    await _beside(step)


async def _beside(work: Callable[[], T]) -> T:
    future: Future[T] = Future()
    context = contextvars.copy_context()

    def run() -> None:
        try:
            result = context.run(work)
        except BaseException as error:  # noqa: BLE001 - raised again where it is awaited
            future.set_exception(error)
        else:
            future.set_result(result)

    threads.submit(run)
    return await asyncio.shield(asyncio.wrap_future(future))
