"""Puts another class in the place of `pykka.ThreadingActor`; pytest loads it in Pykka's own suite.

Which class says `PYKKA_SUITE_ACTOR`, as in `llm_net.event_loop_actor:EventLoopActor`; likewise
`PYKKA_SUITE_FUTURE` for `pykka.ThreadingFuture`. What came of each test is written, as JSON, to the
file that `PYKKA_SUITE_REPORT` names.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import pykka
import pytest


def _named(variable: str) -> Any:
    module, _, name = os.environ[variable].partition(":")
    return getattr(importlib.import_module(module), name)


ACTOR = _named("PYKKA_SUITE_ACTOR")
FUTURE = _named("PYKKA_SUITE_FUTURE")
OUTCOMES: dict[str, str] = {}

# Here, while pytest loads its plugins: whoever imports these names later gets ours.
pykka.ThreadingActor = ACTOR  # type: ignore[misc]
pykka.ThreadingFuture = FUTURE  # type: ignore[misc]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """See to it that the suite tests what it is meant to test."""
    conftest: Any = sys.modules["tests.conftest"]
    (runtime,) = (each for param in conftest.RUNTIMES.values() for each in param.values)
    if (runtime.actor_class, runtime.future_class) != (ACTOR, FUTURE):
        msg = f"The suite runs on {runtime.actor_class} and {runtime.future_class}, not on ours."
        raise pytest.UsageError(msg)
    OUTCOMES.update({item.nodeid: "not run" for item in items})


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Note what was left out."""
    OUTCOMES.update({item.nodeid: "deselected" for item in items})


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note the worst of setup, call and teardown."""
    if report.outcome != "passed" or (
        report.when == "call" and OUTCOMES[report.nodeid] == "not run"
    ):
        OUTCOMES[report.nodeid] = report.outcome


def pytest_sessionfinish() -> None:
    """Hand the outcomes over."""
    Path(os.environ["PYKKA_SUITE_REPORT"]).write_text(json.dumps(OUTCOMES))
