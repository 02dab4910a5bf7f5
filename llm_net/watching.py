"""Watching: being told when another agent is gone.

Floor 2. The watched cell knows its watchers, and tells them with its last breath; a watcher that is
gone before is forgotten.

Source: monitors of Erlang/OTP, death watch of Akka.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from llm_net.mailbox import Letter
from llm_net.message import Message
from llm_net.speech import within
from llm_net.turn import current_turn

if TYPE_CHECKING:
    from llm_net.cell import Cell
    from llm_net.node import Node
    from llm_net.scope import Scope

__all__ = ["Terminated", "tell_watchers", "unwatch", "watch"]


class Terminated(Message):
    """An agent that was watched is gone.

    Attributes:
        path: The path that it had.
        reason: `stopped`, or `failure` if a supervisor gave it up.
    """

    path: str
    reason: str


def watch(cell: Cell, other: Any) -> None:
    """Let an agent be told when another one is gone; any thread.

    Raises:
        UnknownAgent: If nobody has that path.
    """
    node = cell.node.find(other)
    turn = within(current_turn(), cell.runtime)
    scope = cell.runtime.world if turn is None else turn.scope
    home = node.cell or cell
    home.engine.run(partial(_begin, cell, node, scope))


def _begin(watcher: Cell, node: Node, scope: Scope) -> None:
    watched = node.cell
    if watched is None:
        _tell(watcher, node, "stopped", scope)
    elif not watcher.stopped:
        watched.watchers = {**watched.watchers, watcher: scope}
        watcher.watches = {**watcher.watches, watched: None}


def unwatch(cell: Cell, other: Any) -> None:
    """Take it back; any thread.

    Raises:
        UnknownAgent: If nobody has that path.
    """
    watched = cell.node.find(other).cell
    if watched is not None:
        watched.engine.run(partial(_end, cell, watched))


def _end(watcher: Cell, watched: Cell) -> None:
    watched.watchers = {each: at for each, at in watched.watchers.items() if each is not watcher}
    watcher.watches = {each: None for each in watcher.watches if each is not watched}


def tell_watchers(cell: Cell) -> None:
    """An agent is gone: tell those who watch it, and forget whom it watched."""
    for watched in cell.watches:
        watched.engine.run(partial(_end, cell, watched))
    for watcher, scope in cell.watchers.items():
        watcher.watches = {each: None for each in watcher.watches if each is not cell}
        _tell(watcher, cell.node, "failure" if cell.given_up else "stopped", scope)
    cell.watchers = {}


def _tell(watcher: Cell, node: Node, reason: str, scope: Scope) -> None:
    """Put the message into the watcher's mailbox, in the run in which it began to watch."""

    def put() -> None:
        if not watcher.stopped and watcher.stopping is None:
            here = watcher.runtime.world if scope.past else scope
            message = Terminated(
                f"{node.path} is gone ({reason}).",
                path=node.path,
                reason=reason,
                sender=node.address,
                receiver=watcher.node.address,
                id=watcher.runtime.new_id(),
                created_at=watcher.runtime.now(),
            )
            watcher.put(Letter(message, here, 0))

    watcher.engine.run(put)
