"""Every schedule of a program, one after the other: stateless model checking.

Floor 6. Knows schedules, and no runtime.

The enumeration keeps no state of the program. It remembers the path of choices that the last run
took, changes the last of them that has an option left, runs the program from its beginning along
the path up to there, and first come, first served from there on: a depth-first search.

The invariant: each run takes a path that none before it took; and when there is no other, the
enumeration is complete, and only then.

Where the program promises that agents share nothing but messages, sleep sets leave out what only
changes the order of independent steps. An option whose every continuation was seen sleeps in the
branches beside it, until a step of the same receiver wakes it. At least one schedule of each class
of equivalent ones is left (Mazurkiewicz traces: those with the same steps of each receiver in the
same order).

Sources:
    P. Godefroid: Model checking for programming languages using VeriSoft (POPL 1997).
    P. Godefroid: Partial-order methods for the verification of concurrent systems (1996), on sleep
    sets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from llm_net.errors import UsageError
from llm_net.schedules import Option, Schedule

__all__ = ["Exhaustive"]


class Exhaustive:
    """An iterable of schedules, each of which is to serve one run before the next is taken.

    ```python
    from dataclasses import dataclass
    from llm_net.exhaustive import Exhaustive

    @dataclass(frozen=True)
    class Card:
        key: str
        receiver: str = "table"

    orders = []
    for schedule in Exhaustive():
        hand = [Card("ace"), Card("king"), Card("queen")]
        played = []
        while len(hand) > 1:
            played.append(hand.pop(schedule.choose(hand)).key)
        orders.append([*played, hand[0].key])
    assert len(orders) == 6
    ```

    Attributes:
        complete: Whether every schedule was given.

    Args:
        commuting: The promise that agents share nothing but messages: that handlers of different
            agents lead to the same state in either order. Then not every schedule is given, but
            at least one of each class of those that differ in such orders only. A log or a bounded
            mailbox that several agents write to breaks the promise, and so does a run that ends
            while messages still wait.

    Raises:
        UsageError: From the iteration, if the program came to other options along the same path.
    """

    def __init__(self, *, commuting: bool = False) -> None:
        self.complete = False
        self._commuting = commuting

    def __iter__(self) -> Iterator[Schedule]:
        """Give the schedules, FIFO first."""
        path: list[_Choice] = []
        self.complete = False
        while True:
            walk = _Walk(path)
            yield walk
            walk.check()
            while path and not path[-1].turn(commuting=self._commuting):
                path.pop()
            if not path:
                self.complete = True
                return


@dataclass(slots=True)
class _Choice:
    """A choice on the path of the last run.

    Attributes:
        names: What names the options, each once.
        receivers: Theirs.
        asleep: The names of options whose every continuation was seen elsewhere, with receivers.
        index: The option that the path takes.
    """

    names: list[str]
    receivers: list[str]
    asleep: dict[str, str]
    index: int = -1

    def awake(self) -> bool:
        """Go on to the next option that is not asleep; whether there is one."""
        for index in range(self.index + 1, len(self.names)):
            if self.names[index] not in self.asleep:
                self.index = index
                return True
        return False

    def turn(self, *, commuting: bool) -> bool:
        """All runs through this option were made: go on to the next; whether there is one."""
        if commuting:
            self.asleep[self.names[self.index]] = self.receivers[self.index]
        return self.awake()

    def left_asleep(self, names: Sequence[str]) -> dict[str, str]:
        """What still sleeps after this choice's option, of those that are options now.

        A step that was no choice in between changes nothing: while anything sleeps it is enabled,
        so the one option there was slept itself, and the whole branch was seen.
        """
        receiver = self.receivers[self.index]
        return {
            name: other
            for name, other in self.asleep.items()
            if other != receiver and name in names
        }


class _Walk:
    """The schedule of one run: along the path, and FIFO among the awake after its end."""

    def __init__(self, path: list[_Choice]) -> None:
        self._path = path
        self._known = len(path)
        self._number = 0
        self._over = False
        self._astray = ""

    def choose(self, options: Sequence[Option]) -> int:
        """What the path says."""
        if self._over:
            return 0
        number, path = self._number, self._path
        self._number += 1
        names = _names(options)
        if number < self._known:
            choice = path[number]
            if choice.names == names:
                return choice.index
            self._astray = f"choice {number} was between {choice.names} before, and {names} now"
        else:
            asleep = path[-1].left_asleep(names) if path else {}
            choice = _Choice(names, [option.receiver for option in options], asleep)
            if choice.awake():
                path.append(choice)
                return choice.index
        # Nothing below is new: what was seen elsewhere, or another program than the one we know.
        self._over = True
        return 0

    def check(self) -> None:
        """See that the run took its path.

        Raises:
            UsageError: If it did not.
        """
        if not self._astray and self._number < self._known:
            self._astray = f"it had {self._known} choices at least before, and {self._number} now"
        if self._astray:
            msg = (
                "The same schedule led the program somewhere else: "
                f"{self._astray}. So something beside the schedule decides, and no enumeration is "
                "complete. Look for real time, threads, unseeded random numbers, the order of a "
                "set, and state that one run leaves to the next."
            )
            raise UsageError(msg)


def _names(options: Sequence[Option]) -> list[str]:
    """The keys; should two be equal, they are told apart by their order."""
    names = [option.key for option in options]
    if len(dict.fromkeys(names)) < len(names):
        return [f"{name}#{names[:place].count(name)}" for place, name in enumerate(names)]
    return names
