"""Bringing agents to life: a cell and a reference for each, from the network downwards.

Floor 2.
"""

from __future__ import annotations

from functools import partial

from llm_net.cell import Cell
from llm_net.deterministic import Deterministic
from llm_net.errors import UsageError
from llm_net.node import TOPOLOGY, Node
from llm_net.ref import AgentRef
from llm_net.registry import register
from llm_net.runtime import Runtime
from llm_net.scheduled_cell import ScheduledCell
from llm_net.scope import Scope
from llm_net.topology import NetworkNode

__all__ = ["go_live", "join_live"]


def go_live(node: Node, runtime: Runtime, home: Scope | None = None) -> AgentRef:
    """Start an agent, and if it is a network, all agents in it.

    Args:
        node: Where the agent stands.
        runtime: Where it is to run.
        home: The run that starts it, if one does: what begins with the start belongs to it.

    Raises:
        UsageError: If it is live, or a member of a network that has to be started instead, or a
            network in it has an entry that is no member.
    """
    if node.has_joined:
        where = "gone" if node.parent is None else repr(node.parent.path)
        msg = (
            f"The agent {node.name!r} is a member of a network ({where}): start that, "
            "or start a copy of the agent (model_copy(deep=True))."
        )
        raise UsageError(msg)
    with TOPOLOGY:
        cells = _cells(node, runtime, None, home or runtime.world)
        runtime.enter(cells[0])
        _settle(cells)
    ref: AgentRef = cells[0].ref
    register(ref)
    runtime.engine.run(partial(_begin, cells))
    return ref


def join_live(node: Node, above: NetworkNode) -> None:
    """Start a member that was added to a live network."""
    parent = above.cell
    if parent is None:
        return
    with TOPOLOGY:
        cells = _cells(node, parent.runtime, parent, parent.home)
        _settle(cells)
    parent.engine.run(partial(_begin, cells))


def _cells(node: Node, runtime: Runtime, parent: Cell | None, home: Scope) -> list[Cell]:
    """Cells for this node and all below it; nothing is changed yet."""
    cells: list[Cell] = []
    kind = ScheduledCell if isinstance(runtime, Deterministic) else Cell
    stack: list[tuple[Node, Cell | None]] = [(node, parent)]
    while stack:
        current, above = stack.pop()
        if current.cell is not None:
            busy = f"; it waits for {busy}" if (busy := ", ".join(current.cell.busy())) else ""
            msg = (
                f"The agent {current.path!r} is live already{busy}. Stop it first, "
                "or start a copy (model_copy(deep=True))."
            )
            raise UsageError(msg)
        if isinstance(current, NetworkNode):
            current.check_entry()
        cell = kind(current, runtime, above, home)
        cell.ref = AgentRef(cell)
        cell.keep_start()
        cells.append(cell)
        stack.extend((inner, cell) for inner in reversed(current.inner()))
    return cells


def _settle(cells: list[Cell]) -> None:
    for cell in cells:
        cell.node.cell = cell
        cell.node.last_ref = cell.ref
        if cell.bound is not None:
            cell.runtime.bounded = True
        if cell.runtime.seed is not None:
            cell.node.random = None  # what was drawn before is not to change what the seed gives
    cells[0].runtime.version += 1


def _begin(cells: list[Cell]) -> None:
    for cell in cells:
        if cell.parent is not None:
            cell.parent.children[cell] = None
    above = cells[0].parent
    for cell in cells:
        cell.begin()
    if above is not None and above.stopping is not None:
        cells[0].stop_in_order()  # the network that it came to is on its way out
