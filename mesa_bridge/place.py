"""An agent in its space: `Place`, what every family of spaces answers.

Bridge, floor 0. Knows no space in particular. What all families share is here, too: reading a place
as a model writes it, and saying why nobody can go there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, Self, TypeVar, cast

from llm_net.errors import is_number
from llm_net.snapshot import jsonable

__all__ = [
    "COMPASS",
    "Place",
    "attributes",
    "inside",
    "integers",
    "known",
    "listed",
    "named",
    "numbers",
]

T = TypeVar("T")

_SHOWN = 24

# y grows to the North, as Mesa's older spaces count.
COMPASS = {
    "North": (0, 1),
    "NorthEast": (1, 1),
    "East": (1, 0),
    "SouthEast": (1, -1),
    "South": (0, -1),
    "SouthWest": (-1, -1),
    "West": (-1, 0),
    "NorthWest": (-1, 1),
}


class Place(ABC):
    """One agent in its space. A family of spaces is a subclass that answers for it.

    Args:
        agent: Who is there, or could be.
        space: Mesa's object; None if only the agent's own cell is known.
    """

    def __init__(self, agent: Any, space: Any) -> None:
        self.agent = agent
        self.space = space

    @classmethod
    @abstractmethod
    def of(cls, agent: Any) -> Self | None:
        """The agent's place if its space is of this family, else None."""

    @property
    @abstractmethod
    def position(self) -> Any:
        """Where it is, as the space says it; None if nowhere."""

    @abstractmethod
    def near(self, radius: float) -> Iterable[Any]:
        """Who is within the radius, as the space measures; may hold the agent itself, or twice."""

    @abstractmethod
    def directions(self) -> dict[str, Any]:
        """What lies one step away, by the names of the directions; empty if they have none."""

    def adjacent(self) -> list[Any]:
        """What lies one step away."""
        return list(self.directions().values())

    @abstractmethod
    def resolve(self, target: Any) -> Any:
        """A target as text or JSON has it, as the space has it.

        Raises:
            ValueError: If there is no such place; the text says why.
        """

    def refusal(self, target: Any) -> str | None:  # noqa: ARG002 - for those who override it
        """Why the agent may not be there; None if it may."""
        return None

    @abstractmethod
    def go(self, target: Any) -> None:
        """Be there; the target was resolved and not refused."""

    def move(self, target: Any) -> None:
        """Go there if that is possible.

        Raises:
            ValueError: If it is not; the text says why, and where the agent could go.
        """
        try:
            found = self.resolve(target)
            why = self.refusal(found)
        except ValueError as error:
            found, why = target, str(error)
        if why is not None:
            raise ValueError(
                f"{named(self.agent)} cannot move to {jsonable(found)}: {why}. {self.possible()}"
            )
        self.go(found)

    def possible(self) -> str:
        """Where one step leads, in a sentence."""
        ways = self.directions()
        if ways:
            free = [name for name, way in ways.items() if self.refusal(way) is None]
            return f"From {jsonable(self.position)} it can move {', '.join(free) or 'nowhere'}."
        free = [str(jsonable(way)) for way in self.adjacent() if self.refusal(way) is None]
        more = f" and {len(free) - _SHOWN} more" if len(free) > _SHOWN else ""
        shown = ", ".join(free[:_SHOWN]) or "nowhere"
        return f"From {jsonable(self.position)}, one step leads to {shown}{more}."


def attributes(model: Any, kind: type[Any] | tuple[type[Any], ...]) -> list[Any]:
    """The spaces of a kind that a model holds, in the order in which it was given them."""
    held: dict[str, Any] = model.__dict__
    return [each for each in tuple(held.values()) if isinstance(each, kind)]


def known(target: Any, nodes: Iterable[Any]) -> Any:
    """The node that is meant: as it is, or as it reads, for a model knows it as text."""
    read = str(jsonable(target))
    for node in nodes:
        if node == target or str(jsonable(node)) == read:
            return node
    raise ValueError("there is no such place")


def numbers(target: Any, many: int) -> tuple[float, ...]:
    """A place as so many numbers; raises ValueError if it is none."""
    given: Any = jsonable(target)  # a NaN or an infinity is text then
    if isinstance(given, list):
        point = tuple(each for each in cast("Iterable[Any]", given))
        if len(point) == many and all(is_number(each) for each in point):
            return point
    raise ValueError(f"a place here is a list of {many} numbers")


def integers(target: Any, many: int) -> tuple[int, ...]:
    """A place as so many whole numbers; raises ValueError if it is none."""
    point = numbers(target, many)
    if any(each != int(each) for each in point):
        raise ValueError("a place here is a list of whole numbers")
    return tuple(int(each) for each in point)


def inside(point: tuple[T, ...], bounds: Iterable[Any]) -> tuple[T, ...]:
    """The point, if each coordinate is within its (low, high); else raises ValueError."""
    limits = list(bounds)
    if all(low <= each <= high for each, (low, high) in zip(point, limits, strict=True)):
        return point
    reach = " and ".join(f"from {low} to {high}" for low, high in limits)
    raise ValueError(f"it is outside (the space reaches {reach})")


def named(agent: Any) -> str:
    """An agent in a text: its class and its unique id."""
    return f"{type(agent).__name__} {agent.unique_id}"


def listed(agents: Iterable[Any]) -> str:
    """Agents in a text."""
    return ", ".join(named(each) for each in agents)
