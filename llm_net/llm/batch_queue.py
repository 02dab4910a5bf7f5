"""The queue before a model that is asked in batches: who waits, and when a batch goes out.

Model tower, floor 1. Invariant: each request is answered once, or left by its caller; a batch holds
no more than `max_batch` requests, all of one parameter set, in the order in which they came.

No thread waits here: a timer of the background loop ends the waiting, and a batch gets a thread of
its own. Nothing is locked while a model works or a caller is told.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, Protocol, cast, runtime_checkable

from llm_net.errors import ModelCallError, UsageError
from llm_net.llm.model import Completion, Model, Request
from llm_net.llm.waiting import in_background, in_thread

__all__ = ["Background", "BatchModel", "BatchStatistics", "Host", "Queue"]

_OF_EACH = frozenset({"max_tokens", "stop", "timeout"})
"""Parameters that each request of a batch may have its own of: they say when to end."""


@runtime_checkable
class BatchModel(Model, Protocol):
    """A model that answers several requests in one go."""

    def complete_many(self, requests: Sequence[Request]) -> Sequence[Completion | Exception]:
        """Answer all, in their order; for one that failed, with its exception. May block."""
        ...


class Host(Protocol):
    """Where batches run, and what ends their waiting; tests have one whose clock they turn."""

    def later(self, delay: float, ring: Callable[[], None]) -> Callable[[], object]:
        """Call `ring` after so many seconds; the result calls that off."""
        ...

    def run(self, work: Callable[[], None]) -> object:
        """Do the work beside the caller."""
        ...


class Background:
    """The host of real programs: true seconds, and a thread for each batch."""

    def later(self, delay: float, ring: Callable[[], None]) -> Callable[[], object]:
        """Call `ring` from the background loop."""

        async def wait() -> None:
            await asyncio.sleep(delay)
            ring()

        return in_background(wait()).cancel

    def run(self, work: Callable[[], None]) -> object:
        """Do the work in a thread."""
        return in_thread(work)


@dataclass(frozen=True, kw_only=True)
class BatchStatistics:
    """What a queue has done so far in this process.

    Attributes:
        batches: How often the model was asked.
        requests: How many requests these batches held; those that shared an answer count once.
        largest: How many the largest held.
    """

    batches: int = 0
    requests: int = 0
    largest: int = 0

    @property
    def mean(self) -> float:
        """Requests in a batch, on average; 0 before the first."""
        return self.requests / self.batches if self.batches else 0.0


@dataclass(eq=False, kw_only=True)
class _Entry:
    """One request, and all who wait for its answer."""

    request: Request
    key: Hashable
    parameters: Hashable
    callers: list[Future[Completion]] = field(default_factory=list[Future[Completion]])
    call: Future[Completion] | None = None


class Queue:
    """The queue of one model in one process; `BatchProcessor` says what the arguments mean.

    Attributes:
        statistics: What was done so far.
        is_closed: Whether it takes no more requests.
    """

    def __init__(
        self,
        model: Model,
        host: Host,
        *,
        max_batch: int,
        flush_interval: float,
        share_identical: bool,
    ) -> None:
        self.statistics = BatchStatistics()
        self.is_closed = False
        self._model = model
        self._batch_model = model if isinstance(model, BatchModel) else None
        self._host = host
        self._max_batch = max_batch
        self._flush_interval = flush_interval
        self._share_identical = share_identical
        self._changed = threading.Condition()
        # What is not answered yet, by what it may be shared by.
        self._open: dict[Hashable, _Entry] = {}
        # What of it waits, by parameter set; the first set is the next to be served. The entries of
        # a set are a dict, so that one can leave from the middle.
        self._lines: dict[Hashable, dict[_Entry, None]] = {}
        self._is_due = False  # the waiting for more is over
        self._is_busy = False  # a batch is out, and the next has to wait for it
        self._call_off: Callable[[], object] | None = None

    def submit(self, request: Request) -> Future[Completion]:
        """Join the queue, or another's request; cancelling the future leaves it again.

        Raises:
            UsageError: If the queue is closed.
        """
        caller: Future[Completion] = Future()
        key: Hashable = _identity(request) if self._share_identical else caller
        with self._changed:
            if self.is_closed:
                raise UsageError(
                    f"The batch processor of {self._model!r} is closed, and takes no requests any "
                    "more. Close it after the last one, or make a new one."
                )
            entry = self._open.get(key) or self._enter(request, key)
            entry.callers.append(caller)
        caller.add_done_callback(partial(self._left, entry))
        self._pump()
        return caller

    def flush(self) -> None:
        """Send what waits, without waiting for more."""
        with self._changed:
            self._is_due = bool(self._lines)
        self._pump()

    def close(self) -> None:
        """Send what waits, refuse what comes, and return when all is answered."""
        with self._changed:
            self.is_closed = True
        self.flush()
        with self._changed:
            self._changed.wait_for(lambda: not self._open and not self._is_busy)

    def _enter(self, request: Request, key: Hashable) -> _Entry:
        sampling = {k: v for k, v in request.params.items() if k not in _OF_EACH}
        entry = _Entry(request=request, key=key, parameters=_frozen(sampling))
        self._open[key] = entry
        self._lines.setdefault(entry.parameters, {})[entry] = None
        if not self._is_due:
            self._is_due = sum(map(len, self._lines.values())) >= self._max_batch
            if not self._is_due and self._call_off is None:
                self._call_off = self._host.later(self._flush_interval, self.flush)
        return entry

    def _left(self, entry: _Entry, caller: Future[Completion]) -> None:
        """A caller is done; if it was cancelled, perhaps nobody wants the answer any more."""
        with self._changed:
            if caller not in entry.callers:
                return  # it has its answer
            entry.callers.remove(caller)
            if not entry.callers:
                self._forget(entry)
        caller.set_running_or_notify_cancel()  # or whoever waits for its end would wait for ever
        self._spare(entry)

    def _spare(self, entry: _Entry) -> None:
        """Call off what nobody waits for."""
        with self._changed:
            call = None if entry.callers else entry.call
        if call is not None:
            call.cancel()

    def _forget(self, entry: _Entry) -> None:
        """Strike an entry off, whether it waits or is under way."""
        if self._open.get(entry.key) is entry:
            del self._open[entry.key]
        line = self._lines.get(entry.parameters)
        if line is not None and entry in line:
            del line[entry]
            if not line:
                del self._lines[entry.parameters]
            self._rest_if_empty()
        self._changed.notify_all()

    def _rest_if_empty(self) -> None:
        """Where nobody waits, nothing is due."""
        if not self._lines:
            self._is_due = False
            if self._call_off is not None:
                self._call_off()
                self._call_off = None

    def _pump(self) -> None:
        while batch := self._take():
            self._start(batch)

    def _take(self) -> list[_Entry]:
        """The next batch, if it is time for one."""
        with self._changed:
            if self._is_busy or not self._is_due:
                return []
            parameters = next(iter(self._lines))
            line = self._lines.pop(parameters)
            batch = list(islice(line, self._max_batch))
            for entry in batch:
                del line[entry]
            if line:
                self._lines[parameters] = line  # behind all other sets
            self._rest_if_empty()
            self._is_busy = self._batch_model is not None
            done = self.statistics
            self.statistics = BatchStatistics(
                batches=done.batches + 1,
                requests=done.requests + len(batch),
                largest=max(done.largest, len(batch)),
            )
            return batch

    def _start(self, batch: list[_Entry]) -> None:
        if self._batch_model is not None:
            try:
                self._host.run(partial(self._complete, self._batch_model, batch))
            except RuntimeError as error:  # no thread to be had: the process is full, or ending
                self._finish(batch, [error] * len(batch))
            return
        for entry in batch:
            entry.call = in_background(_answer_of(self._model, entry.request))
            entry.call.add_done_callback(partial(self._completed, entry))
            self._spare(entry)

    def _complete(self, model: BatchModel, batch: list[_Entry]) -> None:
        answers: Sequence[Completion | BaseException]
        try:
            answers = model.complete_many([entry.request for entry in batch])
        except BaseException as error:  # noqa: BLE001 - raised again where the answers are taken
            answers = [error] * len(batch)
        if len(answers) != len(batch):
            miscounted = ModelCallError(
                f"{model!r} gave {len(answers)} answers to {len(batch)} requests, so nobody knows "
                "which is whose. Its complete_many() must give one for each."
            )
            answers = [miscounted] * len(batch)
        self._finish(batch, answers)

    def _finish(self, batch: list[_Entry], answers: Sequence[Completion | BaseException]) -> None:
        for entry, answer in zip(batch, answers, strict=True):
            self._answer(entry, answer)
        with self._changed:
            self._is_busy = False
            self._changed.notify_all()
        self._pump()

    def _completed(self, entry: _Entry, call: Future[Completion]) -> None:
        if not call.cancelled():
            self._answer(entry, call.exception() or call.result())

    def _answer(self, entry: _Entry, answer: Completion | BaseException) -> None:
        with self._changed:
            callers, entry.callers = entry.callers, []
            self._forget(entry)
        for caller in callers:
            if not caller.set_running_or_notify_cancel():
                continue  # it left at the last moment
            if isinstance(answer, BaseException):
                caller.set_exception(answer)
            else:
                caller.set_result(answer)


async def _answer_of(model: Model, request: Request) -> Completion:
    return await model.acomplete(request)


def _identity(request: Request) -> Hashable:
    """Equal for requests that differ in nothing but their place."""
    return _frozen({k: v for k, v in vars(request).items() if k != "place"})


def _frozen(value: Any) -> Hashable:
    """A value as something to compare and to look up by; 1, 1.0 and True are not the same."""
    if isinstance(value, Mapping):
        items = cast("Mapping[str, Any]", value).items()
        return frozenset((key, _frozen(part)) for key, part in items)
    if isinstance(value, list | tuple):
        return tuple(_frozen(part) for part in cast("Sequence[Any]", value))
    try:
        hash(value)
    except TypeError:
        return "unlike all others", id(value)  # the request keeps it alive
    return type(value).__name__, value
