"""Room for the garbage collector: given while agents are stepped, and taken back."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesa_bridge.collector import OBJECTS_PER_AGENT, room_for
from mesa_bridge.stepping import step_agents_parallel_sync
from tests.bridge.thinking import Society, Twofold

DEFAULT = (700, 10, 10)


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(*DEFAULT)
    yield
    gc.set_threshold(*before)


def test_an_activation_gives_room_for_its_agents_and_takes_it_back() -> None:
    seen: list[tuple[int, int, int]] = []

    class Watcher(Twofold):
        async def astep(self) -> None:
            seen.append(gc.get_threshold())

    step_agents_parallel_sync(Society([], kinds=(Watcher,), size=20).agents)
    assert set(seen) == {(20 * OBJECTS_PER_AGENT, 10, 10)}
    assert gc.get_threshold() == DEFAULT


@given(rooms=st.lists(st.integers(0, 50), min_size=1, max_size=4))
def test_rooms_within_rooms_leave_everything_as_it_was(rooms: list[int]) -> None:
    gc.set_threshold(*DEFAULT)

    def enter(depth: int) -> None:
        if depth < len(rooms):
            with room_for(rooms[depth]):
                widest = max(rooms[: depth + 1]) * OBJECTS_PER_AGENT
                assert gc.get_threshold()[0] == max(700, widest)
                enter(depth + 1)

    enter(0)
    assert gc.get_threshold() == DEFAULT


def test_what_somebody_else_sets_meanwhile_stays() -> None:
    with room_for(1000):
        gc.set_threshold(50, 5, 5)
        with room_for(2000):
            assert gc.get_threshold() == (50, 5, 5)
    assert gc.get_threshold() == (50, 5, 5)


def test_a_collector_that_is_off_stays_off() -> None:
    gc.set_threshold(0, 10, 10)
    with room_for(1000):
        assert gc.get_threshold()[0] == 0
    assert gc.get_threshold()[0] == 0


def test_room_is_taken_back_when_the_block_fails() -> None:
    with pytest.raises(ValueError, match="x"), room_for(1000):
        raise ValueError("x")
    assert gc.get_threshold() == DEFAULT
