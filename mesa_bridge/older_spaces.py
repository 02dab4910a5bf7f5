"""Grids, networks and planes of `mesa.space`.

Bridge, floor 1. Mesa keeps them as they are; Mesa 4 has none of them.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping
from typing import Any, Self, TypeVar

from mesa.space import (
    ContinuousSpace,
    HexMultiGrid,
    HexSingleGrid,
    MultiGrid,
    NetworkGrid,
    SingleGrid,
)

from mesa_bridge.place import COMPASS, Place, attributes, inside, integers, known, listed, numbers

__all__ = ["GridPlace", "NodePlace", "PointPlace"]

T = TypeVar("T")

# Columns of hexagons, as Mesa's older hexagonal grids have them.
_HEX_COLUMNS = (
    {"NorthWest": (-1, 1), "NorthEast": (1, 1), "SouthWest": (-1, 0), "SouthEast": (1, 0)},
    {"NorthWest": (-1, 0), "NorthEast": (1, 0), "SouthWest": (-1, -1), "SouthEast": (1, -1)},
)
_HEX_ENDS = {"North": (0, 1), "South": (0, -1)}


class GridPlace(Place):
    """The grids of `mesa.space`, orthogonal and hexagonal, for one agent a cell or for many."""

    @classmethod
    def of(cls, agent: Any) -> Self | None:
        """The place, if one of the model's grids holds the agent."""
        for grid in attributes(agent.model, (SingleGrid, MultiGrid)):
            if agent.pos is None or agent in grid.get_cell_list_contents([agent.pos]):
                return cls(agent, grid)
        return None

    @property
    def position(self) -> Any:
        """Column and row, from the bottom left."""
        return self.agent.pos

    @property
    def _hexagonal(self) -> bool:
        return isinstance(self.space, (HexSingleGrid, HexMultiGrid))

    def near(self, radius: float) -> Iterable[Any]:
        """Who is within so many cells, diagonals included."""
        cells = math.floor(min(radius, max(self.space.width, self.space.height)))
        words = {"include_center": True, "radius": cells}
        if not self._hexagonal:
            words["moore"] = True
        near: list[Any] = self.space.get_neighbors(self.agent.pos, **words)
        return near

    def directions(self) -> dict[str, Any]:
        """Eight ways, or six in a hexagonal grid; y grows to the North."""
        if self.agent.pos is None:
            return {}
        pos: tuple[int, int] = self.agent.pos
        x, y = pos
        offsets = _HEX_COLUMNS[x % 2] | _HEX_ENDS if self._hexagonal else COMPASS
        ways = {name: (x + dx, y + dy) for name, (dx, dy) in offsets.items()}
        return _within(self.space, ways)

    def resolve(self, target: Any) -> Any:
        """Two whole numbers in the grid; on a torus they are wrapped."""
        whole = integers(target, 2)
        return _on(self.space, whole, [(0, self.space.width - 1), (0, self.space.height - 1)])

    def refusal(self, target: Any) -> str | None:
        """In a grid for one agent a cell, the cell may be taken."""
        if target == self.agent.pos or not isinstance(self.space, SingleGrid):
            return None
        there = self.space.get_cell_list_contents([target])
        return f"it is taken ({listed(there)})" if there else None

    def go(self, target: Any) -> None:
        """Move, or be put there."""
        _put(self.space, self.agent, target)


class NodePlace(Place):
    """The `NetworkGrid` of `mesa.space`."""

    @classmethod
    def of(cls, agent: Any) -> Self | None:
        """The place, if one of the model's networks holds the agent."""
        for network in attributes(agent.model, NetworkGrid):
            node = agent.pos
            if node is None or (
                isinstance(node, Hashable)
                and node in network.G
                and agent in network.get_cell_list_contents([node])
            ):
                return cls(agent, network)
        return None

    @property
    def position(self) -> Any:
        """The node."""
        return self.agent.pos

    def near(self, radius: float) -> Iterable[Any]:
        """Who is within so many hops."""
        hops = math.floor(min(radius, len(self.space.G)))
        near: list[Any] = self.space.get_neighbors(self.agent.pos, include_center=True, radius=hops)
        return near

    def directions(self) -> dict[str, Any]:
        """None: nodes have no compass."""
        return {}

    def adjacent(self) -> list[Any]:
        """The nodes that an edge leads to."""
        return [] if self.agent.pos is None else list(self.space.G.neighbors(self.agent.pos))

    def resolve(self, target: Any) -> Any:
        """A node; text finds the node that reads so."""
        return known(target, self.space.G)

    def go(self, target: Any) -> None:
        """Move, or be put there."""
        _put(self.space, self.agent, target)


class PointPlace(Place):
    """The `ContinuousSpace` of `mesa.space`."""

    @classmethod
    def of(cls, agent: Any) -> Self | None:
        """The place, in the first such space of the model."""
        spaces = attributes(agent.model, ContinuousSpace)
        return next((cls(agent, space) for space in spaces), None)

    @property
    def position(self) -> Any:
        """The point."""
        return self.agent.pos

    def near(self, radius: float) -> Iterable[Any]:
        """Who is within the distance."""
        near: list[Any] = self.space.get_neighbors(self.agent.pos, radius, include_center=True)
        return near

    def directions(self) -> dict[str, Any]:
        """Eight ways, each a unit along one axis or both; y grows to the North."""
        if self.agent.pos is None:
            return {}
        x, y = self.agent.pos
        ways = {name: (x + dx, y + dy) for name, (dx, dy) in COMPASS.items()}
        return _within(self.space, ways)

    def resolve(self, target: Any) -> Any:
        """Two numbers in the space; on a torus they are wrapped."""
        space = self.space
        bounds = [(space.x_min, space.x_max), (space.y_min, space.y_max)]
        return _on(space, numbers(target, 2), bounds)

    def go(self, target: Any) -> None:
        """Move, or be put there."""
        _put(self.space, self.agent, target)


def _on(space: Any, point: tuple[T, ...], bounds: Iterable[Any]) -> tuple[T, ...]:
    """The point in one of the older spaces, wrapped on a torus."""
    if space.torus:
        wrapped: tuple[T, ...] = space.torus_adj(point)
        return wrapped
    found = inside(point, bounds)
    if space.out_of_bounds(found):  # the upper edge of a continuous space is outside of it
        raise ValueError("it is on the far edge, which is outside")
    return found


def _within(space: Any, ways: Mapping[str, Any]) -> dict[str, Any]:
    """The ways that stay inside; on a torus all, wrapped."""
    return {
        name: space.torus_adj(way)
        for name, way in ways.items()
        if space.torus or not space.out_of_bounds(way)
    }


def _put(space: Any, agent: Any, target: Any) -> None:
    if agent.pos is None:
        space.place_agent(agent, target)
    else:
        space.move_agent(agent, target)
