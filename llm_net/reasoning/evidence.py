"""Evidence: `#E1` in the arguments of a call stands for what the first call gave.

Mind, floor 4. Pure.

Source: Xu et al., "ReWOO: Decoupling Reasoning from Observations for Efficient Augmented Language
Models", 2023.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

from llm_net.errors import ToolArgumentsError
from llm_net.llm.model import ToolCall
from llm_net.reasoning.plan import Action

__all__ = ["Planner", "planned_calls", "references", "settled", "with_evidence"]

_REFERENCE = re.compile(r"#E(\d+)\b")
_LINE = re.compile(r"#E(\d+)\s*=\s*([A-Za-z_]\w*)\s*[\[(](.*)[\])]\s*$", re.MULTILINE)


def references(value: Any) -> set[int]:
    """The numbers of the evidence that a value refers to, anywhere in it."""
    return {int(number) for number in _REFERENCE.findall(json.dumps(value))}


def with_evidence(value: Any, evidence: Mapping[int, Any]) -> Any:
    """The value with what is known in the place of the references to it.

    A text that is nothing but a reference becomes the evidence itself, a number for instance;
    within a longer text it becomes text.
    """
    if isinstance(value, str):
        alone = _REFERENCE.fullmatch(value.strip())
        if alone is not None and int(alone[1]) in evidence:
            return evidence[int(alone[1])]
        return _REFERENCE.sub(lambda found: _text(evidence, found), value)
    if isinstance(value, Mapping):
        pairs = cast("Mapping[str, Any]", value).items()
        return {name: with_evidence(each, evidence) for name, each in pairs}
    if isinstance(value, list):
        return [with_evidence(each, evidence) for each in cast("Any", value)]
    return value


def _text(evidence: Mapping[int, Any], found: re.Match[str]) -> str:
    number = int(found[1])
    if number not in evidence:
        return found[0]
    known = evidence[number]
    return known if isinstance(known, str) else json.dumps(known, ensure_ascii=False)


def planned_calls(text: str, parameters: Mapping[str, list[str]]) -> Iterator[ToolCall]:
    """The calls that a plan in words makes, as in `#E1 = search["rain in Oslo"]`.

    Args:
        text: What the model wrote.
        parameters: The tools that may be called, with the names of their parameters.
    """
    for number, name, inside in _LINE.findall(text):
        if name in parameters:
            arguments = _arguments(inside.strip(), parameters[name])
            yield ToolCall(name=name, arguments=json.dumps(arguments), id=f"E{number}")


def _arguments(inside: str, parameters: list[str]) -> Any:
    try:
        value = json.loads(inside or "{}")
    except ValueError:
        value = inside
    if isinstance(value, dict) or not parameters:
        return cast("Any", value)
    return {parameters[0]: value}


class Planner:
    """The tools, for plans: a call that refers to evidence is checked when that is there."""

    def __init__(self, manager: Any, parameters: Mapping[str, list[str]]) -> None:
        self._manager = manager
        self._parameters = parameters

    def check(self, name: str, arguments: Any, selected: Any) -> dict[str, Any]:
        """The arguments, if the call can be planned.

        Raises:
            ToolError: If it cannot.
        """
        try:
            given = json.loads(arguments) if isinstance(arguments, str) else arguments
        except ValueError:
            given = None
        if not isinstance(given, dict) or not references(given):
            checked: dict[str, Any] = self._manager.check(name, arguments, selected)
            return checked
        planned = cast("dict[str, Any]", given)
        known = self._parameters.get(name)
        if known is None:
            self._manager.check(name, planned, selected)  # says that there is no such tool
        strange = sorted(set(planned) - set(known or ()))
        if strange:
            raise ToolArgumentsError(
                f"{name} knows no {', '.join(map(repr, strange))}. Its parameters: "
                f"{', '.join(known or ())}."
            )
        return planned


def settled(action: Action, evidence: Mapping[int, Any]) -> Action:
    """The action with the evidence that is there."""
    return Action(action.name, with_evidence(action.arguments, evidence), action.id)
