"""A plug-in for Mesa's own tests: every activation in them goes through the bridge.

pytest -p plugin            # with MESA_SUITE_MODE=asyncio, threading or sequential
pytest -p plugin            # without it: Mesa as it is
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import mesa
import pytest

_outcomes: dict[str, str] = {}


def pytest_configure(config: pytest.Config) -> None:
    """Lead every `do` and `shuffle_do` through the bridge, before any test is collected."""
    mode = os.environ.get("MESA_SUITE_MODE")
    if not mode:
        return
    from mesa_bridge import enable_automatic_parallel_stepping

    mesa.Model.parallel_stepping = True
    enable_automatic_parallel_stepping(mode, on_error="raise")


@pytest.hookimpl(trylast=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note what came of each test; a failure in any phase stays one."""
    if report.failed:
        _outcomes[report.nodeid] = "failed"
    elif report.when == "call" or report.skipped:
        _outcomes.setdefault(report.nodeid, report.outcome)


def pytest_sessionfinish() -> None:
    """Write it down for whoever has started this."""
    Path(os.environ["MESA_SUITE_REPORT"]).write_text(json.dumps(_outcomes))
