"""Long runs that survive the death of their process: a model is saved, and gone on with.

Bridge, floor 4. A checkpoint is written whole or not at all, and never from inside of a step: a
Mesa 3.5 model that is pickled there wakes up dead. It is a pickle, and so it is code: open only
your own.
"""

from __future__ import annotations

import copy
import io
import itertools
import json
import os
import pickle
import platform
from importlib.metadata import PackageNotFoundError, version
from os import PathLike
from pathlib import Path
from types import MethodType
from typing import Any, cast

import mesa

from llm_net.errors import LLMNetError, UsageError
from mesa_bridge import versions
from mesa_bridge.progress import Meter, Showing, showing

__all__ = ["resume", "run_model"]

_MAGIC = b"mesa_bridge checkpoint 1\n"


def run_model(
    model: Any,
    steps: int,
    *,
    checkpoint_every: int | None = None,
    path: str | PathLike[str] | None = None,
    progress: Showing = False,
) -> Any:
    """Step a model so many times, and save it now and then.

    A checkpoint is a pickle, made by cloudpickle: whoever can write to the file can run code where
    it is opened.

    Args:
        model: A Mesa model.
        steps: How often to step it; it ends early when the model's `running` turns False.
        checkpoint_every: Save it after so many steps, and at the end; None for never.
        path: Where; replaced as a whole each time.
        progress: Show a line on the standard error: steps, calls of language models (done, and
            under way), tokens, dollars, time left. Or a function: called with a `Progress` after
            each step. What is known of calls is what the model's `budget` knows.

    Returns:
        The model.

    Raises:
        UsageError: If an argument can never work, or the model cannot be saved: said before the
            first step, with the attribute's name.
    """
    if not versions.is_model(model):
        raise UsageError(f"{model!r} cannot be run: it is no Mesa model. Give an object of one.")
    _whole_number("steps", steps, at_least=0)
    if checkpoint_every is not None:
        if path is None:
            raise UsageError(
                f"checkpoint_every={checkpoint_every} without path=: there is nowhere to save it. "
                "Give run_model(…, path='run.checkpoint')."
            )
        _whole_number("checkpoint_every", checkpoint_every, at_least=1)
        file = Path(path)
        if file.is_dir() or not file.parent.is_dir():
            raise UsageError(
                f"Nothing can be saved at path={str(path)!r}: it must be a file, new or old, in a "
                "folder that exists. Make the folder, or name a file in another."
            )
        _save(model, file, steps)
    meter = Meter(model, steps)
    with showing(meter, progress) as show:
        for done in range(1, steps + 1):
            if not model.running:
                break
            model.step()
            if checkpoint_every is not None and (done % checkpoint_every == 0 or done == steps):
                assert path is not None, "looked at above"
                _save(model, Path(path), steps - done)
            meter.steps = done
            show()
    return model


def resume(
    path: str | PathLike[str], *, checkpoint_every: int | None = 1, progress: Showing = False
) -> Any:
    """Go on from a checkpoint of `run_model`, to the number of steps that it was given.

    Open only checkpoints of your own: a pickle can run any code.

    Args:
        path: The file.
        checkpoint_every: Save it again after so many steps; None for never.
        progress: As in `run_model`.

    Returns:
        The model, at the end of its run.

    Raises:
        UsageError: If the file is no checkpoint, or was written with other versions.
    """
    model, left = _load(Path(path))
    return run_model(model, left, checkpoint_every=checkpoint_every, path=path, progress=progress)


def _whole_number(name: str, value: Any, *, at_least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
        raise UsageError(f"{name}={value!r} is no number of steps. Give {at_least} or more.")


def _versions() -> dict[str, str]:
    return {
        "python": ".".join(platform.python_version_tuple()[:2]),
        "mesa": mesa.__version__,
        "llm-net": _version("llm-net"),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"  # it runs from its folder


def _save(model: Any, path: Path, left: int) -> None:
    """Write a checkpoint beside the old one, and then take its place."""
    header = {"versions": _versions(), "left": left, "next_id": _next_id(model)}
    text = json.dumps(header).encode()
    data = _MAGIC + text + b"\n" + _pickled(model)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with fresh.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def _pickled(model: Any) -> bytes:
    import cloudpickle  # noqa: PLC0415 - an extra, and only here

    try:
        return bytes(cloudpickle.dumps(model))
    except LLMNetError:
        raise
    except Exception as error:
        raise UsageError(
            f"{type(model).__name__} cannot be saved, because of {_culprit(model, cloudpickle)}: "
            f"{error}. Make it something that pickles, leave it out in __getstate__, or run "
            "without checkpoints."
        ) from error


def _culprit(model: Any, cloudpickle: Any) -> str:
    """Which attribute it is: of the model, or of its first agent that has one."""
    # What is Mesa's own leads from any agent and any model to all others.
    of_mesa = {"cell", "model", "pos", *vars(mesa.Model())}
    places: list[tuple[str, Any]] = [("the model", model)]
    places += [(f"the agent {type(a).__name__} {a.unique_id}", a) for a in model.agents]
    for name, owner in reversed(places):
        held = cast("dict[str, Any]", vars(owner))
        for attribute, value in held.items():
            if attribute in of_mesa:
                continue
            try:
                cloudpickle.dump(value, io.BytesIO())
            except Exception:  # noqa: BLE001 - any type refuses in its own way
                return f"{attribute!r} of {name}"
    return "something that it holds"


def _load(path: Path) -> tuple[Any, int]:
    if not path.is_file():
        raise UsageError(
            f"There is no checkpoint at {path}: run_model(…, checkpoint_every=…, path=…) writes "
            "one. Check the path."
        )
    with path.open("rb") as file:
        magic, text = file.readline(), file.readline()
        if magic != _MAGIC or not text:
            raise UsageError(
                f"{path} is no checkpoint of run_model. Check the path, and open only your own."
            )
        header = json.loads(text)
        found, here = header["versions"], _versions()
        if found != here:
            raise UsageError(
                f"{path} was written with {_words(found)}, and here is {_words(here)}. A pickle is "
                "only safe to open with the same; install those versions to go on."
            )
        model = _unpickled(file, path)
    if header["next_id"] is not None:
        _ids()[model] = itertools.count(header["next_id"])
    return model, int(header["left"])


def _unpickled(file: Any, path: Path) -> Any:
    try:
        return _Reader(file).load()
    except (EOFError, pickle.UnpicklingError) as error:
        raise UsageError(
            f"{path} is a checkpoint, but not a whole one ({error}). It was cut short or changed "
            "after it was written: take another copy, or begin anew."
        ) from error


class _Reader(pickle.Unpickler):
    """Reads a checkpoint, and leaves the classes that live here as they are.

    Cloudpickle knows its classes again in the process that wrote them (a notebook), and would give
    them the methods of the file: with globals of their own, so that a constant or a function that
    is set anew afterwards is not seen by any model of the class.
    """

    def __init__(self, file: Any) -> None:
        super().__init__(file)
        from cloudpickle import cloudpickle  # noqa: PLC0415 - an extra, and only here

        inside = cast("dict[str, Any]", vars(cloudpickle))  # it has no public word for these
        self._set_state = inside.get("_class_setstate")
        self._builtin: Any = inside.get("_builtin_type")
        known: dict[Any, type] = inside.get("_DYNAMIC_CLASS_TRACKER_BY_ID", {})
        self._here: set[type] = set(known.values()) if self._set_state and self._builtin else set()

    def find_class(self, module: str, name: str) -> Any:
        """What the file names."""
        found = super().find_class(module, name)
        if self._here and found is self._builtin:
            return self._named
        return self._filled if self._here and found is self._set_state else found

    def _named(self, builtin: str) -> Any:
        return self._bound if builtin == "MethodType" else self._builtin(builtin)

    def _bound(self, function: Any, owner: Any) -> MethodType:
        # Mesa keeps a model's step as a bound method; it is to be that of the class that lives.
        for each in self._here.intersection(type(owner).__mro__):
            own = vars(each).get(function.__name__)
            if getattr(own, "__qualname__", None) == function.__qualname__:
                function = own
        return MethodType(function, owner)

    def _filled(self, new: type, state: Any) -> Any:
        fill: Any = self._set_state
        return new if new in self._here else fill(new, state)


def _words(found: dict[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in found.items())


def _ids() -> Any:
    """Where Mesa 3.3 counts the agents of each model; later ones count in the model."""
    return getattr(mesa.Agent, "_ids", None)


def _next_id(model: Any) -> int | None:
    ids = _ids()
    return None if ids is None else next(copy.copy(ids[model]))
