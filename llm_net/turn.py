"""A turn: one message in the hands of one agent.

Floor 2. Lends ids, time and role to what is written in it, and says to which run that belongs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_net.context import AUTHOR

if TYPE_CHECKING:
    import asyncio
    from datetime import datetime

    from llm_net.asks import Ask, Stream
    from llm_net.cell import Cell
    from llm_net.mailbox import Envelope
    from llm_net.message import Role
    from llm_net.scope import Scope

__all__ = ["Turn", "current_turn"]


class Turn:
    """One message, or one hook, in the hands of one agent.

    Attributes:
        cell: Whose turn it is.
        envelope: What is handled; None in a hook.
        scope: The run that the turn belongs to.
        task: The task that an async handler runs in.
        threaded: Whether the handler runs on a thread, so that nothing can interrupt it.
        waits: The asks whose replies the turn waits for.
        abandoned: Whether its results are wanted no more.
        detached: Whether its run goes on without it: it runs on a thread, and nobody waits for it.
    """

    __slots__ = ("abandoned", "cell", "detached", "envelope", "scope", "task", "threaded", "waits")

    def __init__(self, cell: Cell, envelope: Envelope | None, scope: Scope) -> None:
        self.cell = cell
        self.envelope = envelope
        self.scope = scope
        self.task: asyncio.Task[None] | None = None
        self.threaded = False
        self.waits: set[Ask | Stream] = set()
        self.abandoned = False
        self.detached = False

    @property
    def role(self) -> Role:
        """The role of the agent whose turn it is."""
        role: Role = self.cell.agent.role
        return role

    @property
    def thread_limit(self) -> int:
        """How many messages a thread remembers in this runtime."""
        return self.cell.runtime.thread_limit

    def new_id(self) -> str:
        """The id of a message written in this turn."""
        return self.cell.runtime.new_id()

    def now(self) -> datetime:
        """The time on the runtime's clock."""
        return self.cell.runtime.now()


def current_turn() -> Turn | None:
    """The turn that the calling code runs in."""
    turn = AUTHOR.get()
    return turn if isinstance(turn, Turn) else None
