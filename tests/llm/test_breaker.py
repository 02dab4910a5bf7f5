"""The circuit breaker, beside an obvious model of one."""

from __future__ import annotations

import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from llm_net.errors import CircuitOpen, UsageError
from llm_net.llm.breaker import Breaker, Circuit


class CircuitMachine(RuleBasedStateMachine):
    """A circuit, and what its calls' ends should have made of it."""

    @initialize(failures=st.integers(1, 3))
    def close(self, failures: int) -> None:
        self.failures = failures
        self.now = 0.0
        breaker = Breaker(failures=failures, cool_down_s=10)
        self.circuit = Circuit(breaker, name="there", clock=lambda: self.now)
        self.state = "closed"
        self.row = 0
        self.until = 0.0
        self.calls: list[tuple[int, bool]] = []
        """Calls under way, and whether their end counts."""

    @rule(seconds=st.sampled_from([0.0, 1.0, 5.0, 10.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def call(self) -> None:
        if self.state == "closed":
            self.calls.append((self.circuit.enter(), True))
        elif self.now >= self.until:  # the probe
            self.calls = [(era, False) for era, _ in self.calls]
            self.calls.append((self.circuit.enter(), True))
            self.state, self.until = "probing", self.now + 10
        else:
            with pytest.raises(CircuitOpen) as caught:
                self.circuit.enter()
            assert caught.value.retry_after == self.until - self.now

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), well=st.sampled_from([True, False, None]))
    def end(self, data: st.DataObject, well: bool | None) -> None:  # noqa: FBT001
        era, counts = self.calls.pop(data.draw(st.integers(0, len(self.calls) - 1)))
        self.circuit.leave(era, well=well)
        if not counts:
            return
        if well:
            self.state, self.row = "closed", 0
        elif well is None:
            if self.state == "probing":
                self.until = self.now
        else:
            self.row += 1
            if self.state == "probing" or self.row >= self.failures:
                self.state, self.until = "open", self.now + 10
                self.calls = [(era, False) for era, _ in self.calls]


TestCircuitMachine = CircuitMachine.TestCase
TestCircuitMachine.settings = settings(max_examples=100, deadline=None)


def test_the_refusal_says_who_and_how_long() -> None:
    circuit = Circuit(Breaker(failures=2, cool_down_s=30), name="openai/m", clock=lambda: 7.0)
    for _ in range(2):
        circuit.leave(circuit.enter(), well=False)
    with pytest.raises(CircuitOpen, match=r"openai/m was not asked.*last 2 calls.*30 s"):
        circuit.enter()


@pytest.mark.parametrize("failures", [0, -1, 1.5, True, None])
def test_a_breaker_needs_a_count_of_failures(failures: int) -> None:
    with pytest.raises(UsageError, match="failures="):
        Breaker(failures=failures)


@pytest.mark.parametrize("seconds", [0, -1, math.nan, math.inf, True, "1"])
def test_a_breaker_needs_a_cool_down(seconds: float) -> None:
    with pytest.raises(UsageError, match="cool_down_s="):
        Breaker(cool_down_s=seconds)
