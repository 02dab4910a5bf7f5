"""Observation as a plug-in: hooks that tracing, a journal or an inspector fill in.

Floor 0. Delivery calls each hook once, on the engine's thread, in the order of events. An
instrument must return quickly and must not raise; what it raises is logged and otherwise ignored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llm_net.errors import HandlerError
    from llm_net.mailbox import DeadLetter, Envelope

__all__ = ["Instrument"]


class Instrument:
    """Empty hooks; override those you need, and pass `Runtime(instruments=[…])`.

    Agents are named by their path.
    """

    def start(self, path: str) -> None:
        """An agent went live."""

    def send(self, envelope: Envelope, receiver: str) -> None:
        """A message was accepted for a receiver."""

    def deliver(self, envelope: Envelope, receiver: str) -> None:
        """A receiver began its turn on a message, or a reply or output reached its taker."""

    def finish(self, envelope: Envelope, receiver: str) -> None:
        """That turn is over, well or badly."""

    def fail(self, error: HandlerError) -> None:
        """A turn raised; the error has path, message and cause."""

    def restart(self, path: str) -> None:
        """A supervisor put an agent back to its fields at start."""

    def drop(self, letter: DeadLetter) -> None:
        """A message became a dead letter."""

    def stop(self, path: str) -> None:
        """An agent is no longer live."""
