"""Values as JSON has them: what an observation holds is a copy that nothing can reach any more.

Floor 0. Knows nothing of the package.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, TypeAlias, cast

from pydantic import BaseModel

__all__ = ["jsonable"]

_Items: TypeAlias = Mapping[Any, Any] | Sequence[Any] | AbstractSet[Any]

_DEEPEST = 64
_PLAIN = frozenset((str, int, bool, type(None)))


def jsonable(value: Any, *, depth: int = 0) -> Any:
    """A deep copy of a value, made of dicts, lists, text, numbers, truth values and None.

    Arrays and their scalars become lists and numbers, enums their values, tuples lists, sets lists
    in a fixed order, dates ISO text, models and dataclasses dicts. A number that JSON cannot write
    (an infinity, a NaN) and everything else become text. So does what is nested deeper than 64
    levels, or holds itself.
    """
    if type(value) in _PLAIN:  # most of what agents see
        return value
    if isinstance(value, enum.Enum):
        return jsonable(value.value, depth=depth + 1)
    if isinstance(value, (str, int)):  # subclasses
        return str.__str__(value) if isinstance(value, str) else int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(value)
    if depth >= _DEEPEST:
        return "…"
    return _inner(value, depth + 1)


def _inner(value: Any, depth: int) -> Any:
    items = _items(value)
    if isinstance(items, (dict, Mapping)):
        return {_key(key): jsonable(each, depth=depth) for key, each in items.items()}
    if items is not None:
        copies = [jsonable(each, depth=depth) for each in items]
        # By their text: members of several types have no order of their own, hashes no fixed one.
        return sorted(copies, key=repr) if isinstance(items, AbstractSet) else copies
    if isinstance(value, (dt.date, dt.time)):
        return value.isoformat()
    if isinstance(value, (bytes, bytearray)):
        return value.decode("utf-8", "replace")
    as_list = getattr(value, "tolist", None)  # numpy's arrays and scalars, without importing it
    return jsonable(as_list(), depth=depth) if callable(as_list) else str(value)


def _items(value: Any) -> _Items | None:
    """What a container holds, as a mapping, a sequence or a set; None if it is no container."""
    found: Any = None
    if isinstance(value, (dict, list, tuple, AbstractSet)):
        found = cast("Any", value)
    elif isinstance(value, BaseModel):
        found = value.model_dump()
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        found = {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
    items: _Items | None = found
    return items


def _key(key: Any) -> str:
    plain = key if type(key) is str else jsonable(key)
    return plain if isinstance(plain, str) else str(key)
