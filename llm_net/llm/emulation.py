"""Tools and shapes for a model that knows neither: the grammar keeps it to them.

Model tower, floor 1. Pure. The embedded model's template has no words for tools, and llama.cpp then
drops them silently. So they are described in the system prompt, and the answer is constrained to
one of several JSON shapes: a call of one of the tools, or a reply.
"""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any, cast

from llm_net.llm.answers import json_schema
from llm_net.llm.model import ChatDict, Request, ToolCall, content_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["messages", "offers_tools", "read_answer", "schema"]

_DEEPEST_REFERENCE = 8


def offers_tools(request: Request) -> bool:
    """Whether the model may call tools in this request."""
    return bool(request.tools) and request.tool_choice != "none"


def schema(request: Request) -> dict[str, Any] | None:
    """What the answer is constrained to; None if any text will do."""
    shape = request.response_format
    if not offers_tools(request):
        # `{}`, any JSON, would allow a bare string, which is not what anybody means.
        return None if shape is None else json_schema(shape) or {"type": "object"}
    options = [_call_schema(tool["function"]) for tool in _allowed(request)]
    if request.tool_choice == "auto":
        options.append(_object(reply={"type": "string"}) if shape is None else _answer(shape))
    return {"anyOf": options}


def messages(request: Request) -> list[dict[str, Any]]:
    """The conversation in the words of a model that knows only system, user and assistant."""
    told = [_told(message) for message in request.messages]
    if offers_tools(request):
        lines = "\n".join(_line(tool["function"]) for tool in _allowed(request))
        rules = f"To use a tool, answer with its name and arguments as JSON. There are:\n{lines}"
        if told and told[0]["role"] == "system":
            told[0]["content"] += f"\n\n{rules}"
        else:
            told.insert(0, {"role": "system", "content": rules})
    return told


def read_answer(text: str, request: Request) -> tuple[str, tuple[ToolCall, ...]]:
    """The text and the tool calls of an answer; a call that was cut off stays text."""
    if not offers_tools(request):
        return text, ()
    try:
        answer = json.loads(text)
    except ValueError:
        return text, ()
    if not isinstance(answer, dict):
        return text, ()
    said = cast("dict[str, Any]", answer)
    names = {tool["function"]["name"] for tool in _allowed(request)}
    if said.keys() == {"name", "arguments"} and said["name"] in names:
        arguments = json.dumps(said["arguments"], ensure_ascii=False)
        call_id = f"call_{secrets.token_hex(4)}"
        return "", (ToolCall(name=said["name"], arguments=arguments, id=call_id),)
    if request.response_format is None and said.keys() == {"reply"}:
        return str(said["reply"]), ()
    return text, ()


def _allowed(request: Request) -> list[Mapping[str, Any]]:
    """The tools that may be called: all, or the one that tool_choice names."""
    choice = request.tool_choice
    if choice is None or isinstance(choice, str):
        return list(request.tools)
    name = choice["function"]["name"]
    return [tool for tool in request.tools if tool["function"]["name"] == name]


def _told(message: ChatDict) -> dict[str, Any]:
    role, text = message["role"], content_text(message)
    if role == "tool":
        return {"role": "user", "content": f"The tool answered: {text}"}
    calls = [call["function"] for call in message.get("tool_calls") or ()]
    if calls:
        said = [f'{{"name": "{c["name"]}", "arguments": {c["arguments"]}}}' for c in calls]
        text = "\n".join([*([text] if text else []), *said])
    return {"role": role, "content": text}


def _line(function: Mapping[str, Any]) -> str:
    parameters: dict[str, dict[str, Any]] = _parameters(function).get("properties", {})
    described = ", ".join(f"{n}: {part.get('type', 'any')}" for n, part in parameters.items())
    return f"- {function['name']}({described}): {function.get('description', '')}"


def _parameters(function: Mapping[str, Any]) -> dict[str, Any]:
    return dict(function.get("parameters") or {"type": "object", "properties": {}})


def _call_schema(function: Mapping[str, Any]) -> dict[str, Any]:
    parameters = _parameters(function)
    return _object(name={"const": function["name"]}, arguments=_inlined(parameters, parameters, 0))


def _answer(shape: Any) -> dict[str, Any]:
    whole = json_schema(shape) or {"type": "object"}
    inlined: dict[str, Any] = _inlined(whole, whole, 0)
    return inlined


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _inlined(part: Any, root: dict[str, Any], depth: int) -> Any:
    """A schema with its definitions in place: inside a bigger one, references would dangle."""
    if isinstance(part, list):
        return [_inlined(item, root, depth) for item in cast("Sequence[Any]", part)]
    if not isinstance(part, dict):
        return part
    node = cast("dict[str, Any]", part)
    reference = node.get("$ref")
    if isinstance(reference, str):
        if depth >= _DEEPEST_REFERENCE:  # a type that contains itself ends somewhere
            return {"type": "null"}
        name = reference.rpartition("/")[2]
        return _inlined(root.get("$defs", {}).get(name, {}), root, depth + 1)
    return {key: _inlined(value, root, depth) for key, value in node.items() if key != "$defs"}
