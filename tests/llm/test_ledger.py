"""The ledger: sums that are right, however they are sorted; a table to read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_net.errors import UsageError
from llm_net.llm.estimate import Estimate, Price, estimate_request
from llm_net.llm.ledger import By, Ledger, Row
from llm_net.llm.model import Usage
from tests.llm.stepping import ask

entries = st.lists(
    st.tuples(
        st.sampled_from(["firm/ann:step", "firm/ann:bid", "firm/bob:step", "outside", ""]),
        st.sampled_from(["openai/m", "local/m"]),
        st.integers(0, 50),
        st.integers(0, 2),
    )
)


@given(entries, st.sets(st.sampled_from(["agent", "method", "model"])))
def test_every_way_of_sorting_has_the_same_totals(
    calls: list[tuple[str, str, int, int]], by: set[By]
) -> None:
    ledger = Ledger()
    for place, model, tokens, errors in calls:
        ledger.enter(
            place, model, Usage(prompt_tokens=tokens), errors=errors, usd=0.5, latency=tokens / 64
        )
    rows = ledger.table(sorted(by))
    total = ledger.totals()
    assert total.calls == len(calls) == sum(row.calls for row in rows)
    assert total.errors == sum(row.errors for row in rows)
    assert total.usage.prompt_tokens == sum(n for *_, n, _ in calls)
    assert total.usd == sum(row.usd for row in rows) == len(calls) / 2
    assert total.max_latency == max((row.max_latency for row in rows), default=0)
    names = [(row.agent, row.method, row.model) for row in rows]
    assert len(names) == len(set(names)) <= 10


def test_a_place_is_a_path_and_a_method() -> None:
    ledger = Ledger()
    ledger.enter("firm/ann:step", "m")
    ledger.enter("a:b:c", "m")
    ledger.enter("script", "m")
    assert [(r.agent, r.method) for r in ledger.table()] == [
        ("firm/ann", "step"),
        ("a:b", "c"),
        ("script", ""),
    ]


def test_it_reads_as_a_table() -> None:
    ledger = Ledger()
    usage = Usage(prompt_tokens=120, completion_tokens=30, cached_tokens=20)
    ledger.enter("firm/ann:step", "m", usage, retries=2, usd=0.0125, latency=0.25)
    ledger.enter("firm/ann:step", "m", latency=0.75, errors=1)
    assert str(ledger) == (
        "agent     method  calls  errors  retries  read  cached  written     usd  mean s  max s\n"
        "firm/ann  step        2       1        2   120      20       30  0.0125   0.500  0.750\n"
        "total                 2       1        2   120      20       30  0.0125   0.500  0.750"
    )


def test_an_empty_ledger_has_empty_totals() -> None:
    assert Ledger().totals() == Row()
    assert Ledger().table() == []
    assert "total" in str(Ledger())


@pytest.mark.parametrize("by", ["agent", ["agents"], ["agent", "path"]])
def test_what_calls_are_sorted_by_must_be_known(by: list[str]) -> None:
    with pytest.raises(UsageError, match="agent, method, model"):
        Ledger().table(by)  # type: ignore[arg-type]


def test_a_probe_tells_what_the_whole_will_take() -> None:
    ledger = Ledger()
    for _ in range(3):
        usage = Usage(prompt_tokens=10, completion_tokens=5)
        ledger.enter("firm/ann:step", "m", usage, usd=0.25, latency=0.5)
    whole = Estimate.from_ledger(ledger, 100)
    assert whole == Estimate(calls=300, tokens=4_500, usd=75.0, seconds=150.0)
    assert Estimate.from_ledger(ledger, 0.5).calls == 2  # a call is never half made


def test_a_request_s_estimate_is_what_it_takes_at_most() -> None:
    estimate = estimate_request(ask("hello", max_tokens=100), Price(1e-6, 1e-5))
    assert estimate.tokens == 100 + len("hello") + len("user") + 2 * 16
    assert estimate.usd == pytest.approx(1e-5 * 100 + 1e-6 * (estimate.tokens - 100))
    assert estimate_request(ask("hello"), None).usd is None
