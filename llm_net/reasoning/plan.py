"""What an agent sees, and what it means to do: `Observation`, `Action`, `Plan`.

Mind, floor 0. Data only; all of it is JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Self, cast

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from llm_net.snapshot import jsonable

__all__ = ["Action", "Observation", "Plan"]

_to_json = json.JSONEncoder(ensure_ascii=False).encode


class Observation(BaseModel):
    """What an agent sees in one step: a snapshot, which later changes do not reach.

    Args:
        step: The model's step.
        self_state: The agent's own state.
        local_state: What is near it, by name.
        global_keys: The values of the model-wide attributes that the agent asked for, by name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    step: int
    self_state: dict[str, Any] = Field(default_factory=dict)
    local_state: dict[str, Any] = Field(default_factory=dict)
    global_keys: dict[str, Any] = Field(default_factory=dict)

    def __init__(
        self,
        step: int,
        self_state: Mapping[str, Any] | None = None,
        local_state: Mapping[str, Any] | None = None,
        global_keys: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            step=step,
            self_state={} if self_state is None else self_state,
            local_state={} if local_state is None else local_state,
            global_keys={} if global_keys is None else global_keys,
        )

    @field_validator("self_state", "local_state", "global_keys", mode="before")
    @classmethod
    def _copied(cls, value: Any) -> Any:
        return jsonable(value) if isinstance(value, (dict, Mapping)) else value

    def __str__(self) -> str:
        """The observation as a prompt shows it: one part a line, empty ones left out."""
        parts = [("Step", self.step), ("Your state", self.self_state)]
        parts += [("Around you", self.local_state), ("Everywhere", self.global_keys)]
        lines = (f"{name}: {_to_json(value)}" for name, value in parts if value or name == "Step")
        return "\n".join(lines)


class Action(BaseModel):
    """One call of a tool, its arguments validated.

    Args:
        name: The tool.
        arguments: By parameter; JSON values.
        id: What the tool's answer refers to.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    arguments: dict[str, Any] = Field(default_factory=dict)
    id: str = ""

    def __init__(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        id: str = "",  # noqa: A002 - the chat-completion word
    ) -> None:
        super().__init__(name=name, arguments={} if arguments is None else arguments, id=id)

    @field_validator("arguments", mode="before")
    @classmethod
    def _copied(cls, value: Any) -> Any:
        return jsonable(value) if isinstance(value, (dict, Mapping)) else value

    def __str__(self) -> str:
        """The call as code would write it."""
        given = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
        return f"{self.name}({given})"


class Plan(BaseModel):
    """What an agent means to do.

    Args:
        step: The step in which it was made.
        thoughts: The reasons, as the model put them; may be empty.
        actions: The calls to make, in order, each once.
        ttl: Steps that it lives, the one in which it was made included.
        llm_plan: The model's own message, with `content` and `tool_calls` in LiteLLM's shape. Given
            alone, it fills `thoughts` and `actions`. No part of the JSON.
    """

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    step: int = 0
    thoughts: str = ""
    actions: list[Action] = Field(default_factory=list[Action])
    ttl: int = Field(default=1, ge=1)
    llm_plan: Any = Field(default=None, exclude=True, repr=False)

    @model_validator(mode="after")
    def _filled(self) -> Self:
        """Take thoughts and actions from the model's message, if they were not given."""
        message = self.llm_plan
        given = self.model_fields_set
        if message is None:
            return self
        if "thoughts" not in given:
            self.thoughts = str(getattr(message, "content", None) or "")
        if "actions" not in given:
            self.actions = list(_actions(getattr(message, "tool_calls", None) or ()))
        return self

    def __str__(self) -> str:
        """The thoughts."""
        return self.thoughts


def _actions(calls: Iterable[Any]) -> Iterable[Action]:
    """The calls of a message that can be read; what they mean is the tools' to say."""
    for call in calls:
        function = call.function
        try:
            arguments = json.loads(function.arguments or "{}")
        except (TypeError, ValueError):
            continue
        if isinstance(arguments, dict):
            found = cast("dict[str, Any]", arguments)
            yield Action(str(function.name), found, str(getattr(call, "id", "") or ""))
