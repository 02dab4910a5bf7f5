"""The tools of Mesa agents: a default set that all have, and managers that add to it.

Bridge, floor 4. This is what Mesa-LLM's users know; `llm_net.tool` registers nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, overload

from llm_net.tools import manager
from llm_net.tools.tool import Tool
from llm_net.tools.tool import tool as marked
from mesa_bridge.spatial_tools import move_one_step, speak_to, teleport_to_location

__all__ = ["ToolManager", "tool"]

F = TypeVar("F", bound=Callable[..., Any])

_BUILT_IN = manager.ToolManager([move_one_step, teleport_to_location, speak_to])
_joined = manager.ToolManager()
"""What `@tool` without a manager has joined. Code fills it, as it fills a module's names."""


class ToolManager(manager.ToolManager):
    """Tools by name: the default set, as it is at each moment, and this manager's own.

    The default set is what `@tool` without a manager was put on, besides `move_one_step`,
    `teleport_to_location` and `speak_to`. A tool of the manager's own goes before one of the
    default set that has the same name.

    Args:
        extra_tools: Functions or tools; by name, if they are to have others than their own.
    """

    def __init__(
        self,
        extra_tools: Mapping[str, Callable[..., Any]]
        | Iterable[Callable[..., Any] | Tool]
        | None = None,
    ) -> None:
        # In place of the super class's table. The default set is not copied into it, so that it
        # stays one, and a pickle holds none of it.
        self._own = manager.ToolManager(extra_tools)

    @property
    def tools(self) -> dict[str, Tool]:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride]
        """By name: the default set first, then the manager's own."""
        return {**_BUILT_IN.tools, **_joined.tools, **self._own.tools}

    def register(self, function: Callable[..., Any] | Tool, name: str | None = None) -> Tool:
        """Offer a function, or a tool, here only.

        Raises:
            TypeError: If the function has parameters that cannot be given by name.
            UsageError: If the name is none for a tool, or that of another tool of this manager's.
        """
        return self._own.register(function, name)


@overload
def tool(
    fn: F,
    *,
    reads: bool = False,
    name: str | None = None,
    tool_manager: manager.ToolManager | None = None,
    ignore_agent: bool = True,
) -> F: ...


@overload
def tool(
    fn: None = None,
    *,
    reads: bool = False,
    name: str | None = None,
    tool_manager: manager.ToolManager | None = None,
    ignore_agent: bool = True,
) -> Callable[[F], F]: ...


def tool(
    fn: F | None = None,
    *,
    reads: bool = False,
    name: str | None = None,
    tool_manager: manager.ToolManager | None = None,
    ignore_agent: bool = True,
) -> F | Callable[[F], F]:
    """Let models call a function. Without a manager, all agents of the process are offered it.

    Args:
        fn: The function, sync or async. Left out, this is a decorator.
        reads: Whether it changes nothing, so that it may run while a plan is still being made.
        name: What models call it. By default, its own name.
        tool_manager: Where it is registered. By default, in the default set.
        ignore_agent: False makes `agent` a parameter like any other.

    Raises:
        TypeError: If the function has parameters that cannot be given by name.
        UsageError: If the name is none for a tool, or another tool's.
    """
    mark = marked(
        reads=reads,
        name=name,
        tool_manager=_joined if tool_manager is None else tool_manager,
        ignore_agent=ignore_agent,
    )
    return mark if fn is None else mark(fn)
