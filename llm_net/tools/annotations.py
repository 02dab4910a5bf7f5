"""What type a parameter has, as far as JSON can say it.

Tools, floor 0. Knows nothing of the package. Generous, for tools are written by people who do other
things than types: what is missing, cannot be resolved, or has no JSON, is any JSON value.
"""

from __future__ import annotations

import inspect
import sys
import types
import typing
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

import typing_extensions
from pydantic import BeforeValidator, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PlainSchema", "type_of", "written"]


_CONTAINERS = {dict, frozenset, list, set, tuple}


class PlainSchema(GenerateJsonSchema):
    """JSON schema without what only fills prompts: titles made from names."""

    # A default that is no JSON is left out of the schema; nobody need be warned of that.
    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012 - the base's own

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - the base's own
        """No title for any field."""
        return False


def type_of(parameter: inspect.Parameter, function: Callable[..., Any]) -> Any:
    """The type that arguments of a parameter are checked against."""
    if parameter.annotation is parameter.empty:
        return Any
    try:
        found = _understood(_resolved(parameter.annotation, function))
        TypeAdapter(found).json_schema(schema_generator=PlainSchema)
    except Exception:  # noqa: BLE001 - resolving runs the annotation's code, which may raise anything
        return Any
    # `limit: int = None` is what many write who mean that it may be left out.
    return Union[found, None] if parameter.default is None else found  # noqa: UP007 - Any has no `|`


def written(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as somebody wrote it, with its docstring and the names of its module."""
    inner = inspect.unwrap(function)
    while isinstance(inner, partial):
        inner = inspect.unwrap(inner.func)
    plain = inspect.isroutine(inner) or isinstance(inner, type)
    return inner if plain else type(inner).__call__


def _resolved(annotation: Any, function: Callable[..., Any]) -> Any:
    """An annotation without text in it: names are looked up where the function was written."""
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    names = getattr(written(function), "__globals__", {})
    return typing.get_type_hints(holder, names, include_extras=True)["it"]


def _understood(annotation: Any) -> Any:
    """A type that pydantic reads as it is meant: enums by name too, every TypedDict."""
    if inspect.isclass(annotation) and issubclass(annotation, Enum):
        return Annotated[annotation, BeforeValidator(partial(_member, annotation))]
    if sys.version_info < (3, 12) and typing.is_typeddict(annotation):
        return _typed_dict(annotation)
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return Annotated[(_understood(inner[0]), *inner[1:])]
    if origin in {Union, types.UnionType}:
        return Union[tuple(map(_understood, inner))]  # noqa: UP007 - `|` takes no tuple
    if origin in _CONTAINERS:
        return types.GenericAlias(origin, tuple(map(_understood, inner)))
    return annotation


def _member(kind: type[Enum], given: Any) -> Any:
    """An enum is given by value; a model that knows the code gives the name."""
    if isinstance(given, str) and given not in {each.value for each in kind}:
        return kind.__members__.get(given, given)
    return given


def _typed_dict(annotation: Any) -> Any:
    """A TypedDict as pydantic wants it: before Python 3.12, `typing` made them with gaps."""
    hints = typing.get_type_hints(annotation, include_extras=True)
    fields: dict[str, Any] = {}
    for name, hint in hints.items():
        # Of annotations that were text, `__required_keys__` knows nothing, so the words go first.
        said = get_origin(hint) in {typing.Required, typing.NotRequired}
        needed = name in annotation.__required_keys__
        word: Any = (
            get_origin(hint) if said else (typing.Required if needed else typing.NotRequired)
        )
        fields[name] = word[_understood(get_args(hint)[0] if said else hint)]
    make: Any = typing_extensions.TypedDict
    return make(annotation.__name__, fields)
