"""One exchange with a network: a message in, what comes out, bounded; the rest waits.

Bridge, floor 2. The network lives in a deterministic runtime that is pumped during exchanges only,
so between two of them nothing moves, nothing runs, and it can be put away and taken up again.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from llm_net import DeadLetter, Deterministic, GenAgent, HandlerError, Message, Statistics
from llm_net.asks import Outputs
from llm_net.errors import UsageError
from llm_net.instrument import Instrument
from llm_net.mailbox import Envelope, Letter
from llm_net.scheduled_cell import ScheduledCell
from llm_net.scope import Limits, Scope
from llm_net.speech import accept

__all__ = ["Bounds", "Exchange", "Heard", "LiveNetwork", "Rest"]

_REMEMBERED = 100_000
"""So many messages are kept for whoever asks what was heard; the oldest go first."""


@dataclass(frozen=True)
class Bounds:
    """How much may happen in one exchange.

    Attributes:
        messages: Deliveries; None for any number.
        rounds: Messages that cause each other, one after the other; None for any number.
        seconds: By the clock on the wall; None for any time.
    """

    messages: int | None = 1000
    rounds: int | None = 50
    seconds: float | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and (isinstance(value, bool) or not value > 0):
                raise UsageError(
                    f"max_{name}={value!r} is no bound for an exchange. Give a number above 0, or "
                    "None for none."
                )


@dataclass(frozen=True)
class Exchange:
    """What came of one exchange.

    Attributes:
        outputs: What left the network, in this order.
        dead_letters: The messages that nobody took, each with its reason.
        failures: The errors of turns that raised.
        statistics: The counts of the network's life so far; what waits is `queued`.
        bound: What ended it before the network was quiet: `max_messages`, `max_rounds`,
            `max_seconds`; else None.
    """

    outputs: tuple[Message, ...]
    dead_letters: tuple[DeadLetter, ...]
    failures: tuple[HandlerError, ...]
    statistics: Statistics
    bound: str | None


@dataclass
class Rest:
    """A network that rests: all that it takes to go on, and nothing that lives.

    Attributes:
        network: Its agents with their fields, edges and borders.
        seed: Of its runtime.
        runtime: Where its runtime stood.
        luck: Where the random source of each agent stood, by path.
        counts: The counts of its life so far.
        queued: The messages that wait: receiver, sender, message, hops, whether it was overheard.
    """

    network: GenAgent
    seed: int
    runtime: dict[str, Any] = field(default_factory=dict[str, Any])
    luck: dict[str, Any] = field(default_factory=dict[str, Any])
    counts: Statistics = field(default_factory=Statistics)
    queued: list[tuple[str, str, Message, int, bool]] = field(
        default_factory=list[tuple[str, str, Message, int, bool]]
    )


@dataclass
class Heard:
    """What has happened since it was asked last.

    Attributes:
        messages: Those that were handled: sender, receiver, method, body.
    """

    messages: list[tuple[str, str, str, str]]
    outputs: tuple[Message, ...]
    dead_letters: tuple[DeadLetter, ...]
    failures: tuple[HandlerError, ...]


class _Observer(Instrument):
    """Sees what is handled, and how long the longest chain of causes was."""

    def __init__(self) -> None:
        self.hops = 0
        self.messages: deque[tuple[str, str, str, str]] = deque(maxlen=_REMEMBERED)

    def deliver(self, envelope: Envelope, receiver: str) -> None:
        """A turn begins."""
        message = envelope.message
        sender = "" if message.sender is None else message.sender.path
        self.hops = max(self.hops, envelope.hops)
        self.messages.append((sender, receiver, message.method, message.body))


class LiveNetwork:
    """A network, or an agent, that lives from exchange to exchange.

    Args:
        rest: How it begins, or where it stood.
    """

    def __init__(self, rest: Rest) -> None:
        self._seed = rest.seed
        self._seen = _Observer()
        self.runtime = Deterministic(rest.seed, instruments=[self._seen])
        if rest.runtime:
            self.runtime.go_on(rest.runtime)
        self.network = rest.network
        self._scope = Scope(Limits())
        self.runtime.follow(self._scope)
        self._busy = threading.Lock()
        self._ref = self.network.start(runtime=self.runtime)
        self._run(lambda: self._take_up(rest))

    @property
    def cells(self) -> list[ScheduledCell]:
        """The cells of the network and of all in it."""
        cell: Any = self.network.__node__().cell
        return [] if cell is None else list(cell.tree())

    def statistics(self) -> Statistics:
        """The counts of its life so far."""
        return self._scope.statistics()

    def exchange(self, message: Message, bounds: Bounds) -> Exchange:
        """Give it a message, and let it work until it is quiet, or a bound is reached.

        Raises:
            UsageError: If an exchange is under way, or the network has no entry.
        """
        if not self._busy.acquire(blocking=False):
            raise UsageError(
                f"The network {self.network.name!r} is at work: an exchange is under way. Wait for "
                "its end; one Mesa agent takes one step at a time."
            )
        try:
            return self._exchange(message, bounds)
        finally:
            self._busy.release()

    def _exchange(self, message: Message, bounds: Bounds) -> Exchange:
        scope, seen = self._scope, self._seen
        node = self.network.__node__()
        if not node.takes(message.method):
            raise UsageError(
                f"The network {node.path!r} has no entry that takes {message.method!r}, so the "
                "observation would reach nobody. Give it entry=…."
            )
        self._run(self._rewind)
        delivered, begun = scope.delivered, time.monotonic()
        self._run(
            lambda: accept(
                node, message, None, sink=Outputs(scope), scope=scope, runtime=self.runtime
            )
        )
        bound: list[str] = []

        def over() -> bool:
            if scope.quiet:
                return True
            if bounds.messages is not None and scope.delivered - delivered >= bounds.messages:
                bound.append("max_messages")
            elif bounds.rounds is not None and seen.hops >= bounds.rounds:
                bound.append("max_rounds")
            elif bounds.seconds is not None and time.monotonic() - begun >= bounds.seconds:
                bound.append("max_seconds")
            return bool(bound)

        self.pump(over)
        if bound:
            self._finish_turns()
        self.runtime.engine.workers.rest()  # a thread for each of many agents is too many
        return Exchange(
            outputs=_taken(scope.outputs),
            dead_letters=_taken(scope.dead_letters),
            failures=_taken(scope.failures),
            statistics=scope.statistics(),
            bound=bound[0] if bound else None,
        )

    # -- in rounds, for whoever says who handles what when

    def tell(self, message: Message) -> None:
        """Queue a message for its receiver, or for the entries."""
        node = self.network.__node__()
        target = node if message.receiver is None else node.inside(message.receiver)
        sink = Outputs(self._scope)
        self._run(
            lambda: accept(
                target, message, None, sink=sink, scope=self._scope, runtime=self.runtime
            )
        )

    def hold(self) -> None:
        """Let nobody handle anything."""
        for cell in self.cells:
            cell.handle_until(-math.inf)

    def let_handle(self, path: str, latest: float) -> None:
        """Let one agent handle its messages up to this one, and all its turns end that can."""
        cell = next((each for each in self.cells if each.node.path == path), None)
        if cell is None:
            return  # it has stopped
        cell.handle_until(latest)
        self.pump(self._still)
        cell.handle_until(-math.inf)

    def pass_time(self, seconds: float) -> None:
        """Let virtual time pass, with its timers; messages wait."""
        self.pump(lambda: False, seconds)

    def heard(self) -> Heard:
        """What has happened since the last look."""
        scope = self._scope
        messages = list(self._seen.messages)
        self._seen.messages.clear()
        return Heard(
            messages, _taken(scope.outputs), _taken(scope.dead_letters), _taken(scope.failures)
        )

    def _still(self) -> bool:
        engine = self.runtime.engine
        return not engine.ready and all(turn.waits for cell in self.cells for turn in cell.open)

    def _finish_turns(self) -> None:
        """Let turns that have begun end, and no other begin; those that wait for others wait on."""
        self.hold()
        self.pump(lambda: all(turn.waits for cell in self.cells for turn in cell.open))

    def pump(self, over: Callable[[], bool], seconds: float | None = None) -> None:
        """Serve, one step after the other, until this is so, or virtual seconds have passed."""
        engine = self.runtime.engine
        engine.wait(over, engine.event(), seconds)

    def rest(self) -> Rest:
        """All that it takes to go on elsewhere; the network itself goes on.

        Raises:
            UsageError: If it is in the middle of something.
        """
        open_ = [cell.node.path for cell in self.cells if cell.open or cell.timers]
        if self._busy.locked() or open_:
            raise UsageError(
                f"The network {self.network.name!r} is in the middle of a step"
                f"{f' ({open_[0]} has a turn or a timer open)' if open_ else ''}, so it cannot be "
                "copied or saved. Do that between two steps."
            )
        return Rest(
            network=self.network,
            seed=self._seed,
            runtime=self.runtime.state(),
            counts=self._scope.statistics(),
            luck={cell.node.path: _state(cell.node.random) for cell in self.cells},
            queued=[
                (cell.node.path, sender, each.message, each.hops, each.overheard)
                for cell in self.cells
                for sender, each in cell.letters()
            ],
        )

    def stop(self) -> None:
        """Stop the network; what waits in it dies."""
        if self._ref.is_alive():
            self._ref.stop(drain=False)

    def _take_up(self, rest: Rest) -> None:
        places = {cell.node.path: cell for cell in self.cells}
        for path, state in rest.luck.items():
            if state is not None and path in places:
                places[path].agent.random.setstate(state)
        for path, sender, message, hops, overheard in rest.queued:
            letter = Letter(message, self._scope, hops, overheard=overheard)
            places[path].put_again(sender, letter)
        scope, counts = self._scope, rest.counts
        scope.sent, scope.delivered, scope.dead = counts.sent, counts.delivered, counts.dead
        scope.failed, scope.restarts = counts.failures, counts.restarts
        if rest.runtime:
            self.runtime.tracing.go_on(rest.runtime["trace"])  # to begin again was no step

    def _rewind(self) -> None:
        """What was left over begins its chains anew."""
        self._seen.hops = 0
        for cell in self.cells:
            cell.handle_until(math.inf)
            for _, envelope in cell.letters():
                envelope.hops = 0

    def _run(self, call: Callable[[], object]) -> None:
        """Make a call as the owner of the engine; nothing is handled meanwhile."""
        done: list[bool] = []

        def now() -> None:
            call()
            done.append(True)

        self.runtime.engine.post(now)
        self.pump(lambda: bool(done))


def _state(luck: random.Random | None) -> Any:
    return None if luck is None else luck.getstate()


def _taken(items: Any) -> tuple[Any, ...]:
    """All of them; none is left."""
    found = tuple(items)
    items.clear()
    return found
