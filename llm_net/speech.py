"""Where it goes, what an agent says: results, replies, sends and emits.

Floor 2. By the owner of the engine, but for `emit` and `send`, which any thread may call.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Any

from llm_net.admission import Admission
from llm_net.context import AUTHOR
from llm_net.engine import Light
from llm_net.errors import MailboxFull, is_interrupt
from llm_net.mailbox import Envelope, Letter, Reason, Sink
from llm_net.message import Message, Method, snake_case
from llm_net.message import written as write_message
from llm_net.node import Node
from llm_net.runner import nonsense, run_in_task
from llm_net.turn import Turn, author, current_turn

if TYPE_CHECKING:
    from llm_net.address import Address
    from llm_net.cell import Cell
    from llm_net.routing import Route
    from llm_net.runtime import Runtime
    from llm_net.scope import Scope

__all__ = [
    "Admissions",
    "Answers",
    "Emission",
    "accept",
    "address",
    "aemit",
    "and_wait",
    "asend",
    "emit",
    "give_result",
    "send",
    "until_taken",
    "verdict",
    "within",
    "written",
]

RESPONSE = Method.RESPONSE.value

Answers = list[Admission | MailboxFull | None]
"""What mailboxes said to a message: one waits for room, one refuses, most have nothing to say."""

Admissions = list[Admission] | None
"""Messages that wait for room in full mailboxes; None where there is no such thing."""


def _write(  # noqa: PLR0917 - the parts of a message
    cell: Cell,
    body: str,
    method: str,
    sender: Address,
    receiver: Address | None,
    to: Message | None,
) -> Message:
    """A text as a message of this agent."""
    runtime = cell.runtime
    return write_message(
        body, method, cell.agent.role, sender, receiver, to, runtime.new_id(), runtime.now()
    )


def written(cell: Cell, what: Message | str, method: str) -> Message:
    """A message, or a text as one of this agent.

    Raises:
        UsageError: If it is neither.
    """
    if isinstance(what, str):
        return _write(cell, what, method, cell.node.address, None, None)
    if isinstance(what, Message):
        return what
    raise nonsense(what)


# -- what a handler gives


def give_result(turn: Turn, value: Any) -> None:
    """Send on what a handler returned, yielded, or sent without a receiver.

    Raises:
        UsageError: If the value is nothing that can be sent.
    """
    envelope = turn.envelope
    if value is None or envelope is None:
        return
    cell = turn.cell
    handled = envelope.message
    bare = envelope.overheard or handled.method == RESPONSE
    here = cell.node.address if envelope.via is None else envelope.via
    if isinstance(value, str):
        if bare:
            emit(cell, RESPONSE, value)
        else:
            _reply(turn, envelope, _write(cell, value, RESPONSE, here, handled.sender, handled))
        return
    message = value if isinstance(value, Message) else _from_model(turn, value)
    if not bare and (message.receiver is None or message.reply_to_id == handled.id):
        sender = message.sender or here
        receiver = message.receiver or handled.sender
        _reply(turn, envelope, message.answering(handled, sender, receiver))
    elif message.receiver is None:
        emit(cell, message.method, message)
    else:
        address(cell, turn, message)


def _from_model(turn: Turn, value: Any) -> Message:
    dump = getattr(value, "model_dump_json", None)
    if dump is None or isinstance(value, type):
        raise nonsense(value)
    return Message(dump(), method=snake_case(type(value).__name__), role=turn.role)


def _reply(turn: Turn, envelope: Envelope, reply: Message) -> None:
    """Hand a reply to whoever asked, or else send it to the sender."""
    cell = turn.cell
    scope = turn.scope
    sink = envelope.sink
    if sink is not None and sink.wants:
        cell.sent += 1
        scope.taken(reply)
        _observe_taken(cell.runtime, reply, scope, envelope.hops + 1)
        sink.take(reply)
        return
    to = reply.receiver
    if to is None or (sink is not None and sink.expired):
        cell.sent += 1
        lost = Letter(reply, scope, envelope.hops + 1)
        reason = Reason.NO_RECEIVER if sink is None else Reason.LATE_REPLY
        path = "" if to is None else to.path
        cell.runtime.bury(lost, reason, path, counted=False)
        return
    address(cell, turn, reply)


def _observe_taken(runtime: Runtime, message: Message, scope: Scope, hops: int) -> None:
    """Let the instruments see a message that reached its taker without a mailbox."""
    if runtime.instruments:
        envelope = Letter(message, scope, hops)
        runtime.observe("send", envelope, "")
        runtime.observe("deliver", envelope, "")


# -- emit


def emit(cell: Cell, event: str, what: Message | str) -> Admissions:
    """Emit in the current turn; any thread.

    Raises:
        MailboxFull: If a mailbox refuses it; everybody else hears it all the same.
    """
    if get_ident() != cell.engine.thread:
        # The route as it is now: what is unlinked before the owner comes to it still hears this.
        message = written(cell, what, event)
        now = cell.route(event)
        if not now.cells or cell.runtime.bounded:
            _in_order(cell, partial(_emit_along, cell, now), message)
        else:
            cell.engine.post(Emission(cell, now.cells, message, current_turn()))
        return None
    turn = author()
    if turn is not None and turn.cell is None:
        turn = None
    runtime = cell.runtime
    route = cell.routes.get(event)
    if route is None or cell.version != runtime.version:
        route = cell.route(event)
    if type(what) is str:
        if route.silent:
            return None
        message = write_message(
            what,
            event,
            cell.agent.role,
            cell.node.address,
            None,
            None,
            runtime.new_id(),
            runtime.now(),
        )
    else:
        message = written(cell, what, event)
        if route.silent:
            return None
    if route.cells is None:
        return _emit_along(cell, route, turn, message)
    return _spread(cell, route.cells, _caused(cell, turn, message), turn)


class Emission(Light):
    """An emit of a handler on a thread, to mailboxes of this runtime only."""

    __slots__ = ("_cell", "_cells", "_message", "_turn")

    def __init__(
        self, cell: Cell, cells: tuple[Cell, ...], message: Message, turn: Turn | None
    ) -> None:
        self._cell = cell
        self._cells = cells
        self._message = message
        self._turn = turn

    @property
    def light(self) -> bool:
        """Whether nobody who hears it looks twice."""
        for cell in self._cells:  # noqa: SIM110 - `all` takes twice as long
            if cell.careful:
                return False
        return True

    def __call__(self) -> None:
        """Put it into the mailboxes."""
        cell, turn = self._cell, self._turn
        if turn is None or not turn.abandoned:
            _spread(cell, self._cells, _caused(cell, turn, self._message), turn)


def _spread(
    cell: Cell, cells: tuple[Cell, ...], envelope: Envelope, turn: Turn | None
) -> Admissions:
    """Put a message into many mailboxes of this runtime, as `put` would into each."""
    cell.sent += len(cells)
    scope = envelope.scope
    if scope.tap is not None:
        scope.tap(envelope.message)
    if scope.careful:
        return verdict([receiver.put(envelope, cell, turn) for receiver in cells])
    engine = cell.engine
    ready = engine.ready
    count = 0
    answers: Answers | None = None
    for receiver in cells:
        if receiver.careful:
            scope.sent += count
            scope.open += count
            count = 0
            answers = answers or []
            answers.append(receiver.put(envelope, cell, turn))
            continue
        count += 1
        receiver.mail.append(envelope)
        if not receiver.scheduled and receiver.turns < receiver.limit:
            receiver.scheduled = True
            ready.append(receiver)
    scope.sent += count
    scope.open += count
    if ready and not engine.awake:
        engine.wake()
    return None if answers is None else verdict(answers)


def _emit_along(cell: Cell, route: Route, turn: Turn | None, message: Message) -> Admissions:
    """Put a message into every mailbox that hears this event, looking at each edge."""
    if route.silent:
        return None
    answers: Answers = []
    envelope = _caused(cell, turn, message)
    message = envelope.message
    scope = envelope.scope
    if scope.tap is not None:
        scope.tap(message)
    for leg in route.legs:
        if not leg.hears(message, partial(_filter_failed, cell, turn)):
            continue
        if leg.channel is not None:
            answers.append(leg.channel.carry(cell, leg.node, envelope))
            continue
        receivers = leg.cells
        if receivers is None:
            receivers = leg.node.doors(message.method)
            if receivers and receivers[0].runtime is not cell.runtime:
                _overheard_abroad(receivers, message)
                continue
        if receivers:
            cell.sent += len(receivers)
            answers.extend(receiver.put(envelope, cell, turn) for receiver in receivers)
        else:
            cell.sent += 1
            cell.runtime.bury(envelope, leg.node.why_closed, leg.node.path, counted=False)
    for listener in route.listeners:
        _call(cell, turn, listener, message)
    if route.leaves:
        cell.sent += 1
        scope.sent += 1
        scope.delivered += 1
        scope.outputs.append(message)
        if scope.record is not None:
            scope.note(message, None)
        _observe_taken(cell.runtime, message, scope, envelope.hops)
    return verdict(answers)


def verdict(answers: Iterable[Admission | MailboxFull | None]) -> Admissions:
    """What mailboxes said to a message: who has to be waited for.

    Raises:
        MailboxFull: If one refused it.
    """
    waits: list[Admission] = []
    for answer in answers:
        if isinstance(answer, MailboxFull):
            raise answer
        if answer is not None:
            waits.append(answer)
    return waits


def _overheard_abroad(receivers: Sequence[Cell], message: Message) -> None:
    """Let agents of another runtime hear a message, which is that runtime's from there on."""
    envelope = Envelope(message, receivers[0].runtime.world, 0)
    for receiver in receivers:
        receiver.engine.run(partial(receiver.put, envelope))


def _call(cell: Cell, turn: Turn | None, listener: Any, message: Message) -> None:
    """Call a listening function; an async one becomes a task of the run."""
    scope = cell.runtime.world if turn is None else turn.scope
    own = Turn(cell, None, scope)
    try:
        value = listener(message)
    except BaseException as error:
        if is_interrupt(error):
            raise
        cell.failed(own, error)  # a listener harms nobody else
        return
    if not inspect.iscoroutine(value):
        return

    def over(_turn: Turn, raised: BaseException | None) -> None:
        if raised is not None:
            cell.failed(own, raised)
        scope.close()

    scope.open += 1
    run_in_task(lambda: value, (), own, lambda _turn, _value: None, over, cell.engine)


def _filter_failed(cell: Cell, turn: Turn | None, raised: BaseException) -> None:
    scope = cell.runtime.world if turn is None else turn.scope
    cell.failed(Turn(cell, None, scope), raised)


# -- send


def send(cell: Cell, message: Message | str) -> Admissions:
    """Send in the current turn; any thread.

    Raises:
        MailboxFull: If the mailbox refuses it.
    """
    message = written(cell, message, Method.STEP.value)
    if cell.engine.owned:
        return _send(cell, current_turn(), message)
    to = message.receiver
    if to is not None and not to.bound:
        # The receiver as it is now: a member that is removed from here on still gets this.
        node = cell.node.look_up(to.path)
        if node is not None:
            message = message.filled(message.sender, node.address)
    _in_order(cell, partial(_send, cell), message)
    return None


def _send(cell: Cell, turn: Turn | None, message: Message) -> Admissions:
    """Send to the receiver; without one it is the reply, or is emitted."""
    envelope = None if turn is None or turn.cell is not cell else turn.envelope
    if turn is not None and envelope is not None:
        handled = envelope.message
        bare = envelope.overheard or handled.method == RESPONSE
        if message.receiver is None or (not bare and message.reply_to_id == handled.id):
            give_result(turn, message)
            return None
    return address(cell, turn, message)


def address(cell: Cell, turn: Turn | None, message: Message) -> Admissions:
    """Put a message of this agent into the mailbox of its receiver.

    Raises:
        MailboxFull: If the mailbox refuses it.
    """
    to = message.receiver
    node = None if to is None else to.target or cell.node.look_up(to.path)
    if isinstance(node, Node):
        return verdict(accept(node, message, turn, sender=cell))
    envelope = _caused(cell, turn, message)
    cell.sent += 1
    if envelope.scope.tap is not None:
        envelope.scope.tap(envelope.message)
    path = "" if to is None else to.path
    cell.runtime.bury(envelope, Reason.NO_RECEIVER, path, counted=False)
    return None


def _in_order(cell: Cell, call: Callable[..., Admissions], *arguments: Any) -> None:
    """Make a call in the current turn from another thread, after what it said before."""
    turn = current_turn()

    def unless_abandoned() -> Admissions:
        if turn is None:
            return call(turn, *arguments)
        if turn.abandoned:
            return None
        before = AUTHOR.get()
        AUTHOR.set(turn)
        try:
            return call(turn, *arguments)
        finally:
            AUTHOR.set(before)

    if cell.runtime.bounded:
        and_wait(cell.runtime, unless_abandoned)
    else:
        cell.engine.post(unless_abandoned)


def and_wait(runtime: Runtime, call: Callable[[], Admissions]) -> None:
    """Make a call on the owner's thread, and block until mailboxes have taken what it sends.

    Raises:
        MailboxFull: If one refuses it, or has no room within the runtime's `ask_timeout`.
    """
    engine = runtime.engine
    signal = engine.event()
    waits: list[Admission] = []
    errors: list[MailboxFull] = []
    made: list[bool] = []

    def make() -> None:
        try:
            waits.extend(call() or ())
        except MailboxFull as error:
            errors.append(error)
        for admission in waits:
            admission.wake = signal.set
        made.append(True)
        signal.set()

    def taken() -> bool:
        return bool(made) and all(admission.done for admission in waits)

    engine.post(make)
    if not engine.wait(taken, signal, runtime.ask_timeout):
        paths = ", ".join(repr(each.targets[0].node.path) for each in waits if not each.done)
        for admission in waits:
            engine.run(partial(admission.targets[0].withdraw, admission))
        raise MailboxFull(
            f"No room in the mailbox of {paths or 'the receiver'} within {runtime.ask_timeout:g} "
            "s, the runtime's ask_timeout. Send less, or see what keeps the agent busy."
        )
    if errors:
        raise errors[0]


async def asend(cell: Cell, message: Message | str) -> None:
    """Send in the current turn, and wait for room."""
    await until_taken(send(cell, message))


async def aemit(cell: Cell, event: str, what: Message | str) -> None:
    """Emit in the current turn, and wait for room."""
    await until_taken(emit(cell, event, what))


async def until_taken(admissions: Admissions) -> None:
    """Wait until mailboxes have taken a message; on the loop of their engine."""
    for admission in admissions or ():
        if not admission.done:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

            def wake(future: asyncio.Future[None] = future) -> None:
                if not future.done():
                    future.set_result(None)

            admission.wake = wake
            await future


def _caused(cell: Cell, turn: Turn | None, message: Message) -> Envelope:
    """The envelope of a message that this turn causes, without an address."""
    if message.sender is None:
        message = message.filled(cell.node.address, message.receiver)
    if turn is None or turn.runtime is not cell.runtime or turn.scope.past:
        return Envelope(message, cell.runtime.world, 0)
    scope = turn.scope
    cause = turn.envelope
    hops = 0 if cause is None else cause.hops + 1
    if scope.limits.max_repeats is None:
        return Envelope(message, scope, hops)
    letter = Letter(message, scope, hops, overheard=True)
    letter.cause, letter.by = cause, turn.cell
    return letter


def within(turn: Turn | None, runtime: Runtime) -> Turn | None:
    """The turn, if it is one of this runtime and of a run that still goes on."""
    if turn is None or turn.runtime is not runtime or turn.scope.past:
        return None
    return turn


# -- delivery to an address


def accept(
    node: Node,
    message: Message,
    turn: Turn | None,
    *,
    sender: Cell | None = None,
    sink: Sink | None = None,
    scope: Scope | None = None,
    runtime: Runtime | None = None,
) -> Answers:
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

    Returns:
        What the mailboxes said.
    """
    cell = node.cell
    if cell is not None and sender is not None and cell.runtime is not sender.runtime:
        _abroad(node, cell, message, sender, sink)
        return []
    home = cell or sender
    if home is not None:
        runtime = home.runtime
    assert runtime is not None, "a message sets out from a live agent, or to one"
    turn = within(turn, runtime)
    if scope is None:
        scope = runtime.world if turn is None else turn.scope
    writer = message.sender
    if writer is not None:
        writer = node.bound(writer)
    elif sender is not None:
        writer = sender.node.address
    message = message.filled(writer, node.address)
    if cell is not None and cell.conversations and _overtaken(cell, message, scope):
        return []
    doors = node.doors(message.method)
    cause = None if turn is None else turn.envelope
    envelope = Letter(
        message,
        scope,
        0 if cause is None else cause.hops + 1,
        sink=sink,
        via=None if doors == (cell,) else node.address,
    )
    if turn is not None and scope.limits.max_repeats is not None:
        envelope.cause, envelope.by = cause, turn.cell
    if scope.tap is not None:
        scope.tap(message)
    count = max(1, len(doors))
    if sender is not None:
        sender.sent += count
    if sink is not None:
        sink.expect(count)
        sink.targets = doors
    if not doors:
        runtime.bury(envelope, node.why_closed, node.path, counted=False)
    return [door.put(envelope, sender, turn) for door in doors]


def _overtaken(cell: Cell, message: Message, scope: Scope) -> bool:
    """Whether a conversation that the agent leads has taken the message in its place."""
    listener = cell.conversations.get(message.reply_to_id or "")
    if listener is None or not listener.wants:
        return False
    scope.taken(message)
    _observe_taken(cell.runtime, message, scope, 0)
    listener.take(message)
    return True


def _abroad(node: Node, cell: Cell, message: Message, sender: Cell, sink: Sink | None) -> None:
    """Give a message to another runtime, whose message it is from there on."""
    if message.sender is None:
        message = message.filled(sender.node.address, message.receiver)
    cell.engine.run(partial(accept, node, message, None, sink=sink, runtime=cell.runtime))
