"""Pykka's own test suite, from its source distribution, on our actor and on its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.pykka_suite.fetch import fetch, pinned, unpack

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

EVENT_LOOP_ACTOR = "llm_net.event_loop_actor:EventLoopActor"
EVENT_LOOP_FUTURE = "llm_net.futures:EventLoopFuture"
THREADING_ACTOR = "pykka._threading:ThreadingActor"
THREADING_FUTURE = "pykka._threading:ThreadingFuture"

# On purpose: there, a BaseException in one actor stops all of them, and that is logged.
OTHERWISE = "tests/test_logging.py::test_base_exception_is_logged"

Run = Callable[..., dict[str, str]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs Pykka's suite in a process of its own, and gives what came of each test."""
    if version("pykka") != pinned()[0]:
        pytest.fail(
            f"Pykka {version('pykka')} is installed, and the suite is that of {pinned()[0]}: "
            "bring tests/pykka_suite/requirements.txt up to date."
        )
    folder = tmp_path_factory.mktemp("pykka")
    suite = unpack(fetch(), folder)

    def run(
        actor: str, *, future: str = THREADING_FUTURE, options: Sequence[str] = ()
    ) -> dict[str, str]:
        report = folder / "report.json"
        report.unlink(missing_ok=True)
        command = [sys.executable, "-m", "pytest", "-c", "pyproject.toml"]
        command += ["-p", "plugin", "-p", "pytest_mock", "-p", "no:cacheprovider"]
        # An exception in a thread is a failure. Other warnings are Pykka's: its tests leave loops.
        command += ["-W", "error::pytest.PytestUnhandledThreadExceptionWarning"]
        done = subprocess.run(
            [*command, "-o", "faulthandler_timeout=60", *options],
            cwd=suite,
            env=os.environ
            | {
                "PYKKA_SUITE_ACTOR": actor,
                "PYKKA_SUITE_FUTURE": future,
                "PYKKA_SUITE_REPORT": str(report),
                "PYTEST_ADDOPTS": "",
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
                # The suite's own `tests` come first: it is run in the folder that holds them.
                "PYTHONPATH": os.pathsep.join(map(str, [suite, HERE, ROOT])),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=150,
            check=False,
        )
        # Shown if the test fails: what came of Pykka's tests, and why.
        sys.stdout.write(done.stdout)
        assert report.exists(), done.stdout
        outcomes: dict[str, str] = json.loads(report.read_text())
        assert (done.returncode == 0) == (set(outcomes.values()) <= {"passed", "deselected"})
        return outcomes

    return run


@pytest.fixture(scope="module")
def stock(run: Run) -> dict[str, str]:
    """What comes of the suite on Pykka's own actor, on this machine."""
    return run(THREADING_ACTOR)


@pytest.mark.parametrize("future", [THREADING_FUTURE, EVENT_LOOP_FUTURE])
def test_pykkas_own_suite_passes_with_our_actor(
    run: Run, stock: dict[str, str], future: str
) -> None:
    ours = run(EVENT_LOOP_ACTOR, future=future, options=["--deselect", OTHERWISE])
    assert set(stock.values()) == {"passed"}
    assert len(stock) >= 160
    assert dict.fromkeys(stock, "passed") | {f"{OTHERWISE}[threading]": "deselected"} == ours


def test_the_harness_finds_an_actor_that_breaks_a_promise(run: Run) -> None:
    outcomes = run("broken:Swallowing", options=["tests/proxy"])
    assert "failed" in outcomes.values()
