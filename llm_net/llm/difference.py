"""How a request differs from the recorded ones: for the eyes of whoever must find out why.

Model tower, floor 2. Pure.
"""

from __future__ import annotations

import difflib
import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from llm_net.llm.episodes import Episode

__all__ = ["nearest"]

_MOST_COMPARED = 100
_MOST_LINES = 40
_WIDEST = 120
# A prompt is one string in JSON. In pieces, a changed sentence does not hide in the whole of it.
_SEAM = re.compile(r"(?<=\\n)|(?<=[.!?;] )")


def nearest(asked: Mapping[str, Any], place: str, episodes: Sequence[Episode]) -> str:
    """Which recording is the most similar, and what differs from it.

    Args:
        asked: The request that was not found.
        place: Who asked it.
        episodes: The recordings, at least one.
    """
    own = [episode for episode in episodes if episode.place == place]
    lines = _lines(asked)
    compared = [
        (difflib.SequenceMatcher(None, lines, other, autojunk=False).quick_ratio(), episode, other)
        for episode in (own or episodes)[:_MOST_COMPARED]
        for other in [_lines(episode.request)]
    ]
    _, episode, other = max(compared, key=lambda each: each[0])
    diff = list(difflib.unified_diff(other, lines, "recorded", "asked", lineterm="", n=1))
    if len(diff) > _MOST_LINES:
        diff = [*diff[:_MOST_LINES], f"… {len(diff) - _MOST_LINES} lines more"]
    where = f" of {episode.place!r}" if episode.place else ""
    shown = "\n".join(["", *diff, ""])
    return (
        f"none of its {len(episodes)} recordings is equal. The nearest one{where} differs:{shown}"
    )


def _lines(request: Mapping[str, Any]) -> list[str]:
    text = json.dumps(request, indent=1, sort_keys=True, ensure_ascii=False)
    return [
        piece if len(piece) <= _WIDEST else f"{piece[: _WIDEST // 2]} … {piece[-_WIDEST // 2 :]}"
        for line in text.splitlines()
        for piece in _SEAM.split(line)
    ]
