"""Who waits for a reply, and how replies reach them.

Floor 2. Sinks are filled by the engine's thread; whoever waits is woken by a function that suits
the place where it waits: a lock for a thread, a future for a loop.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llm_net.errors import LLMNetError
    from llm_net.message import Message
    from llm_net.scope import Scope

__all__ = ["Ask", "Outputs", "Stream"]


def _nobody() -> None:
    """Nobody waits yet."""


class Ask:
    """Takes the first reply; done with it, or when every turn it caused is over.

    Attributes:
        reply: The first reply, or None.
        error: Why there is none, if something failed.
        done: Whether `reply` and `error` are final.
        expired: Whether the asker has given up.
        turn: The turn that waits, if an agent asks.
        targets: The cells that were asked.
        when_done: Called once, on the engine's thread, when done; for the runtime.
        wake: Called after it, for whoever waits.
    """

    light = True

    __slots__ = (
        "_failure",
        "_open",
        "done",
        "error",
        "expired",
        "reply",
        "targets",
        "turn",
        "wake",
        "when_done",
    )

    def __init__(self) -> None:
        self.reply: Message | None = None
        self.error: BaseException | None = None
        self.done = False
        self.expired = False
        self.turn: Any = None
        self.targets: tuple[Any, ...] = ()
        self.when_done: Callable[[], None] | None = None
        self.wake: Callable[[], None] = _nobody
        self._open = 0
        self._failure: LLMNetError | None = None

    def expect(self, count: int) -> None:
        """So many turns may reply."""
        self._open += count

    @property
    def wants(self) -> bool:
        """Only the first reply is wanted."""
        return not self.done

    def take(self, reply: Message) -> None:
        """Take the first reply."""
        self.reply = reply
        self._settle()

    def ended(self, error: LLMNetError | None) -> None:
        """One turn is over; when the last is, there will be no reply any more."""
        self._open -= 1
        # With several entries one may fail and another still reply.
        self._failure = self._failure or error
        if self._open <= 0 and not self.done:
            self.error = self._failure
            self._settle()

    def give_up(self, error: BaseException) -> None:
        """The asker waits no longer."""
        if not self.done:
            self.expired = True
            self.error = error
            self._settle()
            _forsake(self)

    def result(self) -> Message | None:
        """The reply.

        Raises:
            LLMNetError: What failed instead.
        """
        if self.error is not None:
            raise self.error
        return self.reply

    def _settle(self) -> None:
        self.done = True
        if self.turn is not None:
            self.turn.waits_no_more(self)
        if self.when_done is not None:
            self.when_done()
        self.wake()


class Stream:
    """Takes every reply, until the turns it caused are over."""

    light = True

    __slots__ = ("_open", "done", "error", "expired", "replies", "targets", "turn", "wake")

    def __init__(self) -> None:
        self.replies: deque[Message] = deque()
        self.error: BaseException | None = None
        self.turn: Any = None
        self.done = False
        self.expired = False
        self.targets: tuple[Any, ...] = ()
        self.wake: Callable[[], None] = _nobody
        self._open = 0

    def expect(self, count: int) -> None:
        """So many turns may reply."""
        self._open += count

    @property
    def wants(self) -> bool:
        """Every reply is wanted, until the reader leaves."""
        return not self.expired

    def take(self, reply: Message) -> None:
        """Take a reply."""
        self.replies.append(reply)
        self.wake()

    def ended(self, error: LLMNetError | None) -> None:
        """One turn is over; with the last one the stream ends."""
        self._open -= 1
        self.error = self.error or error
        if self._open <= 0 and not self.done:
            self._end()

    def give_up(self, error: BaseException) -> None:
        """The reader waits no longer."""
        if not self.done:
            self.expired = True
            self.error = error
            self._end()
            _forsake(self)

    def leave(self) -> None:
        """The reader reads no more."""
        self.expired = True
        if not self.done:
            self._end()
            _forsake(self)

    def _end(self) -> None:
        self.done = True
        if self.turn is not None:
            self.turn.waits_no_more(self)
        self.wake()


def _forsake(asked: Ask | Stream) -> None:
    """Tell those who were asked that nobody wants their answer any more."""
    for cell in asked.targets:
        cell.engine.run(partial(cell.forsake, asked))


class Outputs:
    """Takes the replies to a run's own message as outputs of the run."""

    light = True

    __slots__ = ("_scope", "expired", "targets")

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self.expired = False
        self.targets: tuple[Any, ...] = ()

    def expect(self, count: int) -> None:
        """Any number of replies is welcome."""

    @property
    def wants(self) -> bool:
        """Every reply is an output."""
        return True

    def take(self, reply: Message) -> None:
        """Take an output."""
        self._scope.outputs.append(reply)

    def ended(self, error: LLMNetError | None) -> None:
        """The scope itself knows when the run is over."""
