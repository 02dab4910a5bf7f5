"""Delivery in rounds: what is posted in one is handed out at its end, and handled in the next.

Bridge, floor 4. In a round agents run one at a time, so the order of posting is that of the
senders' turns, and within a turn that of its words. At the end of the round answers go to those who
wait for them, and notes into memories, whatever their owners are doing. What has a handler is
handled in the next round, in that order, behind the turns that go on in it; an agent in the middle
of something comes to its letters when that is over. What waits from before an activation is handled
in it before anybody's turn; turns begin when who handles it has finished.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Generator, Iterator, Sequence
from contextvars import ContextVar
from typing import Any

from llm_net.errors import AgentStopped, DeliveryError, NoHandler
from llm_net.mailbox import Reason
from llm_net.message import Message, Method
from mesa_bridge.asked import Asked, Questions
from mesa_bridge.gate import Stage, Turn
from mesa_bridge.handling import Handling
from mesa_bridge.hearing import handler_of, take_note, takes_note
from mesa_bridge.letters import Letter, Letters, address_of
from mesa_bridge.options import MAX_ROUNDS
from mesa_bridge.place import named

__all__ = ["Rounds", "note_now", "opened", "rounds_of"]

_log = logging.getLogger("mesa_bridge")
_rounds: ContextVar[Rounds | None] = ContextVar("mesa_bridge_rounds", default=None)


def rounds_of(model: Any) -> Rounds | None:
    """The rounds of the activation that we are in, if it is one of this model."""
    rounds = _rounds.get()
    return rounds if rounds is not None and rounds.letters.model is model else None


@contextlib.contextmanager
def opened(model: Any, limit: int) -> Generator[Rounds]:
    """The rounds of an activation that begins; what is only to be noted is handed out at once.

    In an activation within a turn there are none: its agents may be in the middle of something, and
    only the activation around it knows when that is over.
    """
    is_nested = rounds_of(model) is not None
    with _entered(Rounds(model, 0 if is_nested else limit)) as rounds:
        if not is_nested:
            rounds.begin()
        yield rounds


def note_now(letters: Letters, letter: Letter) -> None:
    """Outside of activations: let the receiver note it at once, if it is only to be noted.

    What is said on hearing it is noted likewise, in bounds: two that thank each other for thanks
    would never end.
    """
    with _entered(Rounds(letters.model, 0)) as rounds:
        fresh = [letter]
        for _ in range(MAX_ROUNDS):
            sent = letters.statistics().sent
            rounds.hand_out(fresh)
            count = letters.statistics().sent - sent
            if not count:
                break
            fresh = letters.queued[-count:]


@contextlib.contextmanager
def _entered(rounds: Rounds) -> Generator[Rounds]:
    token = _rounds.set(rounds)
    try:
        yield rounds
    finally:
        _rounds.reset(token)
        rounds.close()


class Rounds:
    """The rounds of one activation.

    Args:
        model: The Mesa model; None if there is nobody to activate.
        limit: Rounds in which letters are handled, at most; 0 in an activation within a turn.
    """

    def __init__(self, model: Any, limit: int) -> None:
        self.letters = Letters(model)
        self.limit = limit
        self._ended = 0
        self._asked = Questions()
        self._outcomes: list[tuple[str, DeliveryError | None]] = []
        self._due: list[Letter] = []
        self._turns: dict[int, list[Turn]] = {}
        self._away: set[int] = set()

    def away(self, unique_id: int) -> None:
        """This agent is in the middle of something that no turn here shows."""
        self._away.add(unique_id)
        self._due = [each for each in self._due if each.receiver != unique_id]

    def ask(self, sender: Any, receiver: Any, message: Message, rounds: int | None) -> Asked:
        """Post a question.

        Raises:
            AskCycle: If the receiver waits for the sender.
        """
        self._asked.refuse_circle(sender, receiver)
        address = address_of(receiver)
        letter = self.letters.post(message, sender, receiver.unique_id, address)
        asked = Asked(letter, None if rounds is None else self._ended + rounds)
        self._asked.add(asked)
        if self._is_past:
            asked.settle(asked.expired(f"all {self.limit} rounds are over"))
        return asked

    def close(self) -> None:
        """Let go of what led here: turns, which lead back, and errors, whose frames hold agents."""
        self._turns.clear()
        self._asked.clear()
        self._outcomes.clear()

    def forget(self, asked: Asked) -> None:
        """Nobody waits for this answer any more."""
        self._asked.forget(asked)

    def begin(self) -> None:
        """Hand out what waits from before; what has a handler is due before anybody's turn."""
        self.hand_out(self.letters.queued)
        self._due = self.letters.queued
        self._ended = int(bool(self._due))  # so many rounds of handling have begun

    def end(self, standing: Sequence[Turn]) -> bool:
        """End a round, in which these turns came to stand.

        Returns:
            Whether there is something to be handled in the next one.
        """
        self._due = []
        if not self.limit or not (self._asked or self.letters.queued):
            return False
        self._ended += 1
        self.hand_out(self.letters.queued)
        for asked in self._asked:
            if self._is_past:
                asked.settle(asked.expired(f"all {self.limit} rounds are over"))
            elif asked.deadline is not None and self._ended >= asked.deadline:
                asked.settle(asked.expired("that took too many rounds"))
        self._turns = {}
        for turn in standing:
            self._turns.setdefault(turn.agent.unique_id, []).append(turn)
        if not self._is_past:
            self._due = [each for each in self.letters.queued if each.receiver not in self._away]
        return bool(self._due)

    def hand_out(self, letters: Sequence[Letter]) -> None:
        """Of these give answers to those who wait, and notes to who takes them; bury the dead."""
        for letter in letters:
            asked = self._asked.get(letter.message.reply_to_id)
            receiver = self.letters.agent(letter.receiver)
            if receiver is None:
                self._bury(letter, Reason.STOPPED)
            elif asked is not None and not asked.over and letter.receiver == asked.letter.sender:
                self.letters.handle(letter)
                asked.settle(letter.message)
            elif handler_of(receiver, letter.message) is None:
                self._note(receiver, letter)
        outcomes, self._outcomes = self._outcomes, []
        for question, outcome in outcomes:
            asked = self._asked.get(question)
            if asked is not None:
                asked.settle(outcome)

    def turns(self, stage: Stage) -> Iterator[Turn]:
        """The turns in which letters are handled, each made when those before it stand or are done.

        Args:
            stage: The activation.
        """
        for letter in self._due:
            turns = self._turns.setdefault(letter.receiver, [])
            if not all(turn.done for turn in turns):
                continue  # who stands now, stands to the end of the round: no letter overtakes
            receiver = self.letters.agent(letter.receiver)
            handler = None if receiver is None else handler_of(receiver, letter.message)
            if handler is None:
                continue  # gone, or changed its class; the end of the round finds out
            self.letters.handle(letter)
            turn = Handling(stage, letter, handler, self).turn(receiver)
            turns.append(turn)
            yield turn

    def finished(self, letter: Letter, outcome: DeliveryError | None) -> None:
        """A letter has been handled; told at the end of the round to who waits for an answer."""
        self._outcomes.append((letter.message.id, outcome))

    @property
    def _is_past(self) -> bool:
        return self._ended > self.limit

    def _note(self, receiver: Any, letter: Letter) -> None:
        if takes_note(receiver):
            self.letters.handle(letter)
            self.finished(letter, None)
            try:
                take_note(receiver, letter.message, self.letters.sender(letter))
            except Exception:  # noqa: BLE001 - whose it is, the log says
                _log.warning("%s, taking note", named(receiver), exc_info=True)
        elif letter.message.method == Method.RESPONSE:
            self.letters.handle(letter)  # an answer that nobody waits for, as in llm_net
        else:
            self._bury(letter, Reason.NO_HANDLER)

    def _bury(self, letter: Letter, reason: Reason) -> None:
        self.letters.bury(letter, reason)
        message = letter.message
        outcome: DeliveryError
        if reason is Reason.STOPPED:
            outcome = AgentStopped(
                f"{message.receiver} was removed before it came to {message.method!r} of "
                f"{message.sender}. Look who is there (model.agents) before asking."
            )
        else:
            outcome = NoHandler(
                f"{message.receiver} has no handler for {message.method!r} of {message.sender}, no "
                f"receive_message and no memory. Write {message.method}(self, message) in its "
                "class.",
                path=str(message.receiver),
                message=message,
            )
        self.finished(letter, outcome)
