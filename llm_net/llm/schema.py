"""Does a value fit a JSON schema? The common words only, and in plain English.

Model tower, floor 0. Checks what language models get wrong: types, missing and surplus fields,
enumerations, alternatives. Words it does not know (`pattern`, `format`, `minLength`…) pass: who
needs them gives a pydantic class as response_format.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["fault"]

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def fault(value: Any, schema: Mapping[str, Any]) -> str | None:
    """What is wrong with a value, or None if it fits.

    Args:
        value: Decoded JSON.
        schema: A JSON schema; `$ref` is followed within it.
    """
    return _fault(value, schema, schema, "the whole")


def _fault(value: Any, schema: Any, root: Mapping[str, Any], where: str) -> str | None:
    if isinstance(schema, bool):
        return None if schema else f"{where}: should not be there"
    if "$ref" in schema:
        return _fault(value, _look_up(schema["$ref"], root), root, where)
    return (
        _fault_of_type(value, schema, where)
        or _fault_of_choice(value, schema, root, where)
        or _fault_inside(value, schema, root, where)
    )


def _look_up(reference: str, root: Mapping[str, Any]) -> Any:
    found: Any = root
    for step in reference.removeprefix("#").strip("/").split("/"):
        if step:
            found = found.get(step.replace("~1", "/").replace("~0", "~"), True)
        if found is True:  # an unknown reference: any value will do
            break
    return found


def _has_type(value: Any, name: str) -> bool:
    if isinstance(value, bool):  # to Python a boolean is a number, to JSON it is not
        return name == "boolean"
    if name == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES.get(name, (object,)))


def _fault_of_type(value: Any, schema: Mapping[str, Any], where: str) -> str | None:
    names = schema.get("type", [])
    names = [names] if isinstance(names, str) else names
    if not names or any(_has_type(value, name) for name in names):
        return None
    return f"{where}: should be {' or '.join(names)}, is {_name_of(value)}"


def _name_of(value: Any) -> str:
    return next((name for name in _TYPES if _has_type(value, name)), "nothing JSON knows")


def _fault_of_choice(
    value: Any, schema: Mapping[str, Any], root: Mapping[str, Any], where: str
) -> str | None:
    if "const" in schema and value != schema["const"]:
        return f"{where}: should be {schema['const']!r}"
    if "enum" in schema and value not in schema["enum"]:
        return f"{where}: should be one of {schema['enum']!r}, is {value!r}"
    for word in ("anyOf", "oneOf"):
        faults = [_fault(value, option, root, where) for option in schema.get(word, [])]
        if faults and all(faults):
            return f"{where}: fits none of the alternatives ({'; '.join(map(str, faults))})"
    for part in schema.get("allOf", []):
        if problem := _fault(value, part, root, where):
            return problem
    return None


def _fault_inside(
    value: Any, schema: Mapping[str, Any], root: Mapping[str, Any], where: str
) -> str | None:
    parts: list[tuple[Any, Any, str]] = []
    if isinstance(value, dict):
        members = cast("dict[str, Any]", value)
        missing = [name for name in schema.get("required", []) if name not in members]
        if missing:
            return f"{where}: {', '.join(missing)} missing"
        known = schema.get("properties", {})
        surplus = schema.get("additionalProperties", True)
        parts = [(part, known.get(name, surplus), name) for name, part in members.items()]
    elif isinstance(value, list) and "items" in schema:
        items = cast("Sequence[Any]", value)
        parts = [(part, schema["items"], f"[{index}]") for index, part in enumerate(items)]

    prefix = "" if where == "the whole" else f"{where}."
    faults = (_fault(part, inner, root, f"{prefix}{name}") for part, inner, name in parts)
    return next((problem for problem in faults if problem), None)
