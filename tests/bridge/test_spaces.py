"""Every Mesa space answers the same four questions: where, who is near, which ways, go there."""

from __future__ import annotations

import gc
import json
import math
import re
import warnings
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import mesa
import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mesa import discrete_space, space
from mesa.experimental.continuous_space import ContinuousSpace, ContinuousSpaceAgent

from llm_net import UsageError
from mesa_bridge import place, spaces
from mesa_bridge.spaces import directions, move, neighbours, place_of, position

Placed = tuple[Any, list[Any]]


class Walker(discrete_space.CellAgent):
    pass


class Dot(ContinuousSpaceAgent):
    pass


def at(agent: Any) -> Any:
    return place_of(agent)


def model_of() -> Any:
    return mesa.Model(rng=1)


def in_cells(make: Callable[[Any], Any], coordinates: list[Any]) -> Placed:
    model = model_of()
    model.space = make(model)
    agents: list[Any] = []
    for coordinate in coordinates:
        agent = Walker(model)
        agent.cell = model.space[coordinate]
        agents.append(agent)
    return model, agents


def in_older(make: Callable[[], Any], coordinates: list[Any]) -> Placed:
    model = model_of()
    model.grid = make()
    agents: list[Any] = []
    for coordinate in coordinates:
        agent = mesa.Agent(model)
        model.grid.place_agent(agent, coordinate)
        agents.append(agent)
    return model, agents


def in_free(points: list[Any], **words: Any) -> Placed:
    model = model_of()
    model.space = ContinuousSpace([[0, 10], [0, 10]], random=model.random, **words)
    agents: list[Any] = []
    for point in points:
        agent = Dot(model.space, model)
        agent.position = point
        agents.append(agent)
    return model, agents


def moore(model: Any, **words: Any) -> Any:
    return discrete_space.OrthogonalMooreGrid((6, 6), random=model.random, **words)


def neumann(model: Any, **words: Any) -> Any:
    return discrete_space.OrthogonalVonNeumannGrid((6, 6), random=model.random, **words)


def hexes(model: Any, **words: Any) -> Any:
    return discrete_space.HexGrid((6, 6), random=model.random, **words)


def network(model: Any) -> Any:
    return discrete_space.Network(nx.path_graph(6), random=model.random)


def voronoi(model: Any) -> Any:
    points: list[list[float]] = [[0, 1], [1, 3], [1.1, 1], [2, 2], [3, 0], [3, 3]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)  # Mesa 3.3 uses numpy's matrix
        return discrete_space.VoronoiGrid(
            points, capacity_function=lambda _: 9, random=model.random
        )


EVERY_SPACE: dict[str, Callable[[], Placed]] = {
    "moore": lambda: in_cells(moore, [(1, 1), (1, 2), (1, 1)]),
    "von Neumann": lambda: in_cells(neumann, [(1, 1), (1, 2), (1, 1)]),
    "hexagons": lambda: in_cells(hexes, [(1, 1), (1, 2), (1, 1)]),
    "network": lambda: in_cells(network, [1, 2, 1]),
    "voronoi": lambda: in_cells(voronoi, [2, 3, 2]),
    "multi grid": lambda: in_older(
        lambda: space.MultiGrid(6, 6, torus=False), [(1, 1), (1, 2), (1, 1)]
    ),
    "hex multi grid": lambda: in_older(
        lambda: space.HexMultiGrid(6, 6, torus=False), [(1, 1), (1, 2), (1, 1)]
    ),
    "network grid": lambda: in_older(lambda: space.NetworkGrid(nx.path_graph(6)), [1, 2, 1]),
    "plane": lambda: in_older(
        lambda: space.ContinuousSpace(10, 10, torus=False), [(1.0, 1.0), (1.5, 1.5), (1.0, 1.0)]
    ),
    "free": lambda: in_free([(1.0, 1.0), (1.5, 1.5), (1.0, 1.0)]),
}


@pytest.fixture(params=EVERY_SPACE)
def placed(request: pytest.FixtureRequest) -> Placed:
    return EVERY_SPACE[request.param]()


# --- In every space ------------------------------------------------------------------------------


def test_a_position_is_json_in_every_space(placed: Placed) -> None:
    _, agents = placed
    for agent in agents:
        assert json.loads(json.dumps(position(agent))) == position(agent)
    assert position(agents[0]) == position(agents[2]) != position(agents[1])


def test_two_agents_in_one_place_see_each_other_and_neither_itself(placed: Placed) -> None:
    _, (first, second, third) = placed
    assert neighbours(first, 1) == [second, third]
    assert neighbours(third, 1) == [first, second]


def test_no_vision_sees_nobody_and_minus_one_all_agents_of_the_model(placed: Placed) -> None:
    model, (first, second, third) = placed
    elsewhere = mesa.Agent(model)  # in no place at all
    assert neighbours(first, None) == neighbours(first, 0) == []
    assert neighbours(first, -1) == [second, third, elsewhere]
    assert neighbours(first, math.inf) == [second, third]


def test_an_agent_goes_to_any_place_that_its_space_has(placed: Placed) -> None:
    _, (first, second, _third) = placed
    there = position(second)
    move(first, there)
    assert position(first) == there
    assert second in neighbours(first, 1)


def test_every_direction_leads_where_it_says(placed: Placed) -> None:
    _, (first, *_) = placed
    home = at(first).position
    for target in directions(first).values():
        move(first, target)
        assert at(first).position == target
        move(first, home)


def test_a_place_that_does_not_exist_is_refused_and_the_agent_stays(placed: Placed) -> None:
    _, (first, *_) = placed
    before = position(first)
    for nowhere in ([99, 99], 99, "nowhere", None, [1], [float("nan"), 1.0], {"x": 1}):
        with pytest.raises(ValueError, match=f"Walker|Agent|Dot {first.unique_id} cannot move"):
            move(first, nowhere)
        assert position(first) == before


@pytest.mark.parametrize("vision", [-2, float("nan"), "far", True])
def test_a_vision_that_is_no_distance_is_a_usage_error(vision: Any) -> None:
    _, (first, *_) = EVERY_SPACE["moore"]()
    with pytest.raises(UsageError, match="vision="):
        neighbours(first, vision)


def test_an_agent_that_is_nowhere_sees_nobody_and_can_be_put_somewhere() -> None:
    model = model_of()
    model.grid = moore(model)
    agent = Walker(model)
    assert position(agent) is None
    assert neighbours(agent, 2) == []
    assert directions(agent) == {}
    move(agent, [2, 3])
    assert position(agent) == [2, 3]
    older = model_of()
    older.grid = space.SingleGrid(4, 4, torus=False)
    other = mesa.Agent(older)
    move(other, [2, 3])
    assert position(other) == [2, 3]


def test_without_any_space_nobody_moves_and_only_minus_one_sees() -> None:
    model = model_of()
    first, second = mesa.Agent(model), mesa.Agent(model)
    assert position(first) is None
    assert neighbours(first, 3) == []
    assert neighbours(first, -1) == [second]
    with pytest.raises(ValueError, match="in no space"):
        move(first, [0, 0])


def test_neighbours_come_in_the_order_of_their_ids_whatever_order_they_moved_in() -> None:
    _, agents = in_cells(moore, [(1, 1)] * 5)
    for agent in reversed(agents):
        move(agent, [2, 2])
    assert neighbours(agents[2], 1) == [agents[0], agents[1], agents[3], agents[4]]


# --- Distances -----------------------------------------------------------------------------------

CELLS = st.tuples(st.integers(0, 5), st.integers(0, 5))


def apart(a: int, b: int, size: int | None) -> int:
    return abs(a - b) if size is None else min(abs(a - b), size - abs(a - b))


@given(here=CELLS, there=CELLS, radius=st.integers(1, 7), torus=st.booleans())
def test_moore_grids_old_and_new_measure_as_a_king_walks(
    *, here: tuple[int, int], there: tuple[int, int], radius: int, torus: bool
) -> None:
    size = 6 if torus else None
    sees = max(apart(here[0], there[0], size), apart(here[1], there[1], size)) <= radius
    _, (new, _) = in_cells(lambda model: moore(model, torus=torus), [here, there])
    _, (old, _) = in_older(lambda: space.MultiGrid(6, 6, torus=torus), [here, there])
    assert bool(neighbours(new, radius)) == bool(neighbours(old, radius)) == sees


@given(here=CELLS, there=CELLS, radius=st.integers(1, 7), torus=st.booleans())
def test_a_von_neumann_grid_measures_along_its_streets(
    *, here: tuple[int, int], there: tuple[int, int], radius: int, torus: bool
) -> None:
    size = 6 if torus else None
    sees = apart(here[0], there[0], size) + apart(here[1], there[1], size) <= radius
    _, (agent, _) = in_cells(lambda model: neumann(model, torus=torus), [here, there])
    assert bool(neighbours(agent, radius)) == sees


POINTS = st.tuples(*[st.floats(0, 9.5, width=32)] * 2)


@given(here=POINTS, there=POINTS, radius=st.floats(0.5, 8), torus=st.booleans())
def test_planes_old_and_new_measure_straight(
    *, here: tuple[float, float], there: tuple[float, float], radius: float, torus: bool
) -> None:
    gaps = [abs(a - b) for a, b in zip(here, there, strict=True)]
    distance = math.hypot(*(min(gap, 10 - gap) if torus else gap for gap in gaps))
    if math.isclose(distance, radius, rel_tol=1e-6):
        return  # on the edge, rounding decides
    _, (new, _) = in_free([here, there], torus=torus)
    _, (old, _) = in_older(lambda: space.ContinuousSpace(10, 10, torus=torus), [here, there])
    assert bool(neighbours(new, radius)) == bool(neighbours(old, radius)) == (distance <= radius)


@given(graph=st.integers(0, 50), start=st.integers(0, 7), radius=st.integers(1, 5))
def test_networks_old_and_new_measure_in_hops(graph: int, start: int, radius: int) -> None:
    edges = nx.gnm_random_graph(8, 9, seed=graph)
    reach = nx.single_source_shortest_path_length(edges, start, radius)

    def new_network(model: Any) -> Any:
        return discrete_space.Network(edges, random=model.random)

    _, new = in_cells(new_network, list(edges))
    _, old = in_older(lambda: space.NetworkGrid(edges.copy()), list(edges))
    expected = sorted(set(reach) - {start})
    assert [position(each) for each in neighbours(new[start], radius)] == expected
    assert [position(each) for each in neighbours(old[start], radius)] == expected


def test_a_part_of_a_cell_more_is_not_seen_in_a_grid() -> None:
    _, (first, _, _) = in_cells(moore, [(0, 0), (0, 1), (0, 2)])
    assert len(neighbours(first, 1.9)) == 1
    assert neighbours(first, 0.5) == []


def test_a_wall_between_two_cells_is_not_looked_through_and_not_walked_through() -> None:
    model, (first, second) = in_cells(neumann, [(0, 0), (0, 1)])
    model.space.remove_connection(model.space[0, 0], model.space[0, 1])
    assert neighbours(first, 1) == []
    assert neighbours(first, 3) == [second]  # round the wall
    assert "East" not in directions(first)
    model.space.add_connection(model.space[0, 0], model.space[0, 1])
    assert neighbours(first, 1) == [second]


def test_looking_around_keeps_no_model_alive() -> None:
    # Mesa's own neighbourhoods would: their cache belongs to the class.
    model, agents = in_cells(moore, [(1, 1), (3, 3)])
    assert [len(neighbours(each, 3)) for each in agents] == [1, 1]
    assert [len(directions(each)) for each in agents] == [8, 8]
    getattr(mesa.Agent, "_ids", {}).pop(model, None)  # Mesa 3.3 holds every model here
    gone = weakref.ref(model)
    del model, agents
    gc.collect()
    assert gone() is None


# --- Directions ----------------------------------------------------------------------------------


def test_north_is_the_row_before_in_cells_and_up_in_the_older_grids() -> None:
    _, (new,) = in_cells(moore, [(2, 2)])
    _, (old,) = in_older(lambda: space.SingleGrid(6, 6, torus=False), [(2, 2)])
    assert directions(new)["North"] == (1, 2)  # Mesa's Grid2DMovingAgent says so
    assert directions(old)["North"] == (2, 3)
    assert len(directions(new)) == len(directions(old)) == 8


def test_mesas_own_moving_agent_means_the_same_directions() -> None:
    model = model_of()
    model.grid = moore(model)
    ours, mesas = discrete_space.Grid2DMovingAgent(model), discrete_space.Grid2DMovingAgent(model)
    for name in ("North", "NorthEast", "East", "SouthEast", "South", "SouthWest", "West"):
        ours.cell = mesas.cell = model.grid[2, 2]
        mesas.move(name)
        move(ours, directions(ours)[name])
        assert ours.cell is mesas.cell


def test_a_von_neumann_grid_has_four_ways_and_corners_have_fewer() -> None:
    _, (middle, corner) = in_cells(neumann, [(2, 2), (0, 0)])
    assert set(directions(middle)) == {"North", "East", "South", "West"}
    assert set(directions(corner)) == {"South", "East"}


@pytest.mark.parametrize("cell", [(2, 2), (3, 3), (2, 3), (3, 2)])
def test_a_hexagon_has_six_ways_each_to_another_neighbour(cell: tuple[int, int]) -> None:
    _, (new,) = in_cells(hexes, [cell])
    _, (old,) = in_older(lambda: space.HexSingleGrid(6, 6, torus=False), [cell])
    assert set(directions(new).values()) == set(at(new).adjacent())
    assert set(directions(new)) == {
        "NorthWest", "NorthEast", "East", "SouthEast", "SouthWest", "West",
    }  # fmt: skip
    assert set(directions(old).values()) == set(old.model.grid.get_neighborhood(cell))
    assert set(directions(old)) == {
        "North", "NorthEast", "SouthEast", "South", "SouthWest", "NorthWest",
    }  # fmt: skip


@given(cell=CELLS, torus=st.booleans())
def test_going_one_way_and_back_leads_home_on_every_grid_with_directions(
    *, cell: tuple[int, int], torus: bool
) -> None:
    back = {"North": "South", "East": "West", "NorthEast": "SouthWest", "NorthWest": "SouthEast"}
    back |= {there: here for here, there in back.items()}
    models = [in_cells(partial(make, torus=torus), [cell]) for make in (moore, neumann, hexes)]
    models += [
        in_older(partial(make, 6, 6, torus=torus), [cell])
        for make in (space.MultiGrid, space.HexMultiGrid)
    ]
    for _, (agent,) in models:
        for name, target in directions(agent).items():
            move(agent, target)
            move(agent, directions(agent)[back[name]])
            assert tuple(position(agent)) == cell


def test_networks_and_voronoi_cells_have_no_directions_and_three_dimensions_neither() -> None:
    for name in ("network", "voronoi", "network grid"):
        _, (agent, *_) = EVERY_SPACE[name]()
        assert directions(agent) == {}
        assert at(agent).adjacent()
    _, (cube,) = in_cells(
        lambda model: discrete_space.OrthogonalMooreGrid((3, 3, 3), random=model.random),
        [(1, 1, 1)],
    )
    assert directions(cube) == {}
    assert len(at(cube).adjacent()) == 26


# --- Going there ---------------------------------------------------------------------------------


def test_a_full_cell_is_refused_with_who_is_in_it_and_nothing_has_changed() -> None:
    model, (first, second) = in_cells(lambda model: moore(model, capacity=1), [(0, 0), (0, 1)])
    with pytest.raises(ValueError, match=r"it is full \(Walker 2\).*South") as refused:
        move(first, [0, 1])
    assert not re.search(r"\bEast\b", str(refused.value))  # what is full is no way out
    assert first.cell is model.space[0, 0]
    assert model.space[0, 1].agents == [second]
    move(first, [0, 0])  # where it is, it may stay


def test_a_taken_cell_of_a_single_grid_is_refused_with_who_is_in_it() -> None:
    model, (first, second) = in_older(lambda: space.SingleGrid(4, 4, torus=False), [(0, 0), (0, 1)])
    with pytest.raises(ValueError, match=r"it is taken \(Agent 2\)"):
        move(first, [0, 1])
    assert model.grid[0][0] is first
    assert model.grid[0][1] is second
    move(first, (0, 0))


def test_beyond_the_border_is_refused_with_the_reach_and_on_a_torus_wrapped() -> None:
    for torus in (False, True):
        models = (
            in_cells(partial(moore, torus=torus), [(0, 0)]),
            in_older(partial(space.MultiGrid, 6, 6, torus=torus), [(0, 0)]),
        )
        for _, (agent,) in models:
            if torus:
                move(agent, [-1, 6])
                assert position(agent) == [5, 0]
            else:
                with pytest.raises(ValueError, match="from 0 to 5"):
                    move(agent, [-1, 6])


def test_the_far_edge_of_the_older_plane_is_outside() -> None:
    _, (agent,) = in_older(lambda: space.ContinuousSpace(10, 10, torus=False), [(1.0, 1.0)])
    with pytest.raises(ValueError, match="far edge"):
        move(agent, [10, 10])


def test_a_node_is_found_by_what_it_reads_as() -> None:
    _, (agent,) = in_older(lambda: space.NetworkGrid(nx.path_graph(4)), [0])
    move(agent, "3")
    assert agent.pos == 3
    towns = nx.Graph([("Rome", "Oslo")])
    _, (other,) = in_cells(
        lambda model: discrete_space.Network(towns, random=model.random), ["Rome"]
    )
    move(other, "Oslo")
    assert position(other) == "Oslo"


def test_whole_numbers_may_be_written_as_json_writes_them() -> None:
    _, (agent,) = in_cells(moore, [(0, 0)])
    move(agent, [2.0, 3.0])
    assert agent.cell.coordinate == (2, 3)
    with pytest.raises(ValueError, match="whole numbers"):
        move(agent, [2.5, 3.0])


def test_a_fixed_agent_says_that_it_cannot_move() -> None:
    model = model_of()
    model.grid = moore(model)
    patch = discrete_space.FixedAgent(model)
    patch.cell = model.grid[0, 0]
    with pytest.raises(ValueError, match="FixedCell"):
        move(patch, [1, 1])


# --- Which space ---------------------------------------------------------------------------------


def test_the_space_is_found_under_any_name_and_among_several() -> None:
    model = model_of()
    model.forest, model.town = moore(model), moore(model, torus=True)
    agent = Walker(model)
    agent.cell = model.town[0, 0]
    assert at(agent).space is model.town
    older = model_of()
    older.first, older.second = (space.MultiGrid(3, 3, torus=False) for _ in range(2))
    other = mesa.Agent(older)
    older.second.place_agent(other, (1, 1))
    assert at(other).space is older.second


def test_a_cell_of_a_space_that_the_model_does_not_name_still_has_its_connections() -> None:
    model = model_of()
    hidden = moore(model)
    first, second = Walker(model), Walker(model)
    first.cell, second.cell = hidden[1, 1], hidden[1, 2]
    assert neighbours(first, 1) == [second]
    move(first, [1, 2])
    assert first.cell is hidden[1, 2]
    with pytest.raises(ValueError, match="no such place"):
        move(first, [5, 5])


def test_a_stranger_adds_a_space_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ring(place.Place):
        """Seats round a table."""

        @classmethod
        def of(cls, agent: Any) -> Ring | None:
            return cls(agent, None) if hasattr(agent, "seat") else None

        @property
        def position(self) -> Any:
            return self.agent.seat

        def near(self, radius: float) -> list[Any]:
            others = (each for each in self.agent.model.agents if hasattr(each, "seat"))
            return [each for each in others if apart(each.seat, self.agent.seat, 8) <= radius]

        def directions(self) -> dict[str, Any]:
            seat = self.agent.seat
            return {"Left": (seat - 1) % 8, "Right": (seat + 1) % 8}

        def resolve(self, target: Any) -> Any:
            return place.known(target, range(8))

        def go(self, target: Any) -> None:
            self.agent.seat = target

    monkeypatch.setattr(spaces._Kinds, "known", list(spaces._Kinds.known))
    assert spaces.register_space(Ring) is Ring
    model = model_of()
    guests: list[Any] = [mesa.Agent(model) for _ in range(3)]
    for guest, seat in zip(guests, (0, 7, 4), strict=True):
        guest.seat = seat
    assert neighbours(guests[0], 1) == [guests[1]]
    move(guests[0], directions(guests[0])["Left"])
    assert position(guests[0]) == 7
    with pytest.raises(ValueError, match="it can move Left, Right"):
        move(guests[0], 8)


def test_asking_draws_nothing_from_the_models_random_numbers(placed: Placed) -> None:
    model, agents = placed
    before = model.random.getstate(), model.rng.bit_generator.state
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for agent in agents:
            position(agent)
            neighbours(agent, 2)
            directions(agent)
    assert before == (model.random.getstate(), model.rng.bit_generator.state)
