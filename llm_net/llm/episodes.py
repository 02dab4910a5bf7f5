"""What a cassette holds: a request written down, and what came of it.

Model tower, floor 2. Pure. A request is written with every field that affects the answer, in one
way only, so that equal requests are equal bytes; its key is their hash. No secret is written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, ValidationError

from llm_net.errors import CircuitOpen, ModelCallError, UsageError
from llm_net.llm.answers import json_schema
from llm_net.llm.model import Completion, Request
from llm_net.llm.redaction import Hide, clean_text

__all__ = [
    "KEY_VERSION",
    "Episode",
    "Fault",
    "from_line",
    "key",
    "to_line",
    "written",
]

KEY_VERSION = 1
"""How requests are written down; another number means other keys."""

_FAULTS: dict[str, type[ModelCallError]] = {
    kind.__name__: kind for kind in (CircuitOpen, ModelCallError)
}
_UNCHANGING = frozenset({"timeout"})  # how long the caller waits is no question to the model
_HEADERS = frozenset({"headers", "extra_headers"})
_EXACT_INTEGERS = 2**53


class Fault(BaseModel):
    """A call that failed: what its error said."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    text: str
    status: int | None = None
    passing: bool = False
    retry_after: float | None = None

    @classmethod
    def of(cls, error: ModelCallError, hide: Hide) -> Fault:
        """What to write down of an error; a class that is not ours counts as its base."""
        return cls(
            kind=next(kind for kind, known in _FAULTS.items() if isinstance(error, known)),
            text=hide(str(error)),
            status=error.status,
            passing=error.passing,
            retry_after=error.retry_after,
        )

    def error(self) -> ModelCallError:
        """The error again."""
        error = _FAULTS.get(self.kind, ModelCallError)(self.text)
        # On the object, not in its class, which says what holds for errors that say nothing.
        error.status, error.passing, error.retry_after = self.status, self.passing, self.retry_after
        return error


class Episode(BaseModel):
    """One call of a model.

    Attributes:
        place: Who called; empty if nobody said.
        request: What was asked, as `written`.
        completion: The answer; None if there was none, or nobody read it to its end.
        chunks: If it was streamed: its pieces, as far as they were read.
        fault: The error that ended it, if one did.
        latency: Seconds that it took on the caller's clock, which in a deterministic run stands
            still meanwhile.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    place: str = ""
    request: dict[str, Any]
    completion: Completion | None = None
    chunks: tuple[str, ...] | None = None
    fault: Fault | None = None
    latency: float = 0.0


def written(request: Request, *, model: str, api_base: str | None, hide: Hide) -> dict[str, Any]:
    """A request as JSON values, without secrets.

    Raises:
        UsageError: If something in it cannot be written as JSON.
    """
    shape = request.response_format
    params = {name: value for name, value in request.params.items() if name not in _UNCHANGING}
    for name in _HEADERS & params.keys():
        params[name] = sorted(params[name])  # their values are credentials, mostly
    whole = {
        "model": model,
        "api_base": api_base,
        "messages": request.messages,
        "tools": request.tools,
        "tool_choice": request.tool_choice,
        "response_format": json_schema(shape) if isinstance(shape, type) else shape,
        "params": params,
    }
    return {name: _plain(value, hide, name) for name, value in whole.items()}


def key(request: Mapping[str, Any]) -> str:
    """The hash of a written request."""
    return hashlib.sha256(_canonical(request)).hexdigest()


def to_line(episode: Episode) -> bytes:
    """An episode as one line of JSON, with the sum by which an edited line is known."""
    content = episode.model_dump(
        exclude_defaults=True, exclude={"completion": {"parsed", "latency"}}
    )
    return _canonical({**content, "sum": _sum(content)}) + b"\n"


def from_line(line: bytes) -> Episode:
    """The episode in a line.

    Raises:
        ValueError: If the line is damaged, or was edited; the text says which.
    """
    try:
        content = json.loads(line)
        recorded = content.pop("sum")
        episode = Episode.model_validate(content)
    except (ValueError, RecursionError, AttributeError, KeyError, TypeError) as error:
        what = (
            f"{error.error_count()} fields are wrong"
            if isinstance(error, ValidationError)
            else error
        )
        raise ValueError(f"it is damaged ({what})") from error
    if recorded != _sum(content):
        raise ValueError("it was changed after it was recorded")
    return episode


def _sum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(_canonical(content)).hexdigest()[:16]


def _canonical(value: Any) -> bytes:
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode()


def _plain(value: Any, hide: Hide, where: str) -> Any:
    """JSON values only; 1.0 is 1, as in JSON there is one kind of number."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, str):
        return clean_text(value, hide)
    if isinstance(value, float) and value - value == 0:  # neither infinite nor not a number
        return int(value) if value.is_integer() and abs(value) < _EXACT_INTEGERS else value
    if isinstance(value, BaseModel):
        return _plain(value.model_dump(mode="json"), hide, where)
    if isinstance(value, Mapping):
        items = cast("Mapping[str, Any]", value).items()
        return {clean_text(str(name), hide): _plain(part, hide, where) for name, part in items}
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return [_plain(part, hide, where) for part in cast("Sequence[object]", value)]
    raise UsageError(
        f"A request with a {type(value).__name__} in its {where} cannot be recorded: "
        f"{hide(repr(value)):.100} is no JSON. Give text, numbers, lists and dicts, or ask without "
        "a cassette."
    )
