"""The parameters of a function: their JSON schema, and the way from JSON to Python objects.

Tools, floor 1. Knows nothing of the package. A pydantic model is made of the signature when it is
first needed, so that an annotation may name what stands further down in the module.
"""

from __future__ import annotations

import inspect
from copy import deepcopy
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.fields import FieldInfo
from pydantic_core import to_json

from llm_net.tools import docstrings
from llm_net.tools.annotations import PlainSchema, type_of, written
from llm_net.tools.references import inlined

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["MOST_FAULTS", "FunctionParameters", "Misfit"]

MOST_FAULTS = 10
"""How many a model is told at once."""

_LONGEST_SHOWN = 80


class Misfit(Exception):
    """Arguments that do not fit.

    Attributes:
        faults: What is wrong, a line for each.
    """

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


class FunctionParameters:
    """What a function takes from whoever calls it with JSON.

    Args:
        function: Whose parameters.
        without: Names that are no business of the caller's; their annotations are not looked at.

    Raises:
        TypeError: If a parameter cannot be given by name.
    """

    def __init__(
        self, function: Callable[..., Any], *, without: frozenset[str] = frozenset()
    ) -> None:
        self._function = function
        self._without = without
        signature = inspect.signature(function).parameters
        for parameter in signature.values():
            if parameter.kind not in {parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY}:
                raise TypeError(
                    f"{getattr(function, '__qualname__', function)!s} cannot be a tool for its "
                    f"parameter '{parameter}': a model gives each argument by a name that it was "
                    "told. Write out the parameters, or take one list or dict."
                )
        self._signature = {name: each for name, each in signature.items() if name not in without}
        self.description, self._documented = docstrings.read(
            inspect.getdoc(written(function)), signature
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """The model is made again: it has no place in any module, so it cannot be pickled."""
        return _again, (self._function, self._without)

    @cached_property
    def _model(self) -> type[BaseModel]:
        fields: dict[str, Any] = {}
        for number, (name, parameter) in enumerate(self._signature.items()):
            annotation: Any = type_of(parameter, self._function)
            default = parameter.default
            if isinstance(default, FieldInfo):
                annotation = Annotated[annotation, default]
            described = any(getattr(each, "description", None) for each in get_args(annotation)[1:])
            text = None if described else self._documented.get(name)
            # Names of parameters may be such as no field may have, so they are aliases.
            alias = Field(alias=name, description=text) if text else Field(alias=name)
            typed: Any = Annotated[annotation, alias]
            plain = default is not parameter.empty and not isinstance(default, FieldInfo)
            fields[f"p{number}"] = (typed, default) if plain else typed
        config = ConfigDict(extra="forbid", allow_inf_nan=False, protected_namespaces=())
        made: type[BaseModel] = create_model("arguments", __config__=config, **fields)
        return made

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON schema of the arguments. References are left only where a type holds itself."""
        return deepcopy(self._schema)  # adapters of providers change what they are given

    @cached_property
    def _schema(self) -> dict[str, Any]:
        schema = self._model.model_json_schema(schema_generator=PlainSchema)
        del schema["title"]
        return inlined(schema)

    def check(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments as JSON has them, each of the type that it should have.

        Raises:
            Misfit: If they do not fit.
        """
        values = self._values(given)
        try:
            normal = values.model_dump(
                mode="json", by_alias=True, exclude_unset=True, round_trip=True, warnings=False
            )
            same = self._values(normal) == values
        except Exception:  # noqa: BLE001 - a serializer of the tool's author
            same, normal = False, {}
        # A type that is not written as it is read (a secret, say) keeps what was given.
        return normal if same else dict(given)

    def bind(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments as the function takes them.

        Raises:
            Misfit: If they do not fit.
        """
        values = self._values(given)
        bound: dict[str, Any] = {}
        for number, (name, parameter) in enumerate(self._signature.items()):
            field = f"p{number}"
            # The function knows its own defaults, unless they are written as `= Field(…)`.
            if field in values.model_fields_set or isinstance(parameter.default, FieldInfo):
                bound[name] = getattr(values, field)
        return bound

    def _values(self, given: Mapping[str, Any]) -> BaseModel:
        try:
            # From JSON, not from Python: strict models take an ISO date or an enum's value only so.
            return self._model.model_validate_json(to_json(dict(given)))
        except ValidationError as error:
            raise Misfit(_faults(error)) from None
        except Exception as error:  # a validator of the tool's author
            raise Misfit([f"{type(error).__name__}: {error}"]) from error


def _again(function: Callable[..., Any], without: frozenset[str]) -> FunctionParameters:
    return FunctionParameters(function, without=without)


def _faults(error: ValidationError) -> list[str]:
    lines: list[str] = []
    for problem in error.errors(include_url=False, include_context=False)[:MOST_FAULTS]:
        where = ".".join(map(str, problem["loc"]))
        if problem["type"] == "missing":
            lines.append(f"{where}: is missing")
        elif problem["type"] == "extra_forbidden":
            lines.append(f"{where}: there is no such parameter")
        else:
            given = to_json(problem["input"], fallback=str).decode()
            shown = given if len(given) <= _LONGEST_SHOWN else f"{given[:_LONGEST_SHOWN]}…"
            lines.append(f"{where}: {shown} was given; {problem['msg']}")
    return lines
