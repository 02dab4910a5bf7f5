"""What came of a tool's call: `ToolResult`.

Tools, floor 0. Knows nothing of the package.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, cast

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

__all__ = ["LONGEST", "ToolResult"]

LONGEST = 20_000
"""Characters of a result that a model gets to see; about 5,000 tokens."""


@dataclass(frozen=True)
class ToolResult:
    """What a tool gave, or why it gave nothing. An error is a value, for the model to read.

    Args:
        name: The tool.
        id: Which call this answers.
        value: What the function returned.
        error: What went wrong; None if nothing did.

    Attributes:
        text: The value as it was when the tool returned: text as it is, anything else as JSON. Or
            the error. What is longer than `LONGEST` is cut, and says so.
    """

    name: str
    id: str = ""
    value: Any = None
    error: str | None = None
    text: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        text = _text(self.value) if self.error is None else f"Error: {self.error}"
        object.__setattr__(self, "text", _cut(text))

    def to_dict(self) -> dict[str, str]:
        """Name and response, as Mesa-LLM has them."""
        return {"name": self.name, "response": self.text}

    def to_chat(self) -> dict[str, str]:
        """The result as a chat-completion message."""
        return {
            "role": "tool",
            "tool_call_id": self.id,
            "name": self.name,
            "content": self.text,
        }


def _text(value: Any) -> str:
    if isinstance(value, str):
        return str(value)
    try:
        return json.dumps(value, ensure_ascii=False, default=_plain)
    except (TypeError, ValueError):  # keys that are no text; or it holds itself
        return _text_at_last(value)


def _text_at_last(value: Any) -> str:
    try:
        return json.dumps(to_jsonable_python(value, fallback=str), ensure_ascii=False)
    except ValueError:
        return str(value)


def _plain(value: Any) -> Any:
    """What JSON does not know, in its words."""
    if isinstance(value, BaseModel):
        return value.model_dump()
    if isinstance(value, (set, frozenset)):
        # By their text: hashes, and so the order of a set of texts, change from run to run.
        return sorted(cast("set[Any]", value), key=repr)
    as_list = getattr(value, "tolist", None)  # arrays and their scalars, without importing numpy
    return as_list() if callable(as_list) else to_jsonable_python(value, fallback=str)


def _cut(text: str) -> str:
    left_out = len(text) - LONGEST
    if left_out <= 0:
        return text
    return f"{text[:LONGEST]}… [cut here: {left_out} of {len(text)} characters are left out]"
