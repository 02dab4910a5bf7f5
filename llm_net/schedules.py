"""Which of several messages comes next: the decisions that a deterministic runtime leaves open.

Floor 1. Knows nothing of the runtime: an option is a name and the agent whose turn it would be.

A schedule is asked only where there is a choice, and answers with an index. Options stand in the
order in which they became enabled, so 0 is first come, first served everywhere: a schedule differs
from FIFO at its deviations, the choices that it answered with something else.

The invariant: an index is in range, and all that decides it is the schedule's own random source and
the options. The same seed over the same program gives the same choices, in every process.

A schedule counts the choices of one run. Make a new one for the next.

Sources:
    S. Burckhardt, P. Kothari, M. Musuvathi, S. Nagarakatte: A randomized scheduler with
    probabilistic guarantees of finding bugs (ASPLOS 2010).
    B. K. Ozkan, R. Majumdar, F. Niksic, M. T. Befrouei, G. Weissenbacher: Randomized testing of
    distributed systems with probabilistic guarantees (OOPSLA 2018).
    X. Yuan, J. Yang, R. Gu: Partial order aware concurrency sampling (CAV 2018).
    M. Emmi, S. Qadeer, Z. Rakamarić: Delay-bounded scheduling (POPL 2011).
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from llm_net.errors import UsageError

__all__ = [
    "PCT",
    "POS",
    "Delays",
    "FewDelays",
    "Fifo",
    "Option",
    "Random",
    "Recorded",
    "Replay",
    "Schedule",
]

PATIENCE = 10
"""PCT starves; after so many times the choices that it expected, it does so no longer."""

BITS = 32
"""Of a priority: so many that two are hardly ever equal. Where they are, the older goes first."""


class Option(Protocol):
    """What could come next: the head of a lane, a due timer, a handler to be resumed."""

    @property
    def key(self) -> str:
        """The name of its lane, equal in every run of the same program: `net/a>net/b`."""
        ...

    @property
    def receiver(self) -> str:
        """The path of the agent whose turn it would be.

        Options of different receivers commute: either order leads to the same state, as far as
        agents share nothing but messages.
        """
        ...


class Schedule(Protocol):
    """Decides what comes next, wherever more than one thing could."""

    def choose(self, options: Sequence[Option]) -> int:
        """The index of the option that comes next.

        Args:
            options: Two or more, the oldest first, each with a key of its own.
        """
        ...


class Fifo:
    """First come, first served."""

    def choose(self, options: Sequence[Option]) -> int:  # noqa: ARG002 - it is always there
        """The oldest."""
        return 0


class Random:
    """Every option alike: a random walk.

    Args:
        rng: Draws one small integer for each choice. Where hypothesis draws it
            (`st.randoms(use_true_random=False)`), it shrinks toward FIFO.
    """

    def __init__(self, rng: random.Random) -> None:
        self._below = rng.randrange

    def choose(self, options: Sequence[Option]) -> int:
        """Any."""
        return self._below(len(options))


class PCT:
    """Probabilistic concurrency testing: random priorities of lanes, and few changes of them.

    The option of the highest lane comes next. At each of `depth - 1` random choices, the lane that
    would have been next falls below all others. A bug that needs `depth` events in one order is
    found with a probability of 1 / (lanes * steps^(depth - 1)) at least. In the paper the lanes are
    threads; here each is a chain of messages, as in PCTCP, whose finer partition into chains a
    schedule cannot make, since it sees no causes.

    An agent that writes to itself for ever would keep the highest lane to itself. So, after ten
    times the expected choices, the rest is a random walk.

    Args:
        rng: Where priorities and changes are drawn.
        depth: How many events in one order the bug needs; 1 has no changes.
        steps: How many choices a run is expected to have.

    Raises:
        UsageError: If `depth` or `steps` is no number above 0.
    """

    def __init__(self, rng: random.Random, depth: int, steps: int) -> None:
        _above_zero(depth=depth, steps=steps)
        changes = rng.sample(range(steps), min(depth - 1, steps))
        # Below every first priority, and in random order, since the sample is.
        self._changes = {choice: -1 - number for number, choice in enumerate(changes)}
        self._priorities: dict[str, int] = {}
        self._rng = rng
        self._left = PATIENCE * steps
        self._number = 0

    def choose(self, options: Sequence[Option]) -> int:
        """The option of the highest lane, once the change of this choice is made, if there is one.

        The oldest of those that are equal.
        """
        number = self._number
        self._number += 1
        if number >= self._left:
            return self._rng.randrange(len(options))
        index = self._highest(options)
        change = self._changes.get(number)
        if change is None:
            return index
        self._priorities[options[index].key] = change
        return self._highest(options)

    def _highest(self, options: Sequence[Option]) -> int:
        priorities = self._priorities
        best, highest = 0, None
        for index, option in enumerate(options):
            priority = priorities.get(option.key)
            if priority is None:
                priority = priorities[option.key] = self._rng.getrandbits(BITS)
            if highest is None or priority > highest:
                best, highest = index, priority
        return best


class POS:
    """Partial order sampling: a random priority for each event, drawn anew where events race.

    The option of the highest event comes next, and the other events of its receiver, which raced
    with it, draw again. A step with one option is not seen: the lane's next event then bears the
    priority of the one before.

    Args:
        rng: Where priorities are drawn.
    """

    def __init__(self, rng: random.Random) -> None:
        self._priorities: dict[str, int] = {}
        self._draw = rng.getrandbits

    def choose(self, options: Sequence[Option]) -> int:
        """The highest; the oldest of those that are equal."""
        priorities = self._priorities
        best, highest = 0, -1
        for index, option in enumerate(options):
            priority = priorities.get(option.key)
            if priority is None:
                priority = priorities[option.key] = self._draw(BITS)
            if priority > highest:
                best, highest = index, priority
        receiver = options[best].receiver
        for option in options:
            if option.receiver == receiver:
                priorities.pop(option.key, None)
        return best


class FewDelays:
    """FIFO, but for a few delays: at random choices the oldest options wait, some for long.

    Delay bounding counts how often an event that was next is put off. Here each delay also lasts:
    over a number of choices, drawn evenly from the powers of two up to `steps`, as many of the
    oldest options are passed over.

    Args:
        rng: Where the delays are drawn.
        delays: How many, at most.
        steps: How many choices a run is expected to have.

    Raises:
        UsageError: If `delays` or `steps` is no number above 0.
    """

    def __init__(self, rng: random.Random, delays: int, steps: int) -> None:
        _above_zero(delays=delays, steps=steps)
        self._lengths = {
            rng.randrange(steps): 1 << rng.randrange(steps.bit_length()) for _ in range(delays)
        }
        self._rng = rng
        self._number = 0
        self._end = 0
        self._passed_over = 0

    def choose(self, options: Sequence[Option]) -> int:
        """The oldest; within a delay, the first that is not passed over."""
        number = self._number
        self._number += 1
        length = self._lengths.get(number)
        if length is not None:
            self._end = number + length
            self._passed_over = 1 + self._rng.randrange(len(options) - 1)
        return min(self._passed_over, len(options) - 1) if number < self._end else 0


class Delays:
    """FIFO, but for these choices: a schedule as a value.

    Args:
        deviations: The number of a choice, from 0, and the index of the option that it takes. An
            index beyond the options takes the last: where an earlier deviation was left out, a
            later one still takes something else than the oldest.

    Raises:
        UsageError: If a number or an index is below 0.
    """

    def __init__(self, deviations: Mapping[int, int]) -> None:
        for number, index in deviations.items():
            if number < 0 or index < 0:
                msg = (
                    f"No choice {number} can take the option {index}: both count from 0. Give "
                    "deviations as they were recorded."
                )
                raise UsageError(msg)
        self._deviations = dict(deviations)
        self._number = 0

    def choose(self, options: Sequence[Option]) -> int:
        """The oldest, or what stands in the deviations."""
        index = self._deviations.get(self._number, 0)
        self._number += 1
        return min(index, len(options) - 1)


class Replay(Delays):
    """A recorded list of choices again; after its end, FIFO.

    Args:
        choices: The indices, in order. One beyond the options takes the last.

    Raises:
        UsageError: If an index is below 0.
    """

    def __init__(self, choices: Iterable[int]) -> None:
        super().__init__(dict(enumerate(choices)))


class Recorded:
    """Asks another schedule, and remembers what it said.

    Attributes:
        choices: The indices so far.
        sizes: How many options there were, for each.

    Args:
        schedule: The one that decides.
    """

    def __init__(self, schedule: Schedule) -> None:
        self.choices: list[int] = []
        self.sizes: list[int] = []
        self._schedule = schedule

    def choose(self, options: Sequence[Option]) -> int:
        """What the schedule says.

        Raises:
            UsageError: If that is no index of an option.
        """
        index = self._schedule.choose(options)
        size = len(options)
        if not 0 <= index < size:
            msg = (
                f"{type(self._schedule).__name__}.choose gave {index!r} for {size} options at "
                f"choice {len(self.choices)}: it has to give an index from 0 to {size - 1}."
            )
            raise UsageError(msg)
        self.choices.append(index)
        self.sizes.append(size)
        return index

    @property
    def deviations(self) -> dict[int, int]:
        """The choices that were not FIFO: number and index."""
        return {number: index for number, index in enumerate(self.choices) if index}


def _above_zero(**numbers: int) -> None:
    for name, number in numbers.items():
        if not isinstance(number, int) or number < 1:
            msg = f"{name}={number!r} is no number above 0, and nothing can be drawn from it."
            raise UsageError(msg)
