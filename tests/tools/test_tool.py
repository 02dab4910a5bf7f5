"""`@tool` marks a function and leaves it what it is; `Tool` is what a model is told of it."""

from __future__ import annotations

import asyncio
import copy
import functools
import pickle
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, assert_type

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_net.errors import ToolArgumentsError, UsageError
from llm_net.tools.manager import ToolManager
from llm_net.tools.tool import Tool, tool

if TYPE_CHECKING:
    LLMAgent = Any  # a name that is there for type checkers only


@tool
def move(agent: LLMAgent, direction: str) -> str:
    """Move one step.

    Args:
        agent: Whose call it is.
        direction: Where to.
    """
    return f"{agent} moved {direction}"


@tool(reads=True, name="look_around")
async def look(radius: int = 1) -> int:
    """Look."""
    return radius


class Walker:
    """Somebody whose methods are tools."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.steps = 0

    @tool(reads=True)
    def walk(self, steps: int) -> str:
        """Walk.

        Args:
            steps: How many.
        """
        self.steps += steps
        return f"{self.name} walked {steps}"


def test_a_tool_stays_the_function_that_it_is() -> None:
    assert assert_type(move("ann", "north"), str) == "ann moved north"
    assert asyncio.run(look(2)) == 2
    assert move.__name__ == "move"
    assert Tool.of(move).function is move


def test_a_model_is_told_name_description_and_parameters() -> None:
    assert Tool.of(move).schema == {
        "type": "function",
        "function": {
            "name": "move",
            "description": "Move one step.",
            "parameters": {
                "type": "object",
                "properties": {"direction": {"type": "string", "description": "Where to."}},
                "required": ["direction"],
                "additionalProperties": False,
            },
        },
    }


def test_what_the_decorator_says_is_recorded() -> None:
    made = Tool.of(look)
    assert (made.name, made.reads, made.is_async, made.wants_agent) == (
        "look_around",
        True,
        True,
        False,
    )
    made = Tool.of(move)
    assert (made.name, made.reads, made.is_async, made.wants_agent) == ("move", False, False, True)


def test_a_plain_function_is_a_tool_that_does_not_only_read() -> None:
    def plain(x: int) -> int:
        """Plain."""
        return x

    made = Tool.of(plain)
    assert (made.name, made.description, made.reads) == ("plain", "Plain.", False)
    assert made(4) == 4


@given(st.none() | st.integers() | st.text() | st.lists(st.text()) | st.just({"name": "ann"}))
def test_no_agent_that_a_model_writes_reaches_the_function(forged: Any) -> None:
    made = Tool.of(move)
    with pytest.raises(ToolArgumentsError, match="agent: there is no such parameter"):
        made.bind({"direction": "north", "agent": forged}, "me")
    assert made.bind({"direction": "north"}, "me") == {"direction": "north", "agent": "me"}


def test_agent_may_be_a_parameter_like_any_other() -> None:
    @tool(ignore_agent=False)
    def hire(agent: str) -> str:
        """Hire."""
        return agent

    made = Tool.of(hire)
    assert not made.wants_agent
    assert made.parameters["properties"] == {"agent": {"type": "string"}}
    assert made.bind({"agent": "ann"}, "me") == {"agent": "ann"}


def test_a_bound_method_is_a_tool_of_its_object() -> None:
    ann = Walker("ann")
    made = Tool.of(ann.walk)
    assert (made.name, made.reads) == ("walk", True)
    assert made.parameters["properties"] == {
        "steps": {"type": "integer", "description": "How many."}
    }
    assert made(**made.bind({"steps": 2})) == "ann walked 2"


def test_a_wrapper_is_called_not_what_it_wraps() -> None:
    @functools.wraps(move)
    def loud(*args: Any, **kwargs: Any) -> str:
        return move(*args, **kwargs).upper()

    made = Tool.of(loud)
    assert made.function is loud
    assert made(**made.bind({"direction": "north"}, "ann")) == "ANN MOVED NORTH"


def test_a_callable_object_is_a_tool() -> None:
    class Adder:
        """Not this."""

        async def __call__(self, x: int, y: int = 1) -> int:
            """Add."""
            return x + y

    made = Tool.of(Adder(), name="add")
    assert (made.name, made.description, made.is_async) == ("add", "Add.", True)
    assert made.bind({"x": "1"}) == {"x": 1}


@pytest.mark.parametrize("name", ["", "a b", "größe", "a" * 65, "a.b", "<lambda>"])
def test_a_name_that_no_provider_takes_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="name=…"):
        tool(name=name)(lambda: None) if name else Tool.of(Tool.of(move), name="")
    with pytest.raises(UsageError, match="<lambda>"):
        Tool.of(lambda: None)


def test_another_name_makes_another_tool_of_the_same_function() -> None:
    made = Tool.of(move, name="go")
    assert (made.name, made.function) == ("go", move)
    assert Tool.of(move).name == "move"
    assert Tool.of(made) is made


def test_a_tool_joins_the_manager_that_is_named_and_no_other() -> None:
    mine, other = ToolManager(), ToolManager()

    @tool(tool_manager=mine)
    def wave() -> str:
        """Wave."""
        return "hello"

    assert list(mine.tools) == ["wave"]
    assert not other.tools
    assert wave() == "hello"


def test_tools_of_module_level_functions_can_be_copied_and_pickled() -> None:
    made = Tool.of(move)
    made.validate({"direction": "north"})  # what is made when needed is made again
    again: Callable[[Tool], Tool]
    for again in (copy.copy, copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))):
        twin = again(made)
        assert twin == made
        assert twin.schema == made.schema
        assert twin.validate({"direction": "north"}) == {"direction": "north"}


def test_a_deep_copy_of_a_bound_tool_belongs_to_the_copied_object() -> None:
    ann = Walker("ann")
    twin, made = copy.deepcopy((ann, Tool.of(ann.walk)))
    made(steps=3)
    assert (ann.steps, twin.steps) == (0, 3)
