"""How far a run of a model is: steps, model calls, what they cost, time left; shown while it runs.

Bridge, floor 1. Figures of calls are those of the model's `budget`, the one account that knows what
is under way and what is paid; without one nobody knows them, and none are shown. Nothing here is
made, imported or asked for unless a run shows its progress.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

from llm_net.llm.budget import Budget

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Meter", "Progress", "Showing", "budget_of", "showing"]

_REFRESH_S = 0.25
"""Seconds between two readings of the line."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run is.

    The figures of model calls are those of the model's `budget` over its whole life, and None if
    the model has none. A `Budget()` without limits will do.

    Attributes:
        steps: Steps that are done.
        wanted: Steps that the run will have.
        calls: Model calls that are over.
        in_flight: Model calls under way.
        tokens: Tokens that were read and written.
        usd: US dollars spent, as far as prices are known.
        elapsed_s: Seconds since the run began.
        left_s: Seconds until its end, if further steps take as long as those so far; None before
            the first is done.
    """

    steps: int
    wanted: int
    calls: int | None
    in_flight: int | None
    tokens: int | None
    usd: float | None
    elapsed_s: float
    left_s: float | None

    def __str__(self) -> str:
        """As a line."""
        parts = [f"step {self.steps}/{self.wanted}"]
        if self.calls is not None:
            parts.append(f"{self.calls:,} calls, {self.in_flight:,} under way")
            parts.append(f"{self.tokens:,} tokens, ${self.usd:,.4f}")
        if self.left_s:
            parts.append(f"{_clock(self.left_s)} left")
        else:
            parts.append(f"{_clock(self.elapsed_s)} gone")
        return ", ".join(parts)


Showing: TypeAlias = bool | Callable[[Progress], object]
"""How progress is shown: not, as a line on the standard error, or by a function."""


class Meter:
    """Reads how far a run is, at any moment and from any thread.

    Args:
        model: The model.
        wanted: How many steps the run will have.
        clock: Seconds that never go back.

    Attributes:
        steps: Steps that are done; whoever steps counts here.
    """

    def __init__(
        self, model: Any, wanted: int, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.steps = 0
        self._model = model
        self._wanted = wanted
        self._clock = clock
        self._begun = clock()

    def now(self) -> Progress:
        """How far it is."""
        budget = budget_of(self._model)
        standing = None if budget is None else budget.statistics()
        elapsed = self._clock() - self._begun
        steps = self.steps
        return Progress(
            steps=steps,
            wanted=self._wanted,
            calls=None if standing is None else standing.spent.calls,
            in_flight=None if standing is None else standing.reserved.calls,
            tokens=None if standing is None else standing.spent.tokens,
            usd=None if standing is None else standing.spent.usd,
            elapsed_s=elapsed,
            left_s=elapsed / steps * (self._wanted - steps) if steps else None,
        )


def budget_of(model: Any) -> Budget | None:
    """The model's `budget`, if that is one for model calls: models of households have others."""
    found = getattr(model, "budget", None)
    return found if isinstance(found, Budget) else None


@contextlib.contextmanager
def showing(meter: Meter, progress: Showing) -> Generator[Callable[[], object]]:
    """Show how far a run is, for as long as the block lasts; gives what to call after a step."""
    if callable(progress):
        tell = progress
        yield lambda: tell(meter.now())
    elif progress:
        from rich.console import Console  # noqa: PLC0415 - slow, and only here

        with line(meter, Console(stderr=True)) as refresh:
            yield refresh
    else:
        yield _nothing


@contextlib.contextmanager
def line(meter: Meter, console: Console) -> Generator[Callable[[], object]]:
    """A bar and a line, read anew some times a second; gives what reads it at once.

    Where the console is no terminal (a log), there is the last state only, at the end.
    """
    from rich.live import Live  # noqa: PLC0415 - slow, and only here
    from rich.progress_bar import ProgressBar  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    def drawn() -> Table:
        now = meter.now()
        row = Table.grid(padding=(0, 1), expand=True)
        row.add_column()
        row.add_column(ratio=1)  # the bar has what the figures leave
        row.add_row(Text(str(now)), ProgressBar(now.wanted, now.steps))
        return row

    over = threading.Event()
    with Live(get_renderable=drawn, console=console, auto_refresh=False) as live:

        def again() -> None:
            while not over.wait(_REFRESH_S):
                live.refresh()

        # A step may take minutes, so it is read beside it. Rich would do this, too, but not wait
        # for the end of its thread.
        thread = threading.Thread(target=again, name="mesa_bridge progress", daemon=True)
        thread.start()
        try:
            yield live.refresh
        finally:
            over.set()
            thread.join()


def _nothing() -> None:
    """There is nothing to show."""


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
