"""For users' tests: call handlers without a runtime; look for the order of messages that fails.

Floor 6. `collect` shows what a handler sends. `explore` runs a program under many schedules of
`llm_net.Deterministic`, and `replay` under one; the schedules are here to be passed to it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from llm_net.agent import GenAgent
from llm_net.errors import UsageError
from llm_net.exploring import (
    PORTFOLIO,
    Exploration,
    Failure,
    Strategy,
    explore,
    find_failure,
    replay,
    schedules,
)
from llm_net.llm.live import allow_live_calls
from llm_net.message import Message
from llm_net.ref import as_message
from llm_net.schedules import PCT, POS, Delays, Fifo, Option, Random, Recorded, Replay, Schedule

__all__ = [
    "PCT",
    "PORTFOLIO",
    "POS",
    "Collected",
    "Delays",
    "Exploration",
    "Failure",
    "Fifo",
    "Option",
    "Random",
    "Recorded",
    "Replay",
    "Schedule",
    "Strategy",
    "allow_live_calls",
    "collect",
    "explore",
    "find_failure",
    "replay",
    "schedules",
]


@dataclass
class Collected:
    """What the handlers of one agent sent, in order.

    Attributes:
        sent: Messages given to `send` and `asend`.
        emitted: Events and messages given to `emit` and `aemit`.
        asked: Receivers and messages given to `ask` and `aask`.
        scheduled: Delays in seconds, messages and periods given to `schedule`.
        watched: Whom it watches.
    """

    sent: list[Message] = field(default_factory=list)
    emitted: list[tuple[str, Message]] = field(default_factory=list)
    asked: list[tuple[Any, Message]] = field(default_factory=list)
    scheduled: list[tuple[float, Message, float | None]] = field(default_factory=list)
    watched: list[Any] = field(default_factory=list)


@contextmanager
def collect(
    agent: GenAgent, *, answers: Iterable[Message | str | None] = ()
) -> Generator[Collected, None, None]:
    """Let an agent that is not started send, and collect it.

    ```python
    from llm_net import GenAgent, Message
    from llm_net.testing import collect

    class Herald(GenAgent):
        def step(self, message: Message) -> None:
            self.emit("news", message.body.upper())

    herald = Herald()
    with collect(herald) as said:
        herald.step(Message("rain"))
    assert [(event, message.body) for event, message in said.emitted] == [("news", "RAIN")]
    ```

    Args:
        agent: An agent that is not live.
        answers: What its asks get, one after the other.

    Raises:
        UsageError: If the agent is live.
    """
    node = agent.__node__()
    if node.cell is not None:
        msg = f"The agent {agent.path!r} is live: what it sends goes out. Test it before its start."
        raise UsageError(msg)
    collected = Collected()
    before, node.stand_in = node.stand_in, _Collector(agent, collected, iter(answers))
    try:
        yield collected
    finally:
        node.stand_in = before


class _Timer:
    """Stands for a timer: nothing will fire."""

    def cancel(self) -> None:
        """There is nothing to cancel."""


class _Collector:
    """Stands for the cell."""

    def __init__(
        self, agent: GenAgent, collected: Collected, answers: Iterator[Message | str | None]
    ) -> None:
        self._agent = agent
        self._collected = collected
        self._answers = answers

    def _filled(self, message: Message | str, method: str = "step") -> Message:
        if isinstance(message, str):
            message = Message(message, method=method, role=self._agent.role)
        message = as_message(message)
        sender = message.sender or self._agent.__address__()
        return message.filled(sender, message.receiver)

    def send(self, message: Message | str) -> None:
        self._collected.sent.append(self._filled(message))

    def emit(self, event: str, what: Message | str) -> None:
        self._collected.emitted.append((event, self._filled(what, event)))

    async def asend(self, message: Message | str) -> None:
        self.send(message)

    def watch(self, other: Any) -> None:
        self._collected.watched.append(other)

    def unwatch(self, other: Any) -> None:
        if other in self._collected.watched:
            self._collected.watched.remove(other)

    async def aemit(self, event: str, what: Message | str) -> None:
        self.emit(event, what)

    def schedule(self, delay: float, message: Message | str, every: float | None) -> _Timer:
        self._collected.scheduled.append((delay, self._filled(message), every))
        return _Timer()

    def ask(self, receiver: Any, message: Message, timeout: float | None) -> Message | None:  # noqa: ARG002 - no clock runs here
        message = self._filled(message)
        self._collected.asked.append((receiver, message))
        try:
            answer = next(self._answers)
        except StopIteration:
            msg = (
                f"The handler asked {receiver!r} ({message.body!r:.60}), and the test gave no "
                "answer for it: collect(agent, answers=[…])."
            )
            raise UsageError(msg) from None
        return message.reply(answer) if isinstance(answer, str) else answer

    async def aask(self, receiver: Any, message: Message, timeout: float | None) -> Message | None:
        return self.ask(receiver, message, timeout)
