"""What matters now: importance, recency and relevance; by rule, by model, by meaning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_net.errors import ModelCallError, ModelSetupError
from llm_net.llm import weights
from llm_net.llm.module_llm import ModuleLLM
from llm_net.memory import relevance
from llm_net.memory.entry import MemoryEntry
from llm_net.memory.episodic import LATEST, EpisodicMemory, importance
from llm_net.memory.relevance import by_best_means, by_words
from tests.memory.happenings import alive, live, said

FAILED = {"name": "pay", "response": "Error: there is no money left."}


def lived(memory: EpisodicMemory, *events: Any) -> EpisodicMemory:
    """One event a step."""
    for event in events:
        memory.add_to_memory(*event)
        memory.process_step()
    return memory


def by_wish(query: str, texts: Sequence[str]) -> list[float]:
    """Relevant is what holds the question."""
    return [float(query in text) for text in texts]


@pytest.mark.parametrize(
    ("events", "grade"),
    [
        ([("observation", {"light": "red"})], 1),
        ([("action", {"name": "move", "response": "moved"})], 2),
        ([("weather", "rain")], 2),
        ([("message", said(1))], 3),
        ([("action", FAILED)], 4),
        ([("observation", {}), ("action", FAILED), ("message", said(1))], 4),
    ],
)
def test_by_rule_an_entry_is_as_important_as_its_most_important_event(
    events: list[Any], grade: int
) -> None:
    memory = EpisodicMemory()
    live(memory, events)
    assert [entry.importance for entry in memory.memory_entries] == [grade]


def test_the_highest_score_comes_first_by_importance_recency_and_relevance() -> None:
    events = [("message", said(0)), ("plan", "bread"), ("plan", "wine"), ("plan", "salt")]
    memory = lived(EpisodicMemory(relevance=by_wish, recency_decay=0.99), *events)

    def first(query: str | None = None) -> str:
        return str(memory.retrieve_top_k_entries(1, query)[0].content)

    assert "m0." in first()  # the most important
    assert "bread" in first("bread")  # the most relevant
    memory.recency_decay = 0.5
    assert "salt" in first()  # the latest
    assert [len(memory.retrieve_top_k_entries(k)) for k in (-1, 0, 3, 9)] == [0, 0, 3, 4]


def test_what_is_told_has_to_do_with_what_is_thought_of() -> None:
    events = [("plan", f"word{i}") for i in range(20)]
    memory = lived(EpisodicMemory(considered_entries=2, relevance=by_wish), *events)
    memory.focus("word3")
    assert "word3" in memory.format_long_term()
    memory.focus("word4")
    long_ago = memory.format_long_term()
    assert "word4" in long_ago
    assert "word3" not in long_ago
    assert long_ago.count("Step") == 2
    latest = memory.format_short_term()
    assert latest.count("Step") == LATEST
    assert latest.splitlines()[-1].endswith("word19")


@given(
    st.lists(st.sampled_from(["observation", "message", "plan"]), max_size=30), st.integers(1, 9)
)
def test_the_lowest_scores_are_forgotten(kinds: list[str], capacity: int) -> None:
    """With no decay, what is kept is as important as can be."""
    memory = EpisodicMemory(max_capacity=capacity, recency_decay=1)
    lived(memory, *[(kind, kind) for kind in kinds])
    kept = [entry.importance or 0 for entry in memory.memory_entries]
    every = sorted((importance(MemoryEntry({kind: kind})) for kind in kinds), reverse=True)
    assert sorted(kept, reverse=True) == every[:capacity]
    assert memory.dropped == len(kinds) - len(kept)


@pytest.mark.parametrize("go", [live, alive])
def test_a_model_grades_once_a_step_whatever_happened_in_it(go: Any) -> None:
    llm = ModuleLLM("scripted", replies=[{"importance": 5}, ModelCallError("down")])
    memory = EpisodicMemory(llm_model=llm)
    go(memory, [("message", said(1)), ("message", said(2)), ("observation", "rain")])
    go(memory, [("message", said(3))])
    assert [entry.importance for entry in memory.memory_entries] == [5, 3]
    assert (memory.calls, memory.failed_calls) == (2, 1)
    assert all(part in llm.calls[0].prompt for part in ("m1.", "m2.", "rain"))


def test_a_grade_that_makes_no_sense_is_not_taken() -> None:
    llm = ModuleLLM("scripted", replies=[{"importance": 9}, {"importance": 0}])
    memory = EpisodicMemory(llm_model=llm)
    live(memory, [("message", said(1))])
    assert [entry.importance for entry in memory.memory_entries] == [3]
    assert memory.failed_calls == 1


def test_shared_words_make_relevant() -> None:
    assert by_words("The price of BREAD", ["bread price", "wine", "", "the price of bread"]) == [
        pytest.approx(0.7071, abs=1e-4),
        0,
        0,
        pytest.approx(1),
    ]
    assert by_words("?!", ["bread"]) == [0]


def test_without_the_embedding_model_words_stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(query: str, texts: Sequence[str]) -> list[float]:
        raise ModelSetupError("not here")

    monkeypatch.setattr(relevance, "by_meaning", missing)
    assert by_best_means("bread", ["bread", "wine"]) == [1, 0]


@pytest.mark.real_llm
def test_with_it_meaning_finds_what_shares_no_word() -> None:
    weights.fetch(weights.MINILM)
    notes = ["The baker raised what a loaf costs.", "The cat slept.", "It rained all day."]
    events = [("message", {"message": note, "sender": "bob"}) for note in notes]
    memory = lived(EpisodicMemory(), *events)
    found = memory.retrieve_top_k_entries(1, "How expensive is bread now?")
    assert "loaf" in str(found[0])
