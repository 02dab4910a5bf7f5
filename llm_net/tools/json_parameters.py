"""The parameters of a tool that somebody else describes, by a JSON schema.

Tools, floor 1. Imports jsonschema, which comes with the `[mcp]` extra, when a schema is looked at.
The schema is a stranger's: references in it are looked up in itself only, never fetched.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from llm_net.errors import ToolError
from llm_net.tools.schema import MOST_FAULTS, Misfit

__all__ = ["JsonParameters"]

_LONGEST = 100_000


class JsonParameters:
    """What a tool takes, by its schema.

    Args:
        schema: A JSON schema of an object.

    Raises:
        ToolError: If it is no schema, or too long for any prompt.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        # It comes with an extra, and without types.
        jsonschema: Any = importlib.import_module("jsonschema")
        referencing: Any = importlib.import_module("referencing")
        self._schema = dict(schema)
        length = len(json.dumps(self._schema))
        if length > _LONGEST:
            raise ToolError(
                f"The schema has {length} characters, more than {_LONGEST}, and each model call "
                "would carry it."
            )
        # What no part of the schema speaks of is refused, unless it says that there may be more.
        strict = {"unevaluatedProperties": False, **self._schema}
        kind = jsonschema.validators.validator_for(strict, jsonschema.Draft202012Validator)
        try:
            kind.check_schema(strict)
        except (jsonschema.SchemaError, RecursionError) as error:
            raise ToolError(f"The schema is none: {str(error).splitlines()[0]}.") from None
        self._validator = kind(strict, registry=referencing.Registry())

    @property
    def schema(self) -> dict[str, Any]:
        """The schema, as it was given."""
        return deepcopy(self._schema)  # adapters of providers change what they are given

    def check(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments, if they fit.

        Raises:
            Misfit: If they do not.
        """
        try:
            found = list(self._validator.iter_errors(dict(given)))
        except Exception as error:  # a reference to nowhere, or one that goes in a circle
            raise Misfit([f"the schema cannot be followed: {type(error).__name__}"]) from error
        if found:
            raise Misfit([_told(each) for each in found[:MOST_FAULTS]])
        return dict(given)

    def bind(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """As `check`: the tool itself takes JSON.

        Raises:
            Misfit: If they do not fit.
        """
        return self.check(given)


def _told(error: Any) -> str:
    where = ".".join(map(str, error.absolute_path))
    return f"{where}: {error.message}" if where else str(error.message)
