"""Answers that come in pieces: who can give them, and how they are followed from any code.

Model tower, floor 1. Of a model that cannot stream the answer is one piece, so whoever wants pieces
need not ask who can. What streams from elsewhere is an async generator on the background loop; it
is pulled from there piece by piece, so a reader who is slow slows it down, and one who leaves ends
it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from typing import Protocol, cast, runtime_checkable

from llm_net.errors import ModelCallError
from llm_net.llm.model import Chunk, Completion, Model, Request
from llm_net.llm.waiting import await_future, in_background, wait

__all__ = ["Streaming", "afollow", "astreamed", "follow", "streamed", "words"]

_WORD = re.compile(r"\s*\S+|\s+")

Pieces = AsyncGenerator[Chunk, None]


@runtime_checkable
class Streaming(Model, Protocol):
    """A model that can give its answer in pieces.

    The texts of all pieces are the text of the completion, which the last piece has, and no other.
    To leave the iteration early ends the call.
    """

    def stream(self, request: Request) -> Iterator[Chunk]:
        """Answer piece by piece; may block between them.

        Raises:
            ModelError: If there is no answer to give, or it broke off.
        """
        ...

    def astream(self, request: Request) -> AsyncIterator[Chunk]:
        """Answer piece by piece without blocking the event loop.

        Raises:
            ModelError: If there is no answer to give, or it broke off.
        """
        ...


def streamed(model: Model, request: Request) -> Iterator[Chunk]:
    """A model's answer in pieces; in one, if the model cannot stream."""
    if isinstance(model, Streaming):
        yield from model.stream(request)
    else:
        completion = model.complete(request)
        yield Chunk(completion.text, completion)


async def astreamed(model: Model, request: Request) -> AsyncGenerator[Chunk, None]:
    """A model's answer in pieces; in one, if the model cannot stream."""
    if isinstance(model, Streaming):
        # To leave early ends the call now, and not when it is collected.
        async with aclosing(cast("Pieces", model.astream(request))) as chunks:
            async for chunk in chunks:
                yield chunk
    else:
        completion = await model.acomplete(request)
        yield Chunk(completion.text, completion)


def words(completion: Completion) -> Iterator[Chunk]:
    """An answer that is there already, word by word."""
    for word in _WORD.findall(completion.text):
        yield Chunk(word)
    yield Chunk(completion=completion)


def follow(pieces: Pieces, *, timeout: float | None, who: str) -> Iterator[Chunk]:
    """Pull pieces from the background loop, all of them within `timeout` seconds.

    Raises:
        ModelCallError: If the time is over.
    """
    source = _limited(pieces, timeout, who)
    try:
        while (chunk := wait(in_background(_next(source)), timeout=None, who=who)) is not None:
            yield chunk
    finally:
        in_background(source.aclose())


async def afollow(pieces: Pieces, *, timeout: float | None, who: str) -> AsyncIterator[Chunk]:
    """Pull pieces from the background loop into another; see `follow`."""
    source = _limited(pieces, timeout, who)
    try:
        while True:
            chunk = await await_future(in_background(_next(source)), timeout=None, who=who)
            if chunk is None:
                return
            yield chunk
    finally:
        in_background(source.aclose())


async def _next(source: Pieces) -> Chunk | None:
    return await anext(source, None)


async def _limited(pieces: Pieces, timeout: float | None, who: str) -> Pieces:
    loop = asyncio.get_running_loop()
    limit = asyncio.timeout_at(None if timeout is None else loop.time() + timeout)
    try:
        while True:
            limit = asyncio.timeout_at(limit.when())
            # Around each pull, not around all: each is made by a task of its own.
            async with limit:
                chunk = await anext(pieces, None)
            if chunk is None:
                return
            yield chunk
    except TimeoutError:
        if not limit.expired():  # it is the source's own
            raise
    finally:
        await pieces.aclose()
    error = ModelCallError(
        f"{who} had not finished its answer after {timeout:g} s, the timeout of this call; "
        "what it had said until then was handed out. "
        "Raise timeout=, or ask for less (a shorter prompt, a smaller max_tokens=)."
    )
    error.passing = True
    raise error
