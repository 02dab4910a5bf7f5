"""A letter in the hands of its receiver: a turn of its own, within the activation.

Bridge, floor 3. The handler may plan and ask, as any code of a turn; what it returns or
yields is posted to whoever sent the letter.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Generator
from contextvars import Context
from typing import Any, Protocol

from pydantic import BaseModel

from llm_net.errors import AgentStopped, DeliveryError, HandlerError
from llm_net.handlers import Handler, Place
from llm_net.message import Message, snake_case
from mesa_bridge.gate import Hold, LoopTurn, Stage, ThreadTurn, Turn
from mesa_bridge.letters import Letter, Letters
from mesa_bridge.place import named

__all__ = ["Handling"]


class Desk(Protocol):
    """Where the letter came from."""

    letters: Letters

    def finished(self, letter: Letter, outcome: DeliveryError | None) -> None:
        """The letter has been handled."""
        ...


class Handling:
    """The stage of a turn in which a letter is handled; but for that, it is the activation."""

    def __init__(self, stage: Stage, letter: Letter, handler: Handler, desk: Desk) -> None:
        self.retries = stage.retries
        self._stage = stage
        self._letter = letter
        self._handler = handler
        self._desk = desk

    def turn(self, receiver: Any) -> Turn:
        """The turn, to begin when its time comes."""
        if self._handler.place is Place.LOOP:
            return LoopTurn(self, receiver)
        return ThreadTurn(self, receiver, in_place=True)

    def call(self, agent: Any) -> Any:
        """Let the handler have the message."""
        if self._handler.place is Place.LOOP:
            return self._acall(agent)
        with self._settled(agent):
            result = self._handler.call(agent, self._letter.message)
            if inspect.isgenerator(result):
                with contextlib.closing(result):
                    for each in result:
                        self._give(agent, each)
            else:
                self._give(agent, result)
        return None

    async def _acall(self, agent: Any) -> None:
        with self._settled(agent):
            result = self._handler.call(agent, self._letter.message)
            if self._handler.streams:
                async with contextlib.aclosing(result):
                    async for each in result:
                        self._give(agent, each)
            else:
                self._give(agent, await result)

    def context(self) -> Context:
        """A context for a turn of its own."""
        return self._stage.context()

    def displaced(self, turn: Turn) -> None:
        """The turn holds the thread of whoever drives."""
        self._stage.displaced(turn)

    def begins(self, hold: Hold) -> None:
        """A plan is made now."""
        self._stage.begins(hold)

    def ends(self, hold: Hold) -> None:
        """The plan has been made."""
        self._stage.ends(hold)

    def failed(self, turn: Turn, error: BaseException) -> None:
        """The handler raised this."""
        self._stage.failed(turn, error)

    @contextlib.contextmanager
    def _settled(self, agent: Any) -> Generator[None]:
        message = self._letter.message
        try:
            yield
        except Exception as error:
            self._desk.finished(self._letter, self._raised(agent, error))
            raise
        except BaseException:
            gone = AgentStopped(
                f"{named(agent)} has not finished {message.method!r} of {message.sender}: it was "
                "removed meanwhile, or its turn was ended. Look who is there (model.agents)."
            )
            self._desk.finished(self._letter, gone)
            raise
        self._desk.finished(self._letter, None)

    def _raised(self, agent: Any, error: Exception) -> HandlerError:
        message = self._letter.message
        why = str(error).rstrip(".")
        raised = HandlerError(
            f"{named(agent)} raised {type(error).__name__} on {message.method!r} of "
            f"{message.sender}: {why}. See __cause__, and the activation's report.",
            path=named(agent),
            message=message,
        )
        raised.__cause__ = error
        return raised

    def _give(self, agent: Any, result: object) -> None:
        """Post what the handler gave, as a `GenAgent` may, to whoever sent the message."""
        message = self._letter.message
        if result is None:
            return
        if isinstance(result, str):
            answer = message.reply(result)
        elif isinstance(result, Message):
            answer = result
        elif isinstance(result, BaseModel):
            method = snake_case(type(result).__name__)
            answer = message.reply(result.model_dump_json(), method=method)
        else:
            raise TypeError(
                f"{self._handler.name} of {named(agent)} returned {type(result).__name__}. That is "
                "nothing that can be sent. Return None, a text, a pydantic model or a Message."
            )
        answer = answer.model_copy(update={"reply_to": message})
        assert message.sender is not None, "a letter has one"
        self._desk.letters.post(answer, agent, self._letter.sender, message.sender)
