"""Requests that are asked one by one, and answered together.

Model tower, floor 2. Agents go on calling `generate`; what they ask within some milliseconds goes
to the model as one batch. It pays for models in this process, whose time for sixteen prompts is
that for two or three. A provider elsewhere makes its own batches: of these, the requests of a batch
are asked at the same time, and all that can be gained is that identical ones share an answer.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Hashable, Iterator
from concurrent.futures import Future
from typing import Self

from llm_net.errors import UsageError
from llm_net.llm.batch_queue import Background, BatchStatistics, Host, Queue
from llm_net.llm.model import Chunk, Completion, Model, Request
from llm_net.llm.streams import Streaming
from llm_net.llm.waiting import await_future, wait

__all__ = ["BatchProcessor", "Batched"]

_processors: weakref.WeakValueDictionary[Hashable, BatchProcessor] = weakref.WeakValueDictionary()
_processors_lock = threading.Lock()


class BatchProcessor:
    """A queue before a model, emptied in batches.

    A batch goes out when `max_batch` requests wait, or `flush_interval` seconds after the first of
    them came: so long a request waits that nobody joins. There is one batch for each set of
    sampling parameters; sets take turns, so one with few requests does not wait for all those of
    another. While a `BatchModel` works, what comes gathers for its next batch.

    Any number of threads and event loops may ask at once. A caller that is cancelled, or whose time
    is over, leaves the queue and harms nobody. In a forked process the queue begins anew.

    Args:
        model: Who answers. It is asked out of the caller's context: what looks at who asks (a
            budget, a record) stands above the queue, not below.
        max_batch: The most requests in one batch.
        flush_interval: Seconds that a request waits for others.
        share_identical: Whether requests that are equal but for their place, and under way at the
            same time, share one answer. Else agents that ask the same draw lots of their own.
        host: Where batches run; None for threads and true seconds.

    Raises:
        UsageError: If a batch has no room, or the interval is negative or without end.
    """

    def __init__(
        self,
        model: Model,
        *,
        max_batch: int = 32,
        flush_interval: float = 0.01,
        share_identical: bool = False,
        host: Host | None = None,
    ) -> None:
        if max_batch < 1 or not 0 <= flush_interval < float("inf"):
            raise UsageError(
                f"BatchProcessor(max_batch={max_batch}, flush_interval={flush_interval}): a batch "
                "has room for one request at least, and is waited for, but not for ever. "
                "Give max_batch >= 1, and a flush_interval of 0 seconds or more."
            )
        self.model = model
        self._max_batch = max_batch
        self._flush_interval = flush_interval
        self._share_identical = share_identical
        self._host = host or Background()
        self._queues: dict[int, Queue] = {}

    @classmethod
    def shared(cls, key: Hashable, make: Callable[[], BatchProcessor]) -> BatchProcessor:
        """The process's one processor for a configuration, made if nobody holds it yet.

        It is remembered for as long as somebody holds it, and until it is closed.
        """
        with _processors_lock:
            processor = _processors.get(key)
            if processor is None or processor.is_closed:
                processor = _processors[key] = make()
            return processor

    @property
    def is_closed(self) -> bool:
        """Whether it takes no more requests."""
        return self._queue.is_closed

    def submit(self, request: Request) -> Future[Completion]:
        """Put a request into the queue; cancelling its future takes it out again.

        Raises:
            UsageError: If the processor is closed.
        """
        return self._queue.submit(request)

    def flush(self) -> None:
        """Send what waits, without waiting for more."""
        self._queue.flush()

    def close(self) -> None:
        """Send what waits, refuse what comes, and return when all is answered."""
        self._queue.close()

    def statistics(self) -> BatchStatistics:
        """What was done so far in this process."""
        return self._queue.statistics

    @property
    def _queue(self) -> Queue:
        # A forked child has a copy of the queue: of a lock that may be held, of requests that the
        # parent answers, of a batch whose thread it has not got.
        process = os.getpid()
        queue = self._queues.get(process)
        return queue or self._queues.setdefault(process, self._new_queue())

    def _new_queue(self) -> Queue:
        return Queue(
            self.model,
            self._host,
            max_batch=self._max_batch,
            flush_interval=self._flush_interval,
            share_identical=self._share_identical,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class Batched:
    """A model behind a queue; whoever shares the processor shares its batches.

    Args:
        processor: The queue, and the model behind it.
    """

    def __init__(self, processor: BatchProcessor) -> None:
        self.processor = processor
        self.name: str = getattr(processor.model, "name", type(processor.model).__name__)

    def complete(self, request: Request) -> Completion:
        """Wait for the batch and for the answer; raises what the model does."""
        answer = self.processor.submit(request)
        return wait(answer, timeout=request.timeout, who=self.name)

    async def acomplete(self, request: Request) -> Completion:
        """Wait without blocking the event loop; raises what the model does."""
        answer = self.processor.submit(request)
        return await await_future(answer, timeout=request.timeout, who=self.name)

    def stream(self, request: Request) -> Iterator[Chunk]:
        """Stream past the queue, if the model can; else wait for the batch's one piece."""
        if isinstance(self.processor.model, Streaming):
            yield from self.processor.model.stream(request)
        else:
            completion = self.complete(request)
            yield Chunk(completion.text, completion)

    async def astream(self, request: Request) -> AsyncIterator[Chunk]:
        """Stream without blocking the event loop; see `stream`."""
        if isinstance(self.processor.model, Streaming):
            async for chunk in self.processor.model.astream(request):
                yield chunk
        else:
            completion = await self.acomplete(request)
            yield Chunk(completion.text, completion)


def _renew_lock() -> None:
    global _processors_lock  # noqa: PLW0603 - a forked child may find it held for ever
    _processors_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)
