"""`ModuleLLM`: what it sends, what it gives back, what it refuses."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from llm_net.errors import AnswerError, ModelCallError, UsageError
from llm_net.llm.answers import find_json
from llm_net.llm.model import Completion, Request, Usage
from llm_net.llm.module_llm import ModuleLLM

if TYPE_CHECKING:
    from collections.abc import Callable

MOVE = {"name": "move", "description": "Moves.", "parameters": {"type": "object"}}
KEY = "sk-very-secret-0123456789"


class Bid(BaseModel):
    price: float
    why: str = ""


BID_SCHEMA = {
    "type": "object",
    "properties": {"price": {"type": "number"}, "kind": {"enum": ["hour", "whole"]}},
    "required": ["price"],
    "additionalProperties": False,
}


def scripted(*replies: Any, **options: Any) -> ModuleLLM:
    return ModuleLLM("scripted", replies=list(replies), **options)


# What is sent.


def test_several_prompts_are_several_user_messages_after_the_system_prompt() -> None:
    llm = scripted("", system_prompt="Be brief.")
    llm.generate(["one", "two"])
    assert list(llm.calls[0].messages) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "one"},
        {"role": "user", "content": "two"},
    ]


def test_whole_messages_stand_between_the_system_prompt_and_the_prompt() -> None:
    llm = scripted("", system_prompt="Be brief.")
    llm.generate("and now?", messages=[{"role": "assistant", "content": "So far so good."}])
    assert [m["role"] for m in llm.calls[0].messages] == ["system", "assistant", "user"]


def test_a_call_may_replace_the_system_prompt_or_do_without() -> None:
    llm = scripted("", "", system_prompt="Be brief.")
    llm.generate("a", system_prompt="Be long.")
    llm.generate("b", system_prompt="")
    assert llm.calls[0].messages[0]["content"] == "Be long."
    assert [m["role"] for m in llm.calls[1].messages] == ["user"]


def test_without_tools_neither_tools_nor_tool_choice_is_sent() -> None:
    llm = scripted("", "")
    llm.generate("a", tool_choice="required")
    llm.generate("a", tool_schema=[])
    assert [(call.tools, call.tool_choice) for call in llm.calls] == [((), None)] * 2


def test_tools_take_the_shape_of_chat_completions_however_they_are_given() -> None:
    llm = scripted("", "")
    llm.generate("a", [MOVE])
    llm.generate("a", [{"type": "function", "function": MOVE}])
    assert llm.calls[0].tools == llm.calls[1].tools == ({"type": "function", "function": MOVE},)
    assert llm.calls[0].tool_choice == "auto"


def test_a_tool_may_be_chosen_by_its_name() -> None:
    llm = scripted("")
    llm.generate("a", [MOVE], "move")
    assert llm.calls[0].tool_choice == {"type": "function", "function": {"name": "move"}}


def test_parameters_of_a_call_win_over_those_of_the_handle() -> None:
    llm = scripted("", temperature=0.5, seed=1, params={"top_p": 0.9})
    llm.generate("a", temperature=0, stop=["."], place="firm/boss")
    assert llm.calls[0].params == {"temperature": 0, "seed": 1, "top_p": 0.9, "stop": ["."]}
    assert llm.calls[0].place == "firm/boss"


# What comes back.


def test_a_completion_is_its_text_and_has_the_shape_of_litellm() -> None:
    completion = scripted("Good morning.").generate("Greet me.")
    assert str(completion) == completion.text == "Good morning."
    message = completion.choices[0].message
    assert (message.role, message.content, message.tool_calls) == (
        "assistant",
        "Good morning.",
        None,
    )
    assert completion.latency > 0


def test_tool_calls_stand_where_litellm_has_them() -> None:
    reply = {"tool_calls": [{"name": "move", "arguments": {"to": "north"}}]}
    completion = scripted(reply).generate("Go.", [MOVE])
    message = completion.choices[0].message
    assert message.content is None
    assert message.tool_calls is not None
    call = message.tool_calls[0]
    assert (call.function.name, json.loads(call.function.arguments)) == ("move", {"to": "north"})
    assert call.id == completion.tool_calls[0].id
    assert completion.finish_reason == "tool_calls"
    assert completion.to_chat()["tool_calls"][0]["function"]["name"] == "move"


@pytest.mark.parametrize(
    "function",
    [
        lambda request: f"You said {request.prompt!r}.",
        lambda request: Completion(text=f"You said {request.prompt!r}."),
    ],
)
def test_a_function_of_the_request_is_a_model(function: Callable[[Request], Any]) -> None:
    llm = ModuleLLM(function)
    assert llm.generate("hi").text == "You said 'hi'."
    assert asyncio.run(llm.agenerate("hi")).text == "You said 'hi'."


def test_an_async_function_is_a_model_in_blocking_code_too() -> None:
    async def answer(request: Request) -> dict[str, str]:
        await asyncio.sleep(0)
        return {"heard": request.prompt}

    llm = ModuleLLM(answer)

    async def beside_a_running_loop() -> tuple[str, str]:
        return llm.generate("hi").text, (await llm.agenerate("hi")).text

    assert llm.generate("hi").text == '{"heard": "hi"}'
    assert asyncio.run(beside_a_running_loop()) == ('{"heard": "hi"}',) * 2


def test_a_sync_function_does_not_block_the_event_loop() -> None:
    entered, release = threading.Event(), threading.Event()

    def answer(request: Request) -> str:
        entered.set()
        assert release.wait(30)
        return request.prompt

    async def main() -> str:
        asking = asyncio.ensure_future(ModuleLLM(answer).agenerate("hi"))
        while not entered.is_set():  # noqa: ASYNC110 - a thread sets it, not the loop
            await asyncio.sleep(0)
        release.set()  # only a loop that is not blocked comes here
        return str(await asking)

    assert asyncio.run(main()) == "hi"


def test_a_batch_is_concurrent_and_in_order() -> None:
    together = threading.Barrier(3)

    def answer(request: Request) -> str:
        together.wait(30)  # passes only if three ask at the same time
        return request.prompt.upper()

    llm = ModuleLLM(answer)
    assert [str(c) for c in llm.generate_batch(["a", "b", "c"])] == ["A", "B", "C"]
    completions = asyncio.run(llm.agenerate_batch(["a", "b", "c"], {"temperature": 0}))
    assert [str(c) for c in completions] == ["A", "B", "C"]


def test_a_batch_keeps_to_max_concurrency() -> None:
    together = threading.Barrier(2)

    def answer(request: Request) -> str:
        with pytest.raises(threading.BrokenBarrierError):
            together.wait(0.02)  # passes only if two ask at the same time
        return request.prompt

    llm = ModuleLLM(answer, max_concurrency=1)
    assert [str(c) for c in llm.generate_batch(["a", "b"])] == ["a", "b"]
    assert [str(c) for c in asyncio.run(llm.agenerate_batch(["a", "b"]))] == ["a", "b"]


def test_the_first_failure_of_a_batch_is_its_failure() -> None:
    def answer(request: Request) -> str:
        if request.prompt == "bad":
            raise ModelCallError("No.")
        return request.prompt

    llm = ModuleLLM(answer)
    with pytest.raises(ModelCallError, match="No"):
        llm.generate_batch(["a", "bad", "c"])
    with pytest.raises(ModelCallError, match="No"):
        asyncio.run(llm.agenerate_batch(["a", "bad", "c"]))
    assert llm.generate_batch([]) == []


def test_a_call_ends_with_its_timeout() -> None:
    release = threading.Event()
    llm = ModuleLLM(lambda request: str(release.wait(30)), timeout=0.05)
    with pytest.raises(ModelCallError, match=r"no answer within 0\.05 s.*Raise timeout="):
        llm.generate("hi")
    with pytest.raises(ModelCallError, match=r"no answer within 0\.05 s"):
        asyncio.run(llm.agenerate("hi"))
    release.set()


# Shapes.


@pytest.mark.parametrize(
    "text",
    [
        '{"price": 40}',
        '  {"price": 40}\n',
        '```json\n{"price": 40}\n```',
        'Well, {it depends}. My bid:\n{"price": 40} Best regards.',
        'First {"cost": 1}, no: {"price": 40}',
    ],
)
def test_json_is_found_in_fences_and_in_prose(text: str) -> None:
    assert scripted(text).generate("Bid.", response_format=Bid).parsed == Bid(price=40)
    assert scripted(text).generate("Bid.", response_format=BID_SCHEMA).parsed == {"price": 40}


def test_a_schema_may_come_in_the_wrapper_of_chat_completions() -> None:
    wrapped = {"type": "json_schema", "json_schema": {"name": "bid", "schema": BID_SCHEMA}}
    assert scripted({"price": 1}).generate("Bid.", response_format=wrapped).parsed == {"price": 1}
    any_json = {"type": "json_object"}
    assert scripted("[1]").generate("Bid.", response_format=any_json).parsed == [1]


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        ("", "is empty"),
        ("Forty euros.", "is not JSON"),
        ('{"cost": 40}', r"of the wrong shape \(price: Field required\)"),
        (
            Completion(
                text='{"price": 4', finish_reason="length", usage=Usage(completion_tokens=9)
            ),
            "was cut off after 9 tokens.*Raise max_tokens=",
        ),
    ],
)
def test_a_wrong_answer_says_what_is_wrong(answer: Any, complaint: str) -> None:
    with pytest.raises(AnswerError, match=complaint) as caught:
        scripted(answer, repair=0).generate("Bid.", response_format=Bid)
    text = answer.text if isinstance(answer, Completion) else answer
    assert vars(caught.value)["completion"].text == text
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ({"kind": "hour"}, "price missing"),
        ({"price": "40"}, "price: should be number, is string"),
        ({"price": True}, "price: should be number, is boolean"),
        ({"price": 1, "kind": "day"}, r"kind: should be one of \['hour', 'whole'\]"),
        ({"price": 1, "tip": 2}, "tip: should not be there"),
        ([1], "the whole: should be object, is array"),
    ],
)
def test_an_answer_that_does_not_fit_the_schema_is_refused(value: Any, complaint: str) -> None:
    llm = scripted(json.dumps(value), repair=0)
    with pytest.raises(AnswerError, match=complaint):
        llm.generate("Bid.", response_format=BID_SCHEMA)


def test_references_and_alternatives_of_a_schema_are_followed() -> None:
    class Offer(BaseModel):
        bids: list[Bid]
        note: str | None = None

    schema = Offer.model_json_schema()
    good = {"bids": [{"price": 1}], "note": None}
    assert scripted(good).generate("?", response_format=schema).parsed == good
    bad = scripted({"bids": [{"price": 1}, {"why": ""}], "note": 3}, repair=0)
    with pytest.raises(AnswerError, match=r"bids\.\[1\]: price missing"):
        bad.generate("?", response_format=schema)


def test_a_long_wrong_answer_is_shown_shortened() -> None:
    with pytest.raises(AnswerError, match=r"\(9000 characters\)") as caught:
        scripted("no " * 3000, repair=0).generate("Bid.", response_format=Bid)
    assert len(str(caught.value)) < 700


def test_a_wrong_answer_is_asked_for_once_more_with_what_was_wrong() -> None:
    llm = scripted("Forty.", '{"price": 40}')
    completion = llm.generate("Bid.", response_format=Bid)
    assert completion.parsed == Bid(price=40)
    again = [m["content"] for m in llm.calls[1].messages]
    assert again[:2] == ["Bid.", "Forty."]
    assert "is not JSON" in again[2]


def test_repairs_are_paid_for_in_usage_and_cost() -> None:
    attempt = Completion(
        text="Forty.", usage=Usage(prompt_tokens=10, completion_tokens=1), cost=0.5
    )
    success = Completion(
        text='{"price": 4}', usage=Usage(prompt_tokens=20, cached_tokens=9), cost=1
    )
    completion = scripted(attempt, success).generate("Bid.", response_format=Bid)
    assert completion.usage == Usage(prompt_tokens=30, completion_tokens=1, cached_tokens=9)
    assert completion.usage.total_tokens == 31
    assert completion.cost == 1.5
    with pytest.raises(AnswerError) as caught:
        scripted(attempt, attempt).generate("Bid.", response_format=Bid)
    assert vars(caught.value)["completion"].cost == 1


@pytest.mark.parametrize("repair", [0, 1, 3])
def test_repair_says_how_often_is_asked_again(repair: int) -> None:
    llm = scripted(*["no"] * 9, repair=repair)
    with pytest.raises(AnswerError):
        asyncio.run(llm.agenerate("Bid.", response_format=Bid))
    assert len(llm.calls) == 1 + repair


def test_a_tool_call_instead_of_the_shape_is_no_error() -> None:
    reply = {"tool_calls": [{"name": "move", "arguments": {}}]}
    completion = scripted(reply).generate("Bid.", [MOVE], response_format=Bid)
    assert completion.parsed is None
    assert completion.tool_calls


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
prose = st.text(st.characters(exclude_characters="{}[]"))


@given(before=prose, value=st.dictionaries(st.text(), json_values), after=prose)
def test_any_object_is_found_in_any_prose(before: str, value: dict[str, Any], after: str) -> None:
    text = f"{before}{json.dumps(value)}{after}"
    assume(text[0] != '"' or text[-1] != '"')  # that may be JSON as a whole: a text
    assert value in list(find_json(text))


@given(st.text('{}[]",:ab1 \n`') | st.text())
def test_the_search_for_json_ends_well_on_any_text(text: str) -> None:
    for value in find_json(text):
        json.dumps(value)


def test_a_text_of_brackets_takes_no_quadratic_time() -> None:
    assert list(find_json("[" * 100_000)) == []
    assert list(find_json('{"a":' * 100_000)) == []


# The handle.


def test_copies_are_the_handle_itself() -> None:
    llm = scripted("a")
    assert copy.copy(llm) is llm
    assert copy.deepcopy({"llm": llm})["llm"] is llm


def test_a_handle_may_be_a_field_of_a_pydantic_model() -> None:
    class Agent(BaseModel):
        model_config = ConfigDict(extra="forbid")
        llm: ModuleLLM

    agent = Agent(llm=ModuleLLM("openai/gpt-4o-mini", api_key=KEY))
    assert agent.model_copy(deep=True).llm is agent.llm
    assert agent.model_dump_json() == '{"llm":"openai/gpt-4o-mini"}'
    assert KEY not in repr(agent)


def test_neither_repr_nor_pickle_hold_the_key() -> None:
    llm = ModuleLLM("openai/m", "http://127.0.0.1:1/v1", "Be brief.", api_key=KEY, max_tokens=3)
    assert repr(llm) == "ModuleLLM('openai/m', api_base='http://127.0.0.1:1/v1')"
    assert KEY not in repr(vars(llm))
    packed = pickle.dumps(llm)
    assert KEY.encode() not in packed
    again = pickle.loads(packed)
    assert (again.llm_model, again.api_base) == ("openai/m", "http://127.0.0.1:1/v1")
    assert again.system_prompt == "Be brief."


def test_a_pickled_script_starts_anew() -> None:
    llm = scripted("a", "b")
    llm.generate("x")
    assert pickle.loads(pickle.dumps(llm)).generate("x").text == "a"


def test_importing_the_handle_imports_nothing_heavy() -> None:
    program = (
        "import sys, llm_net.llm.module_llm;"
        "print([m for m in ('litellm', 'openai', 'xllamacpp', 'torch') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert result.stdout.decode().strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"llm_model": ""}, "names no provider"),
        ({"llm_model": "gpt-4o"}, "such as 'openai/gpt-4o'"),
        ({"llm_model": "claude-x"}, "such as 'anthropic/claude-x'"),
        ({"llm_model": "/x"}, "names no provider"),
        ({"llm_model": "openai/"}, "names no provider"),
        ({"llm_model": 3}, "is no model"),
        ({"llm_model": "local/gpt-9"}, "local/smollm2-135m"),
        ({"llm_model": "scripted"}, r"replies=\['"),
        ({"llm_model": "openai/m", "replies": []}, "has none"),
        ({"llm_model": "scripted", "replies": "one"}, "letter by letter"),
        ({"llm_model": "scripted", "replies": {"(": "x"}}, "no regular expression"),
        ({"llm_model": "openai/m", "timeout": -1}, "timeout=-1 is out of range"),
        ({"llm_model": "openai/m", "timeout": 0}, "above 0"),
        ({"llm_model": "openai/m", "timeout": float("nan")}, "out of range"),
        ({"llm_model": "openai/m", "temperature": -0.1}, "not below 0"),
        ({"llm_model": "openai/m", "temperature": "hot"}, "no number"),
        ({"llm_model": "openai/m", "max_tokens": 0}, "1 or more"),
        ({"llm_model": "openai/m", "seed": 1.5}, "no whole number"),
        ({"llm_model": "openai/m", "repair": -1}, "0 or more"),
        ({"llm_model": "openai/m", "num_retries": True}, "0 or more"),
        ({"llm_model": "openai/m", "max_concurrency": 0}, "1 or more"),
        ({"llm_model": "openai/m", "api_key": ""}, "api_key= is empty"),
        ({"llm_model": "openai/m", "api_base": "localhost:80"}, "no HTTP address"),
        ({"llm_model": "openai/m", "api_base": f"http://u:{KEY}@x/"}, "as api_key="),
        ({"llm_model": "openai/m", "system_prompt": 3}, "Give text"),
        ({"llm_model": "openai/m", "budget": 5}, "is no budget"),
        ({"llm_model": "openai/m", "params": {"stream": True}}, "come whole"),
        ({"llm_model": len, "api_key": KEY}, "inside this process"),
    ],
)
def test_a_handle_that_can_never_work_says_what_to_type(
    arguments: dict[str, Any], says: str
) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        ModuleLLM(**arguments)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({}, "nothing to ask"),
        ({"prompt": [3]}, "no text"),
        ({"prompt": 3}, "The prompt is 3"),
        ({"messages": ["hi"]}, "no chat message"),
        ({"prompt": "a", "tool_schema": ["move"]}, "describes no tool"),
        ({"prompt": "a", "tool_schema": [{}]}, "describes no tool"),
        ({"prompt": "a", "tool_schema": [MOVE], "tool_choice": "jump"}, r"offered \(move\)"),
        ({"prompt": "a", "response_format": int}, "no shape"),
        ({"prompt": "a", "response_format": Bid(price=1)}, "the class, not an object"),
        ({"prompt": "a", "api_key": KEY}, "ModuleLLM"),
        ({"prompt": "a", "n": 2}, "generate_batch"),
        ({"prompt": "a", "timeout": -1}, "out of range"),
    ],
)
def test_a_call_that_can_never_work_says_what_to_type(arguments: dict[str, Any], says: str) -> None:
    llm = scripted("never reached")
    with pytest.raises(UsageError, match=says) as caught:
        llm.generate(**arguments)
    assert KEY not in str(caught.value)
    assert llm.calls == []


def test_a_batch_of_one_text_is_refused() -> None:
    with pytest.raises(UsageError, match=r"Write \['abc'\]"):
        scripted().generate_batch("abc")


def test_only_a_scripted_model_has_calls() -> None:
    with pytest.raises(UsageError, match="does not record its calls"):
        _ = ModuleLLM(lambda _: "x").calls
