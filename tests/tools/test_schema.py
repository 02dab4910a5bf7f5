"""From a signature to a JSON schema, and from JSON to what the function takes."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Callable, Sequence
from datetime import date
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, Annotated, Any, Literal, NotRequired, Optional, TypedDict, Union

import jsonschema  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, SecretStr, field_validator

from llm_net.errors import ToolArgumentsError
from llm_net.tools.tool import Tool

if TYPE_CHECKING:
    LLMAgent = Any  # a name that is there for type checkers only


class Mood(Enum):
    """How somebody feels."""

    CALM = "calm"
    ANGRY = "angry"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


class Offer(BaseModel):
    price: float = Field(ge=0)
    mood: Mood = Mood.CALM


class Address(TypedDict):
    street: str
    number: NotRequired[int]


class Tree(BaseModel):
    name: str
    below: list[Tree] = []


class Opaque:
    """What JSON knows nothing of."""


def everything(  # noqa: D417, PLR0917 - what is not documented is part of the test
    agent: LLMAgent,
    number: int,
    share: float,
    sure: bool,  # noqa: FBT001 - a tool's parameters are given by name
    mood: Mood,
    point: Point,
    offer: Offer,
    address: Address,
    direction: Literal["north", "south"],
    pair: tuple[int, str],
    names: list[str] | None,
    moods: dict[str, list[Mood]],
    either: Union[int, str],  # noqa: UP007 - both ways are in use
    day: date,
    limited: Annotated[int, Field(ge=1, le=9, description="From 1 to 9.")],
    anything: Any,
    note: str = "none",
    level: Level = Level.LOW,
    limit: int = None,  # type: ignore[assignment]  # noqa: RUF013 - as people write it
) -> str:
    """Take everything.

    Args:
        agent: Whose call it is.
        number: How many.
        limited: Not used, for the annotation says more.
    """
    raise AssertionError("a check runs nothing")


EVERYTHING = Tool.of(everything)

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
MOODS = st.sampled_from(["calm", "angry"])
FITTING = st.fixed_dictionaries(
    {
        "number": st.integers(),
        "share": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**50), 2**50),
        "sure": st.booleans(),
        "mood": MOODS,
        "point": st.fixed_dictionaries({"x": st.integers()}, optional={"y": st.integers()}),
        "offer": st.fixed_dictionaries({"price": st.floats(0, 1e9)}, optional={"mood": MOODS}),
        "address": st.fixed_dictionaries({"street": st.text()}, optional={"number": st.integers()}),
        "direction": st.sampled_from(["north", "south"]),
        "pair": st.tuples(st.integers(), st.text()).map(list),
        "names": st.none() | st.lists(st.text(), max_size=3),
        "moods": st.dictionaries(st.text(), st.lists(MOODS, max_size=2), max_size=2),
        "either": st.integers() | st.text(),
        "day": st.dates().map(str),
        "limited": st.integers(1, 9),
        "anything": JSON,
    },
    optional={"note": st.text(), "level": st.sampled_from([1, 2]), "limit": st.none()},
)


@given(FITTING)
def test_every_fitting_call_passes_and_its_checked_form_means_the_same(
    given_arguments: dict[str, Any],
) -> None:
    tool = EVERYTHING
    checked = tool.validate(json.dumps(given_arguments))
    assert checked == tool.validate(given_arguments)
    assert json.loads(json.dumps(checked)) == checked
    assert tool.validate(checked) == checked
    assert tool.bind(checked) == tool.bind(given_arguments)
    assert checked.keys() == given_arguments.keys()
    jsonschema.validate(given_arguments, tool.parameters)
    jsonschema.validate(checked, tool.parameters)


@given(FITTING, st.data())
def test_every_call_that_lacks_an_argument_or_has_one_too_many_is_refused(
    arguments: dict[str, Any], data: st.DataObject
) -> None:
    tool = EVERYTHING
    lost = data.draw(st.sampled_from(sorted(tool.parameters["required"])))
    extra = data.draw(st.text().filter(lambda name: name not in tool.parameters["properties"]))
    with pytest.raises(ToolArgumentsError, match=f"- {lost}: is missing"):
        tool.validate({name: each for name, each in arguments.items() if name != lost})
    with pytest.raises(ToolArgumentsError, match="there is no such parameter"):
        tool.validate({**arguments, extra: 1})


@given(st.text() | JSON.map(json.dumps) | FITTING.map(json.dumps).map(lambda text: text[:-9]))
def test_whatever_a_model_writes_is_taken_or_refused(text: str) -> None:
    for tool in (EVERYTHING, SLOPPY):
        try:
            checked = tool.validate(text)
        except ToolArgumentsError:
            continue
        assert tool.validate(checked) == checked


def sloppy(agent, anything, other="x"):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Nobody typed this."""
    return agent, anything, other


SLOPPY = Tool.of(sloppy)


def test_the_function_gets_python_objects() -> None:
    arguments = {
        "number": 3,
        "share": 1,
        "sure": True,
        "mood": "angry",
        "point": {"x": 1},
        "offer": {"price": 2},
        "address": {"street": "Ring"},
        "direction": "north",
        "pair": [1, "a"],
        "names": None,
        "moods": {"ann": ["calm"]},
        "either": "7",
        "day": "2026-01-31",
        "limited": 9,
        "anything": {"a": [1]},
        "level": 2,
    }
    assert EVERYTHING.bind(arguments, "me") == {
        "agent": "me",
        "number": 3,
        "share": 1.0,
        "sure": True,
        "mood": Mood.ANGRY,
        "point": Point(1),
        "offer": Offer(price=2),
        "address": {"street": "Ring"},
        "direction": "north",
        "pair": (1, "a"),
        "names": None,
        "moods": {"ann": [Mood.CALM]},
        "either": "7",
        "day": date(2026, 1, 31),
        "limited": 9,
        "anything": {"a": [1]},
        "level": Level.HIGH,
    }


def test_the_schema_says_what_is_allowed_and_shows_no_agent() -> None:
    schema = EVERYTHING.parameters
    parts = schema["properties"]
    assert list(schema) == ["additionalProperties", "properties", "required", "type"]
    assert "agent" not in parts
    assert set(parts) - set(schema["required"]) == {"note", "level", "limit"}
    assert parts["number"] == {"type": "integer", "description": "How many."}
    assert parts["limited"]["description"] == "From 1 to 9."
    assert (parts["limited"]["minimum"], parts["limited"]["maximum"]) == (1, 9)
    assert parts["direction"] == {"type": "string", "enum": ["north", "south"]}
    assert parts["mood"]["enum"] == ["calm", "angry"]
    assert parts["moods"]["additionalProperties"]["items"]["enum"] == ["calm", "angry"]
    assert parts["offer"]["properties"]["mood"]["enum"] == ["calm", "angry"]
    assert parts["point"]["required"] == ["x"]
    assert parts["address"]["required"] == ["street"]
    assert [each["type"] for each in parts["names"]["anyOf"]] == ["array", "null"]
    assert [each["type"] for each in parts["limit"]["anyOf"]] == ["integer", "null"]
    assert parts["note"]["default"] == "none"
    assert parts["level"]["default"] == 1
    assert "$ref" not in json.dumps(schema)
    jsonschema.Draft202012Validator.check_schema(schema)


def test_a_type_that_holds_itself_keeps_its_reference() -> None:
    def plant(tree: Tree, mood: Mood) -> None:
        """Plant."""

    tool = Tool.of(plant)
    schema = tool.parameters
    assert list(schema["$defs"]) == ["Tree"]
    assert schema["properties"]["tree"]["$ref"] == "#/$defs/Tree"
    grown = {"name": "oak", "below": [{"name": "acorn", "below": []}]}
    jsonschema.validate({"tree": grown, "mood": "calm"}, schema)
    assert tool.bind({"tree": grown, "mood": "calm"})["tree"].below[0].name == "acorn"


def test_what_a_caller_does_to_a_schema_does_not_reach_the_tool() -> None:
    tool = EVERYTHING
    tool.parameters["properties"].clear()
    assert "number" in tool.parameters["properties"]


def pay(amount: int, rate: float = 1.0, sure: bool = False, to: str = "ann") -> None:  # noqa: FBT001, FBT002
    """Pay."""


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("amount", "3", 3),
        ("amount", 3.0, 3),
        ("amount", "3.0", 3),
        ("rate", "2.5", 2.5),
        ("rate", 2, 2.0),
        ("sure", "true", True),
        ("sure", "false", False),
        ("to", "a\x00b", "a\x00b"),
    ],
)
def test_numbers_and_truth_written_as_text_are_what_they_say(
    name: str, value: Any, read: Any
) -> None:
    checked = Tool.of(pay).validate({"amount": 1, name: value})
    assert checked == {"amount": 1, name: read}
    assert type(checked[name]) is type(read)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("amount", "bob"),
        ("amount", 2.5),
        ("amount", None),
        ("amount", [1]),
        ("rate", "lots"),
        ("rate", "NaN"),
        ("rate", "Infinity"),
        ("rate", math.nan),
        ("rate", math.inf),
        ("sure", "perhaps"),
        ("to", 1),
        ("to", True),
        ("to", {"name": "ann"}),
    ],
)
def test_a_value_of_another_type_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ToolArgumentsError):
        Tool.of(pay).validate({"amount": 1, name: value})


@pytest.mark.parametrize("text", ['{"amount": NaN}', '{"amount": 1, "rate": Infinity}'])
def test_numbers_that_json_does_not_know_are_refused(text: str) -> None:
    with pytest.raises(ToolArgumentsError, match="no complete JSON"):
        Tool.of(pay).validate(text)


@pytest.mark.parametrize(
    "text",
    [
        '{"amount": 1',
        "[1]",
        "1",
        '"{}"',
        "null",
        "pay 1",
        "```json\n{}\n```",
        "[" * 9999,
        "9" * 9999,
    ],
)
def test_arguments_that_are_no_whole_object_are_refused(text: str) -> None:
    with pytest.raises(ToolArgumentsError, match="the arguments are no"):
        Tool.of(pay).validate(text)


def test_every_wrong_argument_is_named_with_what_is_allowed() -> None:
    with pytest.raises(ToolArgumentsError) as raised:
        EVERYTHING.validate(
            {"number": "bob", "direction": "up", "mood": "furious", "agent": "me", "wings": 2}
        )
    text = str(raised.value)
    assert "'everything' was refused, and nothing was run" in text
    assert '- number: "bob" was given; Input should be a valid integer' in text
    assert "- share: is missing" in text
    assert "- direction: \"up\" was given; Input should be 'north' or 'south'" in text
    assert "should be 'calm' or 'angry'" in text
    assert "Its parameters: number (required)" in text


def test_a_long_wrong_value_does_not_fill_the_prompt() -> None:
    with pytest.raises(ToolArgumentsError) as raised:
        Tool.of(pay).validate({"amount": "x" * 100_000})
    assert len(str(raised.value)) < 1000


def test_an_enum_may_be_given_by_name() -> None:
    def feel(
        mood: Mood, moods: dict[str, list[Mood]], level: Annotated[Level | None, "any"] = None
    ) -> None:
        """Feel."""

    tool = Tool.of(feel)
    arguments = {"mood": "ANGRY", "moods": {"ann": ["CALM"]}, "level": "HIGH"}
    assert tool.bind(arguments) == {
        "mood": Mood.ANGRY,
        "moods": {"ann": [Mood.CALM]},
        "level": Level.HIGH,
    }
    assert tool.validate(arguments) == {"mood": "angry", "moods": {"ann": ["calm"]}, "level": 2}


def test_what_has_no_type_is_any_json() -> None:
    tool = SLOPPY
    assert tool.parameters["properties"] == {"anything": {}, "other": {"default": "x"}}
    assert tool.bind('{"anything": [1, null]}', "me") == {"agent": "me", "anything": [1, None]}


def test_types_that_are_nowhere_or_not_json_are_any_json() -> None:
    def odd(missing: Any, broken: Any, opaque: Opaque, called: Callable[[int], int]) -> None:
        """Odd."""

    odd.__annotations__ |= {"missing": "Nowhere", "broken": "list["}
    schema = Tool.of(odd).parameters
    assert set(schema["properties"]) == {"missing", "opaque", "called", "broken"}
    assert all(not part for part in schema["properties"].values())


def test_a_type_may_be_defined_after_its_tool() -> None:
    tool = Tool.of(_early)
    assert tool.parameters["properties"]["later"]["required"] == ["when"]


def _early(later: Later) -> None:
    """Early."""


@dataclasses.dataclass
class Later:
    when: int


def test_names_that_no_field_could_have_are_fine_for_parameters() -> None:
    def odd(schema: int, model_config: int, _hidden: int, json: int, copy: int) -> None:
        """Odd."""

    arguments = {"schema": 1, "model_config": 2, "_hidden": 3, "json": 4, "copy": 5}
    assert Tool.of(odd).bind(arguments) == arguments
    assert list(Tool.of(odd).parameters["properties"]) == list(arguments)


@pytest.mark.parametrize("kind", ["*args", "**kwargs", "x, /"])
def test_what_cannot_be_given_by_name_is_refused_when_the_tool_is_made(kind: str) -> None:
    functions: dict[str, Callable[..., Any]] = {
        "*args": lambda *args: args,
        "**kwargs": lambda **kwargs: kwargs,
        "x, /": lambda x, /: x,
    }
    with pytest.raises(TypeError, match="cannot be a tool for its parameter"):
        Tool.of(functions[kind], name="odd")


def test_defaults_are_the_functions_own() -> None:
    missing = object()

    def ask(text: str, default: Any = missing, limit: int = Field(default=3, ge=1)) -> Any:
        """Ask."""
        return text, default, limit

    tool = Tool.of(ask)
    assert tool.parameters["properties"]["limit"] == {"type": "integer", "default": 3, "minimum": 1}
    assert tool.validate({"text": "a"}) == {"text": "a"}
    assert tool(**tool.bind({"text": "a"})) == ("a", missing, 3)
    with pytest.raises(ToolArgumentsError, match="limit"):
        tool.validate({"text": "a", "limit": 0})


class Login(BaseModel):
    password: SecretStr


def test_a_type_that_is_not_written_as_it_is_read_keeps_what_was_given() -> None:
    def log_in(login: Login) -> None:
        """Log in."""

    tool = Tool.of(log_in)
    checked = tool.validate({"login": {"password": "sesame"}})
    assert tool.bind(checked)["login"].password.get_secret_value() == "sesame"


class Moody(BaseModel):
    mood: str

    @field_validator("mood")
    @classmethod
    def _fails(cls, mood: str) -> str:
        raise KeyError(mood)


def test_a_validator_that_breaks_is_a_refusal() -> None:
    def feel(moody: Moody) -> None:
        """Feel."""

    with pytest.raises(ToolArgumentsError, match="KeyError"):
        Tool.of(feel).validate({"moody": {"mood": "bad"}})


@pytest.mark.parametrize("value", [object(), "\ud800", {1, 2}.__iter__])
def test_a_mapping_that_is_no_json_is_refused(value: Any) -> None:
    with pytest.raises(ToolArgumentsError):
        SLOPPY.validate({"anything": value})


def test_a_mapping_that_holds_itself_is_refused() -> None:
    endless: dict[str, Any] = {}
    endless["anything"] = endless
    with pytest.raises(ToolArgumentsError):
        SLOPPY.validate(endless)


def test_what_was_checked_cannot_be_changed_from_outside() -> None:
    inner = [1]
    checked = SLOPPY.validate({"anything": inner})
    inner.append(2)
    assert checked == {"anything": [1]}


def test_functions_with_some_arguments_filled_in_keep_their_types_and_their_text() -> None:
    partial = functools.partial(everything_but, 1)
    tool = Tool.of(partial, name="rest")
    assert tool.description == "Everything but one."
    assert tool.parameters["properties"]["moods"]["items"]["enum"] == ["calm", "angry"]


def everything_but(one: int, moods: Sequence[Mood], point: Optional[Point] = None) -> None:  # noqa: UP045
    """Everything but one."""
