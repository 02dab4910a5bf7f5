"""Which models are stepped in parallel, and how.

Bridge, floor 1. Written by those who enable it; read by the hook in Mesa, and by the words that
step by hand, for which it is the default.
"""

from __future__ import annotations

import weakref
from typing import Any

from mesa_bridge.options import Options

__all__ = ["any_served", "forget", "is_served", "options_of", "serve", "setting"]

_by_model: weakref.WeakKeyDictionary[Any, Options] = weakref.WeakKeyDictionary()
_by_flag: list[Options] = []
"""How models are served whose `parallel_stepping` is True; at most one."""


def options_of(model: Any) -> Options | None:
    """How this model's agents are stepped; None if one after the other."""
    options = _by_model.get(model)
    if options is None and _by_flag and getattr(model, "parallel_stepping", False) is True:
        return _by_flag[0]
    return options


def is_served(model: Any) -> bool:
    """Whether this model's agents are stepped in parallel."""
    return options_of(model) is not None


def any_served() -> bool:
    """Whether any model may be."""
    return bool(_by_flag or _by_model)


def setting(model: Any) -> Options | None:
    """What was said for this model, or with None for those that say `parallel_stepping`."""
    if model is None:
        return _by_flag[0] if _by_flag else None
    return _by_model.get(model)


def serve(model: Any, options: Options | None) -> None:
    """Say it; with None as options, take it back."""
    if model is None:
        _by_flag[:] = [] if options is None else [options]
    elif options is None:
        _by_model.pop(model, None)
    else:
        _by_model[model] = options


def forget() -> None:
    """Take everything back."""
    _by_flag.clear()
    _by_model.clear()
