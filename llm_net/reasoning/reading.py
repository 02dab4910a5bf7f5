"""What a model's answer says, and what is wrong with it; with one more try to say it right.

Mind, floor 4. A model may answer anything: prose, half a call, a tool that nobody has, nothing.
None of it raises. It is told once what was wrong; then there is a plan that does nothing and says
why.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from llm_net.errors import ToolError
from llm_net.llm.model import ChatDict
from llm_net.reasoning.needs import Ask, Need, Task
from llm_net.reasoning.plan import Action

__all__ = ["Answer", "Exchange", "ask"]

_CUT_OFF = "The answer was cut off before its end."
_REFUSED = "The provider withheld the answer (content filter)."
_EMPTY = "The answer was empty."
_OTHERS = "Not made, for another call of the same answer was wrong."
_NO_CALL = "A tool must be called, and none was."


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A model's answer, read.

    Attributes:
        thoughts: What it wrote, or if nothing, what it reasoned; may be empty.
        actions: Its calls, if all of them can be made; else none.
        fault: What is wrong with it; None if nothing is.
        chat: The answer as chat-completion messages, with one answer to each call if it is at
            fault: so the conversation can go on.
        repairs: How often the model was told.
    """

    thoughts: str
    actions: tuple[Action, ...] = ()
    fault: str | None = None
    chat: tuple[ChatDict, ...] = ()
    repairs: int = 0


Exchange = Generator[Need, Any, Answer]


def ask(
    question: Ask,
    task: Task,
    manager: Any,
    *,
    repairs: int = 1,
    silent: bool = False,
    words: Callable[[str, Task], list[Any]] | None = None,
) -> Exchange:
    """Ask; tell the model what was wrong with its answer, so often; give the last answer.

    Args:
        question: What is asked.
        task: Which tools may be called, and whether one must be.
        manager: The tools.
        repairs: How often a wrong answer may be made good.
        silent: Whether an empty answer is one, too.
        words: Finds calls in the text of an answer that makes none.
    """
    read = partial(_read, task=task, manager=manager, silent=silent, words=words)
    answer = read((yield question), question)
    for told in range(1, repairs + 1):
        if answer.fault is None or not answer.chat:
            break
        question = _again(question, answer)
        answer = read((yield question), question)
        answer = replace(answer, repairs=told)
    return answer


def _again(question: Ask, answer: Answer) -> Ask:
    """The same question, the answer, and what was wrong with it."""
    told = f"{answer.fault} Nothing was done. Answer again, complete and correct."
    before = list(question.messages)
    if question.prompt is not None:
        texts = [question.prompt] if isinstance(question.prompt, str) else question.prompt
        before += [{"role": "user", "content": text} for text in texts]
    complaint = {"role": "user", "content": told}
    return replace(question, prompt=None, messages=[*before, *answer.chat, complaint])


def _read(
    completion: Any,
    question: Ask,
    *,
    task: Task,
    manager: Any,
    silent: bool,
    words: Callable[[str, Task], list[Any]] | None,
) -> Answer:
    choice = completion.choices[0]
    message, reason = choice.message, str(getattr(choice, "finish_reason", None) or "stop")
    if getattr(message, "refusal", None):
        reason = "content_filter"
    text = str(message.content or "")
    thoughts = text or str(getattr(message, "reasoning_content", None) or "")
    calls = list(message.tool_calls or ()) if question.tools else []
    if not calls and words is not None:
        calls = words(text, task)
    if question.tool_choice == "none":
        calls = []  # some models call what they were told not to
    ids = _ids(calls)
    actions, faults = _checked(calls, ids, task.selected_tools, manager)
    must = question.tool_choice == "required" and bool(question.tools)
    fault = _fault(thoughts or str(silent or ""), calls, faults, reason, must=must)
    if fault is None:
        return Answer(thoughts=thoughts, actions=tuple(actions), chat=tuple(_chat(text, actions)))
    told = [
        {"role": "tool", "tool_call_id": each, "name": _name(call), "content": why or _OTHERS}
        for each, call, why in zip(ids, calls, faults, strict=True)
    ]
    said: dict[str, Any] = {"role": "assistant", "content": text}
    if calls:
        said["tool_calls"] = [
            _call(each, _name(call), call.function.arguments)
            for each, call in zip(ids, calls, strict=True)
        ]
    # To a provider that refused, the same is not said twice.
    chat = () if reason == "content_filter" else (said, *told)
    return Answer(thoughts=thoughts, fault=fault, chat=chat)


def _fault(
    thoughts: str, calls: Sequence[Any], faults: Sequence[str | None], reason: str, *, must: bool
) -> str | None:
    if reason == "content_filter":
        return _REFUSED
    if wrong := [why for why in faults if why is not None]:
        return " ".join(([_CUT_OFF] if reason == "length" else []) + wrong)
    if calls:
        return None
    if must:
        return f"{_CUT_OFF} {_NO_CALL}" if reason == "length" else _NO_CALL
    return None if thoughts.strip() else _EMPTY


def _checked(
    calls: Sequence[Any], ids: Sequence[str], selected: Sequence[str] | None, manager: Any
) -> tuple[list[Action], list[str | None]]:
    """The calls that can be made; and for each call, what is wrong with it."""
    actions: list[Action] = []
    faults: list[str | None] = []
    for each, call in zip(ids, calls, strict=True):
        try:
            arguments = manager.check(_name(call), call.function.arguments or "{}", selected)
        except ToolError as error:
            faults.append(str(error))
        else:
            actions.append(Action(_name(call), arguments, each))
            faults.append(None)
    return actions, faults


def _name(call: Any) -> str:
    return str(call.function.name or "")


def _ids(calls: Sequence[Any]) -> list[str]:
    """An id for each call: its own, unless it has none or another call has it, too."""
    ids: list[str] = []
    for number, call in enumerate(calls, 1):
        given = str(getattr(call, "id", None) or f"call_{number}")
        ids.append(given if given not in ids else f"{given}_{number}")
    return ids


def _chat(text: str, actions: Sequence[Action]) -> list[ChatDict]:
    said: dict[str, Any] = {"role": "assistant", "content": text}
    if actions:
        said["tool_calls"] = [
            _call(each.id, each.name, json.dumps(each.arguments)) for each in actions
        ]
    return [said]


def _call(identity: str, name: str, arguments: Any) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments or "{}"}
    return {"id": identity, "type": "function", "function": function}
