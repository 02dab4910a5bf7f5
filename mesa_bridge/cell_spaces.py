"""Cells and what connects them: the spaces of `mesa.discrete_space`.

Bridge, floor 1. Mesa keeps every neighbourhood that was ever asked for in a cache of the class: it
holds cells, agents and so models for ever, and misses connections that change. So the connections
are followed here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Self

from mesa.discrete_space import (
    Cell,
    DiscreteSpace,
    HexGrid,
    OrthogonalMooreGrid,
    OrthogonalVonNeumannGrid,
)

from mesa_bridge.place import COMPASS, Place, attributes, inside, integers, known, listed

__all__ = ["CellPlace"]

# Row and column: North is the row before, as in Mesa's `Grid2DMovingAgent`.
_ROWS_AND_COLUMNS = {name: (-y, x) for name, (x, y) in COMPASS.items()}
# Rows of hexagons; which of two neighbours in the next row lies to the East depends on the row.
_HEX_ROWS = (
    {"NorthWest": (0, -1), "NorthEast": (1, -1), "SouthWest": (0, 1), "SouthEast": (1, 1)},
    {"NorthWest": (-1, -1), "NorthEast": (0, -1), "SouthWest": (-1, 1), "SouthEast": (0, 1)},
)
_HEX_SIDES = {"East": (1, 0), "West": (-1, 0)}


class CellPlace(Place):
    """Cells and their connections: orthogonal and hexagonal grids, networks, Voronoi grids.

    Distance is counted in connections, which makes it Chebyshev's in a Moore grid, Manhattan's in a
    von Neumann grid, hops elsewhere. Borders, a torus, cut connections are as the space has them.
    """

    @classmethod
    def of(cls, agent: Any) -> Self | None:
        """The place, if the agent has a cell, or is of a kind that lives in cells."""
        cell = getattr(agent, "cell", agent)  # None if it has one, and is in none
        if cell is not None and not isinstance(cell, Cell):
            return None
        for space in attributes(agent.model, DiscreteSpace):
            if cell is None or _get(space, cell.coordinate) is cell:
                return cls(agent, space)
        return None if cell is None else cls(agent, None)

    @property
    def position(self) -> Any:
        """The cell's coordinate: a tuple in grids, a node in networks."""
        cell = self.agent.cell
        return None if cell is None else cell.coordinate

    def near(self, radius: float) -> Iterator[Any]:
        """Who is in the own cell, and in those that so many connections lead to."""
        reached: dict[Cell, None] = {self.agent.cell: None}
        border = list(reached)
        for _ in range(math.floor(radius) if math.isfinite(radius) else 1 << 62):
            border = [
                each
                for each in dict.fromkeys(way for cell in border for way in _ways(cell))
                if each not in reached
            ]
            if not border:
                break
            reached.update(dict.fromkeys(border))
        for cell in reached:
            yield from cell.agents

    def directions(self) -> dict[str, Any]:
        """Rows and columns in orthogonal grids of two dimensions, six ways in hexagonal ones."""
        cell = self.agent.cell
        if cell is None:
            return {}
        connections = cell.connections
        return {
            name: connections[offset].coordinate
            for name, offset in self._offsets(cell.coordinate).items()
            if offset in connections
        }

    def _offsets(self, coordinate: Any) -> Mapping[str, tuple[int, int]]:
        if isinstance(self.space, HexGrid):
            odd: int = coordinate[1] % 2
            return _HEX_ROWS[odd] | _HEX_SIDES
        flat = isinstance(self.space, (OrthogonalMooreGrid, OrthogonalVonNeumannGrid))
        return _ROWS_AND_COLUMNS if flat and len(coordinate) == 2 else {}  # noqa: PLR2004

    def adjacent(self) -> list[Any]:
        """The coordinates of the connected cells."""
        cell = self.agent.cell
        return [] if cell is None else [each.coordinate for each in _ways(cell)]

    def resolve(self, target: Any) -> Any:
        """The coordinate of an existing cell; one beyond the edge of a torus is wrapped."""
        if self.space is None:
            return known(target, self.adjacent())
        dimensions = getattr(self.space, "dimensions", None)
        if dimensions is None:
            return known(target, [cell.coordinate for cell in self.space])
        whole = integers(target, len(dimensions))
        if self.space.torus:
            whole = tuple(n % size for n, size in zip(whole, dimensions, strict=True))
        whole = inside(whole, [(0, size - 1) for size in dimensions])
        return known(whole, [] if _get(self.space, whole) is None else [whole])

    def _cell(self, target: Any) -> Any:
        if self.space is not None:
            return _get(self.space, target)
        return next(each for each in _ways(self.agent.cell) if each.coordinate == target)

    def refusal(self, target: Any) -> str | None:
        """A cell may be full. Asked before, for Mesa 3.3 leaves an agent half moved."""
        cell = self._cell(target)
        full = cell.capacity is not None and len(cell.agents) >= cell.capacity
        if cell is self.agent.cell or not full:
            return None
        return f"it is full ({listed(cell.agents)})"

    def go(self, target: Any) -> None:
        """Move to the cell."""
        self.agent.cell = self._cell(target)


def _ways(cell: Any) -> list[Any]:
    return list(cell.connections.values())


def _get(space: Any, coordinate: Any) -> Any:
    """The cell of a coordinate; None if there is none."""
    try:
        return space[coordinate]
    except KeyError:
        return None
    except TypeError:  # Voronoi cells of Mesa 3.3 have lists for coordinates, which find nothing
        return next((cell for cell in space if cell.coordinate == coordinate), None)
