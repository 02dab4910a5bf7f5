"""The cell: the Pykka actor that hosts one agent and gives it its turns.

Floor 2. Touched by the engine's thread only, but for the words that say "any thread".

Invariant: at most `limit` turns are open (one, unless the agent's class sets `concurrency`), and
every message that was accepted gets exactly one end: a finished turn, or a dead letter.
"""

from __future__ import annotations

import asyncio
import contextvars
import copy
import inspect
import logging
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from typing import Any

import pykka
from pydantic import BaseModel

from llm_net.asks import Ask
from llm_net.context import AUTHOR
from llm_net.errors import AgentStopped, AskCycle, AskTimeout, HandlerError, UsageError
from llm_net.handlers import Handler, Place
from llm_net.mailbox import Envelope, Reason, Sink
from llm_net.message import Message, Method, Role, snake_case
from llm_net.node import Node
from llm_net.routing import Route
from llm_net.runtime import Runtime
from llm_net.scope import Scope, Statistics
from llm_net.supervision import Intensity, Supervision

__all__ = ["Cell", "Timer", "Turn", "accept", "late", "limit_ask", "wake_here"]

log = logging.getLogger("llm_net")

QUANTUM = 64
"""Messages a cell may begin before others get their turn."""

EAGER = sys.version_info >= (3, 12)
RESPONSE = Method.RESPONSE.value


class Turn:
    """One message in the hands of one agent; lends ids, time and role to what is written in it.

    Attributes:
        cell: Whose turn it is.
        envelope: What is handled; None in a hook.
        scope: The run that the turn belongs to.
        task: The task that an async handler runs in.
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
        self.waits: set[Ask] = set()
        self.abandoned = False
        self.detached = False

    @property
    def role(self) -> Role:
        """The role of the agent whose turn it is."""
        return self.cell.agent.role  # type: ignore[no-any-return]

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


class Cell(pykka.Actor):
    """Hosts one agent: its mailbox, its turns, its life."""

    def __init__(self, node: Node, runtime: Runtime, parent: Cell | None) -> None:
        # Not calling Pykka's: a UUID, an Event and a reference for each agent cost more than the
        # rest of starting it; here they are made when they are asked for.
        self.node = node
        self.agent = node.agent
        self.runtime = runtime
        self.engine = runtime.engine
        self.parent = parent
        self.children: dict[Cell, None] = {}
        self.mail: deque[Envelope] = deque()
        self.table = node.behaviour.handlers
        self.limit = node.behaviour.concurrency
        self.scheduled = False
        self.turns = 0
        self.open: set[Turn] = set()
        self.inline = Turn(self, None, runtime.world)
        self.hooks: deque[Callable[[], None]] = deque()
        self.holding = False
        self.routes: dict[str, Route] = {}
        self.version = runtime.version
        self.ref: Any = None
        """The agent's reference; given by whoever starts it."""
        self.stopping: str | None = None
        self.stopped = False
        self.sent = 0
        self.delivered = 0
        self.dead = 0
        self.failures = 0
        self.restarts = 0
        self.when_over: list[Callable[[], None]] = []
        self.timers: set[Timer] = set()
        self.conversations: dict[str, Sink] = {}
        """Who takes messages to this agent that answer one of these ids, in its place."""
        self.intensity: Intensity | None = None
        self.snapshot: tuple[dict[str, Any], dict[str, Any] | None] | None = None
        self._event: threading.Event | None = None

    # -- Pykka's seams

    @staticmethod
    def _create_actor_inbox() -> Any:
        return deque()

    @staticmethod
    def _create_future() -> pykka.Future[Any]:
        return pykka.ThreadingFuture()

    def _start_actor_loop(self) -> None:
        """Live from now on; any thread."""
        self.engine.run(self.begin)

    @property
    def actor_urn(self) -> str:  # type: ignore[override]
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
    def actor_stopped(self) -> threading.Event:  # type: ignore[override]
        """Set when the agent is no longer live."""
        if self._event is None:
            event = self.__dict__.setdefault("_stopped_event", threading.Event())
            self._event = event
            if self.stopped:
                event.set()
        return self._event

    # -- life

    def supervision(self) -> Supervision:
        """What answers a failure of this agent."""
        return self.node.supervision or _RESUME

    def keeps_start(self) -> bool:
        """Whether some failure may restart this agent, so that its fields at start are needed."""
        cell: Cell | None = self
        while cell is not None:
            if cell.supervision().may_restart:
                return True
            cell = cell.parent
        return False

    def keep_start(self) -> None:
        """Remember the fields as they are now; any thread, before the start.

        Raises:
            UsageError: If a field cannot be copied.
        """
        if not self.keeps_start():
            return
        agent = self.agent
        private = getattr(agent, "__pydantic_private__", None)
        copied: dict[str, Any] = {}
        for name, value in [*agent.__dict__.items(), *(private or {}).items()]:
            try:
                copied[name] = copy.deepcopy(value)
            except Exception as error:
                msg = (
                    f"The agent {agent.path!r} may be restarted, but its field {name!r} "
                    f"({type(value).__name__}) cannot be copied: {error}. Give the type a "
                    "__deepcopy__, or supervise the agent without restarts."
                )
                raise UsageError(msg) from error
        self.snapshot = (
            {name: copied[name] for name in agent.__dict__},
            None if private is None else {name: copied[name] for name in private},
        )

    def tree(self) -> Iterator[Cell]:
        """This cell and all live ones below it; without recursion, for nests may be deep."""
        stack = [self]
        while stack:
            cell = stack.pop()
            yield cell
            stack.extend(reversed(cell.children))

    def queued(self) -> int:
        """How many messages wait in the mailbox."""
        return len(self.mail)

    def statistics(self) -> Statistics:
        """The counts of this agent alone."""
        return Statistics(
            sent=self.sent,
            delivered=self.delivered,
            queued=len(self.mail),
            dead=self.dead,
            failures=self.failures,
            restarts=self.restarts,
        )

    def begin(self) -> None:
        """Live from now on."""
        if self.runtime.instruments:
            self.runtime.observe("start", self.node.path)
        self._hook("on_start", then=self._started)

    def _started(self, error: BaseException | None) -> None:
        if error is not None:
            # An agent that could not start has nothing to go on with: whatever its directive,
            # resuming would serve messages from a state that on_start was to prepare.
            directive = self.supervision().decide(error)
            self._apply("stop" if directive == "resume" else directive, error, self.runtime.world)

    def stop_in_order(self) -> None:
        """Handle the messages that are here, then stop; later ones are dead."""
        if self.stopping is None and not self.stopped:
            self.stopping = "drain"
            for child in list(self.children):
                child.stop_in_order()
            self._schedule()

    def stop_now(self, reason: str = Reason.STOPPED) -> None:
        """Stop before any further message: the mailbox is dead, open turns are cancelled."""
        if self.stopped:
            return
        self.stopping = "now"
        while self.mail:
            self._bury(self.mail.popleft(), reason)
        for turn in list(self.open):
            self._abandon(turn)
        for child in list(self.children):
            child.stop_now(reason)
        self._schedule()

    def busy(self) -> list[str]:
        """The paths of agents below with an open turn that cannot be cancelled: on a thread."""
        return [
            cell.node.path for cell in self.tree() if any(turn.threaded for turn in cell.open)
        ]

    def over(self) -> bool:
        """Whether nothing is left to wait for but handlers on threads that have not returned."""
        return self.stopped or all(
            cell.children
            or (cell.open and all(turn.threaded and turn.abandoned for turn in cell.open))
            for cell in self.tree()
        )

    def idles(self, scope: Scope) -> bool:
        """Whether no turn of this run is open below, but for handlers on threads."""
        return all(
            turn.threaded or turn.scope is not scope for cell in self.tree() for turn in cell.open
        )

    def discard(self, scope: Scope) -> None:
        """Drop what an ended scope left here, and cancel its turns."""
        if any(envelope.scope is scope for envelope in self.mail):
            kept = [envelope for envelope in self.mail if envelope.scope is not scope]
            left = [envelope for envelope in self.mail if envelope.scope is scope]
            self.mail.clear()
            self.mail.extend(kept)
            for envelope in left:
                self._bury(envelope, scope.reason)
        for timer in list(self.timers):
            if timer.turn.scope is scope:
                timer.end()
        for turn in list(self.open):
            if turn.scope is scope:
                self._abandon(turn)

    def forsake(self, sink: Any) -> bool:
        """End the turns whose replies went to this sink, for whoever asked wants none any more.

        Returns:
            Whether one of them runs on a thread, so that the agent stays busy until it returns.
        """
        stuck = False
        for turn in list(self.open):
            if turn.envelope is not None and turn.envelope.sink is sink and not turn.abandoned:
                self._abandon(turn)
                if turn.threaded:
                    stuck = turn.detached = True
                    turn.scope.close()
        return stuck

    def _abandon(self, turn: Turn) -> None:
        turn.abandoned = True
        for ask in list(turn.waits):
            ask.give_up(AgentStopped(f"The agent {self.node.path!r} was stopped while it asked."))
        if turn.task is not None:
            turn.task.cancel()

    def _end(self) -> None:
        """No turn is open and no child is live: run the last hook and be gone."""
        self.hooks.clear()
        self._hook("on_stop", then=lambda _error: self._gone())

    def _gone(self) -> None:
        if self.stopped:
            return
        self.stopped = True
        while self.mail:
            self._bury(self.mail.popleft(), Reason.STOPPED)
        self.node.cell = None
        self.runtime.version += 1
        if self.runtime.instruments:
            self.runtime.observe("stop", self.node.path)
        for timer in list(self.timers):
            timer.end()
        self.ref.retire()
        if self.parent is None:
            pykka.ActorRegistry.unregister(self.ref)
        else:
            self.parent.children.pop(self, None)
            self.parent._schedule()
        event = self.__dict__.get("_stopped_event")
        if event is not None:
            event.set()
        for call in self.when_over:
            call()
        self.when_over.clear()
        if self.parent is None:
            self.runtime.leave(self)

    # -- the mailbox

    def put(self, envelope: Envelope) -> None:
        """Accept a message, or let it die."""
        scope = envelope.scope
        scope.sent += 1
        if (
            self.stopping is not None
            or scope.ended is not None
            or (scope.tight and not scope.admits(envelope, self.node.path))
        ):
            self.dead += 1
            self.runtime.bury(envelope, scope.reason, self.node.path)
            return
        scope.open += 1
        self.mail.append(envelope)
        if scope.record is not None:
            scope.note(envelope.message, self.node.address)
        if self.runtime.instruments:
            self.runtime.observe("send", envelope, self.node.path)
        if not self.scheduled and self.turns < self.limit:
            self.scheduled = True
            engine = self.engine
            engine.ready.append(self)
            if not engine.awake:
                engine.wake()

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

    def serve(self) -> bool:
        """Begin turns while there is mail and room; False if the next one needs the running loop."""
        engine = self.engine
        mail = self.mail
        while self.hooks:
            if not engine.looping:
                return False
            self.hooks.popleft()()
        quantum = QUANTUM
        while mail and self.turns < self.limit and not self.holding:
            if not quantum:
                engine.ready.append(self)
                AUTHOR.set(None)
                return True
            quantum -= 1
            envelope = mail.popleft()
            message = envelope.message
            scope = envelope.scope
            handler = self.table.get(message.method)
            if handler is None or (
                handler.accepts is not None and not isinstance(message, handler.accepts)
            ):
                handler = self._fallback(envelope)
                if handler is None:
                    continue
            if handler.place is not Place.INLINE and not engine.looping:
                mail.appendleft(envelope)
                AUTHOR.set(None)
                return False
            if scope.ended is not None or (scope.tight and not scope.may_begin()):
                self._bury(envelope, scope.reason)
                continue
            scope.turns += 1
            scope.delivered += 1
            self.delivered += 1
            self.turns += 1
            if self.runtime.instruments:
                self.runtime.observe("deliver", envelope, self.node.path)
            self._bind(message)
            if handler.place is Place.INLINE:
                self._run_inline(handler, envelope)
            elif handler.place is Place.LOOP:
                self._run_async(handler, envelope)
            else:
                self._run_on_thread(handler, envelope)
        AUTHOR.set(None)
        self.scheduled = False
        if self.stopping is not None and not (
            mail or self.turns or self.children or self.holding or self.stopped
        ):
            self._end()
        return True

    def _fallback(self, envelope: Envelope) -> Handler | None:
        """Who takes a message that no handler is declared for; None if its end is settled here."""
        if envelope.message.method == RESPONSE and RESPONSE not in self.table:
            # A bare reply to an agent that does not care for replies.
            envelope.scope.delivered += 1
            self.delivered += 1
            if envelope.sink is not None:
                envelope.sink.ended(None)
            envelope.scope.close()
            return None
        handler = self.node.behaviour.unhandled
        if handler is None:
            self._bury(envelope, Reason.NO_HANDLER)
        return handler

    def _bind(self, message: Message) -> None:
        """Let addresses that were read from JSON lead to agents of this network again."""
        for address in (message.sender, message.receiver):
            if address is not None and not address.bound:
                agent = self.node.look_up(address.path)
                if agent is not None:
                    address.bind(agent)

    def _run_inline(self, handler: Handler, envelope: Envelope) -> None:
        turn = self.inline
        turn.envelope = envelope
        turn.scope = envelope.scope
        AUTHOR.set(turn)
        error: HandlerError | None = None
        try:
            value = handler.call(self.agent, envelope.message)
            if value is not None:
                if inspect.isgenerator(value):
                    for item in value:
                        self.result(turn, item)
                elif inspect.isasyncgen(value) or inspect.iscoroutine(value):
                    raise _not_awaited(value)
                else:
                    self.result(turn, value)
        except KeyboardInterrupt:
            # On the main thread it is the user, who wants the program, not this turn, to end.
            self._finish(turn, None)
            raise
        except BaseException as raised:  # noqa: BLE001 - one agent's SystemExit is not the others'
            error = self._failed(turn, raised)
        self._finish(turn, error)

    def _run_async(self, handler: Handler, envelope: Envelope) -> None:
        turn = Turn(self, envelope, envelope.scope)
        self.open.add(turn)
        AUTHOR.set(turn)
        self._start_task(turn, self._drive(turn, handler))

    def _start_task(self, turn: Turn, coroutine: Any) -> None:
        engine = self.engine
        engine.held += 1
        loop = engine.loop
        # Eager: a handler that does not wait costs no round of the loop.
        task = (
            asyncio.Task(coroutine, loop=loop, eager_start=True)
            if EAGER
            else asyncio.Task(coroutine, loop=loop)
        )
        if not task.done():
            turn.task = task
            task.add_done_callback(partial(self._task_done, turn))
        else:
            self._task_done(turn, task)

    def _task_done(self, turn: Turn, task: asyncio.Task[None]) -> None:
        self.engine.held -= 1
        if turn in self.open:
            # Cancelled before its first step, so that _drive never ran.
            error = None if turn.abandoned else self._failed(turn, _cancelled(task))
            self._finish(turn, error)

    async def _drive(self, turn: Turn, handler: Handler) -> None:
        """Run an async handler to its end; never raises."""
        assert turn.envelope is not None
        error: HandlerError | None = None
        try:
            value = handler.call(self.agent, turn.envelope.message)
            if not handler.streams:
                value = await value
            if inspect.isasyncgen(value):
                async with _closing(value):
                    async for item in value:
                        if turn.abandoned:
                            break
                        self.result(turn, item)
            elif inspect.isgenerator(value):
                for item in value:
                    self.result(turn, item)
            elif value is not None:
                self.result(turn, value)
        except BaseException as raised:  # noqa: BLE001 - whatever it is, it ends this turn only
            if not turn.abandoned:
                error = self._failed(turn, raised)
        self._finish(turn, error)

    def _run_on_thread(self, handler: Handler, envelope: Envelope) -> None:
        turn = Turn(self, envelope, envelope.scope)
        turn.threaded = True
        self.open.add(turn)
        engine = self.engine
        engine.held += 1
        AUTHOR.set(turn)
        context = contextvars.copy_context()

        def job(rest: Callable[[], None]) -> None:
            raised: BaseException | None = None
            try:
                value = context.run(handler.call, self.agent, envelope.message)
                if inspect.isgenerator(value):
                    context.run(self._send_items, turn, value)
                elif inspect.isasyncgen(value) or inspect.iscoroutine(value):
                    raise _not_awaited(value)  # noqa: TRY301
                elif value is not None:
                    _check(value)
                    engine.post(partial(self._late_result, turn, value))
            except BaseException as error:  # noqa: BLE001 - whatever it is, it ends this turn only
                raised = error
            rest()
            engine.post(partial(self._returned, turn, raised))

        engine.workers.submit(job)

    def _send_items(self, turn: Turn, items: Any) -> None:
        for item in items:
            if turn.abandoned:
                items.close()
                return
            _check(item)
            self.engine.post(partial(self._late_result, turn, item))

    def _late_result(self, turn: Turn, value: Any) -> None:
        if not turn.abandoned:
            self.result(turn, value)

    def _returned(self, turn: Turn, raised: BaseException | None) -> None:
        """A handler on a thread has returned."""
        self.engine.held -= 1
        error = None
        if raised is not None and not turn.abandoned:
            error = self._failed(turn, raised)
        self._finish(turn, error)

    def _finish(self, turn: Turn, error: HandlerError | None) -> None:
        envelope = turn.envelope
        assert envelope is not None
        for ask in list(turn.waits):
            ask.give_up(AgentStopped(f"The turn of {self.node.path!r} that asked is over."))
        self.open.discard(turn)
        self.turns -= 1
        if turn is self.inline:
            turn.envelope = None
            turn.scope = self.runtime.world
        if self.runtime.instruments:
            self.runtime.observe("finish", envelope, self.node.path)
        if envelope.sink is not None:
            if turn.abandoned and error is None:
                msg = f"The agent {self.node.path!r} was stopped while it handled the message."
                envelope.sink.ended(AgentStopped(msg))
            else:
                envelope.sink.ended(error)
        if not turn.detached:
            envelope.scope.close()
        if error is not None and error.__cause__ is not None and not self.stopped:
            self._after_failure(error.__cause__, envelope.scope)
        if not self.scheduled and (self.mail or self.stopping is not None):
            self._schedule()

    # -- failures

    def _failed(self, turn: Turn, raised: BaseException) -> HandlerError:
        """Record that a turn raised."""
        path = self.node.path
        message = None if turn.envelope is None else turn.envelope.message
        what = "a hook" if message is None else f"the handler of {message.method!r}"
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
            # Nobody waits for this turn and no run will report it.
            log.error("%s", error, exc_info=raised)
        return error

    def _after_failure(self, raised: BaseException, scope: Scope) -> None:
        def then(_error: BaseException | None) -> None:
            try:
                directive = self.supervision().decide(raised)
            except Exception as wrong:  # noqa: BLE001 - the user's function may raise anything
                log.error("The directive for %r could not be had", self.node.path, exc_info=wrong)
                directive = "escalate"
            self._apply(directive, raised, scope)

        self._hook("on_failure", type(raised), raised, raised.__traceback__, then=then)

    def _apply(self, directive: str, raised: BaseException, scope: Scope) -> None:
        """Carry out a directive on this cell and, by the strategy, on its siblings."""
        if self.stopped or directive == "resume":
            return
        if directive == "restart":
            self.intensity = self.intensity or Intensity()
            assert self.engine.loop is not None
            if not self.intensity.allows(self.supervision(), self.engine.loop.time()):
                self.stop_now()
                self._escalate(raised, scope)
                return
        if directive == "escalate":
            self._escalate(raised, scope)
            return
        for cell in self._concerned():
            if directive == "restart":
                cell.restart(scope)
            else:
                cell.stop_now()

    def _concerned(self) -> list[Cell]:
        """Whom the strategy touches when this cell has failed."""
        strategy = self.supervision().strategy
        if self.parent is None or strategy == "one_for_one":
            return [self]
        siblings = list(self.parent.children)
        if strategy == "rest_for_one":
            return siblings[siblings.index(self) :] if self in siblings else [self]
        return siblings

    def _escalate(self, raised: BaseException, scope: Scope) -> None:
        """The network above fails in this agent's place; past the outermost, the run does."""
        above = self.parent
        if above is not None and above.parent is not None:
            above._after_failure(raised, scope)
            return
        top = above or self
        level = logging.ERROR if scope is self.runtime.world else logging.DEBUG
        text = "%r failed past the outermost network %r, which stops"
        log.log(level, text, self.node.path, top.node.path, exc_info=raised)
        scope.end("failure")
        top.stop_now()

    def restart(self, scope: Scope) -> None:
        """Put the fields back as they were at start; the mailbox stays."""
        self.restarts += 1
        scope.restarts += 1
        for turn in list(self.open):
            self._abandon(turn)
        if self.snapshot is not None:
            fields, private = copy.deepcopy(self.snapshot)
            self.agent.__dict__.clear()
            self.agent.__dict__.update(fields)
            if private is not None:
                self.agent.__pydantic_private__.update(private)
        self.runtime.observe("restart", self.node.path)
        for child in list(self.children):
            child.restart(scope)
        self._hook("on_start", then=self._started)

    def _hook(
        self, name: str, *arguments: Any, then: Callable[[BaseException | None], None]
    ) -> None:
        """Run a life-cycle hook between turns, where handlers of its kind run."""
        hook = self.node.behaviour.hooks.get(name)
        if hook is None:
            then(None)
            return
        self.holding = True
        turn = Turn(self, None, self.runtime.world)

        def done(raised: BaseException | None) -> None:
            self.holding = False
            if raised is not None:
                self._failed(turn, raised)
            then(raised)
            if self.mail or self.stopping is not None:
                self._schedule()

        def begin() -> None:
            call = partial(hook, self.agent, *arguments)
            AUTHOR.set(turn)
            if inspect.iscoroutinefunction(hook):
                self.engine.held += 1
                task = asyncio.Task(call(), loop=self.engine.loop)
                turn.task = task
                task.add_done_callback(lambda task: self._hook_over(done, _outcome(task)))
            elif self.node.behaviour.blocking:
                self.engine.held += 1
                context = contextvars.copy_context()

                def job(rest: Callable[[], None]) -> None:
                    raised: BaseException | None = None
                    try:
                        context.run(call)
                    except BaseException as error:  # noqa: BLE001 - see _run_on_thread
                        raised = error
                    rest()
                    self.engine.post(partial(self._hook_over, done, raised))

                self.engine.workers.submit(job)
            else:
                try:
                    call()
                except Exception as error:  # noqa: BLE001 - a hook may raise anything
                    done(error)
                else:
                    done(None)
            AUTHOR.set(None)

        self.hooks.append(begin)
        self._schedule()

    def _hook_over(
        self, done: Callable[[BaseException | None], None], raised: BaseException | None
    ) -> None:
        self.engine.held -= 1
        done(raised)

    # -- results, sends, emits

    def result(self, turn: Turn, value: Any) -> None:
        """Send on what a handler returned, yielded, or sent without a receiver.

        Raises:
            UsageError: If the value is nothing that can be sent.
        """
        envelope = turn.envelope
        if value is None or envelope is None:
            return
        message = envelope.message
        bare = envelope.overheard or message.method == RESPONSE
        if isinstance(value, str):
            if bare:
                emitted = Message.written(value, RESPONSE, turn.role, self.node.address)
                self.emit_in(turn, RESPONSE, emitted)
            else:
                reply = Message.written(
                    value,
                    RESPONSE,
                    turn.role,
                    envelope.via or self.node.address,
                    message.sender,
                    message,
                )
                self._reply(turn, reply)
            return
        if not isinstance(value, Message):
            _check(value)
            value = Message(
                value.model_dump_json(),
                method=snake_case(type(value).__name__),
                role=turn.role,
                sender=envelope.via or self.node.address,
            )
        if not bare and (value.receiver is None or value.reply_to_id == message.id):
            sender = value.sender or envelope.via or self.node.address
            receiver = value.receiver or message.sender
            self._reply(turn, value.answering(message, sender, receiver))
        elif value.receiver is None:
            self.emit_in(turn, value.method, value)
        else:
            self.send_in(turn, value)

    def _reply(self, turn: Turn, reply: Message) -> None:
        envelope = turn.envelope
        assert envelope is not None
        scope = turn.scope
        sink = envelope.sink
        self.sent += 1
        if sink is not None and sink.wants:
            scope.taken(reply)
            sink.take(reply)
            if self.runtime.instruments:
                taken = Envelope(reply, scope, envelope.hops + 1, overheard=False)
                self.runtime.observe("send", taken, "")
                self.runtime.observe("deliver", taken, "")
            return
        answer = Envelope(reply, scope, envelope.hops + 1, overheard=False)
        to = reply.receiver
        if to is None or (sink is not None and sink.expired):
            reason = Reason.NO_RECEIVER if sink is None else Reason.LATE_REPLY
            self.runtime.bury(answer, reason, "" if to is None else to.path, counted=False)
            return
        self.sent -= 1  # it is counted where it is addressed
        self._address(turn, reply)

    def emit(self, event: str, what: Message | str) -> None:
        """Emit in the current turn; any thread."""
        if isinstance(what, str):
            message = Message.written(what, event, self.agent.role, self.node.address)
        elif isinstance(what, Message):
            message = what
        else:
            raise _nonsense(what)
        turn = self._turn()
        if self.engine.owned:
            self.emit_in(turn, event, message)
        else:
            self.engine.post(partial(self._unless_abandoned, turn, self.emit_in, event, message))

    def _route(self, event: str) -> Route:
        version = self.runtime.version
        if self.version != version:
            self.routes.clear()
            self.version = version
        route = self.routes.get(event)
        if route is None:
            route = self.routes[event] = self.node.compile_route(event)
        return route

    def emit_in(self, turn: Turn | None, event: str, message: Message) -> None:
        """Put a message into every mailbox that hears this event of ours."""
        route = self._route(event)
        if route.silent:
            return
        scope, envelope = self._caused(turn, message, overheard=True)
        message = envelope.message
        if scope.tap is not None:
            scope.tap(message)
        for leg in route.legs:
            if leg.hears(message, self._filter_failed):
                cells = leg.cells if leg.cells is not None else leg.resolve(message.method)
                if cells:
                    self.sent += len(cells)
                    for cell in cells:
                        cell.put(envelope)
                else:
                    self.sent += 1
                    self.runtime.bury(envelope, leg.reason, leg.path, counted=False)
        for listener in route.listeners:
            self._call_listener(listener, turn, message)
        if route.leaves:
            self.sent += 1
            scope.sent += 1
            scope.delivered += 1
            scope.outputs.append(message)
            if scope.record is not None:
                scope.note(message, None)

    def _call_listener(self, listener: Any, turn: Turn | None, message: Message) -> None:
        try:
            value = listener(message)
            if inspect.iscoroutine(value):
                self._follow(value, turn)
        except Exception as error:  # noqa: BLE001 - a listener harms nobody else
            self._failed(turn or Turn(self, None, self.runtime.world), error)

    def _follow(self, coroutine: Any, turn: Turn | None) -> None:
        """Run an async listener to its end, as part of the run."""
        scope = self.runtime.world if turn is None else turn.scope
        loop = self.engine.loop
        assert loop is not None
        scope.open += 1
        self.engine.held += 1

        def done(task: asyncio.Task[Any]) -> None:
            self.engine.held -= 1
            raised = _outcome(task)
            if raised is not None:
                self._failed(turn or Turn(self, None, self.runtime.world), raised)
            scope.close()

        asyncio.Task(coroutine, loop=loop).add_done_callback(done)

    def _filter_failed(self, raised: Exception) -> None:
        self._failed(Turn(self, None, self.runtime.world), raised)

    def send(self, message: Message | str) -> None:
        """Send in the current turn; any thread."""
        if isinstance(message, str):
            message = Message.written(
                message, Method.STEP.value, self.agent.role, self.node.address
            )
        if not isinstance(message, Message):
            raise _nonsense(message)
        turn = self._turn()
        if self.engine.owned:
            self.send_in(turn, message)
        else:
            self.engine.post(partial(self._unless_abandoned, turn, self.send_in, message))

    def send_in(self, turn: Turn | None, message: Message) -> None:
        """Send a message to its receiver; without one it is the reply, or is emitted."""
        handled = None if turn is None or turn.cell is not self else turn.envelope
        if handled is not None and not handled.overheard and handled.message.method != RESPONSE:
            assert turn is not None
            if message.receiver is None or message.reply_to_id == handled.message.id:
                self.result(turn, message)
                return
        elif handled is not None and message.receiver is None:
            assert turn is not None
            self.emit_in(turn, message.method, message)
            return
        self._address(turn, message)

    def _address(self, turn: Turn | None, message: Message) -> None:
        """Put a message into the mailbox of its receiver."""
        to = message.receiver
        node = None if to is None else to.target or self.node.look_up(to.path)
        if not isinstance(node, Node):
            _, envelope = self._caused(turn, message, overheard=False)
            self.sent += 1
            path = "" if to is None else to.path
            self.runtime.bury(envelope, Reason.NO_RECEIVER, path, counted=False)
            return
        accept(node, message, turn, sender=self)

    def _caused(
        self, turn: Turn | None, message: Message, *, overheard: bool
    ) -> tuple[Scope, Envelope]:
        """The envelope of a message that this turn causes."""
        if message.sender is None:
            message = message.filled(self.node.address, message.receiver)
        if turn is None or turn.cell.runtime is not self.runtime:
            scope = self.runtime.world
            return scope, Envelope(message, scope, 0, overheard)
        scope = turn.scope
        cause = turn.envelope
        hops = 0 if cause is None else cause.hops + 1
        envelope = Envelope(message, scope, hops, overheard)
        if scope.limits.max_repeats is not None:
            envelope.cause = cause
        return scope, envelope

    def _turn(self) -> Turn | None:
        turn = AUTHOR.get()
        return turn if isinstance(turn, Turn) else None

    def _unless_abandoned(
        self, turn: Turn | None, call: Callable[..., None], *arguments: Any
    ) -> None:
        if turn is None or not turn.abandoned:
            call(turn, *arguments)

    # -- timers

    def schedule(self, delay: float, message: Message | str, every: float | None) -> Timer:
        """Send a message later; any thread."""
        if isinstance(message, str):
            message = Message.written(
                message, Method.STEP.value, self.agent.role, self.node.address
            )
        if not isinstance(message, Message):
            raise _nonsense(message)
        current = self._turn()
        envelope = None if current is None else current.envelope
        scope = self.runtime.world if current is None else current.scope
        timer = Timer(self, Turn(self, envelope, scope), message, every)
        self.engine.run(partial(timer.begin, delay))
        return timer

    # -- asks from inside

    def ask(self, receiver: Any, message: Message, timeout: float | None) -> Message | None:
        """Ask from a handler on a thread, and block it until the reply."""
        if self.engine.owned:
            msg = (
                f"ask() would block the event loop that {self.node.path!r} and others live on. "
                "Make the handler async and use `await self.aask(…)`, or let sync handlers run on "
                "threads (blocking = True)."
            )
            raise UsageError(msg)
        turn = self._turn()
        ask = Ask()
        event = self.engine.event()
        ask.wake = event.set
        self.engine.post(partial(self._begin_ask, turn, ask, receiver, message, timeout))
        self.engine.wait(lambda: ask.done, event, None)
        return ask.result()

    async def aask(self, receiver: Any, message: Message, timeout: float | None) -> Message | None:
        """Ask from an async handler, and await the reply."""
        turn = self._turn()
        ask = Ask()
        future = wake_here(ask)
        self.engine.run(partial(self._begin_ask, turn, ask, receiver, message, timeout))
        try:
            await future
        except asyncio.CancelledError:
            gave_up = AskTimeout("The asker was cancelled.")
            self.engine.run(partial(ask.give_up, gave_up))
            raise
        return ask.result()

    def _begin_ask(
        self, turn: Turn | None, ask: Ask, receiver: Any, message: Message, timeout: float | None
    ) -> None:
        try:
            node = self.node.find(receiver)
            ask.targets = node.doors(message.method)
            if turn is not None and turn.envelope is not None:
                self._refuse_circle(ask)
                ask.turn = turn
                turn.waits.add(ask)
            accept(node, message, turn, sender=self, sink=ask)
        except Exception as error:  # noqa: BLE001 - the asker, who waits elsewhere, gets it
            ask.give_up(error)
            return
        limit_ask(self.runtime, ask, message, node.path, timeout)

    def _refuse_circle(self, ask: Ask) -> None:
        """Raise if the asked agents cannot answer before a turn of this one is over.

        Raises:
            AskCycle: Names the agents in the circle.
        """
        if self.limit > 1:
            return
        circle = _circle(self, ask, (self,))
        if circle is not None:
            paths = tuple(cell.node.path for cell in circle)
            msg = (
                f"The ask would never be answered: {' asks '.join(map(repr, paths))}, and each of "
                "them serves one message at a time. Send a message instead of asking, or set "
                "`concurrency` on one of the classes."
            )
            raise AskCycle(msg, circle=paths)


class Timer:
    """A message to come; given by `agent.schedule`."""

    def __init__(self, cell: Cell, turn: Turn, message: Message, every: float | None) -> None:
        self._cell = cell
        self._message = message
        self._every = every
        self._handle: asyncio.TimerHandle | None = None
        self._over = False
        self.turn = turn

    def cancel(self) -> None:
        """Send nothing more; from any thread, and as often as you like."""
        self._cell.engine.run(self.end)

    def begin(self, delay: float) -> None:
        """Start the clock; for the cell."""
        cell = self._cell
        if self._over or cell.stopped:
            return
        cell.timers.add(self)
        cell.engine.held += 1
        if self._every is None:
            self.turn.scope.open += 1  # a message to come keeps its run from being quiet
        self._handle = cell.engine.call_later(delay, self._fire)

    def end(self) -> None:
        """Stop the clock; for the cell."""
        self._over = True
        if self in self._cell.timers:
            self._cell.timers.discard(self)
            self._cell.engine.held -= 1
            if self._handle is not None:
                self._handle.cancel()
            if self._every is None:
                self.turn.scope.close()

    def _fire(self) -> None:
        cell = self._cell
        message = self._message
        if message.receiver is None:
            message = message.filled(message.sender, cell.node.address)
        cell._address(self.turn, message)  # noqa: SLF001 - one thing in two classes
        if self._every is None:
            self.end()
        else:
            self._message = self._message.again()
            self._handle = cell.engine.call_later(self._every, self._fire)


def _circle(asker: Cell, ask: Ask, trail: tuple[Cell, ...]) -> tuple[Cell, ...] | None:
    for cell in ask.targets:
        if cell is asker:
            return (*trail, asker)
        if cell in trail or cell.limit > 1:
            continue
        for turn in cell.open:
            for waiting in turn.waits:
                found = _circle(asker, waiting, (*trail, cell))
                if found is not None:
                    return found
    return None


def accept(
    node: Node,
    message: Message,
    turn: Turn | None,
    *,
    sender: Cell | None = None,
    sink: Any = None,
    scope: Scope | None = None,
    runtime: Runtime | None = None,
) -> None:
    """Put an addressed message into the mailboxes behind a node: its own, or its entries'.

    By the owner of the sender's engine; from outside, of the receiver's.

    Args:
        node: Whom it is for.
        message: The message.
        turn: The turn that causes it, if any.
        sender: The cell whose agent sends it, if any.
        sink: Where replies go, if somebody asks.
        scope: The run it belongs to, if not the turn's.
        runtime: Where the receiver was live when the message set out, if there is no sender.
    """
    cell = node.cell
    if cell is not None and sender is not None and cell.runtime is not sender.runtime:
        # Another runtime's agent: from there on it is that runtime's message.
        if message.sender is None:
            message = message.filled(sender.node.address, message.receiver)
        cell.engine.run(partial(accept, node, message, None, sink=sink, runtime=cell.runtime))
        return
    home = cell or sender
    if home is not None:
        runtime = home.runtime
    assert runtime is not None, "a message sets out from a live agent, or to one"
    if turn is not None and turn.cell.runtime is not runtime:
        turn = None
    if scope is None:
        scope = runtime.world if turn is None else turn.scope
    cause = None if turn is None else turn.envelope
    writer = message.sender
    if writer is None and sender is not None:
        writer = sender.node.address
    if cell is not None and cell.conversations:
        listener = cell.conversations.get(message.reply_to_id or "")
        reply = message.filled(writer, node.address)
        if listener is not None and listener.wants:
            scope.taken(reply)
            listener.take(reply)
            return
    doors = node.doors(message.method)
    envelope = Envelope(
        message.filled(writer, node.address),
        scope,
        0 if cause is None else cause.hops + 1,
        overheard=False,
        sink=sink,
        via=None if doors == (cell,) else node.address,
        cause=cause if scope.limits.max_repeats is not None else None,
    )
    if scope.tap is not None:
        scope.tap(envelope.message)
    count = max(1, len(doors))
    if sender is not None:
        sender.sent += count
    if sink is not None:
        sink.expect(count)
        sink.targets = doors
    for door in doors:
        door.put(envelope)
    if not doors:
        reason = Reason.STOPPED if cell is None else Reason.NO_ENTRY
        runtime.bury(envelope, reason, node.path, counted=False)


def limit_ask(
    runtime: Runtime, ask: Ask, message: Message, path: str, timeout: float | None
) -> None:
    """Let an ask expire on the runtime's clock."""
    if timeout is None or ask.done:
        return

    def expire() -> None:
        runtime.engine.held -= 1
        ask.give_up(late(message, path, timeout))

    timer = runtime.engine.call_later(timeout, expire)
    runtime.engine.held += 1
    wake = ask.wake

    def woken() -> None:
        if not timer.cancelled() and not ask.expired:
            timer.cancel()
            runtime.engine.held -= 1
        wake()

    ask.wake = woken


def late(message: Message, path: str, timeout: float) -> AskTimeout:
    """The error of an asker who has waited long enough."""
    msg = (
        f"No reply from {path!r} to the message {message.id} ({message.method!r}) within "
        f"{timeout:g} s. Give the ask a longer timeout=, or see what keeps the agent busy."
    )
    return AskTimeout(msg)


def wake_here(ask: Any) -> asyncio.Future[None]:
    """A future of the running loop that is done when the ask is, whatever thread settles it."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    here = threading.get_ident()

    def settle() -> None:
        if not future.done():
            future.set_result(None)

    def wake() -> None:
        if threading.get_ident() == here:
            settle()
        elif not loop.is_closed():
            loop.call_soon_threadsafe(settle)

    ask.wake = wake
    return future


def _check(value: Any) -> None:
    if not isinstance(value, (str, BaseModel)) and value is not None:
        raise _nonsense(value)


def _nonsense(value: Any) -> UsageError:
    msg = (
        f"A handler gave a {type(value).__name__} ({value!r:.80}), which is nothing that can be "
        "sent: return or yield None, a text, a pydantic model or a Message."
    )
    return UsageError(msg)


def _not_awaited(value: Any) -> UsageError:
    if inspect.iscoroutine(value):
        value.close()
    msg = (
        "A sync handler returned a coroutine or async generator instead of its result. "
        "Declare the handler with `async def`."
    )
    return UsageError(msg)


def _cancelled(task: asyncio.Task[None]) -> BaseException:
    return asyncio.CancelledError(f"the task {task.get_name()} was cancelled")


def _outcome(task: asyncio.Task[Any]) -> BaseException | None:
    return asyncio.CancelledError() if task.cancelled() else task.exception()


class _closing:  # noqa: N801 - reads as a statement
    """Close an async generator on leaving, so that its cleanup runs in its own turn."""

    def __init__(self, items: Any) -> None:
        self._items = items

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, *_: object) -> None:
        await self._items.aclose()


_RESUME = Supervision()
