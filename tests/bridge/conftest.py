"""What every test of the bridge stands on: Mesa, installed, and as it was after each test."""

from __future__ import annotations

from collections.abc import Iterator

import pykka
import pytest

from mesa_bridge.hook import disable_automatic_parallel_stepping


@pytest.fixture(autouse=True)
def _mesa_as_it_was() -> Iterator[None]:
    yield
    disable_automatic_parallel_stepping()
    # Mesa 3.3 keeps every model alive, and with it the networks of its agents.
    pykka.ActorRegistry.stop_all()
