"""Watching: being told when another agent is gone.

Floor 2. The watched cell knows its watchers, weakly, and tells them at its end. What it keeps of
them is touched by the owner of its engine only; a watcher elsewhere gets a call posted.

Source: monitors of Erlang/OTP, death watch of Akka.
"""

from __future__ import annotations

import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from llm_net.address import Address
from llm_net.message import Message, Role
from llm_net.speech import accept, within
from llm_net.turn import current_turn

if TYPE_CHECKING:
    from llm_net.cell import Cell
    from llm_net.scope import Scope

__all__ = ["Terminated", "Watchers", "tell_watchers", "unwatch", "watch"]

Why = Literal["stopped", "failure"]

Watchers = weakref.WeakKeyDictionary["Cell", "weakref.ref[Scope]"]
"""Who is told, and in which run; holds neither alive."""


class Terminated(Message):
    """An agent that was watched is gone.

    Attributes:
        path: The path that it had.
        reason: `stopped`; or `failure`, its own or another's, for which its supervisor stopped it.
    """

    path: str
    reason: Why


def watch(cell: Cell, other: Any) -> None:
    """Let an agent be told when another one is gone; any thread.

    Raises:
        UnknownAgent: If nobody has that path.
        UsageError: If it is nothing that names an agent.
    """
    turn = within(current_turn(), cell.runtime)
    scope = cell.runtime.world if turn is None else turn.scope
    last = other if isinstance(other, Address) else None
    if last is not None and last.bound and last.target is None:
        # Nobody holds the agent any more; another one that has its path now is not meant.
        _tell(cell, last, Role.ASSISTANT, "stopped", weakref.ref(scope))
        return
    node = cell.node.find(other)
    watched = node.cell
    if watched is None:
        _tell(cell, node.address, node.agent.role, "stopped", weakref.ref(scope))
    else:
        watched.engine.run(partial(_begin, cell, watched, weakref.ref(scope)))


def _begin(watcher: Cell, watched: Cell, scope: weakref.ref[Scope]) -> None:
    if watched.stopped:
        _tell_end_of(watched, watcher, scope)
        return
    if watched.watchers is None:
        watched.watchers = Watchers()
    watched.watchers[watcher] = scope


def unwatch(cell: Cell, other: Any) -> None:
    """Take it back; any thread.

    Raises:
        UnknownAgent: If nobody has that path.
        UsageError: If it is nothing that names an agent.
    """
    if isinstance(other, Address) and other.bound and other.target is None:
        return  # its end was told already
    watched = cell.node.find(other).cell
    if watched is not None:
        watched.engine.run(partial(_end, cell, watched))


def _end(watcher: Cell, watched: Cell) -> None:
    if watched.watchers is not None:
        watched.watchers.pop(watcher, None)


def tell_watchers(cell: Cell) -> None:
    """An agent is gone: tell those who watch it."""
    watchers, cell.watchers = cell.watchers, None
    for watcher, scope in list((watchers or {}).items()):
        _tell_end_of(cell, watcher, scope)


def _tell_end_of(cell: Cell, watcher: Cell, scope: weakref.ref[Scope]) -> None:
    # Not the node's own path: a member that was removed has lost the part above it.
    names: list[str] = []
    above: Cell | None = cell
    while above is not None:
        names.append(above.node.name)
        above = above.parent
    address = Address("/".join(reversed(names)), cell.node)
    reason: Why = "failure" if cell.given_up else "stopped"
    _tell(watcher, address, cell.agent.role, reason, scope)


def _tell(
    watcher: Cell, address: Address, role: Role, reason: Why, scope: weakref.ref[Scope]
) -> None:
    """Send the message, in the run in which it was watched if that goes on; any thread."""

    def send() -> None:
        if watcher.stopping is not None:
            return  # it, or its latest life, hears nothing any more
        run = scope()
        runtime = watcher.runtime
        if run is None or run.past or run.ended is not None:
            run = runtime.world
        message = Terminated(
            f"{address.path} is gone ({reason}).",
            path=address.path,
            reason=reason,
            sender=address,
            receiver=watcher.node.address,
            role=role,
            id=runtime.new_id(),
            created_at=runtime.now(),
        )
        accept(watcher.node, message, None, scope=run, runtime=runtime)

    watcher.engine.run(send)
