"""The scripted model: strict, ordered, counted, and shared by threads."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from llm_net.errors import ModelCallError, UnscriptedCall, UsageError
from llm_net.llm.model import Completion, Request, Usage
from llm_net.llm.module_llm import ModuleLLM


class Bid(BaseModel):
    price: float


async def _shout(request: Request) -> str:
    await asyncio.sleep(0)
    return request.prompt.upper()


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        ("Good morning.", "Good morning."),
        ({"price": 40}, '{"price": 40}'),
        (Bid(price=40), '{"price":40.0}'),
        (Completion(text="as it is"), "as it is"),
        (lambda request: f"{request.place}: {request.prompt}", "firm/boss: hi"),
        (_shout, "HI"),
    ],
)
def test_each_kind_of_reply_is_played(reply: Any, text: str) -> None:
    llm = ModuleLLM("scripted", replies=[reply, reply])
    assert llm.generate("hi", place="firm/boss").text == text
    assert asyncio.run(llm.agenerate("hi", place="firm/boss")).text == text


def test_an_exception_in_the_script_is_raised() -> None:
    llm = ModuleLLM("scripted", replies=[ModelCallError("overloaded"), "fine"])
    with pytest.raises(ModelCallError, match="overloaded"):
        llm.generate("a")
    assert llm.generate("b").text == "fine"


def test_tool_calls_may_be_written_short_or_as_chat_completions_have_them() -> None:
    long = {"id": "x", "type": "function", "function": {"name": "move", "arguments": '{"to": 1}'}}
    reply = {"content": "Going.", "tool_calls": [{"name": "move", "arguments": {"to": 1}}, long]}
    completion = ModuleLLM("scripted", replies=[reply]).generate("go", [{"name": "move"}])
    assert completion.text == "Going."
    assert [json.loads(call.arguments) for call in completion.tool_calls] == [{"to": 1}] * 2
    assert [call.id for call in completion.tool_calls] == ["call_1_1", "x"]


def test_a_tool_call_without_a_name_is_refused() -> None:
    llm = ModuleLLM("scripted", replies=[{"tool_calls": [{"arguments": {}}]}])
    with pytest.raises(UsageError, match="names no tool"):
        llm.generate("go")


def test_a_reply_of_no_known_kind_is_refused() -> None:
    number: Any = 42
    llm = ModuleLLM("scripted", replies=[lambda _: number])
    with pytest.raises(UsageError, match="answered with 42"):
        llm.generate("go")


def test_replies_may_be_chosen_by_the_last_user_message() -> None:
    llm = ModuleLLM("scripted", replies={r"\bprice\b": "40", "weather": "Sunny.", ".": "Pardon?"})
    asked = ["What weather?", "Your price?", "Eh?", "The price of the weather?"]
    assert [str(llm.generate(text)) for text in asked] == ["Sunny.", "40", "Pardon?", "40"]
    history = [{"role": "user", "content": "Your price?"}, {"role": "assistant", "content": "40"}]
    assert llm.generate("And the weather?", messages=history).text == "Sunny."


def test_an_unscripted_call_shows_prompt_place_and_script() -> None:
    llm = ModuleLLM("scripted", replies=["one"])
    llm.generate("first")
    with pytest.raises(UnscriptedCall) as caught:
        llm.generate("second", place="firm/boss")
    for part in ("Call 2", "'second'", "'firm/boss'", "holds 1 replies", "replies="):
        assert part in str(caught.value)
    assert [call.prompt for call in llm.calls] == ["first", "second"]


def test_a_prompt_that_no_pattern_matches_is_unscripted() -> None:
    llm = ModuleLLM("scripted", replies={"price": "40"})
    with pytest.raises(UnscriptedCall, match="none of its 1 patterns matches"):
        asyncio.run(llm.agenerate("Weather?"))


def test_four_characters_count_as_a_token() -> None:
    llm = ModuleLLM("scripted", replies=["Fine, thanks."], system_prompt="Be kind.")
    completion = llm.generate("How are you?")
    assert completion.usage == Usage(prompt_tokens=2 + 3, completion_tokens=4)
    assert completion.cost == 0


@given(texts=st.lists(st.text(), max_size=6), prompt=st.text(min_size=1))
def test_every_reply_is_played_once_and_counted_alike(texts: list[str], prompt: str) -> None:
    first, second = (ModuleLLM("scripted", replies=texts) for _ in range(2))
    for text in texts:
        a, b = first.generate(prompt), second.generate(prompt)
        assert a.text == text
        assert a.usage == b.usage
    with pytest.raises(UnscriptedCall):
        first.generate(prompt)


def test_threads_share_a_script_without_losing_or_doubling_a_reply() -> None:
    replies = [str(i) for i in range(300)]
    llm = ModuleLLM("scripted", replies=replies)
    completions = llm.generate_batch(["x"] * 300)
    assert sorted(map(str, completions), key=int) == replies
    assert len(llm.calls) == 300
