"""Mesa's own `do` and `shuffle_do`, led through a parallel activation.

Bridge, floor 6. The one place that changes Mesa, and only while it is asked to: two methods of the
classes of agent sets are replaced, and look for each call whether its model is served. What is not
(callables, `map`, other models, empty sets) goes to Mesa untouched.
"""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, cast

from llm_net.errors import UsageError
from mesa_bridge import served, versions
from mesa_bridge.options import MAX_ROUNDS, BeforePlans, Call, Mode, OnError, Options
from mesa_bridge.stepping import activate

__all__ = [
    "ParallelSteppingEnabled",
    "disable_automatic_parallel_stepping",
    "enable_automatic_parallel_stepping",
]

_lock = threading.Lock()
_originals: dict[tuple[type, str], Callable[..., Any]] = {}


def enable_automatic_parallel_stepping(
    model: Any = None,
    mode: Mode = "asyncio",
    *,
    max_in_flight: int | None = None,
    on_error: OnError = "skip",
    before_plans: BeforePlans | None = None,
    max_rounds: int = MAX_ROUNDS,
) -> ParallelSteppingEnabled:
    """Let `do` and `shuffle_do` with a method's name plan in parallel.

    Doing it again only changes the settings, so a model may do it in its `__init__`, and should, if
    it is to run in spawned processes. `disable_automatic_parallel_stepping()` undoes all of it; as
    a context manager it is undone at the end of the block.

    Args:
        model: Serve this model. Without one, all models whose `parallel_stepping` is True. A string
            in this place is the mode.
        mode: `asyncio` prefers agents' `astep`, `threading` their `step`, but one of the two is
            enough in any case; `sequential` makes one plan at a time. The result is the same.
        max_in_flight: So many plans are made at the same time, at most. Agents are not limited.
        on_error: What becomes of a turn that raises, besides being recorded and logged: `skip`,
            `raise` (an ExceptionGroup, when all others are done), `retry` (the plan, once), or a
            function `(agent, error)`.
        before_plans: Called with (agent, reasoning) in order, before the plans of a round.
        max_rounds: Rounds in which messages between agents are handled, at most; the rest waits
            for the next activation.

    Raises:
        UsageError: If an option makes no sense, or the installed Mesa cannot be hooked.
    """
    if isinstance(model, str):
        model, mode = None, cast("Mode", model)
    options = Options(
        mode=mode,
        max_in_flight=max_in_flight,
        on_error=on_error,
        before_plans=before_plans,
        max_rounds=max_rounds,
    )
    if model is not None and not versions.is_model(model):
        raise UsageError(
            f"{model!r} cannot be stepped in parallel: it is no Mesa model. "
            "Its agents are found by the model that they belong to. "
            "Give a model, or none to serve all that say parallel_stepping = True."
        )
    with _lock:
        _patch()
        enabled = ParallelSteppingEnabled(model, served.setting(model))
        served.serve(model, options)
    return enabled


def disable_automatic_parallel_stepping() -> None:
    """Give Mesa its own methods back, for all models."""
    with _lock:
        served.forget()
        _restore()


class ParallelSteppingEnabled:
    """Parallel stepping, as it has just been enabled; leaving it as a context undoes that."""

    def __init__(self, model: Any, before: Options | None) -> None:
        self._model = None if model is None else weakref.ref(model)
        self._before = before

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with _lock:
            model = None if self._model is None else self._model()
            if self._model is None or model is not None:
                served.serve(model, self._before)
            if not served.any_served():
                _restore()


def _patch() -> None:
    if _originals:
        return
    for each in versions.agent_set_classes():
        for word in ("do", "shuffle_do"):
            original = vars(each)[word]
            _originals[each, word] = original
            setattr(each, word, _led(original, shuffled=word == "shuffle_do"))


def _restore() -> None:
    while _originals:
        (each, word), original = _originals.popitem()
        setattr(each, word, original)


def _led(original: Callable[..., Any], *, shuffled: bool) -> Callable[..., Any]:
    @functools.wraps(original)
    def activated(self: Any, method: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(method, str):
            model = versions.model_of(self)
            options = None if model is None else served.options_of(model)
            if options is not None:
                order = versions.drawn(self, shuffled=shuffled)
                activate(model, order, Call(method, args, kwargs), options)
                return self
        return original(self, method, *args, **kwargs)

    return activated
