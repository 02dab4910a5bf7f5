"""What goes to a language model, what comes back, and what a model is.

Model tower, floor 0. Knows only the package's errors. Everything here is frozen: a request may be
recorded, compared and sent again, a completion shared by many agents.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from pydantic import BaseModel

__all__ = [
    "AssistantMessage",
    "ChatDict",
    "Choice",
    "Chunk",
    "Completion",
    "Function",
    "Model",
    "Request",
    "ResponseFormat",
    "ToolCall",
    "ToolChoice",
    "Usage",
]

ChatDict: TypeAlias = Mapping[str, Any]
"""One chat-completion message: role, content, and what else the endpoint knows."""

ResponseFormat: TypeAlias = type[BaseModel] | Mapping[str, Any]
"""A pydantic class, or a JSON schema (bare, or wrapped as `response_format` endpoints take it)."""

ToolChoice: TypeAlias = str | Mapping[str, Any]
"""`auto`, `none`, `required`, or the chat-completion dict that names one tool."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One question to a model, whole.

    Attributes:
        messages: The conversation as chat-completion dicts, the system prompt first.
        tools: The tools offered, as chat-completion dicts; empty if none are.
        tool_choice: What the model may do with them; None if there are none.
        response_format: The shape its answer must have; None if any text will do.
        params: How to sample and how long to wait: temperature, seed, max_tokens, top_p, stop,
            timeout, and what else the provider takes.
        place: Who calls: an agent's path and the like; empty if nobody said.
    """

    messages: tuple[ChatDict, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    tool_choice: ToolChoice | None = None
    response_format: ResponseFormat | None = None
    params: Mapping[str, Any] = field(default_factory=dict[str, Any])
    place: str = ""

    @property
    def prompt(self) -> str:
        """The text of the last user message; empty if there is none."""
        for message in reversed(self.messages):
            if message.get("role") == "user":
                return content_text(message)
        return ""

    @property
    def timeout(self) -> float | None:
        """Seconds that the caller is willing to wait; None is for ever."""
        seconds: float | None = self.params.get("timeout")
        return seconds


def content_text(message: ChatDict) -> str:
    """The text of a chat message, whose content may also be a list of parts, or missing."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts: list[Any] = list(content or ())
    return "\n".join(part["text"] for part in parts if part.get("type") == "text")


def shorten(text: str, limit: int = 300) -> str:
    """A text for an error: as a literal, and if it is long, its beginning and its end."""
    if len(text) <= limit:
        return repr(text)
    half = limit // 2
    return f"{text[:half]!r} … {text[-half:]!r} ({len(text)} characters)"


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Tokens that one or several calls took; usages can be added.

    Attributes:
        prompt_tokens: Tokens read, those from a cache included.
        completion_tokens: Tokens written.
        cached_tokens: Those of `prompt_tokens` that came from the provider's prompt cache.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Tokens read and written."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Usage) -> Usage:
        """The tokens of both."""
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
        )


@dataclass(frozen=True)
class Function:
    """The inner half of a tool call, where LiteLLM's shape has it.

    Attributes:
        name: The tool.
        arguments: JSON text, as the model wrote it: not yet validated by anyone.
    """

    name: str
    arguments: str


@dataclass(frozen=True, kw_only=True)
class ToolCall:
    """A model's wish to call a tool.

    Attributes:
        name: The tool.
        arguments: JSON text, as the model wrote it: not yet validated by anyone.
        id: What the tool's answer must refer to.
    """

    name: str
    arguments: str
    id: str
    type: Literal["function"] = "function"

    @property
    def function(self) -> Function:
        """Name and arguments, where LiteLLM's shape has them."""
        return Function(self.name, self.arguments)

    def to_chat(self) -> dict[str, Any]:
        """The call as it stands in a chat-completion message."""
        function = {"name": self.name, "arguments": self.arguments}
        return {"id": self.id, "type": self.type, "function": function}


@dataclass(frozen=True, kw_only=True)
class AssistantMessage:
    """The answer in LiteLLM's shape: content and tool calls are None if there are none."""

    content: str | None
    tool_calls: list[ToolCall] | None
    reasoning_content: str | None = None
    role: Literal["assistant"] = "assistant"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The one choice of a completion, in LiteLLM's shape."""

    message: AssistantMessage
    finish_reason: str
    index: int = 0


@dataclass(frozen=True, kw_only=True)
class Completion:
    """What a model answered, and what it took.

    Attributes:
        text: What it wrote; empty if it only called tools.
        reasoning: What it thought before, where the provider shows that.
        tool_calls: The tools it wants to be called, in its order.
        parsed: With a `response_format`: an instance of the pydantic class, or the decoded JSON if
            the format was a schema. Else None.
        usage: Tokens, the repair attempts included.
        cost: US dollars; None if the price is not known.
        latency: Seconds from the request to the answer, the repair attempts included.
        finish_reason: `stop`, `length`, `tool_calls`, or the provider's word.
        model: Who answered.
    """

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    # Any, not object: it is the caller who knows the class that was asked for.
    parsed: Any = None
    usage: Usage = Usage()
    cost: float | None = None
    latency: float = 0.0
    finish_reason: str = "stop"
    model: str = ""

    def __str__(self) -> str:
        """The text."""
        return self.text

    @property
    def choices(self) -> tuple[Choice]:
        """The answer where LiteLLM's shape has it: `completion.choices[0].message`."""
        # As LiteLLM has it: empty text beside tool calls is None, empty text alone is empty text.
        calls = list(self.tool_calls) or None
        content = None if calls and not self.text else self.text
        message = AssistantMessage(
            content=content, tool_calls=calls, reasoning_content=self.reasoning or None
        )
        return (Choice(message=message, finish_reason=self.finish_reason),)

    def to_chat(self) -> dict[str, Any]:
        """The answer as a chat-completion dict, to go on with the conversation."""
        chat: dict[str, Any] = {"role": "assistant", "content": self.text}
        if self.tool_calls:
            chat["tool_calls"] = [call.to_chat() for call in self.tool_calls]
        return chat


@dataclass(frozen=True)
class Chunk:
    """A piece of an answer that is streamed.

    Attributes:
        text: What was written since the piece before; the texts of all pieces are the answer's.
        completion: The whole answer, on the last piece only.
    """

    text: str = ""
    completion: Completion | None = None

    def __str__(self) -> str:
        """The text."""
        return self.text


@runtime_checkable
class Model(Protocol):
    """Whatever answers requests: a provider, the embedded model, a script, a wrapper of another.

    A model that can stream has `stream(request) -> Iterator[Chunk]` and `astream(request) ->
    AsyncIterator[Chunk]` besides; of others, the answer comes as one piece.

    A model fills text, tool calls, usage, cost, finish reason and its own name. `ModuleLLM`, which
    asks it, adds latency and `parsed`, and repairs answers of the wrong shape.
    """

    def complete(self, request: Request) -> Completion:
        """Answer; may block.

        Raises:
            ModelError: If there is no answer to give.
        """
        ...

    async def acomplete(self, request: Request) -> Completion:
        """Answer without blocking the event loop.

        Raises:
            ModelError: If there is no answer to give.
        """
        ...
