"""Mesa's own test suite, from its source distribution, with every activation led through ours.

Slow: it is Mesa's whole suite, twice, in processes of its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import mesa
import pytest

from tests.pykka_suite.fetch import download, unpack

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
FOLDER = ROOT / ".cache" / "mesa-suite"
SUITES = {
    "3.3.1": "53faf7a8d9746fe4e35030d156f55528a751a44ce9e6b4f5abfc1185cc3e881f",
    "3.5.1": "3f2dce3b8cbe2d89e0ec29e843176788b8cb170413c2cc7def9dbc6339752d78",
}
# Pictures and pages: they step nothing, and some want a browser.
LEFT_OUT = ["visualization", "examples/test_examples_viz.py", "test_solara_viz.py"]
LEFT_OUT += ["test_components_matplotlib.py", "test_space_drawer.py", "test_examples_viz.py"]


def suite(into: Path) -> Path:
    """Mesa's source distribution, unpacked."""
    version = mesa.__version__
    if version not in SUITES:
        pytest.skip(f"the suite of Mesa {version} is not pinned here")
    path = FOLDER / f"mesa-{version}.tar.gz"
    if not path.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        pinned = FOLDER / "requirements.txt"
        pinned.write_text(f"mesa=={version} --hash=sha256:{SUITES[version]}\n")
        download(FOLDER, pinned)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == SUITES[version]
    return unpack(path, into)


def outcomes(folder: Path, mode: str) -> dict[str, str]:
    """What comes of each of Mesa's tests; as Mesa is if there is no mode."""
    report = folder / f"report-{mode or 'plain'}.json"
    tests = folder / "tests"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "plugin", "-p", "no:cacheprovider"]
    command += [f"--ignore={tests / each}" for each in LEFT_OUT]
    done = subprocess.run(
        [*command, str(tests)],
        cwd=folder,
        env=os.environ
        | {
            "MESA_SUITE_MODE": mode,
            "MESA_SUITE_REPORT": str(report),
            "PYTEST_ADDOPTS": "",
            "PYTHONPATH": os.pathsep.join(map(str, [HERE, ROOT])),
        },
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    sys.stdout.write(done.stdout[-4000:] + done.stderr[-2000:])
    found: dict[str, str] = json.loads(report.read_text())
    return found


@pytest.mark.slow
@pytest.mark.timeout(2000)
@pytest.mark.parametrize("mode", ["asyncio", "sequential"])
def test_what_passes_on_mesa_passes_through_the_bridge(mode: str, tmp_path: Path) -> None:
    folder = suite(tmp_path)
    plain = outcomes(folder, "")
    through = outcomes(folder, mode)
    passing = {name for name, outcome in plain.items() if outcome == "passed"}
    assert len(passing) > 200
    assert sorted(name for name in passing if through.get(name) != "passed") == []
