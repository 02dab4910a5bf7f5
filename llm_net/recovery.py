"""What is done about a failure: the supervisor's directive, carried out.

Floor 2. `supervision` decides; here the deciding is asked for, and acted on.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from llm_net.errors import UsageError
from llm_net.supervision import Intensity, Supervision

if TYPE_CHECKING:
    import asyncio

    from llm_net.cell import Cell
    from llm_net.scope import Scope

__all__ = ["Pause", "Snapshot", "apply", "recover", "restart"]

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
            self._values = copy.deepcopy((agent.__dict__, private))
        except Exception as error:
            name, value = _culprit({**agent.__dict__, **(private or {})})
            raise UsageError(
                f"The agent {agent.path!r} may be restarted, but its field {name!r} "
                f"({type(value).__name__}) cannot be copied: {error}. Give the type a "
                "__deepcopy__, or supervise the agent without restarts."
            ) from error

    def put_back(self, agent: Any) -> None:
        """Give the agent, the same object, fields as they were."""
        fields, private = copy.deepcopy(self._values)
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
        supervision = above.node.supervision or RESUME
        if supervision.may_restart and not supervision.keep_state:
            return True
        above = above.parent
    return False


def recover(
    cell: Cell,
    raised: BaseException,
    scope: Scope,
    decided: Callable[[str], None] | None = None,
) -> None:
    """Run the agent's own hook, then do what its supervision says.

    Args:
        cell: Whose turn raised.
        raised: What it raised.
        scope: The run that the turn belonged to.
        decided: Called with the directive before it is carried out.
    """

    def then(_error: BaseException | None) -> None:
        try:
            directive = str((cell.node.supervision or RESUME).decide(raised))
        except Exception:  # the user's function may raise anything
            log.exception("The directive for %r could not be had; it escalates", cell.node.path)
            directive = "escalate"
        if decided is not None:
            decided(directive)
        apply(cell, directive, raised, scope)

    cell.hook("on_failure", type(raised), raised, raised.__traceback__, then=then)


def apply(cell: Cell, directive: str, raised: BaseException, scope: Scope) -> None:
    """Carry out a directive on this cell and, by the strategy, on its siblings."""
    if cell.stopped or directive == "resume" or cell.pause is not None:
        return
    supervision = cell.node.supervision or RESUME
    delay = 0.0
    if directive == "restart":
        cell.intensity = cell.intensity or Intensity()
        assert cell.engine.loop is not None
        if cell.intensity.allows(supervision, cell.engine.loop.time()):
            delay = supervision.backoff(cell.intensity.count)
        else:
            give_up(cell)
            directive = "escalate"
    if directive == "escalate":
        _escalate(cell, raised, scope)
        return
    concerned = _concerned(cell, supervision)
    if directive != "restart":
        for each in concerned:
            give_up(each)
    elif delay > 0:
        Pause(concerned, scope, supervision).begin(delay)
    else:
        for each in concerned:
            restart(each, scope, keep_state=supervision.keep_state)


def give_up(cell: Cell) -> None:
    """Stop an agent for its failures."""
    cell.given_up = True
    cell.stop_now()


class Pause:
    """The time before a restart: the agents take no message, and their run is not quiet."""

    def __init__(self, cells: list[Cell], scope: Scope, supervision: Supervision) -> None:
        self._cells = cells
        self._supervision = supervision
        self._timer: asyncio.TimerHandle | None = None
        self.scope = scope

    def begin(self, delay: float) -> None:
        """Wait so many seconds, then restart."""
        for cell in self._cells:
            cell.abandon_turns()
            cell.hold(self)
        engine = self._cells[0].engine
        engine.held += 1
        self.scope.open += 1
        self._timer = engine.call_later(delay, self.end)

    def end(self) -> None:
        """Restart those who have not been stopped meanwhile."""
        if self._timer is None:
            return
        self._timer.cancel()
        self._timer = None
        engine = self._cells[0].engine
        engine.held -= 1
        for cell in self._cells:
            cell.let_go(self)
        for cell in self._cells:
            if not cell.stopped and cell.stopping != "now":
                restart(cell, self.scope, keep_state=self._supervision.keep_state)
        self.scope.close()

    def leave(self, cell: Cell) -> None:
        """One of them is being stopped: it waits for nothing any more."""
        cell.let_go(self)
        if all(each.pause is not self for each in self._cells):
            self.end()


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


def restart(cell: Cell, scope: Scope, *, keep_state: bool = False) -> None:
    """Put the fields back as they were at start, unless they are kept; the mailbox stays."""
    cell.restarts += 1
    scope.restarts += 1
    cell.abandon_turns()
    if cell.snapshot is not None and not keep_state:
        cell.snapshot.put_back(cell.agent)
    if cell.runtime.instruments:
        cell.runtime.observe("restart", cell.node.path)
    for child in list(cell.children):
        restart(child, scope, keep_state=keep_state)
    cell.begin_again()
