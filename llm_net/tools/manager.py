"""The tools that an agent has: `ToolManager`.

Tools, floor 3. Knows errors. Deny by default: a name that is not offered is not run, whoever asks.
"""

from __future__ import annotations

import asyncio
import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any, cast

from llm_net.errors import ToolError, UnknownTool, UsageError, is_interrupt
from llm_net.tools.result import ToolResult
from llm_net.tools.tool import Tool
from llm_net.tools.waiting import finished

__all__ = ["ToolManager"]

_MOST_NAMES = 30


class ToolManager:
    """Tools by name, offered to a model and run for it.

    Args:
        extra_tools: Functions or tools; by name, if they are to have others than their own.

    Attributes:
        tools: By name, in the order in which they were registered.
    """

    def __init__(
        self,
        extra_tools: Mapping[str, Callable[..., Any]]
        | Iterable[Callable[..., Any] | Tool]
        | None = None,
    ) -> None:
        self.tools: dict[str, Tool] = {}
        if isinstance(extra_tools, Mapping):
            named = cast("Mapping[str, Callable[..., Any]]", extra_tools)
            for name, function in named.items():
                self.register(function, name)
        else:
            for function in extra_tools or ():
                self.register(function)

    def register(self, function: Callable[..., Any] | Tool, name: str | None = None) -> Tool:
        """Offer a function, or a tool.

        The same function defined again (a notebook's cell run twice) takes its old place.

        Raises:
            TypeError: If the function has parameters that cannot be given by name.
            UsageError: If the name is none for a tool, or another tool's.
        """
        made = Tool.of(function, name=name)
        there = self.tools.get(made.name)
        if there is not None and _origin(there) != _origin(made):
            raise UsageError(
                f"There is a tool {made.name!r} already, and a model could not tell the two apart. "
                "Register one of them under another name: register(function, name=…)."
            )
        self.tools[made.name] = made
        return made

    def has_tool(self, name: str) -> bool:
        """Whether there is a tool of that name."""
        return name in self.tools

    def reads(self, name: str) -> bool:
        """Whether that tool changes nothing; False if there is none."""
        return name in self.tools and self.tools[name].reads

    def get_tool_schema(self, function: Callable[..., Any] | Tool | str) -> dict[str, Any]:
        """The chat-completion schema of a tool, by name, or of any function.

        Raises:
            UnknownTool: If there is none of that name.
        """
        found = self._offered(function, None) if isinstance(function, str) else Tool.of(function)
        return found.schema

    def get_all_tools_schema(
        self, selected_tools: Sequence[str] | None = None
    ) -> list[dict[str, Any]]:
        """The chat-completion schemas of the tools; copies, to be changed at will.

        Args:
            selected_tools: Only these, by name; `[]` for none, None for all.

        Raises:
            UsageError: If there is no tool of one of the names.
        """
        return [deepcopy(each) for each in self.offers(selected_tools)]

    def offers(self, selected_tools: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """As `get_all_tools_schema`, but always the same objects: to be read only."""
        if isinstance(selected_tools, str):
            raise UsageError(
                f"selected_tools={selected_tools!r} is one text, and would be read letter by "
                f"letter. Give a list: selected_tools=[{selected_tools!r}]."
            )
        for name in selected_tools or ():
            if name not in self.tools:
                raise UsageError(
                    f"selected_tools holds {name!r}, and there is no such tool. "
                    f"{_help(name, self.tools)} Correct the name, or register the tool."
                )
        return [
            each.offer
            for name, each in self.tools.items()
            if selected_tools is None or name in selected_tools
        ]

    def check(
        self,
        name: str,
        arguments: str | Mapping[str, Any],
        selected_tools: Sequence[str] | None = None,
    ) -> dict[str, Any]:
        """The arguments of a call, as JSON has them; nothing is run.

        Args:
            name: The tool.
            arguments: JSON text, or what stands in it.
            selected_tools: Which tools may be called, as in `get_all_tools_schema`.

        Raises:
            UnknownTool: If no tool of that name is offered.
            ToolArgumentsError: If the arguments do not fit.
        """
        return self._offered(name, selected_tools).validate(arguments)

    def run(
        self,
        name: str,
        arguments: str | Mapping[str, Any],
        *,
        agent: Any = None,
        id: str = "",  # noqa: A002 - the chat-completion word
    ) -> ToolResult:
        """Run a tool for a model, once. What goes wrong is a value, not an exception.

        Args:
            name: The tool.
            arguments: JSON text, or what stands in it.
            agent: Whose call it is; the tool gets it if it has a parameter `agent`.
            id: Which call it is.
        """
        try:
            return ToolResult(name, id, self.call(name, arguments, agent=agent))
        except BaseException as error:
            if not _is_the_tools(error):
                raise
            return ToolResult(name, id, error=_told(error))

    async def arun(
        self,
        name: str,
        arguments: str | Mapping[str, Any],
        *,
        agent: Any = None,
        id: str = "",  # noqa: A002 - the chat-completion word
    ) -> ToolResult:
        """As `run`, on the running event loop. A sync tool is called in it, as it is."""
        try:
            value = self._started(name, arguments, agent)
            return ToolResult(name, id, await value if inspect.isawaitable(value) else value)
        except BaseException as error:
            if not _is_the_tools(error):
                raise
            return ToolResult(name, id, error=_told(error))

    def call(self, name: str, arguments: str | Mapping[str, Any], *, agent: Any = None) -> Any:
        """Call a tool from a program: its value, or its exception.

        Args:
            name: The tool.
            arguments: JSON text, or what stands in it.
            agent: What the tool gets if it has a parameter `agent`.

        Raises:
            UnknownTool: If there is none of that name.
            ToolArgumentsError: If the arguments do not fit; nothing was run.
        """
        value = self._started(name, arguments, agent)
        return finished(value) if inspect.isawaitable(value) else value

    def call_tools(self, agent: Any, llm_response: Any) -> list[dict[str, str]]:
        """Run the calls in a model's message, in order, each once.

        Args:
            agent: Whose message it is.
            llm_response: The message, with `tool_calls`.
        """
        return [
            _answer(self.run(name, arguments, agent=agent, id=each))
            for name, arguments, each in _calls(llm_response)
        ]

    async def acall_tools(self, agent: Any, llm_response: Any) -> list[dict[str, str]]:
        """As `call_tools`, on the running event loop; one after the other here, too."""
        return [
            _answer(await self.arun(name, arguments, agent=agent, id=each))
            for name, arguments, each in _calls(llm_response)
        ]

    def _offered(self, name: str, selected: Sequence[str] | None) -> Tool:
        offered = [each for each in self.tools if selected is None or each in selected]
        if name not in offered:
            raise UnknownTool(
                f"No tool {name!r} is offered here, so nothing was run. {_help(name, offered)}"
            )
        return self.tools[name]

    def _started(self, name: str, arguments: str | Mapping[str, Any], agent: Any) -> Any:
        found = self._offered(name, None)
        return found(**found.bind(arguments, agent))


def _origin(made: Tool) -> Any:
    """Where a function was written; two of the same place are the same, defined twice."""
    function = made.function
    if inspect.ismethod(function):
        return function  # of this object: the same method of another is another tool
    place = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    return function if None in place else place


def _help(name: str, names: Iterable[str]) -> str:
    offered = sorted(names)
    close = difflib.get_close_matches(name, offered, n=1)
    shown = ", ".join(offered[:_MOST_NAMES]) + (", …" if len(offered) > _MOST_NAMES else "")
    return (f"Did you mean {close[0]!r}? " if close else "") + f"There are: {shown or 'none'}."


def _is_the_tools(error: BaseException) -> bool:
    """Whether a tool failed; not so if the user ends the program, or somebody our task."""
    if isinstance(error, asyncio.CancelledError):
        return not _is_cancelled()  # else a tool waited for something that was cancelled
    return isinstance(error, (Exception, SystemExit)) or (
        isinstance(error, KeyboardInterrupt) and not is_interrupt(error)
    )


def _is_cancelled() -> bool:
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return False
    return task is not None and task.cancelling() > 0


def _told(error: BaseException) -> str:
    told = str(error)
    if isinstance(error, ToolError):
        return told
    kind = type(error).__name__
    return f"{kind}: {told}" if told else kind


def _calls(message: Any) -> Iterable[tuple[str, str | Mapping[str, Any], str]]:
    for call in getattr(message, "tool_calls", None) or ():
        function = call.function
        yield str(function.name), function.arguments or "", str(getattr(call, "id", "") or "")


def _answer(result: ToolResult) -> dict[str, str]:
    """A result in Mesa-LLM's words."""
    return {
        "tool_call_id": result.id,
        "role": "tool",
        "name": result.name,
        "response": result.text,
    }
