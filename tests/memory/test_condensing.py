"""What is long ago: in lines by rule, or in a model's words; and never only in a model's hands."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_net.errors import ModelCallError, ModelSetupError, UnscriptedCall
from llm_net.llm.model import Request
from llm_net.llm.module_llm import ModuleLLM
from llm_net.memory.entry import MemoryEntry
from llm_net.memory.long_term import LongTermMemory
from llm_net.memory.memory import Memory
from llm_net.memory.short_long import STLTMemory
from llm_net.memory.summary import Summary
from tests.memory.happenings import BEGIN, END, live, said, told
from tests.waiting import DEADLINE_S


def steps(first: int, last: int) -> list[Any]:
    """A message a step, with the number of the step."""
    return [each for i in range(first, last + 1) for each in (BEGIN, ("message", said(i)), END)]


def scripted(*replies: Any) -> ModuleLLM:
    return ModuleLLM("scripted", replies=list(replies))


class Slow:
    """A model that answers when it is let, and says when it has been asked."""

    def __init__(self) -> None:
        self._asked: asyncio.Queue[tuple[Request, asyncio.Future[str]]] = asyncio.Queue()

    async def __call__(self, request: Request) -> str:
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        await self._asked.put((request, answer))
        return await answer

    async def asked(self) -> tuple[Request, asyncio.Future[str]]:
        """The next request, and where its answer is to go."""
        return await self._asked.get()


def with_slow_model(kind: Callable[[Any], Memory], story: Callable[[Memory, Slow], Any]) -> None:
    async def go() -> None:
        slow = Slow()
        async with asyncio.timeout(DEADLINE_S):
            await story(kind(slow), slow)

    asyncio.run(go())


# -- the rule


def test_without_a_model_a_step_becomes_a_line_with_what_matters_first() -> None:
    memory = LongTermMemory()
    memory.add_to_memory("observation", {"light": "red"})
    memory.add_to_memory("action", {"name": "go", "response": "went north"})
    memory.add_to_memory("message", {"message": "wait\nfor me", "sender": 4})
    memory.process_step()
    assert memory.long_term_memory == (
        'Step 1: message from 4: wait for me; action go: went north; observation: {"light": "red"}'
    )
    assert memory.calls == 0


def test_the_oldest_lines_are_shortened_then_left_out_and_counted() -> None:
    memory = LongTermMemory(max_characters=400)
    for i in range(1, 30):
        memory.add_to_memory("message", said(i))
        memory.add_to_memory("weather", f"w{i}." + " rain" * 20)
        memory.process_step()
    lines = memory.long_term_memory.splitlines()
    assert lines[0].startswith("… 2")
    assert lines[0].endswith(" earlier steps are left out.")
    assert "w29." in lines[-1]
    assert "m29." in lines[-1]
    assert lines[1].endswith("(and 1 more)")
    assert int(lines[0].split()[1]) + len(lines) - 1 == 29
    assert memory.dropped == 2 * 29 - len(re.findall(r"[mw]\d+\.", memory.long_term_memory))


@given(
    st.lists(st.tuples(st.integers(0, 30), st.text(max_size=3000)), max_size=40),
    st.integers(200, 3000),
)
def test_a_summary_never_exceeds_its_bound_and_knows_what_it_left_out(
    entries: list[tuple[int, str]], bound: int
) -> None:
    summary = Summary(bound)
    added = 0
    for step, (many, text) in enumerate(entries):
        content = {"message": [said(i) for i in range(added, added + many)], "plan": text}
        summary.take([MemoryEntry(content, step)])
        added += many
        assert len(str(summary)) <= bound
    assert str(summary).count("from bob: m") + summary.dropped >= added
    assert summary.dropped <= added + len(entries)


@given(st.integers(0, 5000), st.integers(200, 1000), st.integers(0, 50))
def test_a_model_cannot_make_the_summary_longer_than_its_bound(
    length: int, bound: int, later: int
) -> None:
    summary = Summary(bound)
    summary.take([MemoryEntry({"plan": "x"}, 1)])
    mark = summary.mark
    summary.take(MemoryEntry({"message": [said(i)]}, i) for i in range(later))
    summary.rewrite("x" * length, mark)
    assert len(str(summary)) <= bound


def test_what_a_text_tells_is_not_called_left_out() -> None:
    def take(many: int) -> None:
        summary.take([MemoryEntry({"message": [said(1)], "plan": "x" * 90})] * many)

    summary = Summary(400)
    take(20)
    assert "earlier steps" in str(summary)
    mark = summary.mark
    summary.rewrite("Twenty steps.", mark)
    assert str(summary) == "Twenty steps."
    take(20)  # while a model writes anew, lines are left out: some that it knows, some it does not
    lines = str(summary).splitlines()
    left_out = int(lines[1].split()[1])
    assert left_out + len(lines) - 2 == 20
    summary.rewrite("Twenty-five steps.", mark + 5)
    assert f"… {left_out - 5} earlier" in str(summary)


# -- the window


def test_the_oldest_entries_leave_the_window_together_once_it_is_full() -> None:
    memory = STLTMemory()
    for i in range(1, 12):
        live(memory, steps(i, i)[:-1])
        window = len(memory.short_term_memory)
        assert window == (i if i <= 7 else 6 + i % 2)
        assert len(memory.long_term_memory.splitlines()) == i - window
    assert told(memory) == {f"m{i}." for i in range(1, 12)}
    assert memory.dropped == 0


# -- a model


def test_a_model_is_asked_each_second_step_once_the_window_is_full() -> None:
    llm = scripted(*["So far."] * 9)
    memory = STLTMemory(llm_model=llm)
    live(memory, steps(1, 12)[:-1])
    assert memory.calls == len(llm.calls) == 3  # in the steps 8, 10 and 12
    assert memory.long_term_memory == "So far."
    assert "m1." in llm.calls[0].prompt
    assert "Nothing yet." in llm.calls[0].prompt
    assert "So far." in llm.calls[1].prompt
    assert "m1." not in llm.calls[1].prompt


def test_the_long_term_memory_asks_each_step_and_is_told_the_bound() -> None:
    llm = scripted("One.", "Two.")
    memory = live(LongTermMemory(llm_model=llm, max_characters=1000), steps(1, 2)[:-1])
    assert memory.format_long_term() == "Two."
    assert memory.calls == 2
    assert "750 characters" in str(llm.calls[0].messages[0]["content"])


def test_a_window_that_consolidates_nothing_asks_nobody() -> None:
    memory = STLTMemory(None, 1, 0, llm_model=scripted())
    live(memory, steps(1, 5)[:-1])
    assert memory.calls == 0
    assert told(memory) == {f"m{i}." for i in range(1, 6)}


@pytest.mark.parametrize("failure", [ModelCallError("down"), "", "  \n"])
def test_a_call_that_fails_leaves_the_lines_of_the_rule(failure: Any) -> None:
    memory = live(LongTermMemory(llm_model=scripted("Fine.", failure, failure)), steps(1, 3)[:-1])
    assert memory.format_long_term().startswith("Fine.\nStep 2: ")
    assert told(memory) == {"m2.", "m3."}
    assert memory.calls == 3
    assert memory.failed_calls == (2 if isinstance(failure, ModelCallError) else 0)


def test_what_a_failed_call_left_in_lines_is_told_the_model_the_next_time() -> None:
    llm = scripted("Fine.", ModelCallError("down"), "Better.")
    memory = live(LongTermMemory(llm_model=llm), steps(1, 3)[:-1])
    assert all(part in llm.calls[2].prompt for part in ("Fine.", "m2.", "m3."))
    assert memory.format_long_term() == "Better."


def test_whoever_forgot_a_key_or_a_reply_is_told_and_nothing_is_lost() -> None:
    memory = LongTermMemory(llm_model=scripted())
    memory.add_to_memory("message", said(1))
    with pytest.raises(UnscriptedCall):
        memory.process_step()
    assert told(memory) == {"m1."}
    keyless = LongTermMemory(llm_model="openai/gpt-4o-mini")  # construction needs no key
    keyless.add_to_memory("message", said(1))
    with pytest.raises(ModelSetupError):
        keyless.process_step()
    assert told(keyless) == {"m1."}


def test_a_model_that_is_given_by_its_name_is_saved_and_no_other() -> None:
    named = LongTermMemory(llm_model="openai/gpt-4o-mini", api_base="http://localhost:1/v1")
    twin = Memory._read(named.to_dict())
    assert twin.llm is not None
    assert (twin.llm.llm_model, twin.llm.api_base) == (
        "openai/gpt-4o-mini",
        "http://localhost:1/v1",
    )
    assert Memory._read(LongTermMemory(llm_model=scripted("x")).to_dict()).llm is None
    named.llm = scripted("x")
    assert Memory._read(named.to_dict()).llm is None


def small_window(model: Any) -> STLTMemory:
    return STLTMemory(None, 1, 1, llm_model=model)


def long_term(model: Any) -> LongTermMemory:
    return LongTermMemory(llm_model=model)


slowly = pytest.mark.parametrize("kind", [small_window, long_term])


@slowly
def test_what_arrives_while_the_model_is_awaited_is_kept(kind: Any) -> None:
    async def story(memory: Memory, slow: Slow) -> None:
        for i in range(1, 3):
            memory.add_to_memory("message", said(i))
            step = asyncio.create_task(memory.aprocess_step())
            if isinstance(memory, STLTMemory):
                await step
            else:
                _, answer = await slow.asked()
                answer.set_result(f"Summary of m{i}.")
                await step
        memory.add_to_memory("message", said(3))
        step = asyncio.create_task(memory.aprocess_step())
        _, answer = await slow.asked()
        memory.add_to_memory("message", said(4))  # another agent speaks
        assert {"m3.", "m4."} <= told(memory)  # all is there, before the model has answered
        before = memory.to_dict()
        answer.set_result("Summary.")
        await step
        assert before["buffer"] == memory.to_dict()["buffer"]
        assert "m4." in told(memory)
        await memory.aprocess_step(pre_step=True)
        assert "m4." in memory.get_communication_history()

    with_slow_model(kind, story)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_two_answers_that_overlap_the_one_that_knows_more_stays(order: tuple[int, int]) -> None:
    async def story(memory: Memory, slow: Slow) -> None:
        under_way: list[asyncio.Task[None]] = []
        answers: list[asyncio.Future[str]] = []
        for i in range(1, 3):
            memory.add_to_memory("message", said(i))
            under_way.append(asyncio.create_task(memory.aprocess_step()))
            request, answer = await slow.asked()
            assert "m1." in request.prompt
            answers.append(answer)
        for i in order:
            answers[i].set_result(["Of m1.", "Of m1. and m2."][i])
            await under_way[i]
            assert told(memory) == {"m1.", "m2."}
        assert memory.format_long_term() == "Of m1. and m2."

    with_slow_model(long_term, story)


def test_a_step_that_is_cancelled_while_the_model_is_awaited_loses_nothing() -> None:
    async def story(memory: Memory, slow: Slow) -> None:
        memory.add_to_memory("message", said(1))
        step = asyncio.create_task(memory.aprocess_step())
        await slow.asked()
        step.cancel()
        await asyncio.gather(step, return_exceptions=True)
        assert told(memory) == {"m1."}
        memory.add_to_memory("message", said(2))
        step = asyncio.create_task(memory.aprocess_step())
        request, answer = await slow.asked()
        assert "m1." in request.prompt
        answer.set_result("Both.")
        await step
        assert memory.format_long_term() == "Both."

    with_slow_model(long_term, story)


@given(st.lists(st.sampled_from(["message", BEGIN, END, "fails"]), max_size=40))
def test_with_a_model_that_repeats_what_it_is_told_nothing_is_lost(happened: list[str]) -> None:
    """Whatever fails, and whenever: the model's text and the lines together know of everything."""
    fails: list[bool] = []

    def repeat(request: Request) -> str:
        if fails:
            fails.clear()
            raise ModelCallError("down")
        return " ".join(word for word in request.prompt.split() if word.startswith("m"))

    for memory in (
        LongTermMemory(llm_model=repeat, max_characters=10_000),
        STLTMemory(None, 1, 1, llm_model=repeat, max_characters=10_000),
    ):
        for number, each in enumerate(happened):
            if each == "message":
                memory.add_to_memory("message", said(number))
            elif each == "fails":
                fails.append(True)
            else:
                memory.process_step(pre_step=each == BEGIN)
        memory.process_step()
        memory.process_step(pre_step=True)
        everything = {f"m{n}." for n, each in enumerate(happened) if each == "message"}
        assert told(memory) == everything
