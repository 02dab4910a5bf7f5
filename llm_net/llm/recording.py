"""A model around a model, or around none: what was recorded is played, what was not is asked.

Model tower, floor 2. A call that is recorded gives just what its replay will give: the recording.
So a program cannot see which of both it runs on.
"""

from __future__ import annotations

from concurrent.futures import Future
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llm_net.context import AUTHOR, now
from llm_net.errors import CassetteMiss, ModelCallError
from llm_net.llm import keys
from llm_net.llm.episodes import Episode, Fault, written
from llm_net.llm.model import Chunk, Completion, Model, Request
from llm_net.llm.redaction import Redactor, StreamRedactor, clean
from llm_net.llm.streams import astreamed, streamed
from llm_net.llm.waiting import await_future, wait

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Iterator

    from llm_net.llm.cassette import Cassette

__all__ = ["Recorded"]


class Recorded:
    """A model whose answers stand in a cassette, or get there.

    Of errors, those that a provider may give are recorded, and raised again: refusals, timeouts,
    a server's failures. A call that the caller itself cancels is not. Replay waits for nothing; the
    latency of a completion is the recorded one.

    Args:
        model: Whom to ask what is not recorded; None if nothing shall be asked, and then no
            network, weights or key are needed.
        cassette: The recordings.
        name: The model's name, which is a part of what is asked; None for the model's own.
        api_base: Where it is asked, likewise a part.
    """

    def __init__(
        self,
        model: Model | None,
        cassette: Cassette,
        *,
        name: str | None = None,
        api_base: str | None = None,
    ) -> None:
        self.name: str = getattr(model, "name", "") if name is None else name
        self._model = model
        self._cassette = cassette
        self._api_base = api_base

    def complete(self, request: Request) -> Completion:
        """Play the answer, or ask for it and record it.

        Raises:
            CassetteMiss: If it is not recorded, and may not be asked for.
            ModelError: What the model raises, or raised.
        """
        call = self._call(request)
        with call as model:
            if model is None:
                wait(_there(), timeout=None, who=self.name)
            else:
                call.hear(model.complete(request))
        return call.completion()

    async def acomplete(self, request: Request) -> Completion:
        """Play the answer, or ask for it and record it; raises what `complete` does."""
        call = self._call(request)
        with call as model:
            if model is None:
                await await_future(_there(), timeout=None, who=self.name)
            else:
                call.hear(await model.acomplete(request))
        return call.completion()

    def stream(self, request: Request) -> Generator[Chunk, None, None]:
        """Play the answer piece by piece, or ask for it and record it; raises as `complete`."""
        call = self._call(request)
        with call as model:
            if model is None:
                for chunk in call.played():
                    wait(_there(), timeout=None, who=self.name)
                    yield chunk
            else:
                for live in streamed(model, request):
                    yield from call.hear_piece(live)
        call.completion()

    async def astream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """Play the answer piece by piece, or ask for it and record it; raises as `complete`."""
        call = self._call(request)
        with call as model:
            if model is None:
                for chunk in call.played():
                    await await_future(_there(), timeout=None, who=self.name)
                    yield chunk
            else:
                pieces = astreamed(model, request)
                async with aclosing(pieces):
                    async for live in pieces:
                        for chunk in call.hear_piece(live):
                            yield chunk
        call.completion()

    def _call(self, request: Request) -> _Call:
        hide = keys.redactor()
        author = AUTHOR.get()
        place = request.place or (author.place if author is not None else "")
        asked = written(request, model=self.name, api_base=self._api_base, hide=hide)
        return _Call(self._model, self._cassette, place, asked, hide)

    def __repr__(self) -> str:
        return f"Recorded({self._model!r}, {self._cassette!r})"


class _Call:
    """One call. Entered, it gives the model to ask, or None if the answer is recorded."""

    def __init__(
        self,
        model: Model | None,
        cassette: Cassette,
        place: str,
        request: dict[str, Any],
        hide: Redactor,
    ) -> None:
        self._cassette = cassette
        self._hide = hide
        self._heard = StreamRedactor(hide)
        found = cassette.play(place, request, may_ask=model is not None)
        if isinstance(found, int):
            self._model, self._number = model, found
            self._episode = Episode(place=place, request=request)
        else:
            self._model, self._number = None, 0
            self._episode = found
        self._chunks: list[str] = []
        self._begun = now()

    def hear(self, completion: Completion) -> None:
        """Take the answer."""
        self._add(completion=clean(completion, self._hide))

    def hear_piece(self, live: Chunk) -> Iterator[Chunk]:
        """Take a piece of the answer, and give what may be shown by now, if anything."""
        text = self._heard.feed(live.text)
        if live.completion is not None:
            text += self._heard.rest()
            self.hear(live.completion)
        if text or live.completion is not None:
            self._chunks.append(text)
            yield Chunk(text, live.completion and self.completion())

    def completion(self) -> Completion:
        """The answer, or the error in its place.

        Raises:
            ModelCallError: If that is what was recorded.
            CassetteMiss: If the recording ends before the answer does.
        """
        episode = self._episode
        if episode.fault is not None:
            raise episode.fault.error()
        if episode.completion is None:
            raise CassetteMiss(
                f"The recording of a call by {episode.place!r} in {self._cassette!r} ends after "
                f"{len(episode.chunks or ())} pieces: whoever had it recorded read no further. "
                "Read no further either, or record it again with mode='all'."
            )
        return replace(episode.completion, latency=episode.latency)

    def played(self) -> Iterator[Chunk]:
        """The recorded answer in the pieces in which it was recorded."""
        answer = self._episode.completion
        texts = self._episode.chunks
        if texts is None:
            texts = () if answer is None else (answer.text,)
        last = len(texts) - 1
        for number, text in enumerate(texts):
            yield Chunk(text, self.completion() if answer and number == last else None)

    def __enter__(self) -> Model | None:
        return self._model

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if self._model is None:
            return False
        if isinstance(error, ModelCallError):
            self._add(fault=Fault.of(error, self._hide))
        elif error is not None and not (self._chunks and isinstance(error, GeneratorExit)):
            return False  # the program's own affair, or it was cancelled: there is no answer
        if self._chunks:
            said = "".join(self._chunks)
            shown = self._hide(said)
            # What only looks like a key is not looked for across pieces: rather one piece than it.
            self._add(chunks=tuple(self._chunks) if said == shown else (shown,))
        self._cassette.record(self._number, self._episode)
        # The error is raised anew, as it will be in a replay.
        return isinstance(error, ModelCallError)

    def _add(self, **fields: Any) -> None:
        latency = max(0.0, (now() - self._begun).total_seconds())
        self._episode = self._episode.model_copy(update={"latency": latency, **fields})


def _there() -> Future[None]:
    """What a replay waits for.

    Where turns are handed on, it hands one on, as the recorded call did. If it did not wait at all,
    agents would go on in another order than then.
    """
    future: Future[None] = Future()
    future.set_result(None)
    return future
