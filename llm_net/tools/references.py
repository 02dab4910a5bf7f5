"""JSON schemas without references: grammars of local models, and schemas in others, want it so.

Tools, floor 0. Pure; for schemas that pydantic made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["inlined"]


def inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema with its definitions in place, but for those that hold themselves."""
    definitions: dict[str, Any] = schema.get("$defs", {})
    reached = {name: _reached(definitions, name) for name in definitions}
    endless = {name for name in definitions if name in reached[name]}

    def plain(node: Any) -> Any:
        if isinstance(node, list):
            return [plain(each) for each in cast("Sequence[Any]", node)]
        if not isinstance(node, dict):
            return node
        found = cast("dict[str, Any]", node)
        name = _referred(found)
        if name is None or name in endless:
            return {key: plain(each) for key, each in found.items()}
        beside = {key: plain(each) for key, each in found.items() if key != "$ref"}
        definition = {key: each for key, each in definitions[name].items() if key != "title"}
        return {**plain(definition), **beside}

    whole: dict[str, Any] = plain({key: each for key, each in schema.items() if key != "$defs"})
    if endless:
        whole["$defs"] = {name: plain(definitions[name]) for name in sorted(endless)}
    return whole


def _reached(definitions: Mapping[str, Any], start: str) -> set[str]:
    """The definitions that one leads to, itself only if it does."""
    reached: set[str] = set()
    ahead = [start]
    while ahead:
        for name in _references(definitions[ahead.pop()]):
            if name not in reached:
                reached.add(name)
                ahead.append(name)
    return reached


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        found = cast("dict[str, Any]", node)
        name = _referred(found)
        if name is not None:
            yield name
    inner = cast("dict[str, Any]", node).values() if isinstance(node, dict) else node
    if isinstance(inner, str) or not hasattr(inner, "__iter__"):
        return
    for each in inner:
        yield from _references(each)


def _referred(node: Mapping[str, Any]) -> str | None:
    reference = node.get("$ref")
    return reference.removeprefix("#/$defs/") if isinstance(reference, str) else None
