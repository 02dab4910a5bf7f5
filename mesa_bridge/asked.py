"""A question between Mesa agents: who waits for whom, and what comes of it.

Bridge, floor 3.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from llm_net.errors import AskCycle, AskTimeout, DeliveryError
from llm_net.message import Message
from mesa_bridge.letters import Letter
from mesa_bridge.place import named

__all__ = ["Asked", "refuse_circle"]


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


def refuse_circle(asked: Iterable[Asked], sender: Any, receiver: Any) -> None:
    """Refuse a question to somebody who waits, over any others, for the one who asks.

    Raises:
        AskCycle: If it is one.
    """
    waits: dict[int, list[Letter]] = {}
    for each in asked:
        if not each.over:
            waits.setdefault(each.letter.sender, []).append(each.letter)
    start: tuple[str, ...] = (named(sender), named(receiver))
    paths: list[tuple[int, tuple[str, ...]]] = [(receiver.unique_id, start)]
    while paths:
        last, circle = paths.pop()
        if last == sender.unique_id:
            raise AskCycle(
                f"{circle[0]} asks {circle[1]}, which waits for it: {' -> '.join(circle)}. "
                "None of them could ever answer. Post the message instead of asking.",
                circle=circle,
            )
        paths += [
            (letter.receiver, (*circle, str(letter.message.receiver)))
            for letter in waits.pop(last, ())
        ]
