"""What is done about a failure: the supervisor's directive, carried out.

Floor 2. `supervision` decides; here the deciding is asked for, and acted on.
"""

from __future__ import annotations

import copy
import logging
from typing import TYPE_CHECKING, Any

from llm_net.errors import UsageError
from llm_net.supervision import Intensity, Supervision

if TYPE_CHECKING:
    from llm_net.cell import Cell
    from llm_net.scope import Scope

__all__ = ["Snapshot", "apply", "recover", "restart"]

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
        if (above.node.supervision or RESUME).may_restart:
            return True
        above = above.parent
    return False


def recover(cell: Cell, raised: BaseException, scope: Scope) -> None:
    """Run the agent's own hook, then do what its supervision says."""

    def then(_error: BaseException | None) -> None:
        try:
            directive = (cell.node.supervision or RESUME).decide(raised)
        except Exception:  # the user's function may raise anything
            log.exception("The directive for %r could not be had; it escalates", cell.node.path)
            directive = "escalate"
        apply(cell, directive, raised, scope)

    cell.hook("on_failure", type(raised), raised, raised.__traceback__, then=then)


def apply(cell: Cell, directive: str, raised: BaseException, scope: Scope) -> None:
    """Carry out a directive on this cell and, by the strategy, on its siblings."""
    if cell.stopped or directive == "resume":
        return
    supervision = cell.node.supervision or RESUME
    if directive == "restart":
        cell.intensity = cell.intensity or Intensity()
        assert cell.engine.loop is not None
        if not cell.intensity.allows(supervision, cell.engine.loop.time()):
            cell.stop_now()
            directive = "escalate"
    if directive == "escalate":
        _escalate(cell, raised, scope)
        return
    for each in _concerned(cell, supervision):
        if directive == "restart":
            restart(each, scope)
        else:
            each.stop_now()


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
    top.stop_now()


def restart(cell: Cell, scope: Scope) -> None:
    """Put the fields back as they were at start; the mailbox stays."""
    cell.restarts += 1
    scope.restarts += 1
    cell.abandon_turns()
    if cell.snapshot is not None:
        cell.snapshot.put_back(cell.agent)
    if cell.runtime.instruments:
        cell.runtime.observe("restart", cell.node.path)
    for child in list(cell.children):
        restart(child, scope)
    cell.begin_again()
