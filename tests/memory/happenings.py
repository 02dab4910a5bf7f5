"""What may happen to a memory, and what it tells afterwards."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable
from typing import Any

from hypothesis import strategies as st

from llm_net.memory.episodic import EpisodicMemory
from llm_net.memory.long_term import LongTermMemory
from llm_net.memory.memory import Memory
from llm_net.memory.relevance import by_words
from llm_net.memory.short_long import STLTMemory
from llm_net.memory.short_term import ShortTermMemory

__all__ = ["ALL", "BEGIN", "END", "alive", "happenings", "live", "said", "told"]

BEGIN, END = "begin", "end"

ALL: list[Callable[[], Memory]] = [
    ShortTermMemory,
    lambda: ShortTermMemory(n=1),
    LongTermMemory,
    lambda: LongTermMemory(max_characters=200),
    STLTMemory,
    lambda: STLTMemory(None, 1, 0, max_characters=200),
    lambda: STLTMemory(None, 2, 3),
    lambda: EpisodicMemory(relevance=by_words),
    lambda: EpisodicMemory(max_capacity=3, relevance=by_words),
]
"""Memories of all kinds, some of them small."""


def happenings(kinds: Iterable[str], contents: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Lists of steps that begin and end, not always in that order, and of events."""
    events = st.tuples(st.sampled_from(list(kinds)), contents)
    return st.lists(st.sampled_from([BEGIN, END]) | events, max_size=60)


def live(memory: Memory, happened: Iterable[Any]) -> Memory:
    """Let things happen, and end the last step."""
    for each in [*happened, END]:
        if isinstance(each, str):
            memory.process_step(pre_step=each == BEGIN)
        else:
            memory.add_to_memory(*each)
    return memory


def alive(memory: Memory, happened: Iterable[Any]) -> Memory:
    """As `live`, by the async words."""

    async def go() -> None:
        for each in [*happened, END]:
            if isinstance(each, str):
                await memory.aprocess_step(pre_step=each == BEGIN)
            else:
                await memory.aadd_to_memory(*each)

    asyncio.run(go())
    return memory


def said(number: int) -> dict[str, Any]:
    """A message that can be told from all others."""
    return {"message": f"m{number}.", "sender": "bob"}


def told(memory: Memory) -> set[str]:
    """Which of those messages a model would be told of; each of them once."""
    text = f"{memory.format_long_term()}\n{memory.format_short_term()}"
    found = re.findall(r"\bm\d+\.", text)
    assert len(found) == len(set(found))
    return set(found)
