"""The continuous space of `mesa.experimental`, of any number of dimensions.

Bridge, floor 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

from mesa.experimental import continuous_space as experimental

from mesa_bridge.place import COMPASS, Place, inside, numbers

__all__ = ["FreePlace"]


class FreePlace(Place):
    """The continuous space of `mesa.experimental`, of any number of dimensions."""

    @classmethod
    def of(cls, agent: Any) -> Self | None:
        """The place, if the agent is one of that space's own."""
        space = getattr(agent, "space", None)
        return cls(agent, space) if isinstance(space, experimental.ContinuousSpace) else None

    @property
    def position(self) -> Any:
        """The point, a copy."""
        return tuple(self.agent.position.tolist())

    def near(self, radius: float) -> Iterable[Any]:
        """Who is within the distance."""
        near: list[Any] = self.agent.get_neighbors_in_radius(radius)[0]
        return near

    def directions(self) -> dict[str, Any]:
        """In two dimensions eight ways, as in the older space."""
        if self.space.ndims != 2:  # noqa: PLR2004
            return {}
        x, y = self.position
        ways = {name: (x + dx, y + dy) for name, (dx, dy) in COMPASS.items()}
        if self.space.torus:
            return {name: self._wrapped(way) for name, way in ways.items()}
        return {name: way for name, way in ways.items() if self.space.in_bounds(way)}

    def _wrapped(self, point: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(self.space.torus_correct(point).tolist())

    def resolve(self, target: Any) -> Any:
        """As many numbers as the space has dimensions; on a torus they are wrapped."""
        point = numbers(target, self.space.ndims)
        if self.space.torus:
            return self._wrapped(point)
        return inside(point, self.space.dimensions.tolist())

    def go(self, target: Any) -> None:
        """Take the position."""
        self.agent.position = target
