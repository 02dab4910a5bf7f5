"""Runs: deliver a message, wait until the network is quiet, say what came of it.

Floor 3. A run has a scope of its own; so it knows its own outcome even where others run beside it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from dataclasses import dataclass, field

from llm_net.asks import Outputs
from llm_net.diagram import sequence_diagram
from llm_net.errors import HandlerError, UsageError
from llm_net.mailbox import DeadLetter
from llm_net.message import Message
from llm_net.node import Node
from llm_net.ref import as_message
from llm_net.running import Conversation, Launch, Running
from llm_net.runtime import Runtime
from llm_net.scope import Scope, Statistics
from llm_net.speech import accept
from llm_net.svg import sequence_svg

__all__ = ["AsyncRunStream", "Run", "RunStream", "launch_message"]


@dataclass(frozen=True)
class Run:
    """What came of a run.

    Attributes:
        outputs: Replies to the run's own message, and events that the outermost network exposes,
            in the order in which they left.
        dead_letters: The messages that nobody took, each with its reason.
        failures: The errors of turns that raised, each with path, message and cause.
        statistics: The counts; sent = delivered + dead, and nothing is queued any more.
        ended: `idle`, `failure` (past the outermost network), `closed` (the reader of a stream
            left), or the limit that ended it, as in `max_messages`.
        trace: The last link of a deterministic run's hash chain, in hex; None for other runs.
        loop: The paths round the loop that `max_repeats` found, else empty.
        conversation: The first messages, each with its receiver; None is the world outside.
    """

    outputs: tuple[Message, ...]
    dead_letters: tuple[DeadLetter, ...]
    failures: tuple[HandlerError, ...]
    statistics: Statistics
    ended: str
    trace: str | None
    loop: tuple[str, ...]
    conversation: Conversation = field(repr=False)

    @classmethod
    def of(cls, running: Running) -> Run:
        """What a run has to report, now that it is over."""
        scope = running.scope
        return cls(
            outputs=tuple(scope.outputs),
            dead_letters=tuple(scope.dead_letters),
            failures=tuple(scope.failures),
            statistics=scope.statistics(),
            ended=scope.ended or "idle",
            trace=running.trace,
            loop=scope.loop,
            conversation=tuple(scope.record or ()),
        )

    def to_mermaid(self) -> str:
        """The run's sequence diagram, in Mermaid; at most its first 500 messages."""
        return sequence_diagram(self.conversation, total=self.statistics.sent)

    def to_svg(self) -> str:
        """The run's sequence diagram, as an SVG picture; at most its first 500 messages."""
        return sequence_svg(self.conversation)


def launch_message(node: Node, message: Message | str) -> Launch:
    """Begin a run with a message: to its receiver, else to the network's entries.

    Raises:
        UsageError: If the network has no entry for the message.
        UnknownAgent: If the message's receiver is nobody here.
    """
    message = as_message(message)
    target = node if message.receiver is None else node.inside(message.receiver)
    if not target.takes(message.method):
        msg = (
            f"The network {target.path!r} has no entry, so nobody in it would take the message. "
            "Give it entry=…, or the message a receiver: Message(…, receiver='name')."
        )
        raise UsageError(msg)

    def launch(scope: Scope, runtime: Runtime) -> None:
        accept(target, message, None, sink=Outputs(scope), scope=scope, runtime=runtime)

    return launch


class RunStream:
    """Iterates over every message of a run as it is sent; then `run` says what came of it."""

    def __init__(self, running: Running, *, progress: bool = False) -> None:
        self._running = running
        # The generator knows nothing of the stream: one that is dropped is closed at once.
        self._messages = _messages(running, progress=progress)

    def __iter__(self) -> Iterator[Message]:
        return self

    def __next__(self) -> Message:
        return next(self._messages)

    def close(self) -> None:
        """End the run, if it has begun and is not over."""
        self._messages.close()

    @property
    def run(self) -> Run:
        """What came of the run.

        Raises:
            UsageError: If it is not over yet.
        """
        return _result(self._running)


class AsyncRunStream:
    """As `RunStream`, on the running event loop: `async for message in network.astream(…)`."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._messages = _amessages(running)

    def __aiter__(self) -> AsyncIterator[Message]:
        return self

    async def __anext__(self) -> Message:
        return await anext(self._messages)

    async def aclose(self) -> None:
        """End the run, if it has begun and is not over."""
        await self._messages.aclose()

    @property
    def run(self) -> Run:
        """What came of the run.

        Raises:
            UsageError: If it is not over yet.
        """
        return _result(self._running)


def _messages(running: Running, *, progress: bool) -> Generator[Message, None, None]:
    sent = _tapped(running)
    try:
        while True:
            running.run(progress=progress, until=lambda: bool(sent))
            while sent:
                yield sent.popleft()
            if running.over:
                return
    finally:
        running.finish()


async def _amessages(running: Running) -> AsyncGenerator[Message, None]:
    sent = _tapped(running)
    try:
        while True:
            await running.arun(until=lambda: bool(sent))
            while sent:
                yield sent.popleft()
            if running.over:
                return
    finally:
        await running.afinish()


def _tapped(running: Running) -> deque[Message]:
    """What the run sends, from now on."""
    sent: deque[Message] = deque()

    def hear(message: Message) -> None:
        sent.append(message)
        running.stir()

    running.scope.tap = hear
    return sent


def _result(running: Running) -> Run:
    if not (running.scope.past or running.over):
        msg = "The run is not over: iterate to the end, or close() the stream."
        raise UsageError(msg)
    return Run.of(running)
