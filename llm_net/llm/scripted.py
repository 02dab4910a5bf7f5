"""Models that are Python: a script of replies, or a function.

Model tower, floor 1. For tests and for teaching, and for whoever has a model that nobody else
knows. Tokens are counted by a fixed rule, so the same conversation counts the same everywhere.
"""

from __future__ import annotations

import inspect
import itertools
import json
import math
import re
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, cast

from pydantic import BaseModel

from llm_net.errors import UnscriptedCall, UsageError
from llm_net.llm.model import (
    Chunk,
    Completion,
    Request,
    ToolCall,
    Usage,
    content_text,
    shorten,
)
from llm_net.llm.streams import words
from llm_net.llm.waiting import acall, call, run_coroutine, within

__all__ = ["Answer", "FunctionModel", "ModelFunction", "Replies", "Reply", "ScriptedModel"]

Answer: TypeAlias = str | Mapping[str, Any] | BaseModel | Completion
"""Text; a JSON answer; `{"tool_calls": […]}`; or the completion itself."""

ModelFunction: TypeAlias = Callable[[Request], Answer | Awaitable[Answer]]

Reply: TypeAlias = Answer | BaseException | ModelFunction
"""An answer, an exception to raise, or a function of the request."""

Replies: TypeAlias = Sequence[Reply] | Mapping[str, Reply]
"""Replies in order, or by a regular expression that the last user message must match."""

_CHARACTERS_PER_TOKEN = 4


class FunctionModel:
    """A model that is a function of the request, sync or async.

    Args:
        function: Gives text, a dict (a JSON answer, or `{"tool_calls": […]}`), a pydantic object,
            or a completion. A sync one may block: beside an event loop it runs in a thread.
    """

    def __init__(self, function: ModelFunction) -> None:
        self.name: str = getattr(function, "__name__", type(function).__name__)
        self._function = function
        self._numbers = itertools.count(1)

    def complete(self, request: Request) -> Completion:
        """Call the function and wait for it."""
        answer = _play(self._function, request, self.name)
        return _completion(answer, request, self.name, next(self._numbers))

    async def acomplete(self, request: Request) -> Completion:
        """Await the function; call it in a thread if it is sync."""
        answer = await _aplay(self._function, request, self.name)
        return _completion(answer, request, self.name, next(self._numbers))


class ScriptedModel:
    """A model that reads its answers from a script, and refuses to make any up.

    Args:
        replies: Replies in order, each used once; or a mapping from regular expressions to replies,
            each used as often as the last user message matches it, the first match first.

    Attributes:
        calls: The requests so far, in order, those without a reply included.
    """

    name = "scripted"

    def __init__(self, replies: Replies) -> None:
        self.calls: list[Request] = []
        self._lock = threading.Lock()
        self._by_pattern: list[tuple[re.Pattern[str], Reply]] = []
        self._in_order: list[Reply] = []
        if isinstance(replies, str):
            raise UsageError(
                f"replies={replies!r} is one text, and would be read letter by letter. "
                "Give a list: replies=[…]."
            )
        if isinstance(replies, Mapping):
            for pattern, reply in replies.items():
                self._by_pattern.append((_compiled(pattern), reply))
        else:
            self._in_order.extend(replies)

    def complete(self, request: Request) -> Completion:
        """Play the reply that the script holds.

        Raises:
            UnscriptedCall: If it holds none.
        """
        number, reply = self._next(request)
        return _completion(_play(reply, request, self.name), request, self.name, number)

    async def acomplete(self, request: Request) -> Completion:
        """Play the reply that the script holds.

        Raises:
            UnscriptedCall: If it holds none.
        """
        number, reply = self._next(request)
        return _completion(await _aplay(reply, request, self.name), request, self.name, number)

    def stream(self, request: Request) -> Iterator[Chunk]:
        """Play the reply word by word; raises what `complete` does."""
        yield from words(self.complete(request))

    async def astream(self, request: Request) -> AsyncIterator[Chunk]:
        """Play the reply word by word; raises what `complete` does."""
        for chunk in words(await self.acomplete(request)):
            yield chunk

    def _next(self, request: Request) -> tuple[int, Reply]:
        with self._lock:
            self.calls.append(request)
            number = len(self.calls)
        if self._by_pattern:
            for pattern, reply in self._by_pattern:
                if pattern.search(request.prompt):
                    return number, reply
        elif number <= len(self._in_order):
            return number, self._in_order[number - 1]
        raise self._unscripted(request, number)

    def _unscripted(self, request: Request, number: int) -> UnscriptedCall:
        if self._by_pattern:
            patterns = ", ".join(repr(pattern.pattern) for pattern, _ in self._by_pattern)
            why = f"none of its {len(self._by_pattern)} patterns matches ({patterns})"
        else:
            why = f"the script holds {len(self._in_order)} replies"
        place = f" at {request.place!r}" if request.place else ""
        return UnscriptedCall(
            f"Call {number} of the scripted model{place} has no reply: {why}. The prompt was "
            f"{shorten(request.prompt)}. Add a reply to replies=, or find out who asks once more "
            "than you thought: llm.calls lists every request."
        )


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise UsageError(
            f"{pattern!r} in replies= is no regular expression: {error}. "
            "To match a text as it stands, use re.escape(text)."
        ) from error


def _play(reply: Reply, request: Request, who: str) -> Answer:
    if isinstance(reply, BaseException):
        raise reply
    if not callable(reply):
        return reply
    function = reply
    if _is_async(function):
        answer = function(request)
    else:
        answer = call(lambda: function(request), timeout=request.timeout, who=who)
    if inspect.isawaitable(answer):
        return run_coroutine(within(answer, timeout=request.timeout, who=who))
    return answer


async def _aplay(reply: Reply, request: Request, who: str) -> Answer:
    if isinstance(reply, BaseException):
        raise reply
    if not callable(reply):
        return reply
    function = reply
    if _is_async(function):
        answer = function(request)
    else:
        answer = await acall(lambda: function(request), timeout=request.timeout, who=who)
    if not inspect.isawaitable(answer):
        return answer
    if request.timeout is None:
        return await answer
    return await within(answer, timeout=request.timeout, who=who)


def _is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - an object's async __call__ is looked at
    )


def _count_tokens(text: str) -> int:
    """A rule of thumb for English: no model's own count, but the same on every machine."""
    return math.ceil(len(text) / _CHARACTERS_PER_TOKEN)


def _completion(answer: Any, request: Request, who: str, number: int) -> Completion:
    if isinstance(answer, Completion):
        return answer
    text = ""
    calls: tuple[ToolCall, ...] = ()
    if isinstance(answer, str):
        text = answer
    elif isinstance(answer, BaseModel):
        text = answer.model_dump_json()
    elif isinstance(answer, Mapping):
        reply = cast("Mapping[str, Any]", answer)
        if "tool_calls" in reply:
            text = str(reply.get("content") or "")
            calls = tuple(
                _tool_call(call, f"call_{number}_{index}")
                for index, call in enumerate(reply["tool_calls"], start=1)
            )
        else:
            text = json.dumps(reply, ensure_ascii=False)
    else:
        raise UsageError(
            f"{who} answered with {answer!r}. A model's answer is a str, a dict, a pydantic object "
            "or a Completion. Return one of these."
        )
    written = text + "".join(f" {call.name} {call.arguments}" for call in calls)
    return Completion(
        text=text,
        tool_calls=calls,
        usage=Usage(
            prompt_tokens=sum(_count_tokens(content_text(m)) for m in request.messages),
            completion_tokens=_count_tokens(written),
        ),
        cost=0.0,
        finish_reason="tool_calls" if calls else "stop",
        model=who,
    )


def _tool_call(call: Mapping[str, Any], default_id: str) -> ToolCall:
    """A tool call from `{"name", "arguments"}`, or from the chat-completion shape."""
    function: Mapping[str, Any] = call.get("function", call)
    if "name" not in function:
        raise UsageError(
            f"The scripted tool call {dict(call)!r} names no tool. "
            'Write {"tool_calls": [{"name": "…", "arguments": {…}}]}.'
        )
    arguments = function.get("arguments", {})
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return ToolCall(name=function["name"], arguments=arguments, id=call.get("id", default_id))
