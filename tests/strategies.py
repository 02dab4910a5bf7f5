"""Hypothesis strategies: random nests of networks, and programs that change them.

They give plain descriptions, which a test builds networks from, and a model beside them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from hypothesis import strategies as st

__all__ = [
    "EVENTS",
    "METHODS",
    "AgentSpec",
    "Change",
    "EdgeSpec",
    "Emit",
    "NetSpec",
    "Send",
    "Sieve",
    "changes",
    "networks",
    "programs",
]

EVENTS = ["news", "price", "response"]
METHODS = ["step", "news", "note", "ghost", "model_dump", "_secret", "helper"]
"""Of these, agents have handlers for `step` and `news`, networks of some kinds for `note`."""

Sieve = Literal["all", "none", "even", "step only"]
SIEVES: list[Sieve] = ["all", "all", "all", "none", "even", "step only"]


@dataclass(frozen=True)
class Emit:
    """An agent emits: along edges of the event, a message with this method."""

    event: str
    method: str


@dataclass(frozen=True)
class Send:
    """An agent sends to a path, as text."""

    to: str
    method: str


@dataclass
class EdgeSpec:
    u: str
    event: str
    v: str
    sieve: Sieve = "all"


@dataclass
class AgentSpec:
    """An agent, and what it does with every message that still has hops to go."""

    name: str
    acts: list[Emit | Send] = field(default_factory=list)
    answers: bool = False


@dataclass
class NetSpec:
    """A network; `own` says whether its class has a handler for the method `note`."""

    name: str
    members: list[AgentSpec | NetSpec] = field(default_factory=list)
    edges: list[EdgeSpec] = field(default_factory=list)
    entry: list[str] = field(default_factory=list)
    expose: set[str] = field(default_factory=set)
    own: bool = False
    acts: list[Emit | Send] = field(default_factory=list)


NAMES = ["a", "b", "c", "d"]
PATHS = ["a", "b", "c", "a/b", "b/a", "root", "root/a", "root/b/a", "ghost", "a/ghost", "..", "a b"]

emits = st.builds(Emit, st.sampled_from(EVENTS), st.sampled_from(METHODS))
sends = st.builds(Send, st.sampled_from(PATHS), st.sampled_from(METHODS))


@st.composite
def networks(draw: st.DrawFn, *, name: str = "root", depth: int = 4) -> NetSpec:
    """A network with parallel edges, self-loops, cycles, filters, entries and borders.

    Args:
        draw: Given by hypothesis.
        name: The network's name.
        depth: How many networks may stand in each other, this one included.
    """
    names = NAMES[: draw(st.integers(1, 3))]
    members: list[AgentSpec | NetSpec] = []
    for member in names:
        if depth > 1 and draw(st.integers(0, 2)) == 2:
            members.append(draw(networks(name=member, depth=depth - 1)))
        else:
            acts = draw(st.lists(emits | sends, min_size=1, max_size=3))
            members.append(AgentSpec(member, acts, draw(st.booleans())))
    one = st.sampled_from(names)
    edges = draw(
        st.lists(
            st.builds(EdgeSpec, one, st.sampled_from(EVENTS), one, st.sampled_from(SIEVES)),
            min_size=2,
            max_size=6,
        )
    )
    own = draw(st.integers(0, 3)) == 3
    fewest = draw(st.sampled_from([1, 1, 1, 0]))
    return NetSpec(
        name,
        members,
        edges,
        draw(st.lists(one, unique=True, min_size=fewest, max_size=3)),
        draw(st.sets(st.sampled_from(EVENTS))),
        own,
        draw(st.lists(emits, max_size=1)) if own else [],
    )


@dataclass(frozen=True)
class Change:
    """One change of a network, by numbers that the test takes modulo what is there.

    Attributes:
        kind: What is done.
        where: By whom: from outside, or in a handler of some member.
        net: Which network of the nest.
        u: Which member; of `entry` and `expose`, how many.
        v: Which other member.
        event: The edge's event.
        sieve: The edge's filter.
    """

    kind: Literal["link", "unlink", "add", "remove", "entry", "expose", "emit", "start", "stop"]
    where: Literal["outside", "inside"]
    net: int
    u: int
    v: int
    event: str
    sieve: Sieve


KINDS = ["link", "link", "link", "unlink", "add", "add", "remove", "entry", "expose"]
numbers = st.integers(0, 11)


def changes() -> st.SearchStrategy[Change]:
    """One change, an emit, or a start or stop of the whole."""
    return st.builds(
        Change,
        st.sampled_from([*KINDS, "emit", "emit", "emit", "start", "stop"]),
        st.sampled_from(["outside", "inside"]),
        numbers,
        numbers,
        numbers,
        st.sampled_from(EVENTS),
        st.sampled_from(SIEVES),
    )


def programs(max_size: int = 25) -> st.SearchStrategy[list[Change]]:
    """A program of changes: before the start, while live, and from inside of handlers."""
    return st.lists(changes(), max_size=max_size)
