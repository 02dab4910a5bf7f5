"""Pykka's registry of live actors, with an `unregister` that does not look at all of them.

Floor 1. Knows Pykka only.

Invariant: the list is Pykka's own and in the order of registration, whoever registers, so every
word of `pykka.ActorRegistry` means what it always meant. Pykka's `unregister` compares with one
reference after the other, so that `stop_all` of n actors takes n² steps. Here each reference gets a
number when it is registered; numbers rise along the list, so a reference is found by halving.
"""

from __future__ import annotations

import logging
from itertools import count
from typing import Any

from pykka import ActorRef, ActorRegistry

__all__ = ["register", "unregister"]

log = logging.getLogger("pykka")

NUMBER = "_llm_net_number"

_numbers = count(1)


def register(ref: ActorRef[Any]) -> None:
    """Add a live actor to `pykka.ActorRegistry`; any thread."""
    with _lock():
        vars(ref)[NUMBER] = next(_numbers)
        _refs().append(ref)
    log.debug("Registered %s", ref)


def unregister(ref: ActorRef[Any]) -> None:
    """Remove an actor that is no longer live, if it is there; any thread."""
    with _lock():
        refs = _refs()
        place = _find(refs, ref)
        if place is not None:
            del refs[place]
        elif ref in refs:  # registered by Pykka's own word
            refs.remove(ref)
        else:
            return
    log.debug("Unregistered %s", ref)


def _find(refs: list[ActorRef[Any]], ref: ActorRef[Any]) -> int | None:
    """Where the reference stands, unless others without a number have confused the search."""
    number = vars(ref).get(NUMBER)
    if number is None:
        return None
    low, high = 0, len(refs)
    while low < high:
        middle = place = (low + high) // 2
        there = refs[place]
        # Others, which Pykka registered, have no number: look at the next one before them.
        while NUMBER not in vars(there) and place > low:
            place -= 1
            there = refs[place]
        if there is ref:
            return place
        if vars(there).get(NUMBER, 0) < number:
            low = middle + 1
        else:
            high = place
    return None


# Private to Pykka, and all there is: its public words can neither find nor remove by position.


def _refs() -> list[ActorRef[Any]]:
    return ActorRegistry._actor_refs  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def _lock() -> Any:
    return ActorRegistry._actor_refs_lock  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
