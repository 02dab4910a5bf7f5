"""The cell: the Pykka actor that hosts one agent and gives it its turns.

Floor 2. Touched by the engine's thread only, but for the words that say "any thread".

Invariant: at most `limit` turns are open (one, unless the agent's class sets `concurrency`), and
every message that was accepted gets exactly one end: a finished turn, or a dead letter.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol

import pykka

from llm_net import speech
from llm_net.admission import Admission, full
from llm_net.asking import aask_from, ask_from
from llm_net.circles import circle_of
from llm_net.errors import AgentStopped, HandlerError, MailboxFull, is_interrupt
from llm_net.event_loop_actor import EventLoopActor
from llm_net.handlers import Handler, Place, is_async
from llm_net.mailbox import Envelope, Mailbox, Reason, Sink
from llm_net.message import Message, Method
from llm_net.node import Node
from llm_net.recovery import RESUME, Pause, Retry, Snapshot, apply, decide, keeps_start, recover
from llm_net.registry import unregister
from llm_net.routing import Route
from llm_net.runner import give_all, run_after_all, run_in_place, run_in_task, run_on_thread
from llm_net.runtime import Runtime
from llm_net.scope import Scope, Statistics
from llm_net.speech import give_result
from llm_net.supervision import Intensity
from llm_net.timers import Timer, schedule
from llm_net.turn import Desk, Turn
from llm_net.watching import Watchers, tell_watchers, unwatch, watch

__all__ = ["Cell"]

log = logging.getLogger("llm_net")

QUANTUM = 64
"""Messages a cell may begin before others get their turn."""

RESPONSE = Method.RESPONSE.value
INLINE = Place.INLINE
THREAD = Place.THREAD


# Empty, and shared by all who have none: a deque is larger than the rest of an idle cell.
NOBODY: deque[Admission] = deque()
NO_HOOKS: deque[Callable[[], None]] = deque()


class Mail(Protocol):
    """A queue of messages; a deque, where nothing else is asked for."""

    def append(self, envelope: Envelope, /) -> None:
        """Take one in, behind all others."""
        ...

    def appendleft(self, envelope: Envelope, /) -> None:
        """Take one back."""
        ...

    def popleft(self) -> Envelope:
        """Give the next one."""
        ...

    def __len__(self) -> int: ...


class Cell(EventLoopActor):
    """Hosts one agent: its mailbox, its turns, its life."""

    quantum = QUANTUM

    # What most agents never change stands here until one does: it keeps an idle agent small, and
    # CPython keeps the names of at most thirty attributes for all objects of a class together.
    stopped = False
    intensity: Intensity | None = None
    snapshot: Snapshot | None = None
    dead = 0
    failures = 0
    restarts = 0
    line: deque[Admission] = NOBODY
    """Messages that wait for room in the mailbox."""
    entries: tuple[int, tuple[Cell, ...] | None] | None = None
    """For a network: a version, and who takes its messages then; None if it depends."""
    pause: Pause | None = None
    """What it waits for before a restart."""
    given_up = False
    """Whether a supervisor has stopped it for a failure."""
    spreads: bool | None = None
    """For a network: whether a failure of one member may restart others; None is not looked up."""
    watchers: Watchers | None = None
    """Who is told when it is gone."""

    def __init__(self, node: Node, runtime: Runtime, parent: Cell | None, home: Scope) -> None:
        # Not calling Pykka's: a UUID, an Event and a reference for each agent cost more than the
        # rest of starting it; here they are made when they are asked for.
        self.node = node
        self.agent = node.agent
        self.runtime = runtime
        self.engine = runtime.engine
        self.parent = parent
        self.home = home
        """The run that started the agent, or the world: its hooks belong there."""
        self.children: dict[Cell, None] = {}
        self.ref: Any = None
        """The agent's reference; given by whoever starts it."""
        self.sent = 0
        self.delivered = 0
        self.stopping: str | None = None
        self.scheduled = False
        self.turns = 0
        self.mail: Mail = deque()
        self.table = node.behaviour.handlers
        self.limit = node.behaviour.concurrency
        self.open: dict[Turn, None] = {}
        """The turns that wait, on the loop or on a thread; `turns` is how many."""
        self.conversations: dict[str, Sink] = {}
        """Who takes messages to this agent that answer one of these ids, in its place."""
        self.timers: dict[Timer, None] = {}

        self.when_over: list[Callable[[], None]] = []
        self.bound: Mailbox | None = node.mailbox
        self.capacity = 0 if self.bound is None else self.bound.capacity or 0
        self.careful = bool(runtime.instruments) or self.bound is not None
        """Whether more is to be done with a message than to queue it: it stops, or is watched."""
        self.routes: dict[str, Route] = {}
        """The compiled routes of its events, as of the runtime's `version`."""
        self.version = runtime.version

        self._desk = runtime.desk
        self._hooks: deque[Callable[[], None]] = NO_HOOKS
        self._holding = 0
        """How many hooks and pauses keep messages waiting."""

    # -- Pykka's seams; what are attributes there, costly to make for each agent, are properties

    @staticmethod
    def _create_actor_inbox() -> Any:
        return deque[Envelope]()

    @staticmethod
    def _create_future() -> pykka.Future[Any]:
        return pykka.ThreadingFuture()

    def _start_actor_loop(self) -> None:
        """Live from now on; any thread."""
        self.engine.run(self.begin)

    @property
    def actor_urn(self) -> str:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride]
        """A name that no other actor of this process has."""
        return f"urn:llm_net:{id(self):x}:{self.node.path}"

    @property
    def actor_inbox(self) -> Any:  # type: ignore[override]
        """The mailbox; only the cell itself may touch it."""
        return self.mail

    @property
    def actor_ref(self) -> Any:
        """The agent's reference."""
        return self.ref

    @property
    def actor_stopped(self) -> threading.Event:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride]
        """Set when the agent is no longer live; any thread."""
        # setdefault is atomic: two threads that ask at once get one event.
        event: threading.Event = vars(self).setdefault("_stopped_event", threading.Event())
        if self.stopped:
            event.set()
        return event

    # -- what others ask of it

    def tree(self) -> Iterator[Cell]:
        """This cell and all live ones below it; without recursion, for nests may be deep."""
        stack: list[Cell] = [self]
        while stack:
            cell = stack.pop()
            yield cell
            stack.extend(reversed(cell.children))

    def queued(self) -> int:
        """How many messages wait in the mailbox, and in line before it."""
        return len(self.mail) + len(self.line)

    def statistics(self) -> Statistics:
        """The counts of this agent alone."""
        return Statistics(
            sent=self.sent,
            delivered=self.delivered,
            queued=self.queued(),
            dead=self.dead,
            failures=self.failures,
            restarts=self.restarts,
        )

    def route(self, event: str) -> Route:
        """Who hears this event, compiled once for each state of the network; any thread."""
        version = self.runtime.version
        if self.version != version:
            self.routes = {}
            self.version = version
        routes = self.routes  # these, even if others take their place while the route is compiled
        route = routes.get(event)
        if route is None:
            route = routes[event] = self.node.compile_route(event)
        return route

    def busy(self) -> list[str]:
        """The paths of agents below with an open turn that cannot be cancelled: on a thread."""
        return [cell.node.path for cell in self.tree() if any(turn.threaded for turn in cell.open)]

    def over(self) -> bool:
        """Whether nothing is left to wait for but handlers on threads that have not returned."""
        if self.stopped or self.engine.patient:
            return self.stopped
        return all(
            cell.children
            or (cell.open and all(turn.threaded and turn.abandoned for turn in cell.open))
            for cell in self.tree()
        )

    def idles(self, scope: Scope) -> bool:
        """Whether no turn of this run is open below, but for handlers on threads."""
        return all(
            (turn.threaded and not self.engine.patient) or turn.scope is not scope
            for cell in self.tree()
            for turn in cell.open
        )

    # -- what the agent says; any thread

    send = speech.send
    emit = speech.emit
    asend = speech.asend
    aemit = speech.aemit

    def ask(self, receiver: Any, message: Message, timeout: float | None) -> Message | None:
        """Ask from a handler on a thread, and block it until the reply."""
        return ask_from(self, receiver, message, timeout)

    async def aask(self, receiver: Any, message: Message, timeout: float | None) -> Message | None:
        """Ask from an async handler, and await the reply."""
        return await aask_from(self, receiver, message, timeout)

    def schedule(self, delay: float, message: Message | str, every: float | None) -> Timer:
        """Send a message later."""
        return schedule(self, delay, message, every)

    # -- the mailbox

    def put(
        self, envelope: Envelope, sender: Cell | None = None, turn: Turn | None = None
    ) -> Admission | MailboxFull | None:
        """Accept a message, or let it die.

        Args:
            envelope: The message.
            sender: Who sends it; None from outside.
            turn: The turn in which it is sent, if in one.

        Returns:
            An admission, if the mailbox is full and it waits there; an error, if it is refused.
        """
        scope = envelope.scope
        scope.sent += 1
        if self.careful or scope.careful:
            return self._put_carefully(envelope, sender, turn)
        scope.open += 1
        self.mail.append(envelope)
        if not self.scheduled and self.turns < self.limit:
            self.scheduled = True
            engine = self.engine
            engine.ready.append(self)
            if not engine.awake:
                engine.wake()
        return None

    def _put_carefully(
        self, envelope: Envelope, sender: Cell | None, turn: Turn | None
    ) -> Admission | MailboxFull | None:
        """Accept a message where there are limits, bounds, or somebody looks on."""
        scope = envelope.scope
        if (
            self.stopping is not None
            or scope.ended is not None
            or (scope.tight and not scope.admits(envelope, self))
        ):
            self.dead += 1
            self.runtime.bury(envelope, scope.reason, self.node.path)
            return None
        if self.bound is not None and (self.line or len(self.mail) >= self.capacity):
            if self.bound.overflow == "drop_oldest":
                self._bury(self.mail.popleft(), Reason.OVERFLOW)
            else:
                return self._overflow(self.bound, envelope, sender, turn)
        scope.open += 1
        self._take_in(envelope, sender)
        return None

    def _take_in(self, envelope: Envelope, sender: Cell | None) -> None:  # noqa: ARG002 - some look
        """Queue a message; it is counted already."""
        self.mail.append(envelope)
        scope = envelope.scope
        if scope.record is not None:
            scope.note(envelope.message, self.node.address)
        if self.runtime.instruments:
            self.runtime.observe("send", envelope, self.node.path)
        if not self.scheduled and self.turns < self.limit:
            self._schedule()

    # -- a full mailbox

    def _overflow(
        self, bound: Mailbox, envelope: Envelope, sender: Cell | None, turn: Turn | None
    ) -> Admission | MailboxFull | None:
        """Deal with a message for which there is no room."""
        path = self.node.path
        error: MailboxFull | None = None
        if bound.overflow == "wait":
            # An ask waits for its answer anyhow; the rest of its turn is not to wait twice.
            waits = None if envelope.sink is not None else turn
            admission = Admission(self, envelope, sender, waits)
            circle = None if waits is None else circle_of(waits.cell, admission)
            if circle is None:
                envelope.scope.open += 1
                if not self.line:
                    self.line = deque()
                self.line.append(admission)
                if waits is not None:
                    waits.wait_for(admission)
                return admission
            error = full(path, self.capacity, circle)
        elif bound.overflow == "fail":
            error = full(path, self.capacity)
        self.dead += 1
        self.runtime.bury(envelope, Reason.OVERFLOW, path)
        return None if envelope.sink is not None else error

    def _let_in(self) -> None:
        """There is room again: take in who waits in line."""
        while self.line and len(self.mail) < self.capacity:
            admission = self.line.popleft()
            self._take_in(admission.envelope, admission.sender)
            admission.settle()

    def _turn_away(self, reason: str, scope: Scope | None = None) -> None:
        """Let those in line die: all, or those of a scope."""
        for admission in list(self.line):
            if scope is None or admission.envelope.scope is scope:
                self.line.remove(admission)
                self._bury(admission.envelope, reason)
                admission.settle()

    def withdraw(self, admission: Admission) -> None:
        """Let one in line die, for whoever sends it waits no longer."""
        if admission in self.line:
            self.line.remove(admission)
            self._bury(admission.envelope, Reason.OVERFLOW)
            admission.settle()

    def taken_in(self, turn: Turn) -> None:
        """A message that a turn sent has found room; the turn may be over with that."""
        if turn.ending and not turn.waits:
            self._turn_over(turn, turn.raised)

    def _linger(self, turn: Turn, raised: BaseException | None) -> bool:
        """Whether a turn cannot end yet, because a message of it waits at a full mailbox."""
        waiting = [each for each in turn.waits if isinstance(each, Admission)]
        if not waiting or turn.abandoned:
            return False
        if turn is self._desk:
            # The desk is needed: the turn goes on without it.
            lasting = Turn(self, turn.envelope, turn.scope)
            for admission in waiting:
                turn.waits_no_more(admission)
                admission.turn = lasting
                lasting.wait_for(admission)
            turn.cell = None
            self.open[lasting] = None
            self.turns += 1
            turn = lasting
        turn.ending = True
        turn.raised = raised
        return True

    def discard(self, scope: Scope) -> None:
        """Drop what an ended scope left here, and cancel its turns and timers."""
        for _ in range(len(self.mail)):
            # One after the other, so that the counts add up at each dead letter.
            envelope = self.mail.popleft()
            if envelope.scope is scope:
                self._bury(envelope, scope.reason)
            else:
                self.mail.append(envelope)
        self._turn_away(scope.reason, scope)
        self._let_in()
        if self.pause is not None:
            self.pause.outlive(scope)
        for timer in list(self.timers):
            if timer.turn.scope is scope:
                timer.end()
        for turn in list(self.open):
            if turn.scope is scope:
                self._abandon(turn)

    def _bury(self, envelope: Envelope, reason: str) -> None:
        """Let a queued message die."""
        self.dead += 1
        self.runtime.bury(envelope, reason, self.node.path)
        envelope.scope.close()

    def _schedule(self) -> None:
        if self.engine.loop is None:
            self.serve()  # the engine has closed, and a handler on a thread returns only now
        elif not self.scheduled:
            self.scheduled = True
            self.engine.ready.append(self)
            if not self.engine.awake:
                self.engine.wake()

    # -- turns

    def serve(self) -> bool:  # noqa: C901, PLR0912, PLR0915 - every call here costs each message
        """Begin turns while there is mail and room; False if the next needs the loop's thread."""
        looping = self.engine.looping
        # A deputy runs nothing of the user's, unless the engine has closed, and there is no other.
        light = self.engine.deputized and self.engine.loop is not None
        if self._hooks and not self._begin_hooks():
            return False
        mail = self.mail
        desk = self._desk
        agent = self.agent
        quantum = self.quantum
        while mail and self.turns < self.limit and not self._holding:
            if not quantum:
                self._requeue()
                return True
            quantum -= 1
            envelope = mail.popleft()
            if light and not envelope.light:
                mail.appendleft(envelope)
                return False
            message = envelope.message
            scope = envelope.scope
            handler = self.table.get(message.method)
            if handler is None or handler.accepts is not None or self.careful or scope.careful:
                handler = self._handler(envelope)
                if handler is None:
                    continue
            place = handler.place
            if (place is not INLINE and not looping) or (light and place is not THREAD):
                mail.appendleft(envelope)
                return False
            scope.delivered += 1
            self.delivered += 1
            if self.careful or scope.careful:
                self._begun(envelope)
            sender = message.sender
            if sender is not None and not sender.bound:
                message = message.filled(self.node.bound(sender), message.receiver)
            if place is INLINE:
                desk.cell = self
                desk.envelope = envelope
                desk.scope = scope
                raised = None
                try:
                    value = handler.call(agent, message)
                    if value is not None:
                        give_all(desk, value, give_result)
                except BaseException as error:  # noqa: BLE001 - one agent's exit is not the others'
                    raised = error
                if raised is None and envelope.sink is None and not self.careful:
                    desk.cell = None
                    scope.open -= 1
                    if not scope.open and scope.changed is not None:
                        scope.changed()
                else:
                    self._over_in_place(desk, raised)
            else:
                turn = Turn(self, envelope, scope)
                self.open[turn] = None
                self.turns += 1
                run = run_in_task if place is Place.LOOP else run_on_thread
                run(handler.call, (agent, message), turn, give_result, self._turn_over, self.engine)
        self.scheduled = False
        if self._hooks or self.stopping is not None:
            self._look_after()
        return True

    @property
    def light(self) -> bool:
        """Whether nobody looks on, and no hook waits."""
        return not (self.careful or self._hooks)

    def _begin_hooks(self) -> bool:
        """Begin the hooks that wait; False if they need the running loop."""
        while self._hooks:
            if not (self.engine.looping or self.engine.closed):
                return False
            self._hooks.popleft()()
        return True

    def _requeue(self) -> None:
        """There is more mail, and it is the turn of others."""
        self.engine.ready.append(self)

    def _look_after(self) -> None:
        """Mail was served as far as it goes; is there anything else to do?"""
        if self._hooks:
            self._schedule()  # a turn in place has failed, and its hook comes before the next turn
        if self.stopping is not None and not (
            self.mail or self.turns or self.children or self._holding or self.stopped
        ):
            self._end()

    def _handler(self, envelope: Envelope) -> Handler | None:
        """Who takes a message; None if its end is settled here."""
        if self.line:
            self._let_in()
        message = envelope.message
        handler = self.table.get(message.method)
        if handler is None or (
            handler.accepts is not None and not isinstance(message, handler.accepts)
        ):
            if message.method == RESPONSE and handler is None:
                # A bare reply to an agent that does not care for replies.
                envelope.scope.delivered += 1
                self.delivered += 1
                if self.runtime.instruments:
                    self.runtime.observe("deliver", envelope, self.node.path)
                    self.runtime.observe("finish", envelope, self.node.path)
                if envelope.sink is not None:
                    envelope.sink.ended(None)
                envelope.scope.close()
                return None
            handler = self.node.behaviour.unhandled
            if handler is None:
                self._bury(envelope, Reason.NO_HANDLER)
                return None
        scope = envelope.scope
        if scope.ended is not None or (scope.tight and not scope.may_begin()):
            self._bury(envelope, scope.reason)
            return None
        return handler

    def _begun(self, envelope: Envelope) -> None:
        """A turn begins where somebody looks on."""
        envelope.scope.turns += 1
        if self.runtime.instruments:
            self.runtime.observe("deliver", envelope, self.node.path)

    def _over_in_place(self, desk: Desk, raised: BaseException | None) -> None:
        """A turn at the desk has ended, and there is something to do about it.

        Raises:
            KeyboardInterrupt: If the user interrupts the program.
        """
        interrupt = raised is not None and is_interrupt(raised)
        self._turn_over(desk, None if interrupt else raised)
        if raised is not None and interrupt:
            self.scheduled = False
            if self.mail:
                self._schedule()
            raise raised

    def _turn_over(self, turn: Turn, raised: BaseException | None) -> None:
        """A turn has ended, well or badly."""
        envelope = turn.envelope
        assert envelope is not None
        quick = raised is None and envelope.sink is None and not turn.abandoned
        if quick and not (self.careful or turn.waits):
            if turn is self._desk:
                turn.cell = None
            else:
                del self.open[turn]
                self.turns -= 1
            scope = turn.scope
            scope.open -= 1
            if not scope.open and scope.changed is not None:
                scope.changed()
            if self.mail and not self.scheduled:
                self._schedule()
        elif not turn.waits or not self._linger(turn, raised):
            self._settle(turn, envelope, raised)

    def _settle(self, turn: Turn, envelope: Envelope, raised: BaseException | None) -> None:
        """Tell everybody whom it concerns that a turn has ended."""
        error = None
        if raised is not None and not turn.abandoned:
            error = self.failed(turn, raised)
        for ask in list(turn.waits):
            ask.give_up(AgentStopped(f"The turn of {self.node.path!r} that asked is over."))
        if turn is self._desk:
            turn.cell = None
        else:
            del self.open[turn]
            self.turns -= 1
        if self.runtime.instruments:
            self.runtime.observe("finish", envelope, self.node.path)
        if error is None or raised is None or self.stopped:
            self._tell_end(turn, envelope, error)
        elif (self.node.supervision or RESUME).max_tries is None:
            envelope.scope.open += 1  # it is not quiet before it is decided what is to be done
            self._tell_end(turn, envelope, error)
            recover(self, raised, envelope.scope)
            envelope.scope.close()
        else:
            # Its end is told when it is known whether it is tried again.
            retry, source = Retry(envelope, error), self.source_of(envelope)
            recover(self, raised, envelope.scope, retry, source)
        if self.pause is not None:
            self.pause.look(self)
        if not self.scheduled and (self.mail or self.stopping is not None):
            self._schedule()

    def _tell_end(self, turn: Turn, envelope: Envelope, error: HandlerError | None) -> None:
        if envelope.sink is not None:
            if turn.abandoned:
                msg = f"The agent {self.node.path!r} was stopped while it handled the message."
                envelope.sink.ended(AgentStopped(msg))
            else:
                envelope.sink.ended(error)
        if not turn.detached:
            envelope.scope.close()

    def source_of(self, envelope: Envelope) -> str:  # noqa: ARG002 - some mailboxes keep it
        """Who sent a message that is handled, as far as its place in the mailbox depends on it."""
        return ""

    def take_back(self, envelope: Envelope, source: str) -> None:  # noqa: ARG002 - likewise
        """Put a message that is to be tried again before all others."""
        self.mail.appendleft(envelope)

    def failed(self, turn: Turn, raised: BaseException) -> HandlerError:
        """Record that a turn raised."""
        path = self.node.path
        message = None if turn.envelope is None else turn.envelope.message
        what = "a hook or listener" if message is None else f"the handler of {message.method!r}"
        error = HandlerError(
            f"In {path!r} {what} raised {type(raised).__name__}: {raised}",
            path=path,
            message=message,
        )
        error.__cause__ = raised
        self.failures += 1
        turn.scope.failed += 1
        turn.scope.failures.append(error)
        self.runtime.observe("fail", error)
        asked = turn.envelope is not None and turn.envelope.sink is not None
        if turn.scope is self.runtime.world and not asked:
            # Nobody waits for this turn, and no run will report it.
            log.error("%s", error, exc_info=raised)
        return error

    def forsake(self, sink: Sink) -> list[Turn]:
        """Cancel the async handlers whose replies go to this sink, for nobody wants them any more.

        Returns:
            The turns of it that cannot be cancelled: on a thread.
        """
        mine = [
            turn
            for turn in self.open
            if turn.envelope is not None and turn.envelope.sink is sink and not turn.abandoned
        ]
        for turn in mine:
            if not turn.threaded:
                self._abandon(turn)
        return [turn for turn in mine if turn.threaded]

    def detach(self, turn: Turn) -> None:
        """Let the run go on without a turn that cannot be cancelled."""
        self._abandon(turn)
        turn.detached = True
        turn.scope.close()

    def abandon_turns(self) -> None:
        """Cancel all open turns; of those on threads, discard the results."""
        for turn in list(self.open):
            self._abandon(turn)

    def _abandon(self, turn: Turn) -> None:
        turn.abandoned = True
        for ask in list(turn.waits):
            ask.give_up(AgentStopped(f"The agent {self.node.path!r} was stopped while it asked."))
        if turn.ending:
            self._turn_over(turn, turn.raised)  # its handler has returned already
        elif turn.task is not None:
            self.engine.cancel(turn.task, self.node.path)

    # -- life

    def keep_start(self) -> None:
        """Remember the fields as they are now, if a restart may need them; any thread.

        Raises:
            UsageError: If a field cannot be copied.
        """
        if keeps_start(self):
            self.snapshot = Snapshot(self.agent)

    def begin(self) -> None:
        """Live from now on."""
        if self.runtime.instruments:
            self.runtime.observe("start", self.node.path)
        self.begin_again()

    def begin_again(self) -> None:
        """Run the hook at the start of a life, or after a restart."""
        self.hook("on_start", then=self._started)

    def _started(self, raised: BaseException | None) -> None:
        if raised is not None:
            # An agent that could not start has nothing to go on with. Resuming would serve messages
            # from a state that on_start was to prepare; restarting would fail again, for ever.
            scope = self.runtime.world if self.home.past else self.home
            escalates = decide(self, raised) == "escalate"
            apply(self, "escalate" if escalates else "stop", raised, scope)

    def move_below(self, above: Cell) -> None:
        """Be a member of another live network from now on, with everything that is under way."""
        if self.stopped:
            return
        if self.parent is not None:
            self.parent.children.pop(self, None)
            self.parent._schedule()  # noqa: SLF001 - another object of this class
        self.parent = above
        above.children[self] = None
        self.runtime.version += 1
        if above.stopping is not None:
            self.stop_in_order()  # the network that it came to is on its way out

    def stop_in_order(self) -> None:
        """Handle the messages that are here, then stop; later ones are dead."""
        if self.stopping is None and not self.stopped:
            self.stopping = "drain"
            self.careful = True
            if self.pause is not None:
                self.pause.hurry(self)  # what is left is handled by an agent that is well
            for child in list(self.children):
                child.stop_in_order()
            self._schedule()

    def stop_now(self, reason: str = Reason.STOPPED) -> None:
        """Stop before any further message: the mailbox is dead, open turns are cancelled."""
        if self.stopped:
            return
        self.stopping = "now"
        self.careful = True
        if self.pause is not None:
            self.pause.leave(self)
        while self.mail:
            self._bury(self.mail.popleft(), reason)
        self._turn_away(reason)
        self.abandon_turns()
        for child in list(self.children):
            child.stop_now(reason)
        self._schedule()

    def _end(self) -> None:
        """No turn is open and no child is live: run the last hook and be gone."""
        self.stopping = "now"  # a sibling's failure restarts it no more
        self.hook("on_stop", then=lambda _raised: self._gone())

    def _gone(self) -> None:
        if self.stopped:
            return
        self.stopped = True
        while self.mail:
            self._bury(self.mail.popleft(), Reason.STOPPED)
        self._turn_away(Reason.STOPPED)
        for timer in list(self.timers):
            timer.end()
        self.node.cell = None
        self.runtime.version += 1
        if self.runtime.instruments:
            self.runtime.observe("stop", self.node.path)
        self.ref.retire(self)
        if self.parent is None:
            unregister(self.ref)
        else:
            self.parent.children.pop(self, None)
            self.parent._schedule()  # noqa: SLF001 - another object of this class
        event = vars(self).get("_stopped_event")
        if event is not None:
            event.set()
        if self.parent is None:
            self.runtime.leave(self)
        if self.watchers is not None:
            tell_watchers(self)
        for call in self.when_over:
            call()
        self.when_over.clear()

    def hold(self, pause: Pause) -> None:
        """Take no message before a restart."""
        self.pause = pause
        self._holding += 1
        self._schedule()

    def let_go(self) -> None:
        """Take messages again, as far as anything else allows."""
        self.pause = None
        self._holding -= 1
        self._schedule()

    def watch(self, other: Any) -> None:
        """Be told when another agent is gone; any thread."""
        watch(self, other)

    def unwatch(self, other: Any) -> None:
        """Be told no more; any thread."""
        unwatch(self, other)

    def hook(
        self, name: str, *arguments: Any, then: Callable[[BaseException | None], None]
    ) -> None:
        """Run a life-cycle hook between turns, where handlers of its kind run."""
        hook = self.node.behaviour.hooks.get(name)
        if hook is None:
            then(None)
            return
        self._holding += 1
        scope = self.runtime.world if self.home.past else self.home
        scope.open += 1

        def over(turn: Turn, raised: BaseException | None) -> None:
            self._holding -= 1
            self.open.pop(turn, None)
            if turn.abandoned:
                raised = None  # it did not fail: a stop, or another restart, has broken it off
            if raised is not None:
                self.failed(turn, raised)
            then(raised)
            if self.pause is not None:
                self.pause.look(self)
            if self.mail or self.stopping is not None:
                self._schedule()
            scope.close()

        def begin() -> None:
            turn = Turn(self, None, scope)
            given = (self.agent, *arguments)
            if self.engine.closed:
                over(turn, run_after_all(partial(hook, *given), turn))
            elif is_async(hook):
                self.open[turn] = None
                run_in_task(hook, given, turn, _ignore, over, self.engine)
            elif self.node.behaviour.blocking:
                self.open[turn] = None
                run_on_thread(hook, given, turn, _ignore, over, self.engine)
            else:
                over(turn, run_in_place(partial(hook, *given), turn, _ignore))

        if not self._hooks:
            self._hooks = deque()
        self._hooks.append(begin)
        self._schedule()


def _ignore(_turn: Turn, _value: Any) -> None:
    """What a hook returns means nothing."""
