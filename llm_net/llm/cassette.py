"""Answers of a model, recorded once, and played again for ever.

Model tower, floor 2. On a cassette, a program runs to the byte without a model, a network or a key.
Here stands which recording answers which request; `llm_net.llm.recording` puts it around a model.
"""

from __future__ import annotations

import threading
import weakref
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, get_args

from llm_net.errors import CassetteMiss, UsageError
from llm_net.llm.difference import nearest
from llm_net.llm.episodes import Episode, key
from llm_net.llm.tape import Tape

if TYPE_CHECKING:
    from collections.abc import Callable
    from os import PathLike
    from pathlib import Path

__all__ = ["Cassette", "Match", "Mode"]

Mode: TypeAlias = Literal["none", "once", "new_episodes", "all"]
Match: TypeAlias = Literal["by_hash", "strict", "by_place"]


class Cassette:
    """A file of recorded answers.

    Any number of models, agents, threads and loops of one process may share it. It need not be
    closed, but only a closed one is in order, and the end of the process closes it late.

    ```python
    from llm_net.llm.cassette import Cassette
    from llm_net.llm.recording import Recorded
    from llm_net.llm.scripted import FunctionModel

    with Cassette("answers.jsonl") as cassette:
        model = Recorded(FunctionModel(lambda request: "Good morning."), cassette)
    ```

    Args:
        path: The file: JSON lines, one a call.
        mode: `none` plays and never asks; `once` records if there is no file yet, else plays;
            `new_episodes` plays what there is and records the rest; `all` asks always, and records
            everything anew.
        match: Which recording answers a request: `by_hash` an equal request, of the same place if
            there is one, so that the order of calls may differ; `strict` an equal request of the
            same place; `by_place` whatever that place asked, one after the other, so that prompts
            may be reworded. Each recording is played once: the k-th use gets the k-th.

    Raises:
        UsageError: If the file is missing in mode `none`, is no cassette, is damaged, or was
            recorded by a newer version.
    """

    def __init__(
        self, path: str | PathLike[str], mode: Mode = "once", match: Match = "by_hash"
    ) -> None:
        _check("mode", mode, get_args(Mode))
        _check("match", match, get_args(Match))
        self._tape = Tape(path)
        self._mode: Mode = mode
        self._match: Match = match
        self._lock = threading.Lock()
        found = None if mode == "all" else self._tape.read()
        if found is None and mode == "none":
            raise UsageError(
                f"There is no recording in {path}, and mode='none' makes none. Check the path, or "
                "record one with mode='once'."
            )
        self._records = mode in {"new_episodes", "all"} or found is None
        self._episodes = found or []
        self._unplayed: dict[object, list[Episode]] = defaultdict(list)
        for episode in self._episodes:
            self._unplayed[self._group(episode.place, episode.request)].append(episode)
        self._asked = 0
        weakref.finalize(self, _close, self._tape, self._lock)

    @property
    def path(self) -> Path:
        """The file."""
        return self._tape.path

    def close(self) -> None:
        """Put the file in order, if anything was recorded; playing and recording may go on."""
        _close(self._tape, self._lock)

    def play(self, place: str, request: dict[str, Any], *, may_ask: bool) -> Episode | int:
        """The episode that answers a request, or the number under which to record one.

        Args:
            place: Who asks.
            request: What, as `llm_net.llm.episodes.written`.
            may_ask: Whether there is a model to ask.

        Raises:
            CassetteMiss: If there is neither.
        """
        with self._lock:
            self._asked += 1
            group = self._unplayed[self._group(place, request)]
            if group:
                own = (i for i, episode in enumerate(group) if episode.place == place)
                return group.pop(next(own, 0))
            if self._records and may_ask:
                return self._asked
        raise self._miss(place, request, may_ask=may_ask)

    def record(self, number: int, episode: Episode) -> None:
        """Write an episode down, under the number that `play` gave.

        Raises:
            UsageError: If another process records on the same file.
        """
        with self._lock:
            self._tape.append(number, episode)

    def _group(self, place: str, request: dict[str, Any]) -> object:
        """What recordings must have in common with a request to answer it."""
        if self._match == "by_place":
            return place
        return key(request) if self._match == "by_hash" else (place, key(request))

    def _miss(self, place: str, request: dict[str, Any], *, may_ask: bool) -> CassetteMiss:
        same = [episode for episode in self._episodes if episode.request == request]
        group = self._group(place, request)
        played = sum(self._group(each.place, each.request) == group for each in self._episodes)
        if played:
            why = f"every recording that answers it ({played}) has been played already"
        elif same:
            why = f"it was recorded at {same[0].place!r}, and match='strict' keeps to the place"
        elif not self._episodes:
            why = "it holds no recordings"
        else:
            # The nearest one is looked for only here: it takes time.
            why = nearest(request, place, self._episodes)
        who = f" by {place!r}" if place else ""
        advice = (
            "Record it with mode='new_episodes', or everything anew with mode='all'."
            if may_ask
            else "No model was given that could be asked and recorded."
        )
        return CassetteMiss(
            f"The cassette {self.path} (mode={self._mode!r}, match={self._match!r}) has no answer "
            f"to a request{who}: {why}. {advice}"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Callable[..., Cassette], tuple[str, Mode, Match]]:
        # Copies and unpickled ones open the file themselves.
        return type(self), (str(self.path), self._mode, self._match)

    def __repr__(self) -> str:
        return f"Cassette({str(self.path)!r}, mode={self._mode!r}, match={self._match!r})"


def _close(tape: Tape, lock: threading.Lock) -> None:
    with lock:
        tape.close()


def _check(name: str, given: str, known: tuple[str, ...]) -> None:
    if given not in known:
        raise UsageError(
            f"{name}={given!r} is none of a cassette's: {', '.join(map(repr, known))}. "
            "Give one of these."
        )
