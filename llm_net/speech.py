"""Where it goes, what an agent says: results, replies, sends and emits.

Floor 2. By the owner of the engine, but for `emit` and `send`, which any thread may call.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Any

from llm_net.context import AUTHOR
from llm_net.errors import is_interrupt
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

__all__ = ["accept", "address", "emit", "give_result", "send", "within", "written"]

RESPONSE = Method.RESPONSE.value


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


def emit(cell: Cell, event: str, what: Message | str) -> None:
    """Emit in the current turn; any thread."""
    if get_ident() != cell.engine.thread:
        # The route as it is now: what is unlinked before the owner comes to it still hears this.
        message = written(cell, what, event)
        _in_order(cell, partial(_emit_along, cell, cell.node.compile_route(event)), message)
        return
    turn = author()
    if turn is not None and turn.cell is None:
        turn = None
    runtime = cell.runtime
    route = cell.routes.get(event)
    if route is None or cell.version != runtime.version:
        route = cell.route(event)
    if type(what) is str:
        if route.silent:
            return
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
    if route.cells is None:
        _emit_along(cell, route, turn, message)
    else:
        _spread(cell, route.cells, _caused(cell, turn, message), turn)


def _spread(
    cell: Cell, cells: tuple[Cell, ...], envelope: Envelope, turn: Turn | None
) -> None:
    """Put a message into many mailboxes of this runtime, as `put` would into each."""
    cell.sent += len(cells)
    scope = envelope.scope
    if scope.tap is not None:
        scope.tap(envelope.message)
    if scope.careful:
        for receiver in cells:
            receiver.put(envelope, cell, turn)
        return
    engine = cell.engine
    ready = engine.ready
    count = 0
    for receiver in cells:
        if receiver.careful:
            scope.sent += count
            scope.open += count
            count = 0
            receiver.put(envelope, cell, turn)
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


def _emit_along(cell: Cell, route: Route, turn: Turn | None, message: Message) -> None:
    """Put a message into every mailbox that hears this event, looking at each edge."""
    if route.silent:
        return
    envelope = _caused(cell, turn, message)
    message = envelope.message
    scope = envelope.scope
    if scope.tap is not None:
        scope.tap(message)
    for leg in route.legs:
        if not leg.hears(message, partial(_filter_failed, cell, turn)):
            continue
        receivers = leg.cells
        if receivers is None:
            receivers = leg.node.doors(message.method)
            if receivers and receivers[0].runtime is not cell.runtime:
                _overheard_abroad(receivers, message)
                continue
        if receivers:
            cell.sent += len(receivers)
            for receiver in receivers:
                receiver.put(envelope, cell, turn)
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


def send(cell: Cell, message: Message | str) -> None:
    """Send in the current turn; any thread."""
    message = written(cell, message, Method.STEP.value)
    if cell.engine.owned:
        _send(cell, current_turn(), message)
        return
    to = message.receiver
    if to is not None and not to.bound:
        # The receiver as it is now: a member that is removed from here on still gets this.
        node = cell.node.look_up(to.path)
        if node is not None:
            message = message.filled(message.sender, node.address)
    _in_order(cell, partial(_send, cell), message)


def _send(cell: Cell, turn: Turn | None, message: Message) -> None:
    """Send to the receiver; without one it is the reply, or is emitted."""
    envelope = None if turn is None or turn.cell is not cell else turn.envelope
    if turn is not None and envelope is not None:
        handled = envelope.message
        bare = envelope.overheard or handled.method == RESPONSE
        if message.receiver is None or (not bare and message.reply_to_id == handled.id):
            give_result(turn, message)
            return
    address(cell, turn, message)


def address(cell: Cell, turn: Turn | None, message: Message) -> None:
    """Put a message of this agent into the mailbox of its receiver."""
    to = message.receiver
    node = None if to is None else to.target or cell.node.look_up(to.path)
    if isinstance(node, Node):
        accept(node, message, turn, sender=cell)
        return
    envelope = _caused(cell, turn, message)
    cell.sent += 1
    if envelope.scope.tap is not None:
        envelope.scope.tap(envelope.message)
    path = "" if to is None else to.path
    cell.runtime.bury(envelope, Reason.NO_RECEIVER, path, counted=False)


def _in_order(cell: Cell, call: Callable[..., None], *arguments: Any) -> None:
    """Make a call in the current turn: now, or from another thread after what it said before."""
    turn = current_turn()
    if cell.engine.owned:
        call(turn, *arguments)
        return

    def unless_abandoned() -> None:
        if turn is None:
            call(turn, *arguments)
        elif not turn.abandoned:
            before = AUTHOR.get()
            AUTHOR.set(turn)
            try:
                call(turn, *arguments)
            finally:
                AUTHOR.set(before)

    cell.engine.post(unless_abandoned)


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
        _abroad(node, cell, message, sender, sink)
        return
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
        return
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
    for door in doors:
        door.put(envelope, sender, turn)
    if not doors:
        runtime.bury(envelope, node.why_closed, node.path, counted=False)


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
