"""Waiting in tests: for what should happen at once, and is a hang if it does not."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

import pytest

T = TypeVar("T")

DEADLINE_S = 10.0
"""How long a test waits for what should happen at once, before it calls it a hang."""


def within_deadline(call: Callable[[], T]) -> T:
    """The call's result; a call that hangs fails its test and no other."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:  # noqa: BLE001 - it is raised again below
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(DEADLINE_S)
    if thread.is_alive():
        pytest.fail("the call has not returned")
    if errors:
        raise errors[0]
    return results[0]
