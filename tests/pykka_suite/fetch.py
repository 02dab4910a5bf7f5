"""Pykka's source distribution: fetched once, from whatever index this machine uses.

    python tests/pykka_suite/fetch.py [FOLDER]

FOLDER, else $PYKKA_SUITE, else `.cache/pykka-suite` in the repository, keeps it. A machine without
an index is served by putting the file there by hand.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FOLDER = HERE.parents[1] / ".cache" / "pykka-suite"


def pinned() -> tuple[str, str]:
    """The version and the hash of the source distribution."""
    text = (HERE / "requirements.txt").read_text()
    found = re.search(r"^pykka==(\S+) --hash=sha256:(\w{64})$", text, re.MULTILINE)
    assert found is not None
    return found[1], found[2]


def fetch(folder: Path | None = None) -> Path:
    """Where the source distribution lies; it is downloaded if it is not there yet."""
    folder = (folder or Path(os.environ.get("PYKKA_SUITE") or FOLDER)).resolve()
    version, digest = pinned()
    path = folder / f"pykka-{version}.tar.gz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        download(folder, HERE / "requirements.txt")
    if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
        raise RuntimeError(
            f"{path} is not the file that {HERE / 'requirements.txt'} pins (sha256 {digest}): "
            "remove it, and it is fetched again."
        )
    return path


def unpack(path: Path, into: Path) -> Path:
    """Unpack the source distribution; gives its top folder."""
    with tarfile.open(path) as archive:
        # Older releases of Python 3.11 know no filter; what the archive holds, its hash says.
        options: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        archive.extractall(into, **options)
    return into / path.name.removesuffix(".tar.gz")


def download(folder: Path, requirements: Path) -> None:
    """Fetch the source distribution that a requirements file pins, from this machine's index."""
    command = [*_pip(), "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
    command += ["--require-hashes", "--requirement", str(requirements)]
    if find_spec("hatchling") is not None:
        command.append("--no-build-isolation")  # else pip fetches the build backend, too
    done = subprocess.run(
        [*command, "--dest", str(folder)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(
            f"pip could not fetch what {requirements} pins:\n{done.stdout}\n"
            f"Put that source distribution into {folder} by hand."
        )


def _pip() -> list[str]:
    """This Python's pip; an environment made without one is served by the machine's."""
    if find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    outside = shutil.which("python3") or "python3"
    return [outside, "-m", "pip", "--python", sys.executable]


if __name__ == "__main__":
    sys.stdout.write(f"{fetch(Path(sys.argv[1]) if sys.argv[1:] else None)}\n")
