"""A model around models whose thought is written once, and followed in four ways.

Model tower, floor 1. The thought is a generator. It yields steps: ask a model, wait for a place,
pause. Each step can be taken blocking and awaiting, and an ask piece by piece too; so a wrapper
answers `complete`, `acomplete`, `stream` and `astream` without naming any of them, and its tests
take the steps by hand, on a clock of their own.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Generator, Iterator
from contextlib import aclosing, closing
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, cast

from llm_net.errors import ModelCallError
from llm_net.llm.model import Chunk, Completion, Model, Request
from llm_net.llm.streams import astreamed, streamed
from llm_net.llm.turnstile import Turnstile

__all__ = ["Ask", "Flow", "Flowing", "Pause", "Step"]


class Step(Protocol):
    """What a thought waits for; the result is sent back into it, an exception thrown."""

    def run(self) -> Any:
        """Take the step; may block."""
        ...

    def arun(self) -> Awaitable[Any]:
        """Take the step without blocking the event loop."""
        ...


Flow: TypeAlias = Generator[Step, Any, Completion]


@dataclass(slots=True)
class Ask:
    """Ask a model.

    Attributes:
        turnstile: What the call passes through; a stream does not wait there.
        sent: Whether the model has been asked.
        begun: Whether a piece of the answer has been handed out, so that nobody may ask again.
        characters: How much of it was handed out.
    """

    model: Model
    request: Request
    turnstile: Turnstile | None = None
    sent: bool = False
    begun: bool = False
    characters: int = 0

    def run(self) -> Completion:
        """Ask, and wait for the answer."""
        return self._now() if self.turnstile is None else self.turnstile.hold(self._now)

    def arun(self) -> Awaitable[Completion]:
        """Ask; the answer is to be awaited."""
        return self._anow() if self.turnstile is None else self.turnstile.ahold(self._anow)

    def pieces(self) -> Generator[Chunk, None, Chunk]:
        """Ask, and follow the answer; gives the last piece, which has the completion."""
        self.sent = True
        chunks = cast("Generator[Chunk, None, None]", streamed(self.model, self.request))
        with closing(chunks):
            for chunk in chunks:
                if chunk.completion is not None:
                    return chunk
                self._hand_out(chunk)
                yield chunk
        raise self._broken_off()

    async def apieces(self) -> AsyncGenerator[Chunk, None]:
        """Ask, and follow the answer, the last piece included."""
        self.sent = True
        chunks = astreamed(self.model, self.request)
        async with aclosing(chunks):
            async for chunk in chunks:
                if chunk.completion is not None:
                    yield chunk
                    return
                self._hand_out(chunk)
                yield chunk
        raise self._broken_off()

    def _now(self) -> Completion:
        self.sent = True
        return self.model.complete(self.request)

    def _anow(self) -> Awaitable[Completion]:
        self.sent = True
        return self.model.acomplete(self.request)

    def _hand_out(self, chunk: Chunk) -> None:
        self.begun = True
        self.characters += len(chunk.text)

    def _broken_off(self) -> ModelCallError:
        error = ModelCallError(
            f"The answer broke off after {self.characters} characters: its stream ended without "
            "the completion that a last piece has. Ask again."
        )
        error.passing = True
        return error


@dataclass(frozen=True, slots=True)
class Pause:
    """Let some time pass."""

    seconds: float

    def run(self) -> None:
        """Sleep."""
        time.sleep(self.seconds)

    async def arun(self) -> None:
        """Sleep in the event loop."""
        await asyncio.sleep(self.seconds)


class Flowing(ABC):
    """A model whose answers come out of a flow of steps."""

    @abstractmethod
    def flow(self, request: Request) -> Flow:
        """The thought: steps, and then the answer. The last step is an `Ask`.

        What a step raises is raised in it; an interrupt and a reader who leaves too, which it lets
        pass.
        """

    def complete(self, request: Request) -> Completion:
        """Answer; raises what the steps do."""
        flow = self.flow(request)
        try:
            step = next(flow)
            while True:
                try:
                    result = step.run()
                except BaseException as error:  # noqa: BLE001 - the flow raises it again
                    step = flow.throw(error)
                else:
                    step = flow.send(result)
        except StopIteration as done:
            return cast("Completion", done.value)

    async def acomplete(self, request: Request) -> Completion:
        """Answer without blocking the event loop; raises what the steps do."""
        flow = self.flow(request)
        try:
            step = next(flow)
            while True:
                try:
                    result = await step.arun()
                except BaseException as error:  # noqa: BLE001 - the flow raises it again
                    step = flow.throw(error)
                else:
                    step = flow.send(result)
        except StopIteration as done:
            return cast("Completion", done.value)

    def stream(self, request: Request) -> Iterator[Chunk]:
        """Answer piece by piece; raises what the steps do."""
        flow = self.flow(request)
        last, completion = Chunk(), None
        try:
            step = next(flow)
            while True:
                try:
                    if isinstance(step, Ask):
                        last = yield from step.pieces()
                        result: Any = last.completion
                    else:
                        result = step.run()
                except BaseException as error:  # noqa: BLE001 - the flow raises it again
                    step = flow.throw(error)
                else:
                    step = flow.send(result)
        except StopIteration as done:
            completion = done.value
        # Not before the flow is over: whoever has the last piece need not come back for more.
        yield Chunk(last.text, completion)

    async def astream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """Answer piece by piece without blocking the event loop; raises what the steps do."""
        flow = self.flow(request)
        last, completion = Chunk(), None
        try:
            step = next(flow)
            while True:
                try:
                    if isinstance(step, Ask):
                        async with aclosing(step.apieces()) as pieces:
                            async for last in pieces:
                                if last.completion is None:
                                    yield last
                        result: Any = last.completion
                    else:
                        result = await step.arun()
                except BaseException as error:  # noqa: BLE001 - the flow raises it again
                    step = flow.throw(error)
                else:
                    step = flow.send(result)
        except StopIteration as done:
            completion = done.value
        yield Chunk(last.text, completion)
