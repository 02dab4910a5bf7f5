"""What an agent sees if nobody says otherwise: itself, those around it, what it asked of the model.

Bridge, floor 3. Knows spaces; knows nothing of plans and models of language.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any, cast

from llm_net.errors import UsageError
from llm_net.reasoning.plan import Observation
from mesa_bridge.place import named
from mesa_bridge.spaces import neighbours, position
from mesa_bridge.versions import steps

__all__ = ["observe"]


def observe(
    agent: Any,
    *,
    vision: float | None = None,
    internal_state: Sequence[str] = (),
    global_keys: Iterable[str] = (),
) -> Observation:
    """Look around, from any Mesa agent, in any Mesa space. Nothing that changes later shows.

    Args:
        agent: Who looks.
        vision: How far, as its space measures; None or 0 to see nobody, -1 to see all agents.
        internal_state: What it knows of itself, in words. Others are seen by their own attribute
            `internal_state`, without what begins with `_`: that is private.
        global_keys: Attributes of the model to be told, by name.

    Raises:
        UsageError: If the model has no attribute of one of the names, or the vision is no distance.
    """
    if isinstance(global_keys, str):
        raise UsageError(
            f"global_keys={global_keys!r} is one text, and would be read letter by letter. Give a "
            f"tuple: global_keys = ({global_keys!r},), with the comma."
        )
    return Observation(
        step=steps(agent.model),
        self_state={
            "agent_unique_id": agent.unique_id,
            "location": position(agent),
            "internal_state": list(internal_state),
        },
        local_state={named(each): _seen(each) for each in neighbours(agent, vision)},
        global_keys={name: _value(agent.model, name) for name in global_keys},
    )


def _seen(other: Any) -> dict[str, Any]:
    state = getattr(other, "internal_state", ())
    known = cast("Iterable[Any]", state if isinstance(state, (list, tuple)) else (state,))
    shown = [each for each in known if not str(each).startswith("_")]
    return {"position": position(other), "internal_state": shown}


def _value(model: Any, name: str) -> Any:
    try:
        return getattr(model, name)
    except AttributeError:
        if any(name in vars(each) for each in type(model).__mro__):
            raise  # a property that fails for a reason of its own
    close = difflib.get_close_matches(name, [each for each in dir(model) if each[0] != "_"], n=3)
    hint = f" It has {', '.join(map(repr, close))}." if close else ""
    raise UsageError(
        f"global_keys holds {name!r}, and {type(model).__name__} has no such attribute.{hint} "
        "Correct the name, or set the attribute before the first observation."
    )
