"""Runs that survive the death of their process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import mesa
import pytest

from llm_net import UsageError
from mesa_bridge.checkpoints import resume, run_model
from tests.bridge.test_network_agent import Town, told

ROOT = Path(__file__).resolve().parents[2]

KILLED = """
import os, signal, sys
from tests.bridge.test_network_agent import Town
from mesa_bridge.checkpoints import run_model

class Mortal(Town):
    pass

import tests.bridge.test_checkpoints as here
run_model(here.mortal(int(sys.argv[2])), 8, checkpoint_every=1, path=sys.argv[1])
"""


class Mortal(Town):
    """Kills its process in the middle of one step, the first time."""

    deadline = 0

    def step(self) -> None:
        super().step()
        if self.steps == self.deadline and not os.environ.get("LLMNET_TEST_LIVES"):
            os.kill(os.getpid(), signal.SIGKILL)


def mortal(deadline: int) -> Mortal:
    town = Mortal(rng=3, max_messages=4)
    town.deadline = deadline
    return town


@pytest.mark.parametrize("deadline", [1, 5])
def test_a_killed_run_goes_on_to_the_same_end(
    deadline: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.checkpoint"
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(path), str(deadline)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
        timeout=120,
        capture_output=True,
        text=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    monkeypatch.setenv("LLMNET_TEST_LIVES", "1")
    resumed = resume(path)
    whole = run_model(mortal(deadline), 8)
    assert resumed.steps == whole.steps == 8
    assert told(resumed) == told(whole)
    assert resumed.random.getstate() == whole.random.getstate()
    assert list(tmp_path.iterdir()) == [path]


def test_ids_go_on_where_they_were(tmp_path: Path) -> None:
    town = Town(n=3)
    last = max(list(town.agents), key=lambda each: each.unique_id)
    last.remove()
    path = tmp_path / "c"
    run_model(town, 1, checkpoint_every=1, path=path)
    again = resume(path)
    assert mesa.Agent(again).unique_id == 4


def test_what_cannot_be_saved_is_said_before_the_first_step(tmp_path: Path) -> None:
    town: Any = Town()
    town.lock = threading.Lock()
    with pytest.raises(UsageError, match=r"'lock' of the model"):
        run_model(town, 3, checkpoint_every=1, path=tmp_path / "c")
    assert town.steps == 0
    del town.lock
    list(town.agents)[1].file = (tmp_path / "f").open("w")
    try:
        with pytest.raises(UsageError, match=r"'file' of the agent Household"):
            run_model(town, 3, checkpoint_every=1, path=tmp_path / "c")
    finally:
        list(town.agents)[1].file.close()


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c"
    path.write_bytes(b"something else")
    with pytest.raises(UsageError, match="no checkpoint"):
        resume(path)


def test_a_checkpoint_of_other_versions_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c"
    run_model(Town(), 1, checkpoint_every=1, path=path)
    magic, header, rest = path.read_bytes().split(b"\n", 2)
    told_ = json.loads(header)
    told_["versions"]["mesa"] = "9.9"
    path.write_bytes(b"\n".join((magic, json.dumps(told_).encode(), rest)))
    with pytest.raises(UsageError, match=r"mesa 9\.9"):
        resume(path)


@pytest.mark.parametrize("bad", [{"checkpoint_every": 1}, {"checkpoint_every": 0, "path": "x"}])
def test_wrong_words_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="checkpoint_every"):
        run_model(Town(), 1, **bad)


def test_a_model_that_stops_itself_ends_the_run() -> None:
    town = Town()
    town.running = False
    assert run_model(town, 5).steps == 0


IN_PLACE = """
import sys
import mesa
from mesa_bridge import resume, run_model

PRICE = 1

class Shop(mesa.Model):
    def step(self):
        self.paid = PRICE

run_model(Shop(), 1, checkpoint_every=1, path=sys.argv[1])
again = resume(sys.argv[1])
assert type(again) is Shop
PRICE = 2
fresh = Shop()
for shop in (fresh, again):
    shop.step()
    print(shop.paid)
"""


def test_where_it_was_written_a_checkpoint_leaves_the_classes_as_they_are(tmp_path: Path) -> None:
    command = [sys.executable, "-c", IN_PLACE, str(tmp_path / "run.checkpoint")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["2", "2"], done.stderr


def test_a_missing_and_a_cut_checkpoint_say_so(tmp_path: Path) -> None:
    path = tmp_path / "run.checkpoint"
    with pytest.raises(UsageError, match="no checkpoint at"):
        resume(path)
    run_model(mesa.Model(), 0, checkpoint_every=1, path=path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UsageError, match="not a whole one"):
        resume(path)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"steps": -1}, "steps=-1 is no number"),
        ({"steps": "5"}, "steps='5' is no number"),
        ({"checkpoint_every": True, "path": "x"}, "checkpoint_every=True is no number"),
        ({"checkpoint_every": 1, "path": "."}, "Nothing can be saved"),
        ({"checkpoint_every": 1, "path": "nowhere/x"}, "Nothing can be saved"),
        ({"model": mesa.Model}, "it is no Mesa model"),
    ],
)
def test_what_can_never_work_is_said_before_the_first_step(words: Any, said: str) -> None:
    model = mesa.Model()
    with pytest.raises(UsageError, match=said):
        run_model(**{"model": model, "steps": 1, **words})
    assert model.steps == 0
