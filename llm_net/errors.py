"""The exceptions of llm_net, branched by who must act.

Floor 0. Knows nothing else of the package.

    LLMNetError
    ├── UsageError                the developer: the call itself is wrong
    │   └── NonDeterminismError   in a deterministic run, something that no seed decides
    ├── DeliveryError             a message did not get its answer
    │   ├── HandlerError          the receiver's handler raised (see __cause__)
    │   │   └── NoHandler         the receiver has no handler for it
    │   ├── UnknownAgent          nobody has that path (also a KeyError)
    │   ├── MailboxFull           the receiver's mailbox refused it
    │   ├── AskTimeout            no reply in time (also a TimeoutError)
    │   ├── AskCycle              a circle of agents, each asking the next
    │   └── AgentStopped          the receiver had stopped (also pykka.ActorDeadError)
    ├── ProtocolError             an interaction protocol was used against its rules
    ├── ToolError                 a tool call could not be carried out
    │   ├── UnknownTool           no tool of that name was offered
    │   └── ToolArgumentsError    the arguments do not fit the tool's schema; nothing was run
    └── ModelError                a language model could not give a usable answer
        ├── ModelSetupError       an extra, a key or a model file is missing
        ├── ModelCallError        the provider refused, failed, or took too long
        │   └── CircuitOpen       an endpoint failed so often that it is left alone for a while
        ├── AnswerError           the answer is empty, cut off, or of the wrong shape
        ├── BudgetExceeded        a call was not made, for it could cost more than is left
        ├── CassetteMiss          the cassette holds no answer to this request
        ├── LiveCallBlocked       under pytest, a call that would leave this machine
        └── UnscriptedCall        a scripted model was asked what its script does not hold

Every text says what happened, with the values, why, and what to do.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from pykka import ActorDeadError

if TYPE_CHECKING:
    from llm_net.message import Message

__all__ = [
    "AgentStopped",
    "AnswerError",
    "AskCycle",
    "AskTimeout",
    "BudgetExceeded",
    "CassetteMiss",
    "CircuitOpen",
    "DeliveryError",
    "HandlerError",
    "LLMNetError",
    "LiveCallBlocked",
    "MailboxFull",
    "ModelCallError",
    "ModelError",
    "ModelSetupError",
    "NoHandler",
    "NonDeterminismError",
    "ProtocolError",
    "ToolArgumentsError",
    "ToolError",
    "UnknownAgent",
    "UnknownTool",
    "UnscriptedCall",
    "UsageError",
    "is_interrupt",
    "is_number",
]


def is_number(value: object) -> bool:
    """Whether this can be a time or a bound; a bool, though Python counts it in, cannot."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_interrupt(error: BaseException) -> bool:
    """Whether this is the user, who wants the program to end, and not one agent that misbehaves.

    The threads that are the package's own, by their names, are never the user's.
    """
    ours = threading.current_thread().name.startswith("llm_net-")
    return isinstance(error, KeyboardInterrupt) and not ours


class LLMNetError(Exception):
    """The root of everything llm_net raises on purpose."""


class UsageError(LLMNetError):
    """A call that can never work as written: the developer must change it."""


class NonDeterminismError(UsageError):
    """In a deterministic run, a handler reached for what no seed decides: a clock, luck."""


class DeliveryError(LLMNetError):
    """A message did not get the answer that its sender waited for."""


class HandlerError(DeliveryError):
    """The handler that was to answer raised an exception.

    Attributes:
        path: The path of the agent whose handler raised.
        message: The message it was handling.
        __cause__: The exception itself.
    """

    def __init__(self, text: str, *, path: str, message: Message | None) -> None:
        super().__init__(text)
        self.path = path
        self.message = message


class NoHandler(HandlerError):
    """The receiver has no handler for the message's method, or not for its class."""


class UnknownAgent(DeliveryError, KeyError):
    """No agent has the path that was asked for."""

    # A KeyError shows its argument's repr; this text is meant to be read.
    __str__ = Exception.__str__


class MailboxFull(DeliveryError):
    """The receiver's mailbox is full, and its policy is to refuse, or waiting would not help.

    Attributes:
        circle: The paths of the agents that wait for each other, if they do, else empty.
    """

    def __init__(self, text: str, *, circle: tuple[str, ...] = ()) -> None:
        super().__init__(text)
        self.circle = circle


class AskTimeout(DeliveryError, TimeoutError):
    """No reply came within the time the asker allowed."""


class AskCycle(DeliveryError):
    """The ask would close a circle of agents in which each waits for the next.

    Attributes:
        circle: The paths, from the asker round to the asker.
    """

    def __init__(self, text: str, *, circle: tuple[str, ...]) -> None:
        super().__init__(text)
        self.circle = circle


class AgentStopped(DeliveryError, ActorDeadError):
    """The receiver has stopped, or stopped before it came to the message."""


class ProtocolError(LLMNetError):
    """An interaction protocol was used against its rules."""


class ToolError(LLMNetError):
    """A tool call could not be carried out: the tool is unknown, refuses its arguments, or raised.

    A model's call that fails is a value the agent sees (`ToolResult.error`); this is raised where a
    program calls a tool itself.
    """


class UnknownTool(ToolError):
    """No tool of that name was offered."""


class ToolArgumentsError(ToolError):
    """The arguments do not fit the tool's schema; nothing was run."""


class ModelError(LLMNetError):
    """A language model could not give a usable answer."""


class ModelSetupError(ModelError):
    """An extra, a key or a model file is missing; the text says what to type."""


class ModelCallError(ModelError):
    """The provider refused the call, failed, or took too long.

    Attributes:
        status: The HTTP status, where the provider gave one.
        passing: Whether the same call may succeed later: a timeout, a rate limit, a server's error.
        retry_after: Seconds that the provider asked to wait, if it did.
    """

    status: int | None = None
    passing: bool = False
    retry_after: float | None = None


class CircuitOpen(ModelCallError):
    """An endpoint failed so often that it is left alone for a while; nothing was sent."""

    passing = True


class AnswerError(ModelError):
    """The model answered, but with nothing, with half of it, or in the wrong shape."""


class BudgetExceeded(ModelError):
    """A call was not made, for it could cost more than the budget has left.

    Attributes:
        limit: Which limit it is: `calls`, `tokens`, `usd` or `seconds`.
        place: Whose budget, as it was named.
    """

    def __init__(self, text: str, *, limit: str, place: str = "") -> None:
        super().__init__(text)
        self.limit = limit
        self.place = place


class CassetteMiss(ModelError):
    """The cassette holds no answer to this request, and may not ask the model."""


class LiveCallBlocked(ModelError):
    """Under pytest, a call that would leave this machine; nobody allowed it."""


class UnscriptedCall(ModelError):
    """A scripted model was asked for an answer that its script does not hold."""
