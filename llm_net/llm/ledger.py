"""Who spent what: calls, tokens, dollars and waiting, by agent, method and model.

Model tower, floor 1. Invariant: a ledger grows with the number of different rows, never with the
number of calls.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, TypeAlias

from llm_net.errors import UsageError
from llm_net.llm.model import Usage
from llm_net.llm.serial import Serial

__all__ = ["NOTE", "By", "Ledger", "Note", "Row", "note_retry"]

By: TypeAlias = Literal["agent", "method", "model"]
NO_USAGE = Usage()
_Entry: TypeAlias = tuple[int, int, int, Usage, float, float]
_KEYS: tuple[By, ...] = ("agent", "method", "model")


@dataclass(slots=True)
class Note:
    """What happens to a call below its budget, and is to be counted there.

    Attributes:
        retries: How often it was made once more.
    """

    retries: int = 0


NOTE: ContextVar[Note | None] = ContextVar("llm_net_note", default=None)


def note_retry() -> None:
    """The call under way is made once more."""
    note = NOTE.get()
    if note is not None:
        note.retries += 1


@dataclass(frozen=True, kw_only=True)
class Row:
    """What the calls of one kind took.

    Attributes:
        agent: Path of the agent that called; empty for calls from outside, or if summed over.
        method: Method of the message that it handled; empty likewise.
        model: Who answered, or was asked in vain; empty if summed over.
        calls: Calls that were made, those that failed included. Retries do not count.
        errors: Those of them that gave no answer.
        retries: How often a call was made once more.
        usage: Tokens.
        usd: US dollars, as far as prices are known.
        latency: Seconds from asking to the answer, of all calls together.
        max_latency: Seconds of the slowest.
    """

    agent: str = ""
    method: str = ""
    model: str = ""
    calls: int = 0
    errors: int = 0
    retries: int = 0
    usage: Usage = field(default_factory=Usage)
    usd: float = 0.0
    latency: float = 0.0
    max_latency: float = 0.0

    @property
    def mean_latency(self) -> float:
        """Seconds of a call; 0 without calls."""
        return self.latency / self.calls if self.calls else 0.0


class _Sums:
    """The figures of a row, to be added to: a frozen row for each call would cost as much as it."""

    __slots__ = (
        *("cached", "calls", "errors", "latency", "max_latency", "read", "retries", "usd"),
        "written",
    )

    def __init__(self) -> None:
        self.calls = self.errors = self.retries = 0
        self.read = self.written = self.cached = 0
        self.usd = self.latency = self.max_latency = 0.0

    def enter(self, entry: _Entry) -> None:
        calls, errors, retries, usage, usd, latency = entry
        self.calls += calls
        self.errors += errors
        self.retries += retries
        self.read += usage.prompt_tokens
        self.written += usage.completion_tokens
        self.cached += usage.cached_tokens
        self.usd += usd
        self.latency += latency
        self.max_latency = max(self.max_latency, latency)

    def add(self, other: _Sums) -> None:
        self.calls += other.calls
        self.errors += other.errors
        self.retries += other.retries
        self.read += other.read
        self.written += other.written
        self.cached += other.cached
        self.usd += other.usd
        self.latency += other.latency
        self.max_latency = max(self.max_latency, other.max_latency)

    def row(self, agent: str = "", method: str = "", model: str = "") -> Row:
        return Row(
            agent=agent,
            method=method,
            model=model,
            calls=self.calls,
            errors=self.errors,
            retries=self.retries,
            usage=Usage(
                prompt_tokens=self.read,
                completion_tokens=self.written,
                cached_tokens=self.cached,
            ),
            usd=self.usd,
            latency=self.latency,
            max_latency=self.max_latency,
        )


class Ledger:
    """The book in which calls are entered; any thread may."""

    def __init__(self) -> None:
        self._sums: defaultdict[tuple[str, str, str], _Sums] = defaultdict(_Sums)
        self._serial = Serial()

    def enter(
        self,
        place: str,
        model: str,
        usage: Usage = NO_USAGE,
        *,
        calls: int = 1,
        errors: int = 0,
        retries: int = 0,
        usd: float = 0.0,
        latency: float = 0.0,
    ) -> None:
        """Add a call's figures to those of its kind.

        Args:
            place: Who called: an agent's path, a colon, and the method; or anything without one.
            model: Who answered, or was asked in vain.
            usage: Tokens.
            calls: How many calls it was; none, if nothing was sent after all.
            errors: How many gave no answer.
            retries: How often it was made once more.
            usd: US dollars.
            latency: Seconds from asking to the answer.
        """
        agent, colon, method = place.rpartition(":")
        key = (agent, method, model) if colon else (place, "", model)
        entry = (calls, errors, retries, usage, usd, latency)
        self._serial.soon(partial(self._enter, key, entry))

    def _enter(self, key: tuple[str, str, str], entry: _Entry) -> None:
        self._sums[key].enter(entry)

    def table(self, by: Sequence[By] = ("agent", "method")) -> list[Row]:
        """The rows, summed over what is not asked for, in the order of their first calls.

        Raises:
            UsageError: If there is nothing of that name to sort calls by.
        """
        strangers = [name for name in by if name not in _KEYS]
        if isinstance(by, str) or strangers:
            raise UsageError(
                f"by={by!r}: calls are sorted by {', '.join(_KEYS)}. Give some of these, as in "
                "by=('agent', 'method')."
            )
        chosen = [_KEYS.index(name) for name in by]
        table: defaultdict[tuple[str, ...], _Sums] = defaultdict(_Sums)
        with self._serial:
            for key, sums in self._sums.items():
                table[tuple(key[index] for index in chosen)].add(sums)
        return [sums.row(**dict(zip(by, key, strict=True))) for key, sums in table.items()]

    def totals(self) -> Row:
        """All calls in one row."""
        return next(iter(self.table(())), Row())

    def __str__(self) -> str:
        """A table of text: by agent and method, and a line of totals."""
        lines = [(row.agent or "-", row.method or "-", row) for row in self.table()]
        cells = [_TITLES, *((*names, *_figures(row)) for *names, row in lines)]
        cells.append(("total", "", *_figures(self.totals())))
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        return "\n".join(
            "  ".join(
                cell.ljust(width) if column < _TEXTS else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in cells
        )


_TEXTS = 2
_TITLES = (
    *("agent", "method", "calls", "errors", "retries"),
    *("read", "cached", "written", "usd", "mean s", "max s"),
)


def _figures(row: Row) -> tuple[str, ...]:
    usage = row.usage
    counts = (row.calls, row.errors, row.retries)
    tokens = (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens)
    return (
        *map(str, counts),
        *map(str, tokens),
        f"{row.usd:.4f}",
        f"{row.mean_latency:.3f}",
        f"{row.max_latency:.3f}",
    )
