"""What every test of the bridge stands on: Mesa, installed, and as it was after each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mesa_bridge.hook import disable_automatic_parallel_stepping


@pytest.fixture(autouse=True)
def _mesa_as_it_was() -> Iterator[None]:
    yield
    disable_automatic_parallel_stepping()
