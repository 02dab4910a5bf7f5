"""What the agents of a model saw, planned, did and said, in a file: `@record_model`.

Bridge, floor 1. Knows Mesa's models and no agent. A recording is text: it holds no agent and no
model, so it keeps none alive.
"""

from __future__ import annotations

import functools
import json
import os
import pickle
import tempfile
import uuid
import weakref
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar, get_args, overload

from llm_net.errors import UsageError
from llm_net.snapshot import jsonable
from mesa_bridge.versions import steps

__all__ = ["SimulationEvent", "SimulationRecorder", "record", "record_model"]

M = TypeVar("M", bound=type[Any])

Format: TypeAlias = Literal["json", "pickle"]


@dataclass(frozen=True, kw_only=True)
class SimulationEvent:
    """Something that happened, as JSON has it.

    Attributes:
        number: Its place in the recording, from 0 on.
        step: The model's step.
        agent_id: Whose it is; None for the model's own.
        event_type: `observation`, `plan`, `action`, `message`, `step_start`, `step_end`, or a word
            of your own.
        content: What happened.
    """

    number: int
    step: int
    agent_id: int | None
    event_type: str
    content: Any = field(default=None)


class SimulationRecorder:
    """The events of one model, in order.

    A copy of a model goes on with a copy of its recording, under a name of its own; one that is
    read from a pickle goes on under the old name.

    Args:
        model: Whose. It is not kept alive.
        output_dir: Where it is saved; made when it is needed.
        auto_save_interval: Save after every so many steps, too; None to save only when asked, when
            the model goes away, and when the process ends.

    Attributes:
        events: So far.

    Raises:
        UsageError: If the interval is no number of steps.
    """

    def __init__(
        self,
        model: Any,
        output_dir: str | os.PathLike[str] = "recordings",
        auto_save_interval: int | None = None,
    ) -> None:
        every = auto_save_interval
        if every is not None and (isinstance(every, bool) or every < 1):
            raise UsageError(
                f"auto_save_interval={every!r} is no number of steps. "
                "Give 1 or more, or None to save at the end only."
            )
        self.events: list[SimulationEvent] = []
        self.output_dir = Path(output_dir).absolute()  # whoever saves may stand elsewhere by then
        self.simulation_id = _new_id()
        self._every = every
        self._model_class = type(model).__name__
        self._saved = 0
        self._is_watching = False

    def record_event(
        self,
        event_type: str,
        content: Any = None,
        *,
        step: int | None = None,
        agent_id: int | None = None,
    ) -> None:
        """Add an event.

        Args:
            event_type: What kind.
            content: What happened; copied as JSON has it.
            step: The model's step; None for that of the event before.
            agent_id: Whose it is; None for the model's own.
        """
        before = self.events[-1].step if self.events else 0
        self.events.append(
            SimulationEvent(
                number=len(self.events),
                step=before if step is None else step,
                agent_id=agent_id,
                event_type=event_type,
                content=jsonable(content),
            )
        )

    def get_agent_events(self, agent_id: int) -> list[SimulationEvent]:
        """The events of one agent."""
        return [each for each in self.events if each.agent_id == agent_id]

    def get_events_by_type(self, event_type: str) -> list[SimulationEvent]:
        """The events of one kind."""
        return [each for each in self.events if each.event_type == event_type]

    def get_events_by_step(self, step: int) -> list[SimulationEvent]:
        """The events of one step."""
        return [each for each in self.events if each.step == step]

    def to_dict(self) -> dict[str, Any]:
        """The whole recording, as JSON has it."""
        return {
            "simulation_id": self.simulation_id,
            "model": self._model_class,
            "events": [asdict(each) for each in self.events],
        }

    def save(
        self,
        filename: str | os.PathLike[str] | None = None,
        format: Format = "json",  # noqa: A002 - Mesa-LLM's word
    ) -> Path:
        """Write the recording; a file of that name is replaced whole, or not at all.

        Args:
            filename: In the output directory, unless it is absolute; None for the model's class and
                the simulation's id, the same each time.
            format: `json` or `pickle`.

        Returns:
            Where it is.

        Raises:
            UsageError: If the format is another.
            OSError: If it cannot be written.
        """
        if format not in get_args(Format):
            raise UsageError(f"There is no format {format!r}. Give 'json' or 'pickle'.")
        name = filename or f"{self._model_class}_{self.simulation_id}.{format}"
        path = self.output_dir / name
        told = self.to_dict()
        data = json.dumps(told).encode() if format == "json" else pickle.dumps(told)
        _replace(path, data)
        self._saved = len(told["events"])
        return path

    def save_rest(self) -> None:
        """Write the recording if anything has happened since the last time."""
        if len(self.events) > self._saved:
            self.save()

    def end_step(self, step: int) -> None:
        """A step is over: save, if it is time to."""
        if self._every is not None and step % self._every == 0:
            self.save()

    def watch(self, model: Any) -> None:
        """Save what is left when the model goes away, or the process ends; once is enough."""
        if not self._is_watching:
            self._is_watching = True
            weakref.finalize(model, self.save_rest)

    def __deepcopy__(self, memo: dict[int, Any]) -> SimulationRecorder:
        twin = object.__new__(type(self))
        vars(twin).update(self.__getstate__())
        twin.events = list(self.events)  # what happened does not change
        twin.simulation_id = _new_id()
        return twin

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_is_watching": False}  # the copy's model is another


def record(agent: Any, event_type: str, content: Any) -> None:
    """Add an event of an agent's to its own recording, or its model's, if there is one."""
    found = getattr(agent, "recorder", None) or getattr(agent.model, "recorder", None)
    recorder: SimulationRecorder | None = found
    if recorder is not None:
        step = steps(agent.model)
        recorder.record_event(event_type, content, step=step, agent_id=agent.unique_id)


@overload
def record_model(cls: M, /) -> M: ...


@overload
def record_model(
    cls: None = None,
    /,
    *,
    output_dir: str | os.PathLike[str] = "recordings",
    auto_save_interval: int | None = None,
) -> Callable[[M], M]: ...


def record_model(
    cls: M | None = None,
    /,
    *,
    output_dir: str | os.PathLike[str] = "recordings",
    auto_save_interval: int | None = None,
) -> M | Callable[[M], M]:
    """Record what the agents of a model's class do. Works bare, too: `@record_model`.

    Its models have a `recorder`, from their first moment on, and `save_recording(filename=None,
    format="json")`. A recording that was not saved is when its model goes away, and at the end of
    the process.

    Args:
        cls: The class. Left out, this is a decorator.
        output_dir: Where recordings are saved.
        auto_save_interval: Save after every so many steps, too.
    """

    def decorate(model_class: M) -> M:
        def made(model: Any) -> SimulationRecorder:
            recorder = SimulationRecorder(model, output_dir, auto_save_interval)
            recorder.watch(model)
            return recorder

        # Of the instance, made when it is first asked for: agents that are born in the model's
        # __init__ find it, and it is pickled and copied with the model.
        recorder = functools.cached_property(made)
        recorder.__set_name__(model_class, "recorder")
        model_class.recorder = recorder
        model_class.save_recording = _save_recording
        model_class.step = _recorded(model_class.step)
        return model_class

    return decorate if cls is None else decorate(cls)


def _save_recording(
    self: Any,
    filename: str | os.PathLike[str] | None = None,
    format: Format = "json",  # noqa: A002 - Mesa-LLM's word
) -> Path:
    """Write what was recorded so far; gives the path."""
    recorder: SimulationRecorder = self.recorder
    return recorder.save(filename, format)


def _recorded(step: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(step)
    def recorded(self: Any, *args: Any, **kwargs: Any) -> Any:
        recorder: SimulationRecorder = self.recorder
        recorder.watch(self)  # a model that was copied or restored, too
        recorder.record_event("step_start", step=steps(self))
        try:
            return step(self, *args, **kwargs)
        finally:
            recorder.record_event("step_end", step=steps(self))
            recorder.end_step(steps(self))

    return recorded


def _new_id() -> str:
    return uuid.uuid4().hex[:12]


def _replace(path: Path, data: bytes) -> None:
    """Write a file so that whoever reads it, also after a crash, finds the old or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    number, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(number, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
