"""One run under one schedule, told: as a text that can be typed again, and in words.

Floor 6.

The text names the deviations from FIFO only, so the least schedule has the shortest text; and it
means the same in every process, since a schedule is numbers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from llm_net.errors import UsageError
from llm_net.schedules import Option, Recorded, Schedule

__all__ = ["Trial", "deviations_in", "schedule_text"]

NAMED = 3
"""How many of the lanes that were passed over a sentence names."""

_PART = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?:(\d{1,9})", re.ASCII)


def schedule_text(deviations: Mapping[int, int]) -> str:
    """Deviations from FIFO in a line: at choice 3 the option 1, and at 7 to 9 the option 2.

    >>> from llm_net.trial import schedule_text
    >>> schedule_text({3: 1, 7: 2, 8: 2, 9: 2})
    '3:1 7-9:2'
    """
    parts: list[list[int]] = []
    for number, index in sorted(deviations.items()):
        if parts and parts[-1][1:] == [number - 1, index]:
            parts[-1][1] = number
        elif index:
            parts.append([number, number, index])
    return " ".join(
        f"{first}:{index}" if first == last else f"{first}-{last}:{index}"
        for first, last, index in parts
    )


def deviations_in(text: str) -> dict[int, int]:
    """The deviations that a text of `schedule_text` names.

    >>> from llm_net.trial import deviations_in
    >>> deviations_in("3:1 7-9:2")
    {3: 1, 7: 2, 8: 2, 9: 2}

    Raises:
        UsageError: If the text is of another form.
    """
    deviations: dict[int, int] = {}
    for part in text.split():
        match = _PART.fullmatch(part)
        first, last, index = match.groups() if match else ("1", "0", "0")
        numbers = range(int(first), int(last or first) + 1)
        if not numbers:
            msg = (
                f"{part!r} in the schedule {text!r} says nothing: write 'choice:option', as in "
                "'3:1 7-9:2', with spaces between; the empty text is FIFO."
            )
            raise UsageError(msg)
        deviations |= dict.fromkeys(numbers, int(index))
    return deviations


class Trial(Recorded):
    """The record of a run that is to be understood.

    Attributes:
        passed: For each deviation, the keys of the options up to the one that was taken: all but
            the last were passed over, the oldest first.
        error: What the program raised, if it did.
    """

    def __init__(self, schedule: Schedule) -> None:
        super().__init__(schedule)
        self.passed: dict[int, tuple[str, ...]] = {}
        self.error: BaseException | None = None

    def choose(self, options: Sequence[Option]) -> int:
        """What the schedule says."""
        index = super().choose(options)
        if index:
            keys = tuple(option.key for option in options[: index + 1])
            self.passed[len(self.choices) - 1] = keys
        return index

    def in_words(self) -> tuple[str, ...]:
        """Where this run was not FIFO; one sentence for each deviation, or row of equal ones."""
        rows: list[tuple[int, int, tuple[str, ...]]] = []
        for number, keys in self.passed.items():
            if rows and rows[-1][1:] == (number - 1, keys):
                rows[-1] = rows[-1][0], number, keys
            else:
                rows.append((number, number, keys))
        return tuple(_sentence(*row) for row in rows)


def _sentence(first: int, last: int, keys: tuple[str, ...]) -> str:
    where = f"at choice {first}" if first == last else f"at choices {first} to {last}"
    *passed, taken = keys
    named = " and ".join(passed[:NAMED])
    more = f" and {len(passed) - NAMED} more" if len(passed) > NAMED else ""
    return f"{where}: {taken} came before {named}{more}"
