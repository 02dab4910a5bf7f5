"""What a model gets to see of a result."""

from __future__ import annotations

import dataclasses
import json
from datetime import date
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from llm_net.tools.result import LONGEST, ToolResult


class Mood(Enum):
    CALM = "calm"


@dataclasses.dataclass
class Point:
    x: int
    seen: set[str]


class Offer(BaseModel):
    price: float
    tags: set[str]


class Array:
    """What numpy's arrays do, without numpy."""

    def tolist(self) -> list[int]:
        return [1, 2]


class Odd:
    def __str__(self) -> str:
        return "odd"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is: ä\n", "as it is: ä\n"),
        (None, "null"),
        (True, "true"),
        (3, "3"),
        ({"a": [1, "ä"]}, '{"a": [1, "ä"]}'),
        ((1, 2), "[1, 2]"),
        (Mood.CALM, '"calm"'),
        ([Mood.CALM, date(2026, 1, 31)], '["calm", "2026-01-31"]'),
        (Offer(price=2, tags={"c", "a", "b"}), '{"price": 2.0, "tags": ["a", "b", "c"]}'),
        ({"b", "c", "a"}, '["a", "b", "c"]'),
        (Point(1, {"b"}), '{"x": 1, "seen": ["b"]}'),
        (Array(), "[1, 2]"),
        ({"at": Odd()}, '{"at": "odd"}'),
        ({(1, 2): "tree"}, '{"1,2": "tree"}'),
    ],
)
def test_values_are_shown_as_json_and_text_as_it_is(value: Any, text: str) -> None:
    assert ToolResult("look", value=value).text == text


def test_a_value_that_holds_itself_is_shown_as_python_shows_it() -> None:
    endless: list[Any] = []
    endless.append(endless)
    assert ToolResult("look", value=endless).text == "[[...]]"


def test_what_happens_to_the_value_later_is_not_shown() -> None:
    value = [1]
    result = ToolResult("look", value=value)
    value.append(2)
    assert result.text == "[1]"


@given(st.integers(1, LONGEST * 2))
def test_a_long_result_is_cut_and_says_how_much_is_missing(length: int) -> None:
    text = ToolResult("look", value="x" * length).text
    if length <= LONGEST:
        assert text == "x" * length
    else:
        left_out = length - LONGEST
        assert text == "x" * LONGEST + (
            f"… [cut here: {left_out} of {length} characters are left out]"
        )


def test_an_error_is_shown_as_one() -> None:
    result = ToolResult("look", "call_1", error="ValueError: dark")
    assert result.text == "Error: ValueError: dark"
    assert result.to_dict() == {"name": "look", "response": "Error: ValueError: dark"}
    assert result.to_chat() == {
        "role": "tool",
        "tool_call_id": "call_1",
        "name": "look",
        "content": "Error: ValueError: dark",
    }


def test_a_long_error_is_cut_too() -> None:
    assert len(ToolResult("look", error="x" * 10**6).text) < LONGEST + 100


def test_a_result_is_json_for_a_conversation() -> None:
    result = ToolResult("look", "1", {"seen": {Mood.CALM}})
    assert json.loads(json.dumps(result.to_chat()))["content"] == '{"seen": ["calm"]}'
