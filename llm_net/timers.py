"""Timers: messages to come, once or again and again, on the runtime's clock.

Floor 2.
"""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING

from llm_net.errors import MailboxFull
from llm_net.message import Method
from llm_net.speech import address, written
from llm_net.turn import Turn, current_turn

if TYPE_CHECKING:
    import asyncio

    from llm_net.cell import Cell
    from llm_net.message import Message

__all__ = ["Timer", "schedule"]


def schedule(cell: Cell, delay: float, message: Message | str, every: float | None) -> Timer:
    """Send a message later; any thread."""
    message = written(cell, message, Method.STEP.value)
    current = current_turn()
    envelope = None if current is None else current.envelope
    scope = cell.runtime.world if current is None else current.scope
    timer = Timer(cell, Turn(cell, envelope, scope), message, every)
    cell.engine.run(partial(timer.begin, delay))
    return timer


class Timer:
    """A message to come; given by `agent.schedule`."""

    def __init__(self, cell: Cell, turn: Turn, message: Message, every: float | None) -> None:
        self._cell = cell
        self._message = message
        self._every = every
        self._handle: asyncio.TimerHandle | None = None
        self._over = False
        self.turn = turn

    def cancel(self) -> None:
        """Send nothing more; from any thread, and as often as you like."""
        self._cell.engine.run(self.end)

    def begin(self, delay: float) -> None:
        """Start the clock; for the cell."""
        cell = self._cell
        if self._over or cell.stopped or self.turn.scope.ended is not None:
            return
        cell.timers[self] = None
        cell.engine.held += 1
        if self._every is None:
            self.turn.scope.open += 1  # a message to come keeps its run from being quiet
        self._handle = cell.engine.call_later(delay, self._fire)

    def end(self) -> None:
        """Stop the clock; for the cell."""
        self._over = True
        if self in self._cell.timers:
            del self._cell.timers[self]
            self._cell.engine.held -= 1
            if self._handle is not None:
                self._handle.cancel()
            if self._every is None:
                self.turn.scope.close()

    def _fire(self) -> None:
        cell = self._cell
        message = self._message
        if message.receiver is None:
            message = message.filled(message.sender, cell.node.address)
        if self.turn.scope.past:
            self.turn = Turn(cell, None, cell.runtime.world)  # it outlives the run that set it
        with contextlib.suppress(MailboxFull):  # it is a dead letter, and nobody is here to be told
            address(cell, self.turn, message)
        if self._every is None:
            self.end()
        else:
            self._message = self._message.again()
            self._handle = cell.engine.call_later(self._every, self._fire)
