"""The trace: a hash chain over everything that happens in a deterministic run.

Floor 1. Two runs with the same last link have made the same steps. What cannot be the same in two
processes does not enter it: ids and times of messages made outside, hashes, the order of sets, the
addresses of objects, the texts of exceptions.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from llm_net.instrument import Instrument
from llm_net.message import Message

if TYPE_CHECKING:
    from llm_net.errors import HandlerError
    from llm_net.mailbox import DeadLetter, Envelope

__all__ = ["Trace"]


class Trace(Instrument):
    """Adds a link for each event."""

    def __init__(self, time: Callable[[], float]) -> None:
        self._time = time
        self._last = b""

    @property
    def digest(self) -> str:
        """The last link, as hex digits."""
        return self._last.hex()

    def go_on(self, digest: str) -> None:
        """Go on from this link."""
        self._last = bytes.fromhex(digest)

    def _link(self, *parts: str) -> None:
        text = "\x1f".join((*parts, repr(self._time())))
        self._last = blake2b(text.encode(), digest_size=16, key=self._last).digest()

    def start(self, path: str) -> None:
        """An agent went live."""
        self._link("start", path)

    def deliver(self, envelope: Envelope, receiver: str) -> None:
        """A turn begins."""
        self._link("deliver", receiver, content(envelope.message))

    def finish(self, envelope: Envelope, receiver: str) -> None:
        """A turn is over."""
        self._link("finish", receiver, envelope.message.method)

    def fail(self, error: HandlerError) -> None:
        """A turn raised."""
        self._link("fail", error.path, type(error.__cause__).__name__)

    def restart(self, path: str) -> None:
        """A supervisor put an agent back."""
        self._link("restart", path)

    def drop(self, letter: DeadLetter) -> None:
        """A message became a dead letter."""
        self._link("drop", letter.receiver, letter.reason, content(letter.message))

    def stop(self, path: str) -> None:
        """An agent is no longer live."""
        self._link("stop", path)


_OWN = ("body", "method", "sender", "receiver", "reply_to_id", "id", "created_at", "role")


def content(message: Message) -> str:
    """All of a message that is the same in every run."""
    fields = message.__dict__
    parts = [
        type(message).__name__,
        fields["method"],
        fields["role"].value,
        "" if fields["sender"] is None else fields["sender"].path,
        "" if fields["receiver"] is None else fields["receiver"].path,
        fields["body"],
    ]
    if type(message) is not Message:
        parts.extend(
            f"{name}={canonical(value)}" for name, value in fields.items() if name not in _OWN
        )
    return "\x1e".join(parts)


def canonical(value: Any) -> str:  # noqa: PLR0911 - a line for each kind of value
    """A text that is equal for equal values, in every process."""
    if value is None or isinstance(value, (str, bool, int, float, bytes)):
        return repr(value.value) if isinstance(value, enum.Enum) else repr(value)
    if isinstance(value, enum.Enum):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, Message):
        return content(value)
    if isinstance(value, BaseModel):
        return canonical(value.__dict__)
    if isinstance(value, Mapping):
        pairs = zip(_texts(value.keys()), _texts(value.values()), strict=True)
        return "{" + ",".join(f"{name}:{text}" for name, text in pairs) + "}"
    if isinstance(value, AbstractSet):
        return "{" + ",".join(sorted(_texts(value))) + "}"
    if isinstance(value, Sequence):
        return "[" + ",".join(_texts(value)) + "]"
    return type(value).__name__


def _texts(values: Any) -> list[str]:
    return [canonical(each) for each in values]
