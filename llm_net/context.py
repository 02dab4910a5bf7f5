"""In whose turn we are: what a message takes from the place where it is written.

Floor 0. A message needs an id, a time and, if it is a reply, a role. Inside a handler these come
from the runtime, so that a run with a seed gives the same ids and times again; outside they come
from the process.
"""

from __future__ import annotations

import os
from concurrent.futures import Future
from contextvars import ContextVar
from datetime import UTC, datetime
from itertools import count
from typing import Any, Protocol

__all__ = ["AUTHOR", "THREAD_LIMIT", "Author", "new_id", "now", "process_id", "renew_ids"]

THREAD_LIMIT = 1000
"""How many messages of a thread are remembered, where no runtime says otherwise."""


class Author(Protocol):
    """What an open turn lends to the messages written in it."""

    @property
    def role(self) -> str:
        """The role of the agent whose turn it is."""
        ...

    @property
    def thread_limit(self) -> int:
        """How many messages a thread remembers here."""
        ...

    @property
    def one_at_a_time(self) -> bool:
        """Whether others go on only when this turn lets them: in a deterministic run."""
        ...

    @property
    def place(self) -> str:
        """Where it is written: the agent's path, a colon, the method that is handled."""
        ...

    @property
    def accounts(self) -> tuple[Any, ...]:
        """The budgets that its model calls are charged to: agent, networks above it, run."""
        ...

    def spent(self, budget: Any) -> None:
        """One of them allows no further call; any thread."""
        ...

    def wait_outside(self, answer: Future[Any]) -> None:
        """Let others go on, where they do not anyhow, until this answer is there."""
        ...

    def new_id(self) -> str:
        """An id that no other message has."""
        ...

    def now(self) -> datetime:
        """The time on the runtime's clock, aware, in UTC."""
        ...


AUTHOR: ContextVar[Author | None] = ContextVar("llm_net_author", default=None)

_prefix = ""
_numbers = count(1)


def renew_ids() -> None:
    """Take a fresh prefix, so that a forked process does not repeat its parent's ids."""
    global _prefix, _numbers  # noqa: PLW0603 - one counter a process is what makes ids cheap
    _prefix = os.urandom(8).hex()
    _numbers = count(1)


renew_ids()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=renew_ids)


def process_id() -> str:
    """An id from the process's own counter: a random prefix and a number."""
    # A counter, not a UUID: an id is made for every message, and uuid4 costs more than delivery.
    return f"{_prefix}-{next(_numbers)}"


def new_id() -> str:
    """The id of the next message written here."""
    author = AUTHOR.get()
    return process_id() if author is None else author.new_id()


def now() -> datetime:
    """The time of the next message written here, aware, in UTC."""
    author = AUTHOR.get()
    return datetime.now(UTC) if author is None else author.now()
