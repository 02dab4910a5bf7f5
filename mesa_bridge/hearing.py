"""What of a Mesa agent a message may reach: its handlers, its ear, its memory.

Bridge, floor 1. A model of language may have written the name of the handler, so only methods that
are declared as handlers are looked up, by the same rule as in `llm_net`.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Mapping
from typing import Any

from llm_net.handlers import Handler, behaviour_of
from llm_net.llm.waiting import run_coroutine
from llm_net.message import Message

__all__ = ["handler_of", "hears", "take_note", "takes_note"]

_LIBRARIES = {"llm_net", "mesa", "mesa_bridge"}
_handlers: weakref.WeakKeyDictionary[type, Mapping[str, Handler]] = weakref.WeakKeyDictionary()


def handler_of(agent: Any, message: Message) -> Handler | None:
    """The method of the agent's own classes that takes this message, if there is one.

    It has one parameter besides `self`, called `message` or annotated as a message. An async one
    may have an `a` before its name.
    """
    kind = _class_of(agent)
    table = _handlers.get(kind)
    if table is None:
        library = frozenset(each for each in kind.__mro__ if _package(each) in _LIBRARIES)
        table = behaviour_of(kind, library, {}, blocking=True, concurrency=1).handlers
        _handlers[kind] = table
    handler = table.get(message.method)
    if handler is None or not isinstance(message, handler.accepts or Message):
        return None
    return handler


def hears(agent: Any, message: Message) -> bool:
    """Whether the agent can take this message in any way."""
    return handler_of(agent, message) is not None or takes_note(agent)


def takes_note(agent: Any) -> bool:
    """Whether the agent has a `receive_message`, or a memory."""
    return hasattr(agent, "receive_message") or _memory_of(agent) is not None


def take_note(agent: Any, message: Message, sender: Any) -> None:
    """Let an agent without a handler for it hear a message, or remember it."""
    words = message.to_chat()["content"]
    hear = getattr(agent, "receive_message", None)
    if hear is not None:
        heard = hear(words, sender)
        if inspect.iscoroutine(heard):
            run_coroutine(heard)  # at once, as all that is only noted
    else:
        _memory_of(agent)("message", {"message": words, "sender": sender.unique_id})


def _memory_of(agent: Any) -> Any:
    return getattr(getattr(agent, "memory", None), "add_to_memory", None)


def _class_of(agent: object) -> type:
    return type(agent)


def _package(kind: type) -> str:
    return kind.__module__.partition(".")[0]
