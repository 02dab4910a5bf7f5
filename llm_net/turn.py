"""A turn: one message in the hands of one agent.

Floor 1. Lends ids, time and role to what is written in it, and says to which run that belongs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from llm_net.context import AUTHOR
from llm_net.message import Method, Role

if TYPE_CHECKING:
    import asyncio

    from llm_net.cell import Cell
    from llm_net.mailbox import Envelope
    from llm_net.runtime import Runtime
    from llm_net.scope import Scope

__all__ = ["Desk", "Turn", "author", "current_turn"]


RESPONSE = Method.RESPONSE.value
_NOTHING: Mapping[Any, None] = MappingProxyType({})


class Turn:
    """One message, or one hook, in the hands of one agent.

    Attributes:
        cell: Whose turn it is.
        runtime: Where.
        envelope: What is handled; None in a hook.
        scope: The run that the turn belongs to.
        task: The task that an async handler runs in.
        threaded: Whether the handler runs on a thread, so that nothing can interrupt it.
        waits: What the turn waits for, in the order in which it began to.
        abandoned: Whether its results are wanted no more.
        ending: Whether its handler has returned, and only messages that wait for room hold it open.
        raised: What the handler raised, then.
        broken: Why it was broken off, if it was.
        detached: Whether its run goes on without it: it runs on a thread, and nobody waits for it.
    """

    # Defaults that most turns keep stand here, for a turn is made for each awaited message.
    task: asyncio.Task[None] | None = None
    threaded: bool = False
    abandoned: bool = False
    detached: bool = False
    broken: BaseException | None = None
    ending: bool = False
    raised: BaseException | None = None
    waits: Mapping[Any, None] = _NOTHING

    def __init__(self, cell: Cell, envelope: Envelope | None, scope: Scope) -> None:
        self.cell: Any = cell
        self.runtime: Runtime = cell.runtime
        self.envelope = envelope
        self.scope = scope

    def break_off(self, error: BaseException) -> None:
        """Let an async handler end with this error, where it waits now."""
        self.broken = error
        if self.task is not None:
            self.task.cancel()

    def wait_for(self, something: Any) -> None:
        """Note that the turn goes on only when this is done."""
        self.waits = {**self.waits, something: None}

    def waits_no_more(self, something: Any) -> None:
        """Note that this is done."""
        self.waits = {each: None for each in self.waits if each is not something}

    @property
    def light(self) -> bool:
        """Whether nothing of the user's hears of its end: no hook, no supervisor, no instrument."""
        envelope = self.envelope
        if envelope is None or self.waits or self.abandoned or self.cell.careful:
            return False
        return envelope.sink is None or (envelope.light and self.cell.pause is None)

    @property
    def is_asked(self) -> bool:
        """Whether somebody waits for a text from it, and nobody looks on."""
        envelope = self.envelope
        sink = None if envelope is None else envelope.sink
        return (
            envelope is not None
            and sink is not None
            and sink.light
            and sink.wants
            and envelope.message.method != RESPONSE
            and not self.cell.careful
        )

    @property
    def role(self) -> Role:
        """The role of the agent whose turn it is."""
        role: Role = self.cell.agent.role
        return role

    @property
    def thread_limit(self) -> int:
        """How many messages a thread remembers in this runtime."""
        return self.runtime.thread_limit

    @property
    def one_at_a_time(self) -> bool:
        """Whether others go on only when this turn lets them: in a deterministic run."""
        return self.runtime.engine.patient

    @property
    def place(self) -> str:
        """The agent's path, a colon, and the method that is handled; empty at an empty desk."""
        if self.cell is None:
            return ""
        path = self.cell.node.path
        return path if self.envelope is None else f"{path}:{self.envelope.message.method}"

    @property
    def accounts(self) -> tuple[Any, ...]:
        """The budgets of the agent, of the networks above it, and of the run, inner ones first."""
        found = [] if self.cell is None else list(_budgets(self.cell.node))
        run = self.scope.limits.budget
        return (*found, run) if run is not None else tuple(found)

    def spent(self, budget: Any) -> None:
        """A budget allows no further call; if it is the run's, that has ended."""
        scope = self.scope
        if budget is scope.limits.budget:
            self.runtime.engine.run(lambda: scope.end("budget"))

    def wait_outside(self, answer: Future[Any]) -> None:
        """Let others go on, where they do not anyhow, until this answer is there."""
        self.runtime.engine.wait_outside(answer)

    def new_id(self) -> str:
        """The id of a message written in this turn."""
        return self.runtime.new_id()

    def now(self) -> datetime:
        """The time on the runtime's clock."""
        return self.runtime.now()


class Desk(Turn):
    """The one turn that all handlers in place share, one after the other.

    A turn that begins and ends within one call needs no object of its own. Between two of them
    nobody sits at the desk (`cell` is None), and what is written there is the runtime's.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.cell = None
        self.runtime = runtime
        self.envelope: Envelope | None = None
        self.scope = runtime.world
        # In the way of the methods: every message that a handler writes asks for both.
        self.new_id = runtime.new_id  # type: ignore[method-assign]
        self.now = runtime.now  # type: ignore[method-assign]

    @property
    def role(self) -> Role:
        """The role of the agent that writes, or of whoever answers outside of one."""
        return Role.ASSISTANT if self.cell is None else super().role


def _budgets(node: Any) -> Iterator[Any]:
    """What networks say about the agent and what is around it, from the inside out."""
    inner: list[str] = []
    while node is not None:
        said: dict[str, Any] = getattr(node, "budgets", None) or {}
        names = ["/".join(inner[:n]) for n in range(len(inner), 0, -1)]
        yield from (said[name] for name in [*names, "."] if name in said)
        inner.insert(0, node.name)
        node = node.parent


# Nothing but turns is ever lent to messages as their author.
author: Callable[[], Turn | None] = cast("Callable[[], Turn | None]", AUTHOR.get)
"""Who writes here: a turn, a desk at which nobody may sit, or None outside of a runtime."""


def current_turn() -> Turn | None:
    """The turn that the calling code runs in."""
    turn = author()
    return None if turn is None or turn.cell is None else turn
