"""The embedded model, the real one: shapes and tools are kept, and nobody waits in vain."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from llm_net.errors import AnswerError, ModelCallError, ModelSetupError, UsageError
from llm_net.llm import emulation, local, weights
from llm_net.llm.model import Request
from llm_net.llm.module_llm import ModuleLLM
from llm_net.llm.schema import fault

if TYPE_CHECKING:
    from pathlib import Path

MOVE = {
    "name": "move",
    "description": "Move one step.",
    "parameters": {
        "type": "object",
        "properties": {"direction": {"enum": ["north", "south"]}},
        "required": ["direction"],
        "additionalProperties": False,
    },
}
WAIT = {"name": "wait", "description": "Do nothing."}


class Bid(BaseModel):
    price: int
    hours: int


@pytest.fixture(scope="module")
def llm() -> ModuleLLM:
    return ModuleLLM("local/smollm2-135m", temperature=0, max_tokens=48)


@pytest.mark.real_llm
def test_it_answers_and_counts(llm: ModuleLLM) -> None:
    completion = llm.generate("Say hello.", system_prompt="You are a friendly shopkeeper.")
    assert completion.text
    assert completion.finish_reason in {"stop", "length"}
    assert completion.usage.prompt_tokens > 10
    assert 0 < completion.usage.completion_tokens <= 48
    assert (completion.cost, completion.model) == (0, "local/smollm2-135m")


@pytest.mark.real_llm
def test_what_prompts_have_in_common_is_read_once(llm: ModuleLLM) -> None:
    shared = "You are one of many sellers on a market. " * 10
    for prompt in "abcdefgh":
        llm.generate(prompt, system_prompt=shared, max_tokens=1)
    last = llm.generate("i", system_prompt=shared, max_tokens=1)
    assert last.usage.cached_tokens > last.usage.prompt_tokens / 2


@pytest.mark.real_llm
def test_a_shape_is_kept(llm: ModuleLLM) -> None:
    assert isinstance(llm.generate("Bid for a fence.", response_format=Bid).parsed, Bid)
    schema = Bid.model_json_schema()
    parsed = asyncio.run(llm.agenerate("Bid for a fence.", response_format=schema)).parsed
    assert fault(parsed, schema) is None


@pytest.mark.real_llm
def test_an_answer_that_is_cut_off_says_so(llm: ModuleLLM) -> None:
    with pytest.raises(AnswerError, match="cut off after 2 tokens"):
        llm.generate("Bid.", response_format=Bid, max_tokens=2)


@pytest.mark.real_llm
@pytest.mark.parametrize(("choice", "names"), [("required", {"move", "wait"}), ("move", {"move"})])
def test_tools_are_called_in_the_right_form(llm: ModuleLLM, choice: str, names: set[str]) -> None:
    completion = llm.generate("Move to the north.", [MOVE, WAIT], choice)
    (call,) = completion.tool_calls
    assert call.name in names
    assert call.id
    assert completion.finish_reason == "tool_calls"
    if call.name == "move":
        assert json.loads(call.arguments)["direction"] in {"north", "south"}


@pytest.mark.real_llm
def test_a_free_choice_gives_a_call_or_a_plain_reply(llm: ModuleLLM) -> None:
    completion = llm.generate("What is your name?", [WAIT])
    assert bool(completion.text) != bool(completion.tool_calls)
    assert llm.generate("Hello.", [WAIT], "none").tool_calls == ()


@pytest.mark.real_llm
def test_a_conversation_with_tool_results_goes_on(llm: ModuleLLM) -> None:
    called = llm.generate("Move.", [MOVE], "move")
    answer = {"role": "tool", "tool_call_id": called.tool_calls[0].id, "content": "You are there."}
    history = [{"role": "user", "content": "Move."}, called.to_chat(), answer]
    assert llm.generate("Thanks. Where are you?", messages=history).text


@pytest.mark.real_llm
def test_the_event_loop_goes_on_while_the_model_thinks(llm: ModuleLLM) -> None:
    async def main() -> int:
        asking = asyncio.ensure_future(llm.agenerate("Tell a story."))
        turns = 0
        while not asking.done():
            await asyncio.sleep(0)
            turns += 1
        return turns

    assert asyncio.run(main()) > 100


@pytest.mark.real_llm
def test_a_batch_of_more_than_the_slots_is_answered(llm: ModuleLLM) -> None:
    prompts = [f"Say the number {i}." for i in range(2 * local.SLOTS)]
    completions = llm.generate_batch(prompts, {"max_tokens": 4})
    assert all(completion.text for completion in completions)


@pytest.mark.real_llm
def test_an_abandoned_call_frees_its_slot(llm: ModuleLLM) -> None:
    endless: dict[str, Any] = {
        "max_tokens": 3000,
        "extra_body": {"ignore_eos": True},
        "timeout": 0.3,
    }

    longer: dict[str, Any] = {**endless, "timeout": 60}

    async def main() -> None:
        asking = [llm.agenerate(f"Story {i}.", **endless) for i in range(local.SLOTS)]
        for outcome in await asyncio.gather(*asking, return_exceptions=True):
            assert isinstance(outcome, ModelCallError)
        cancelled = asyncio.ensure_future(llm.agenerate("Story.", **longer))
        await asyncio.sleep(0)
        cancelled.cancel()

    asyncio.run(main())
    # 3000 tokens take 20 s and more: this is in time only if they are not written any more.
    assert llm.generate("Hello.", max_tokens=1, timeout=10).usage.completion_tokens == 1


@pytest.mark.real_llm
def test_a_prompt_that_is_too_long_is_refused_with_numbers(llm: ModuleLLM) -> None:
    with pytest.raises(ModelCallError, match=f"room for {local.SLOT_TOKENS} tokens.*Shorten"):
        llm.generate("hi " * 9000)


@pytest.mark.real_llm
def test_a_schema_that_is_no_grammar_is_refused(llm: ModuleLLM) -> None:
    with pytest.raises(ModelCallError, match="simplify the schema"):
        llm.generate("hi", response_format={"type": "no such type"})


def test_an_unknown_parameter_is_refused(llm: ModuleLLM) -> None:
    with pytest.raises(UsageError, match=r"knows no parameter top_pp.*extra_body"):
        llm.generate("hi", top_pp=1)


@pytest.mark.real_llm
def test_one_engine_serves_every_name_of_a_file() -> None:
    assert local.server(f"local/{weights.find()}") == local.server()


@pytest.mark.real_llm
def test_the_server_is_closed_to_others_on_the_machine() -> None:
    place = local.server()
    assert place.api_key not in repr(place)
    request = urllib.request.Request(f"{place.base_url}/chat/completions", data=b"{}")
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request)
    assert caught.value.code == 401
    caught.value.close()


@pytest.mark.real_llm
def test_the_engine_says_nothing_on_the_streams() -> None:
    program = (
        "from llm_net.llm.module_llm import ModuleLLM\n"
        "import sys\n"
        "assert ModuleLLM('local/smollm2-135m', max_tokens=2).generate('hi').text\n"
        "assert 'litellm' not in sys.modules\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert (result.stdout, result.stderr) == (b"", b"")


LEAVE = """
import threading
from llm_net.llm.module_llm import ModuleLLM
llm = ModuleLLM("local/smollm2-135m", params={"extra_body": {"ignore_eos": True}})
for prompt in ("A story.", "A song.", "A play."):
    endless = {"prompt": prompt, "max_tokens": 3000}
    threading.Thread(target=llm.generate, kwargs=endless, daemon=True).start()
llm.generate("Hello.", max_tokens=20)
"""


@pytest.mark.real_llm
def test_a_process_may_end_while_the_engine_is_writing() -> None:
    program = [sys.executable, "-c", LEAVE]
    result = subprocess.run(program, capture_output=True, timeout=60, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")


def test_missing_weights_say_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_NET_MODEL_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(ModelSetupError, match=r"Type: python -m llm_net\.llm\.weights"):
        ModuleLLM("local/smollm2-135m").generate("hi")
    assert list(tmp_path.iterdir()) == []  # and nothing is fetched


def test_a_missing_extra_says_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF")
    with pytest.raises(ModelSetupError, match=r"pip install 'llm-net\[local\]'"):
        ModuleLLM(f"local/{file}").generate("hi")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read"),
        (b"PK\x03\x04", "is no GGUF file"),
        (b"GGUF and then nonsense", "could not load"),
    ],
)
def test_a_model_file_that_is_none_is_refused(
    tmp_path: Path, content: bytes | None, says: str
) -> None:
    file = tmp_path / "model.gguf"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ModelSetupError, match=says):
        ModuleLLM(f"local/{file}").generate("hi")


# The emulation of tools.


def request(**fields: Any) -> Request:
    tools = tuple({"type": "function", "function": tool} for tool in (MOVE, WAIT))
    usual = Request(messages=({"role": "user", "content": "hi"},), tools=tools, tool_choice="auto")
    return replace(usual, **fields)


def test_references_in_the_parameters_of_a_tool_are_resolved() -> None:
    class Order(BaseModel):
        bids: list[Bid]

    tool = {"function": {"name": "order", "parameters": Order.model_json_schema()}}
    schema = emulation.schema(request(tools=(tool,), tool_choice="required"))
    assert "$ref" not in json.dumps(schema)
    call = {"name": "order", "arguments": {"bids": [{"price": 1, "hours": 2}]}}
    assert fault(call, schema or {}) is None
    call["arguments"] = {"bids": [{"price": 1}]}
    assert fault(call, schema or {}) is not None


def test_a_type_that_contains_itself_makes_a_finite_schema() -> None:
    class Tree(BaseModel):
        branches: list[Tree]

    tool = {"function": {"name": "grow", "parameters": Tree.model_json_schema()}}
    assert "$ref" not in json.dumps(emulation.schema(request(tools=(tool,))))


def test_tools_are_described_in_the_one_system_prompt() -> None:
    messages = (
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "hi"}]},
    )
    told = emulation.messages(request(messages=messages))
    assert [message["role"] for message in told] == ["system", "user"]
    assert told[0]["content"].startswith("Be brief.")
    assert "- move(direction: any): Move one step." in told[0]["content"]
    assert emulation.messages(request())[0]["role"] == "system"


def test_an_answer_is_a_call_only_of_a_tool_that_was_offered() -> None:
    move = '{"name": "move", "arguments": {"direction": "north"}}'
    assert emulation.read_answer(move, request())[1][0].name == "move"
    only_wait = request(tool_choice={"type": "function", "function": {"name": "wait"}})
    for text in (move.replace("move", "rm"), move[:-5], "[1]", "hello"):
        assert emulation.read_answer(text, request()) == (text, ())
    assert emulation.read_answer(move, only_wait) == (move, ())
    assert emulation.read_answer('{"reply": "hi"}', request()) == ("hi", ())


def test_beside_tools_a_shape_takes_the_place_of_the_reply() -> None:
    both = request(response_format=Bid)
    schema = emulation.schema(both)
    assert schema is not None
    assert fault({"price": 1, "hours": 2}, schema) is None
    assert fault({"reply": "no"}, schema) is not None
    text = '{"price": 1, "hours": 2}'
    assert emulation.read_answer(text, both) == (text, ())
