"""The letters of a model: those that wait, those that died, and how many there were.

Bridge, floor 2. All of it is plain data in one attribute of the model: a letter that waits is part
of the simulation, so it is pickled, copied and saved with that. Agents are in it by their ids.

Invariant: sent = handled + queued + dead. All dead are counted, the latest are kept.
"""

from __future__ import annotations

import weakref
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, TypedDict

from llm_net.address import Address
from llm_net.mailbox import DeadLetter
from llm_net.message import Message
from mesa_bridge import versions
from mesa_bridge.place import named
from mesa_bridge.recording import record

__all__ = ["Departed", "Letter", "Letters", "MailStatistics", "Spoken", "address_of", "id_of"]

_ATTRIBUTE = "_mesa_bridge_mail"
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_LAST_S = 200_000_000_000.0  # the calendar ends with the year 9999, a model's time need not
_KEPT = 1000  # dead letters, as in a runtime of llm_net

# Agents by their ids. Not on the model: what holds agents weakly does not pickle.
_agents: weakref.WeakKeyDictionary[Any, weakref.WeakValueDictionary[int, Any]] = (
    weakref.WeakKeyDictionary()
)


class Spoken(Message):
    """What one agent said to another, in words."""


def address_of(agent: Any) -> Address:
    """The address of a Mesa agent: a name to be read, which ends with its id."""
    return Address(named(agent))


def id_of(address: Address | None) -> int | None:
    """The `unique_id` of the Mesa agent with this address; None if it is none of a Mesa agent."""
    _, space, last = str(address or "").rpartition(" ")
    return int(last) if space and last.isdecimal() else None


class Letter(NamedTuple):
    """A message, and between whom it goes, by their `unique_id`."""

    message: Message
    sender: int
    receiver: int


class Departed(NamedTuple):
    """What is left of a sender that is gone."""

    unique_id: int


class _Mail(TypedDict):
    sent: int
    handled: int
    dead: int
    queued: dict[str, Letter]
    latest_dead: deque[DeadLetter]


@dataclass(frozen=True)
class MailStatistics:
    """How many messages there were between the agents of a model; sent is the sum of the others.

    Attributes:
        sent: Messages that were posted, to each receiver.
        handled: Those that were handled, remembered, or answers that somebody waited for.
        queued: Those that wait.
        dead: Those that nobody took.
    """

    sent: int
    handled: int
    queued: int
    dead: int


def _told(letter: Letter) -> dict[str, Any]:
    message = letter.message
    return {
        "message": message.to_chat()["content"],
        "recipients": [letter.receiver],
        "method": message.method,
        "id": message.id,
        "reply_to": message.reply_to_id,
    }


class Letters:
    """The letters of one model.

    Args:
        model: The Mesa model.
    """

    def __init__(self, model: Any) -> None:
        self.model = model

    @property
    def queued(self) -> list[Letter]:
        """What waits, in the order in which it was posted."""
        mail = self._mail
        return [] if mail is None else list(mail["queued"].values())

    @property
    def dead(self) -> list[DeadLetter]:
        """The latest that nobody took, in the order in which they died."""
        mail = self._mail
        return [] if mail is None else list(mail["latest_dead"])

    def statistics(self) -> MailStatistics:
        """How many there were."""
        mail = self._mail
        if mail is None:
            return MailStatistics(0, 0, 0, 0)
        return MailStatistics(mail["sent"], mail["handled"], len(mail["queued"]), mail["dead"])

    def post(self, message: Message, sender: Any, receiver: int, address: Address) -> Letter:
        """Let a message wait for its receiver, under an id and a time that the model decides."""
        mail = self._mail
        if mail is None:
            mail = _Mail(sent=0, handled=0, dead=0, queued={}, latest_dead=deque(maxlen=_KEPT))
            self.model.__dict__[_ATTRIBUTE] = mail
        mail["sent"] += 1
        changes = {
            "id": f"{versions.steps(self.model)}.{sender.unique_id}.{mail['sent']}",
            "created_at": _EPOCH + timedelta(seconds=min(versions.now(self.model), _LAST_S)),
            "sender": address_of(sender),
            "receiver": address,
        }
        letter = Letter(message.model_copy(update=changes), sender.unique_id, receiver)
        mail["queued"][letter.message.id] = letter
        if not isinstance(message, Spoken):  # that has been recorded, for all who heard it
            record(sender, "message", _told(letter))
        return letter

    def handle(self, letter: Letter) -> None:
        """The letter waits no longer: its receiver has it."""
        mail = self._mail
        assert mail is not None, "there is a letter"
        del mail["queued"][letter.message.id]
        mail["handled"] += 1

    def bury(self, letter: Letter, reason: str) -> None:
        """The letter waits no longer: nobody takes it."""
        mail = self._mail
        assert mail is not None, "there is a letter"
        del mail["queued"][letter.message.id]
        mail["dead"] += 1
        mail["latest_dead"].append(DeadLetter(letter.message, reason, str(letter.message.receiver)))

    def agent(self, unique_id: int) -> Any:
        """The agent of the model with this id; None if it is gone."""
        known = _agents.setdefault(self.model, weakref.WeakValueDictionary())
        agent = known.get(unique_id)
        if agent is None:
            known.update((each.unique_id, each) for each in self.model.agents)
            agent = known.get(unique_id)
        return agent if agent is not None and versions.is_registered(agent) else None

    def sender(self, letter: Letter) -> Any:
        """Who sent it, or what is left."""
        agent = self.agent(letter.sender)
        return Departed(letter.sender) if agent is None else agent

    @property
    def _mail(self) -> _Mail | None:
        return None if self.model is None else self.model.__dict__.get(_ATTRIBUTE)
