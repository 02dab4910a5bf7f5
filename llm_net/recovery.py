"""What is done about a failure: the supervisor's directive, carried out.

Floor 2. `supervision` decides; here the deciding is asked for, and acted on.

Invariant: an agent is put back to its fields at start only while nothing of it is under way, so
that no turn from before the restart writes into the fields after it.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from llm_net.errors import HandlerError, UsageError
from llm_net.mailbox import Envelope, Letter, Reason
from llm_net.supervision import Directive, Intensity, Supervision

if TYPE_CHECKING:
    import asyncio

    from llm_net.cell import Cell
    from llm_net.scope import Scope

__all__ = ["RESUME", "Pause", "Retry", "Snapshot", "apply", "decide", "keeps_start", "recover"]

log = logging.getLogger("llm_net")

RESUME = Supervision()


class Snapshot:
    """An agent's fields and private attributes as they were at its start."""

    __slots__ = ("_values",)

    def __init__(self, agent: Any) -> None:
        """Copy them.

        Raises:
            UsageError: If one cannot be copied.
        """
        private = getattr(agent, "__pydantic_private__", None)
        try:
            # All at once: what two fields share, they share again after a restart.
            self._values = copy.deepcopy((agent.__dict__, private), {id(agent): agent})
        except Exception as error:
            name, value = _culprit({**agent.__dict__, **(private or {})})
            raise UsageError(
                f"The agent {agent.path!r} may be restarted, but its field {name!r} "
                f"({type(value).__name__}) cannot be copied: {error}. Give the type a "
                "__deepcopy__, or supervise the agent without restarts."
            ) from error

    def put_back(self, agent: Any) -> None:
        """Give the agent, the same object, fields as they were."""
        fields, private = copy.deepcopy(self._values, {id(agent): agent})
        agent.__dict__.clear()
        agent.__dict__.update(fields)
        if private is not None:
            agent.__pydantic_private__.update(private)


def _culprit(values: dict[str, Any]) -> tuple[str, Any]:
    """Which value it is that cannot be copied."""
    for name, value in values.items():
        try:
            copy.deepcopy(value)
        except Exception:  # noqa: BLE001 - any type may refuse in its own way
            return name, value
    return "?", None


def keeps_start(cell: Cell) -> bool:
    """Whether some failure may restart this agent, so that its fields at start are needed."""
    above: Cell | None = cell
    while above is not None:
        if _puts_back(above.node.supervision) or (above.parent and _spreads(above.parent)):
            return True
        above = above.parent
    return False


def _puts_back(supervision: Supervision | None) -> bool:
    return supervision is not None and supervision.may_restart and not supervision.keep_state


def _spreads(network: Cell) -> bool:
    """Whether a failure of one member of a network may restart others; looked up once a life."""
    if network.spreads is None:
        network.spreads = any(
            _puts_back(member.supervision) and member.supervision.strategy != "one_for_one"
            for member in network.node.inner()
            if member.supervision is not None
        )
    return network.spreads


class Retry(Letter):
    """A message that failed at one agent, and may be tried again there.

    A copy, made at the first failure: other listeners may hold the envelope itself.

    Attributes:
        tries: How often it has failed.
        error: The latest failure.
    """

    __slots__ = ("error", "tries")

    def __init__(self, failed: Envelope, error: HandlerError) -> None:
        super().__init__(
            failed.message,
            failed.scope,
            failed.hops,
            overheard=failed.overheard,
            sink=failed.sink,
            via=failed.via,
        )
        self.cause, self.by = failed.cause, failed.by
        self.tries: int = failed.tries + 1 if isinstance(failed, Retry) else 1
        self.error = error

    def settle(self, cell: Cell, directive: Directive, source: str, *, lives: bool) -> None:
        """The directive is carried out: let the message be tried again, or have its end."""
        scope = self.scope
        supervision = cell.node.supervision or RESUME
        most = supervision.max_tries or 1
        # What an ended run has lost is reported already.
        open_to_it = directive in {"resume", "restart"} and scope.ended is None and not scope.past
        if open_to_it and lives and self.tries < most:
            scope.delivered -= 1
            cell.delivered -= 1
            cell.take_back(self, source)
            return
        if self.sink is not None:
            self.sink.ended(self.error)
        if open_to_it and self.tries >= most:
            scope.delivered -= 1
            cell.delivered -= 1
            cell.dead += 1
            cell.runtime.bury(self, Reason.POISON, cell.node.path, told=True)
        scope.close()


def decide(cell: Cell, raised: BaseException) -> Directive:
    """What the agent's supervision says; it escalates if that cannot be had."""
    try:
        return (cell.node.supervision or RESUME).decide(raised)
    except Exception:  # the user's function may raise anything
        log.exception("The directive for %r could not be had; it escalates", cell.node.path)
        return "escalate"


def recover(
    cell: Cell, raised: BaseException, scope: Scope, retry: Retry | None = None, source: str = ""
) -> None:
    """Run the agent's own hook, then do what its supervision says.

    Args:
        cell: Whose turn raised.
        raised: What it raised.
        scope: The run that the turn belonged to.
        retry: The message, if it may be tried again.
        source: Who sent that.
    """

    def then(_error: BaseException | None) -> None:
        directive = decide(cell, raised)
        lives = apply(cell, directive, raised, scope)
        if retry is not None:
            retry.settle(cell, directive, source, lives=lives)

    cell.hook("on_failure", type(raised), raised, raised.__traceback__, then=then)


def apply(cell: Cell, directive: Directive, raised: BaseException, scope: Scope) -> bool:
    """Carry out a directive on this cell and, by the strategy, on its siblings.

    Returns:
        Whether the agent itself serves further messages.
    """
    if cell.stopped:
        return False
    ends = cell.stopping == "now"
    if directive == "resume" or (ends and directive == "restart"):
        return not ends
    supervision = cell.node.supervision or RESUME
    concerned = _concerned(cell, supervision)
    if directive == "restart":
        cell.intensity = cell.intensity or Intensity()
        if cell.intensity.allows(supervision, _now(cell)):
            # Below a network that is restarted, all are.
            agents = [each for root in concerned for each in root.tree() if each.stopping != "now"]
            delay = cell.intensity.delay
            Pause(cell, scope).begin(agents, delay, keep_state=supervision.keep_state)
            return True
        concerned = [cell]
    if directive != "escalate":
        for each in concerned:
            give_up(each)
    if directive != "stop":
        _escalate(cell, raised, scope)
    return False


def _now(cell: Cell) -> float:
    loop = cell.engine.loop
    return cell.engine.clock() if loop is None else loop.time()


def give_up(cell: Cell) -> None:
    """Stop an agent, and all below it, for a failure."""
    for each in cell.tree():
        each.given_up = True
    cell.stop_now()


class Pause:
    """The time before a restart: the agents take no message, and the run is not quiet.

    An agent is restarted when the time is over and nothing of it is under way; of two pauses, the
    one that is over later restarts it. One that is to stop leaves.
    """

    __slots__ = ("_engine", "_over", "_scope", "_timer", "_world", "cells", "due")

    def __init__(self, cell: Cell, scope: Scope) -> None:
        self._engine = cell.engine
        self._world = cell.runtime.world
        self._scope = self._world if scope.past else scope
        self.cells: dict[Cell, bool] = {}
        """The agents, and whether each keeps its fields."""
        self._timer: asyncio.TimerHandle | None = None
        self._over = False
        self.due = _now(cell)

    def begin(self, cells: Iterable[Cell], delay: float, *, keep_state: bool) -> None:
        """Break off what the agents do, and restart them after so many seconds."""
        self._scope.open += 1
        if delay > 0:
            self.due += delay
            self._engine.held += 1
            self._timer = self._engine.call_later(delay, self._ring)
        for cell in cells:
            self.cells[cell] = keep_state
            before = cell.pause
            if before is not None:
                self.cells[cell] = keep_state and before.cells[cell]
                if before.due > self.due:
                    before.cells[cell] = self.cells.pop(cell)
                    continue
                before.leave(cell)
            cell.hold(self)
        for cell in list(self.cells):
            cell.abandon_turns()
        self._look_all()

    def look(self, cell: Cell) -> None:
        """Restart the agent, if it is time, and nothing of it is under way any more."""
        if self._timer is None and cell in self.cells and not cell.open:
            keep_state = self.cells.pop(cell)
            cell.let_go()
            _restart(cell, self._scope, keep_state=keep_state)
            self._close()

    def hurry(self, cell: Cell) -> None:
        """Restart the agent without waiting for the time: it is to do what is left, and stop."""
        if self._timer is not None:
            self._scope.open += 1  # between the two pauses the run is not quiet either
            keep_state = self.cells[cell]
            self.leave(cell)
            Pause(cell, self._scope).begin([cell], 0, keep_state=keep_state)
            self._scope.close()

    def leave(self, cell: Cell) -> None:
        """The agent waits for nothing any more."""
        del self.cells[cell]
        cell.let_go()
        self._close()

    def outlive(self, scope: Scope) -> None:
        """Belong to no run any more, if this one has ended: its agents may live on."""
        if scope is self._scope:
            self._scope = self._world
            self._world.open += 1
            scope.close()

    def _ring(self) -> None:
        self._timer = None
        self._engine.held -= 1
        self._look_all()

    def _look_all(self) -> None:
        for cell in list(self.cells):
            self.look(cell)
        self._close()

    def _close(self) -> None:
        if self.cells or self._over:
            return
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._engine.held -= 1
        self._scope.close()


def _concerned(cell: Cell, supervision: Supervision) -> list[Cell]:
    """Whom the strategy touches when this cell has failed."""
    if cell.parent is None or supervision.strategy == "one_for_one":
        return [cell]
    siblings = list(cell.parent.children)
    if supervision.strategy == "rest_for_one":
        return siblings[siblings.index(cell) :] if cell in siblings else [cell]
    return siblings


def _escalate(cell: Cell, raised: BaseException, scope: Scope) -> None:
    """The network above fails in this agent's place; past the outermost, the run does."""
    above = cell.parent
    if above is not None and above.parent is not None:
        recover(above, raised, scope)
        return
    top = above or cell
    level = logging.ERROR if scope is cell.runtime.world else logging.DEBUG
    text = "%r failed past the outermost network %r, which stops"
    log.log(level, text, cell.node.path, top.node.path, exc_info=raised)
    if scope is not cell.runtime.world:
        scope.end("failure")
    give_up(top)


def _restart(cell: Cell, scope: Scope, *, keep_state: bool) -> None:
    """Put the fields back as they were at start, unless they are kept; the mailbox stays."""
    cell.restarts += 1
    scope.restarts += 1
    if cell.snapshot is not None and not keep_state:
        cell.snapshot.put_back(cell.agent)
    elif not keep_state:
        log.warning(
            "%r is restarted with its fields as they are: nothing said at its start that it might "
            "be restarted. Set the supervision before the start.",
            cell.node.path,
        )
    if cell.runtime.instruments:
        cell.runtime.observe("restart", cell.node.path)
    cell.begin_again()
