"""From what a model wrote to what was asked for: JSON, a pydantic object, or a plain complaint.

Model tower, floor 1. Pure: it asks no model itself. `conversation` is a generator that yields
requests and is sent completions, so that the repair of a wrong answer is written once and driven
both sync and async.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from llm_net.errors import AnswerError
from llm_net.llm.model import shorten
from llm_net.llm.schema import fault

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

    from llm_net.llm.model import Completion, Request, ResponseFormat

__all__ = ["conversation", "find_json", "json_schema", "parse"]

_MANY_ATTEMPTS = 200
_decode = json.JSONDecoder().raw_decode


def json_schema(response_format: ResponseFormat) -> dict[str, Any]:
    """The JSON schema of a response format; `{}` if any JSON will do."""
    if isinstance(response_format, type):
        return response_format.model_json_schema()
    if response_format.get("type") == "json_schema" and "json_schema" in response_format:
        schema: dict[str, Any] = response_format["json_schema"].get("schema", {})
        return schema
    if response_format.get("type") == "json_object":
        return {}
    return dict(response_format)


def find_json(text: str) -> Iterator[Any]:
    """Every JSON object or array that stands in a text, outermost only, in order.

    Models put JSON in code fences, or talk before and after it. A text that is JSON as a whole
    (also a bare number or string) is the only thing found.
    """
    try:
        yield json.loads(text)
    except (ValueError, RecursionError):
        pass
    else:
        return

    position = 0
    # Each failed attempt may read to the end of the text; a text of brackets only must not take
    # quadratic time.
    for _ in range(_MANY_ATTEMPTS):
        starts = [at for at in (text.find("{", position), text.find("[", position)) if at >= 0]
        if not starts:
            return
        try:
            value, position = _decode(text, min(starts))
        except (ValueError, RecursionError):
            position = min(starts) + 1
        else:
            yield value


def _fit(value: Any, response_format: ResponseFormat) -> tuple[Any, str | None]:
    """The value as the caller wants it, or what is wrong with it."""
    if not isinstance(response_format, type):
        return value, fault(value, json_schema(response_format))
    try:
        # From JSON, not from Python: strict models take an ISO date or an enum's value only so.
        return response_format.model_validate_json(json.dumps(value)), None
    except ValidationError as error:
        return None, "; ".join(
            f"{'.'.join(map(str, problem['loc'])) or 'the whole'}: {problem['msg']}"
            for problem in error.errors(include_url=False, include_input=False)
        )


def parse(completion: Completion, response_format: ResponseFormat) -> Completion:
    """The completion with `parsed` filled.

    A completion that calls tools and says nothing is left as it is: it is not the answer yet.

    Args:
        completion: What the model answered.
        response_format: A pydantic class or a JSON schema.

    Raises:
        AnswerError: If the text is empty, cut off, no JSON, or JSON of another shape. It carries
            the completion as `completion`.
    """
    text = completion.text.strip()
    if not text:
        if completion.tool_calls:
            return completion
        if completion.finish_reason != "length":
            raise _wrong(completion, "is empty", "Ask again, or in other words")

    complaint: str | None = None
    # The last fitting one: models that think aloud write drafts first.
    for value in reversed(list(find_json(text))):
        parsed, problem = _fit(value, response_format)
        if problem is None:
            return replace(completion, parsed=parsed)
        complaint = complaint or problem

    if completion.finish_reason == "length":
        tokens = completion.usage.completion_tokens
        raise _wrong(
            completion,
            f"was cut off after {tokens} token{'s' * (tokens != 1)}, before its JSON was whole",
            "Raise max_tokens=, or ask for less",
        )
    if complaint is None:
        raise _wrong(
            completion,
            "is not JSON, and holds none",
            "Say in the prompt that only JSON is wanted, or take a model that can be constrained",
        )
    raise _wrong(
        completion,
        f"is JSON of the wrong shape ({complaint})",
        "Describe the fields in the prompt, or loosen response_format",
    )


def _wrong(completion: Completion, what: str, advice: str) -> AnswerError:
    who = completion.model or "the model"
    error = AnswerError(
        f"The answer of {who} {what}: {shorten(completion.text)}. "
        f"A response_format was asked for. {advice}."
    )
    # The answer was paid for, so whoever catches the error may still look at it.
    error.__dict__["completion"] = completion
    return error


def conversation(request: Request, *, repair: int) -> Generator[Request, Completion, Completion]:
    """Ask, and if the answer has the wrong shape, say what is wrong and ask again.

    Yields:
        The requests to send on; it wants to be sent the completion of each.

    Args:
        request: What to ask.
        repair: How often a wrong answer may be asked for again.

    Returns:
        The answer, parsed. Usage, cost and latency are the sums over all attempts.

    Raises:
        AnswerError: If the last attempt is wrong too.
    """
    completion = yield request
    if request.response_format is None:
        return completion
    spent = completion
    for attempts_left in range(repair, -1, -1):
        try:
            return _with_costs(parse(completion, request.response_format), spent)
        except AnswerError as error:
            error.__dict__["completion"] = _with_costs(completion, spent)
            if not attempts_left:
                raise
            again = replace(request, messages=(*request.messages, *_feedback(completion, error)))
        completion = yield again
        spent = _added(spent, completion)
    raise AssertionError("unreachable: the last attempt returns or raises")


def _feedback(completion: Completion, error: AnswerError) -> tuple[Mapping[str, Any], ...]:
    what = str(error).removeprefix(f"The answer of {completion.model} ").partition(": '")[0]
    request = {
        "role": "user",
        "content": f"This {what}. Answer again, with the JSON only, short and whole.",
    }
    # Some providers refuse an assistant message without text.
    return (completion.to_chat(), request) if completion.text else (request,)


def _added(first: Completion, second: Completion) -> Completion:
    known = first.cost is not None and second.cost is not None
    return replace(
        first,
        usage=first.usage + second.usage,
        cost=(first.cost or 0.0) + (second.cost or 0.0) if known else None,
        latency=first.latency + second.latency,
    )


def _with_costs(answer: Completion, spent: Completion) -> Completion:
    return replace(answer, usage=spent.usage, cost=spent.cost, latency=spent.latency)
