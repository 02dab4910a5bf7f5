# ruff: noqa: E501, RUF001 - a table reads best as one, and its sign for "times" is no x
"""What the table of `run.py` shows, and what is to be reached."""

from __future__ import annotations

from dataclasses import dataclass

TIMES = "×"


@dataclass(frozen=True)
class Goal:
    """A bound for our figure, or for its ratio to a peer's.

    Attributes:
        bound: What is to be reached.
        most: Whether the bound is an upper one.
        peer: Whose figure ours is divided by; None bounds our figure itself.
    """

    bound: float
    most: bool
    peer: str | None

    def met(self, figure: float) -> bool:
        """Whether this figure, or ratio, reaches it."""
        return figure <= self.bound if self.most else figure >= self.bound


def least(bound: float, peer: str | None = "pykka") -> Goal:
    """A lower bound."""
    return Goal(bound, most=False, peer=peer)


def most(bound: float, peer: str | None = "pykka") -> Goal:
    """An upper bound."""
    return Goal(bound, most=True, peer=peer)


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        workload: Which workload has it.
        key: What our script calls the figure.
        unit: In what it is counted.
        text: What it is.
        goals: What is to be reached.
        theirs: What the peers' scripts call it; default: as ours.
    """

    workload: str
    key: str
    unit: str
    text: str
    goals: tuple[Goal, ...] = ()
    theirs: str = ""


ROWS = (
    Row("W1", "hops_s_1", "hops/s", "one token round 100 agents, a text emitted", (least(6), least(20, "autogen"))),
    Row("W1", "hops_s_1_async", "hops/s", "… async handlers", (least(5),), "hops_s_1"),
    Row("W1", "hops_s_1_built", "hops/s", "one token, a `Message` built in the handler", (least(5),), "hops_s_1"),
    Row("W1", "hops_s_1_async_built", "hops/s", "… async handlers", (least(4),), "hops_s_1"),
    Row("W1", "hops_s_100", "hops/s", "100 tokens, a text emitted"),
    Row("W1", "hops_s_100_async", "hops/s", "… async handlers", (), "hops_s_100"),
    Row("W1", "hops_s_100_built", "hops/s", "100 tokens, a `Message` built", (), "hops_s_100"),
    Row("W1", "hops_s_100_async_built", "hops/s", "… async handlers", (), "hops_s_100"),
    Row("W2", "deliveries_s", "deliveries/s", "one emit to 1,000 listeners", (least(30),)),
    Row("W2", "deliveries_s_async", "deliveries/s", "… async handlers", (least(12),), "deliveries_s"),
    Row("W3", "p50_us", "µs", "an ask, inline host, median", (most(0.25),)),
    Row("W3", "loop_p50_us", "µs", "… inside a running loop", (most(0.25),), "p50_us"),
    Row("W3", "pinned_p50_us", "µs", "… from a foreign thread, each on one core", (most(1),), "p50_us"),
    Row("W3", "free_p50_us", "µs", "… from a foreign thread, on all cores"),
    Row("W4", "us_per_agent", "µs", "one of 10,000 agents that are started", (most(20, None),)),
    Row("W4", "kb_per_agent", "kB", "… its memory", (most(4, None),)),
    Row("W4", "member_us_per_agent", "µs", "one of 10,000 members of a network, built and started", (), "us_per_agent"),
    Row("W4", "member_kb_per_agent", "kB", "… its memory, with its share of the network's", (), "kb_per_agent"),
    Row("W5", "x_ideal", "× ideal", "1,000 async handlers that wait 50 ms at once", (most(1.15, None),)),
    Row("W5", "first_x_ideal", "× ideal", "… the first time (Pykka: with the start of threads)"),
    Row("W6", "hops_s_1", "hops/s", "sync handlers on threads: one token round 100 agents", (least(0.8),)),
    Row("W6", "hops_s_100", "hops/s", "… 100 tokens", (least(0.8),)),
    Row("W6", "deliveries_s", "deliveries/s", "… one emit to 1,000 listeners", (least(0.8),)),
    Row("W6", "blocked_s", "deliveries/s", "… to 100 that block for 1 ms", (least(0.8),)),
    Row("W6", "x_ideal", "× ideal", "… 1,000 that block for 50 ms at once", (most(2, None),)),
    Row("W6", "first_x_ideal", "× ideal", "… the first time, with the start of threads"),
    Row("W7", "ask_us_1", "µs", "an ask to an agent in one network, median"),
    Row("W7", "ask_us_8", "µs", "… in 8, nested"),
    Row("W7", "ask_us_64", "µs", "… in 64, nested"),
    Row("W7", "deep_ask", "×", "… the time in 64 to that in one", (most(1.3, None),)),
    Row("W7", "hops_s_1", "hops/s", "a token between two agents, each in one network"),
    Row("W7", "hops_s_64", "hops/s", "… each in 64, nested"),
    Row("W7", "deep_hop", "×", "… the time in 64 to that in one", (most(1.3, None),)),
    Row("W8", "steps_s", "steps/s", "deterministic scheduler, a token round 10 agents", (least(100_000, None),)),
    Row("W8", "steps_s_async", "steps/s", "… async handlers", (least(100_000, None),)),
)  # fmt: skip
