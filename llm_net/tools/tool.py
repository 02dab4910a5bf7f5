"""A function that a model may call: `@tool`, `Tool`.

Tools, floor 2. Knows errors. A tool is registered nowhere by itself: whoever holds it offers it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast, overload

from pydantic_core import from_json, to_json

from llm_net.errors import ToolArgumentsError, UsageError
from llm_net.tools.schema import FunctionParameters, Misfit

if TYPE_CHECKING:
    from llm_net.tools.manager import ToolManager

__all__ = ["Parameters", "Tool", "tool"]

F = TypeVar("F", bound=Callable[..., Any])

_RECORD = "_llm_net_tool"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")  # what all providers take
_AGENT = "agent"


class Parameters(Protocol):
    """What a tool takes from a model, wherever its schema comes from."""

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON schema of the arguments, an object."""
        ...

    def check(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments as JSON, validated; raises `Misfit`."""
        ...

    def bind(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments as the function takes them, validated; raises `Misfit`."""
        ...


@dataclass(frozen=True)
class Tool:
    """A function and what a model is told of it. Calling it calls the function.

    Args:
        name: What models call it.
        description: What it is good for.
        function: What is run, sync or async.
        takes: Its parameters.
        reads: Whether it changes nothing, so that it may run while a plan is still being made.
        wants_agent: Whether the function has a parameter `agent`, which no model may fill.
    """

    name: str
    description: str
    function: Callable[..., Any]
    takes: Parameters = field(repr=False, compare=False)
    reads: bool = False
    wants_agent: bool = False

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise UsageError(
                f"{self.name!r} cannot be a tool's name: providers take 1 to 64 letters from A to "
                "Z, digits, '_' and '-'. Give it another with name=…"
            )

    @classmethod
    def of(cls, function: Callable[..., Any] | Tool, *, name: str | None = None) -> Tool:
        """The tool of a function: as `@tool` recorded it, or by its signature and docstring.

        Args:
            function: A function, sync or async, a bound method, or a tool.
            name: Another name than its own.

        Raises:
            TypeError: If the function has parameters that cannot be given by name.
            UsageError: If the name is none for a tool.
        """
        if isinstance(function, Tool):
            return function if name is None else replace(function, name=name)
        record: Tool | None = getattr(function, _RECORD, None)
        if record is None:
            return _made(function, name=name, reads=False, ignore_agent=True)
        if record.function is not function:
            # The record came along: with a bound method, or with what functools.wraps copies.
            options = {"reads": record.reads, "ignore_agent": record.wants_agent}
            return _made(function, name=name or record.name, **options)
        return cls.of(record, name=name)

    @property
    def parameters(self) -> dict[str, Any]:
        """The JSON schema of the arguments."""
        return self.takes.schema

    @property
    def schema(self) -> dict[str, Any]:
        """The tool as chat completions are told of it; a copy, to be changed at will."""
        return deepcopy(self.offer)

    @cached_property
    def offer(self) -> dict[str, Any]:
        """As `schema`, but always the same object: to be read only."""
        function = {
            "name": self.name,
            "description": self.description,
            "parameters": self.parameters,
        }
        return {"type": "function", "function": function}

    @property
    def is_async(self) -> bool:
        """Whether calling the function gives an awaitable."""
        function = self.function
        called = getattr(function, "__call__", None)  # noqa: B004 - what a callable object does
        return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function, as it is."""
        return self.function(*args, **kwargs)

    def validate(self, arguments: str | Mapping[str, Any]) -> dict[str, Any]:
        """The arguments that a model gave, as JSON has them; each of the type it should have.

        Args:
            arguments: JSON text, or what stands in it.

        Raises:
            ToolArgumentsError: If they do not fit. The text can be shown to the model.
        """
        return self._fitting(arguments, self.takes.check)

    def bind(self, arguments: str | Mapping[str, Any], agent: Any = None) -> dict[str, Any]:
        """The arguments as the function takes them: Python objects, and the agent if it wants it.

        Args:
            arguments: JSON text, or what stands in it, or what `validate` gave.
            agent: Whose call it is.

        Raises:
            ToolArgumentsError: If they do not fit.
        """
        bound = self._fitting(arguments, self.takes.bind)
        return {**bound, _AGENT: agent} if self.wants_agent else bound

    def _fitting(
        self,
        arguments: str | Mapping[str, Any],
        read: Callable[[Mapping[str, Any]], dict[str, Any]],
    ) -> dict[str, Any]:
        try:
            return read(_decoded(arguments))
        except Misfit as misfit:
            faults = "\n".join(f"- {fault}" for fault in misfit.faults)
            needed = self.parameters.get("required", [])
            known = [
                f"{name} (required)" if name in needed else name
                for name in self.parameters.get("properties", {})
            ]
            raise ToolArgumentsError(
                f"The call of {self.name!r} was refused, and nothing was run:\n{faults}\n"
                f"Its parameters: {', '.join(known) or 'none'}. "
                "Give all arguments again, corrected, as one JSON object."
            ) from misfit.__cause__


def _decoded(arguments: str | Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object, however it was given, and by a mapping that nobody else can change."""
    try:
        written: str | bytes
        if isinstance(arguments, str):
            written = arguments.strip() or "{}"  # some models give nothing where nothing is needed
        else:
            written = to_json(dict(arguments), inf_nan_mode="constants")
        value = from_json(written, allow_inf_nan=False)
    except (TypeError, ValueError) as error:
        raise Misfit([f"the arguments are no complete JSON: {error}"]) from None
    if not isinstance(value, dict):
        kind = type(value).__name__
        raise Misfit([f"the arguments are no JSON object with names in it, but a {kind}"])
    return cast("dict[str, Any]", value)


def _made(
    function: Callable[..., Any], *, name: str | None, reads: bool, ignore_agent: bool
) -> Tool:
    own = str(getattr(function, "__name__", type(function).__name__))
    wants_agent = ignore_agent and _AGENT in inspect.signature(function).parameters
    without = frozenset({_AGENT}) if wants_agent else frozenset[str]()
    takes = FunctionParameters(function, without=without)
    return Tool(name or own, takes.description, function, takes, reads, wants_agent)


@overload
def tool(
    fn: F,
    *,
    reads: bool = False,
    name: str | None = None,
    tool_manager: ToolManager | None = None,
    ignore_agent: bool = True,
) -> F: ...


@overload
def tool(
    fn: None = None,
    *,
    reads: bool = False,
    name: str | None = None,
    tool_manager: ToolManager | None = None,
    ignore_agent: bool = True,
) -> Callable[[F], F]: ...


def tool(
    fn: F | None = None,
    *,
    reads: bool = False,
    name: str | None = None,
    tool_manager: ToolManager | None = None,
    ignore_agent: bool = True,
) -> F | Callable[[F], F]:
    """Let models call a function. It stays the function that it is.

    What a model is told comes from the annotations and the Google docstring. A parameter `agent` is
    not shown to it; there the tool gets the agent whose call it is.

    Args:
        fn: The function, sync or async. Left out, this is a decorator.
        reads: Whether it changes nothing, so that it may run while a plan is still being made.
        name: What models call it. By default, its own name.
        tool_manager: Where it is registered. By default, nowhere.
        ignore_agent: False makes `agent` a parameter like any other.

    Raises:
        TypeError: If the function has parameters that cannot be given by name.
        UsageError: If the name is none for a tool, or another tool's.
    """

    def mark(function: F) -> F:
        made = _made(function, name=name, reads=reads, ignore_agent=ignore_agent)
        setattr(function, _RECORD, made)
        if tool_manager is not None:
            tool_manager.register(made)
        return function

    return mark if fn is None else mark(fn)
