"""The shape of the project: its floors, its front door, and what must not stand in its files."""

from __future__ import annotations

import ast
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import llm_net
import mesa_bridge

ROOT = Path(__file__).parents[1]

HEAVY = ("litellm", "mesa", "ray", "starlette", "torch", "transformers", "xllamacpp")

# Run in a fresh Python. Everything an import could do behind our back is announced to audit hooks.
PROBE = f"""
import json, sys, threading

events = []
watched = ("_thread.", "os.fork", "os.posix_spawn", "os.system", "socket.", "subprocess.")
sys.addaudithook(lambda event, args: events.append(event) if event.startswith(watched) else None)

import llm_net
from llm_net import *  # they are imported when they are asked for

print(json.dumps({{
    "events": events,
    "heavy": sorted(name for name in {HEAVY!r} if name in sys.modules),
    "threads": [thread.name for thread in threading.enumerate()],
}}))
"""


def _python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_imports_go_down_the_floors_only() -> None:
    done = _python("from importlinter.cli import lint_imports as lint; exit(lint(no_cache=True))")
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_name_of_the_front_door_leads_somewhere() -> None:
    assert [name for name in llm_net.__all__ if not hasattr(llm_net, name)] == []


@pytest.mark.parametrize("package", [llm_net, mesa_bridge], ids=lambda each: each.__name__)
def test_type_checkers_are_told_of_the_same_names_from_the_same_modules(package: Any) -> None:
    stub = ast.parse(Path(package.__file__).with_suffix(".pyi").read_text())
    told = {
        alias.name: node.module
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    written = next(each.value for each in stub.body if isinstance(each, ast.Assign))
    assert sorted(ast.literal_eval(written)) == sorted(told) == package.__all__
    for name, module in told.items():
        assert getattr(package, name) is getattr(importlib.import_module(str(module)), name)


def test_a_name_that_the_front_door_does_not_have_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'llm_net' has no attribute 'GenAgents'"):
        _ = llm_net.GenAgents  # type: ignore[attr-defined]
    assert {"GenAgent", "__all__"} <= set(dir(llm_net))


def test_the_names_of_the_front_door_are_in_order_and_there_once() -> None:
    def order(name: str) -> tuple[bool, str]:
        """Constants first, then by letter, and Step2 before Step10: as ruff sorts them."""
        return not name.isupper(), re.sub(r"\d+", lambda number: number[0].zfill(9), name)

    assert list(llm_net.__all__) == sorted(set(llm_net.__all__), key=order)


def test_importing_the_package_has_no_effect_and_stays_light() -> None:
    done = _python(PROBE)
    assert (done.returncode, done.stderr) == (0, "")
    # One line: had the import printed anything, this would not parse.
    seen = json.loads(done.stdout)
    assert seen == {"events": [], "heavy": [], "threads": ["MainThread"]}


def _files() -> list[Path]:
    """The files of the project: those that git tracks, or, without git, all but the hidden."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        ).stdout.decode()
    except (OSError, subprocess.CalledProcessError):
        paths = [path for path in ROOT.rglob("*") if "__pycache__" not in path.parts]
        tools = re.compile(r"^\.(?!ci/|editorconfig|gitignore)")
        return [path for path in paths if not tools.match(path.relative_to(ROOT).as_posix())]
    return [ROOT / name for name in listed.split("\0") if name]


def test_no_file_names_a_registry_host_or_a_directory_of_one_machine() -> None:
    """A lock file or a page with such a name works here and nowhere else."""
    # Put together here, so that this file does not hold what it forbids.
    hosts = ["pypi." + "org", "python" + "hosted.org", "registry.npm" + "js", "deb.debian." + "org"]
    directories = r"(?<![\w.~/:-])/(?:work|root|home|Users)/"
    forbidden = re.compile("|".join([*map(re.escape, hosts), directories]).encode())
    found = [
        (path.relative_to(ROOT).as_posix(), content[: match.start()].count(b"\n") + 1, match[0])
        for path in _files()
        if path.is_file()
        for content in [path.read_bytes()]
        for match in forbidden.finditer(content)
    ]
    assert found == []
