"""Questions between Mesa agents: who waits for whom, and what comes of it.

Bridge, floor 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llm_net.errors import AskCycle, AskTimeout, DeliveryError
from llm_net.message import Message
from mesa_bridge.letters import Letter
from mesa_bridge.place import named

__all__ = ["Asked", "Questions"]


class Asked:
    """A question, and who waits for the answer."""

    def __init__(self, letter: Letter, deadline: int | None) -> None:
        self.letter = letter
        self.deadline = deadline
        self.over = False
        self._answer: Message | None = None
        self._error: DeliveryError | None = None

    def settle(self, outcome: Message | DeliveryError | None) -> None:
        """There is an answer, or there will be none; the first one counts."""
        if not self.over:
            self.over = True
            if isinstance(outcome, DeliveryError):
                self._error = outcome
            else:
                self._answer = outcome

    def result(self) -> Message | None:
        """The answer; None if the handler gave none.

        Raises:
            DeliveryError: If there was no answer, and why.
        """
        self.settle(self.expired("the activation ended"))
        error, self._error = self._error, None
        try:
            if error is not None:
                raise error
        finally:
            # An error that is held by a frame of its traceback holds the agents in all the others,
            # and where Mesa holds agents weakly, one that is removed must be gone at once.
            del error
        return self._answer

    def expired(self, why: str) -> AskTimeout:
        """The error for it, if it has waited for too long."""
        message = self.letter.message
        return AskTimeout(
            f"{message.receiver} has not answered {message.method!r} of {message.sender}: {why}. "
            "An answer that is given at once takes two rounds; who is in the middle of something "
            "answers later. Allow more rounds (timeout_rounds=, max_rounds=), or post the question."
        )


class Questions:
    """The questions of one activation for whose answers somebody waits."""

    def __init__(self) -> None:
        self._all: dict[str, Asked] = {}
        # Who waits for whom, so that a circle is looked for along it, and not among all.
        self._of: dict[int, dict[str, Asked]] = {}

    def __iter__(self) -> Iterator[Asked]:
        return iter(self._all.values())

    def __bool__(self) -> bool:
        return bool(self._all)

    def get(self, message_id: str | None) -> Asked | None:
        """The question with this id, if somebody waits for its answer."""
        return None if message_id is None else self._all.get(message_id)

    def add(self, asked: Asked) -> None:
        """Somebody waits."""
        letter = asked.letter
        self._all[letter.message.id] = asked
        self._of.setdefault(letter.sender, {})[letter.message.id] = asked

    def forget(self, asked: Asked) -> None:
        """Nobody waits for this answer any more."""
        letter = asked.letter
        if self._all.pop(letter.message.id, None) is not None:
            del self._of[letter.sender][letter.message.id]

    def clear(self) -> None:
        """Nobody waits any more."""
        self._all.clear()
        self._of.clear()

    def refuse_circle(self, sender: Any, receiver: Any) -> None:
        """Refuse a question to somebody who waits, over any others, for the one who asks.

        Raises:
            AskCycle: If it is one.
        """
        start: tuple[str, ...] = (named(sender), named(receiver))
        paths: list[tuple[int, tuple[str, ...]]] = [(receiver.unique_id, start)]
        seen: set[int] = set()
        while paths:
            last, circle = paths.pop()
            if last == sender.unique_id:
                raise AskCycle(
                    f"{circle[0]} asks {circle[1]}, which waits for it: {' -> '.join(circle)}. "
                    "None of them could ever answer. Post the message instead of asking.",
                    circle=circle,
                )
            if last not in seen:
                seen.add(last)
                paths += [
                    (each.letter.receiver, (*circle, str(each.letter.message.receiver)))
                    for each in self._of.get(last, {}).values()
                    if not each.over
                ]
