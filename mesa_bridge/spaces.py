"""Where an agent is, who is near it, where it can go: the same questions to every Mesa space.

Bridge, floor 2. One small class a family of spaces answers them; `register_space` adds a family
that Mesa does not know. Nothing here looks through a whole space to find one agent, and nothing is
cached.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from llm_net.errors import UsageError, is_number
from llm_net.snapshot import jsonable
from mesa_bridge.cell_spaces import CellPlace
from mesa_bridge.free_space import FreePlace
from mesa_bridge.older_spaces import GridPlace, NodePlace, PointPlace
from mesa_bridge.place import Place, named

__all__ = [
    "EVERYBODY",
    "Place",
    "directions",
    "move",
    "neighbours",
    "place_of",
    "position",
    "register_space",
]

EVERYBODY = -1
"""The vision that sees all agents of the model."""


class _Kinds:
    """The families, those that were added last first."""

    known: ClassVar[list[type[Place]]] = [CellPlace, FreePlace, GridPlace, NodePlace, PointPlace]


def register_space(kind: type[Place]) -> type[Place]:
    """Add a family of spaces; it is asked before those that are known. Works as a decorator."""
    _Kinds.known.insert(0, kind)
    return kind


def place_of(agent: Any) -> Place | None:
    """The agent in its space; None if it stands in no space that is known."""
    for kind in _Kinds.known:
        place = kind.of(agent)
        if place is not None:
            return place
    return None


def position(agent: Any) -> Any:
    """Where an agent is, as JSON has it; None if nowhere."""
    place = place_of(agent)
    # An agent that was given a position by hand, without a space, has that one.
    return jsonable(getattr(agent, "pos", None) if place is None else place.position)


def neighbours(agent: Any, vision: float | None) -> list[Any]:
    """Whom an agent sees, in the order of their unique ids; never itself.

    Args:
        agent: Who looks.
        vision: How far, as its space measures; None or 0 for nobody, -1 for all of the model.

    Raises:
        UsageError: If the vision is another negative number, or no number.
    """
    others = {id(each): each for each in _near(agent, vision) if each is not agent}
    return sorted(others.values(), key=lambda each: each.unique_id)


def _near(agent: Any, vision: float | None) -> Iterable[Any]:
    if vision is None or vision == 0:
        return ()
    if vision == EVERYBODY:
        everybody: list[Any] = list(agent.model.agents)
        return everybody
    if not is_number(vision) or not vision > 0:  # a NaN, too
        raise UsageError(
            f"vision={vision!r} is no distance. Give a number from 0 on, -1 to see all agents of "
            "the model, or None to see nobody."
        )
    place = place_of(agent)
    return () if place is None or place.position is None else place.near(vision)


def directions(agent: Any) -> dict[str, Any]:
    """What lies one step away, by direction; empty where directions have no names."""
    place = place_of(agent)
    return {} if place is None else place.directions()


def move(agent: Any, target: Any) -> None:
    """Move an agent to a place in its space, however far.

    Args:
        agent: Who moves; one that is nowhere yet is put there.
        target: Coordinates as a list or tuple, or a node.

    Raises:
        ValueError: If that cannot be; the text says why, and what can.
    """
    place = place_of(agent)
    if place is None:
        raise ValueError(f"{named(agent)} cannot move: it is in no space.")
    place.move(target)
