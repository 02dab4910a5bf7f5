"""Providers through LiteLLM: what is sent, above all which key; what failures look like."""

from __future__ import annotations

import asyncio
import base64
import copy
import json
import subprocess
import sys
import traceback
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from llm_net.errors import AnswerError, ModelCallError, ModelSetupError, UsageError
from llm_net.llm import keys
from llm_net.llm.estimate import Price
from llm_net.llm.lite import LiteModel, retry_after_seconds
from llm_net.llm.local import server
from llm_net.llm.model import Request, Usage
from llm_net.llm.module_llm import ModuleLLM
from llm_net.tools.manager import ToolManager

if TYPE_CHECKING:
    from tests.llm.conftest import RecordingServer

HI = Request(messages=({"role": "user", "content": "hi"},))
KEY = "sk-proj/very+secret=0123456789"
MOVE = {"name": "move", "description": "Moves.", "parameters": {"type": "object"}}


class Bid(BaseModel):
    price: float


def shown(error: BaseException) -> str:
    """All that a log or a debugger's first look shows of an error."""
    parts = [*traceback.format_exception(error)]
    link: BaseException | None = error
    while link is not None:
        parts += [repr(link), repr(link.args), repr(vars(link))]
        link = link.__cause__ or link.__context__
    return "\n".join(parts)


# What is sent, and what comes back.


def test_a_completion_comes_back_with_its_usage(recorder: RecordingServer) -> None:
    completion = ModuleLLM("openai/m", recorder.base_url).generate("Greet me.")
    assert completion.text == "Good morning."
    assert completion.usage == Usage(prompt_tokens=7, completion_tokens=2, cached_tokens=3)
    assert completion.cost is None  # nobody knows the price of m
    assert (completion.model, completion.finish_reason) == ("openai/m", "stop")


def test_a_known_model_has_a_price(recorder: RecordingServer) -> None:
    completion = ModuleLLM("openai/gpt-4o-mini", recorder.base_url).generate("Greet me.")
    assert completion.cost is not None
    assert 0 < completion.cost < 0.001


def test_only_what_was_given_is_sent(recorder: RecordingServer) -> None:
    llm = ModuleLLM("openai/m", recorder.base_url, "Be brief.", temperature=0.5, seed=3)
    llm.generate("Greet me.", max_tokens=9, place="firm/boss")
    assert recorder.heard[0].json == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Greet me."},
        ],
        "temperature": 0.5,
        "seed": 3,
        "max_tokens": 9,
    }
    assert recorder.heard[0].path == "/v1/chat/completions"


def test_tools_and_shapes_are_sent_as_openai_has_them(recorder: RecordingServer) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "move", "arguments": "{}"}}
    body = recorder.answers[0][1]
    body["choices"][0]["message"] = {"role": "assistant", "content": None, "tool_calls": [call]}
    llm = ModuleLLM("openai/m", recorder.base_url)
    completion = llm.generate("Go.", [MOVE], "required", {"type": "object", "properties": {}})
    sent = recorder.heard[0].json
    assert sent["tools"] == [{"type": "function", "function": MOVE}]
    assert sent["tool_choice"] == "required"
    assert sent["response_format"]["json_schema"]["schema"] == {"type": "object", "properties": {}}
    assert [c.to_chat() for c in completion.tool_calls] == [call]
    assert completion.text == ""


def test_what_a_provider_s_adapter_changes_is_its_own_copy_of_the_tools(
    recorder: RecordingServer,
) -> None:
    def move(to: str | None = None) -> str:
        """Move."""
        return str(to)

    manager = ToolManager([move])
    offered = manager.offers()
    before = copy.deepcopy(offered)
    recorder.answers = [(400, {"message": "stop here"})]
    # Gemini's takes out what Gemini does not know.
    llm = ModuleLLM("gemini/gemini-2.0-flash", recorder.base_url, api_key="some-key")
    with pytest.raises(ModelCallError):
        llm.generate("Go.", offered)
    assert recorder.heard
    assert manager.offers() == before


def test_a_pydantic_class_is_sent_as_a_strict_schema(recorder: RecordingServer) -> None:
    recorder.answers = [(200, chat_with(recorder, '{"price": 40}'))]
    completion = ModuleLLM("openai/m", recorder.base_url).generate("Bid.", response_format=Bid)
    assert completion.parsed == Bid(price=40)
    schema = recorder.heard[0].json["response_format"]["json_schema"]
    assert (schema["name"], schema["strict"]) == ("Bid", True)


def test_a_provider_without_shapes_is_told_the_shape_in_words(recorder: RecordingServer) -> None:
    recorder.answers = [(400, {"message": "stop here"})]
    llm = ModuleLLM("cohere/command-r", recorder.base_url, api_key="some-other-key")
    with pytest.raises(ModelCallError, match="status 400"):
        llm.generate("Bid.", response_format=Bid)
    assert "must fit this JSON schema" in recorder.heard[0].raw


def chat_with(recorder: RecordingServer, text: str) -> Any:
    body = json.loads(json.dumps(recorder.answers[0][1]))
    body["choices"][0]["message"]["content"] = text
    return body


def test_each_event_loop_may_ask_and_so_may_blocking_code_within(recorder: RecordingServer) -> None:
    llm = ModuleLLM("openai/m", recorder.base_url)

    async def both() -> list[str]:
        return [llm.generate("a").text, (await llm.agenerate("b")).text]

    assert asyncio.run(both()) == asyncio.run(both()) == ["Good morning."] * 2
    batch = asyncio.run(llm.agenerate_batch(["x"] * 5))
    assert [*batch, *llm.generate_batch(["x"] * 5)][9].text == "Good morning."


# Keys.

PROVIDERS = [
    "anthropic",
    "azure",
    "cohere",
    "deepseek",
    "gemini",
    "groq",
    "huggingface",
    "mistral",
    "ollama",
    "openai",
    "openrouter",
    "together_ai",
    "xai",
]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_key_from_the_environment_is_not_sent_to_another_api_base(
    provider: str, recorder: RecordingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (provider.upper(), "GOOGLE", "TOGETHERAI", "HF", "CO"):
        monkeypatch.setenv(f"{name}_API_KEY", KEY)
        monkeypatch.setenv(f"{name}_TOKEN", KEY)
    recorder.answers = [(401, {"error": {"message": "who are you?"}})]
    llm = ModuleLLM(f"{provider}/m", recorder.base_url)
    for ask in (llm.generate, lambda text: asyncio.run(llm.agenerate(text))):
        with pytest.raises(ModelCallError, match="No key was sent"):
            ask("hi")
    assert len(recorder.heard) == 2
    for heard in recorder.heard:
        assert KEY not in heard.raw
        assert quote(KEY, safe="") not in heard.raw


@pytest.mark.parametrize("provider", ["bedrock", "vertex_ai", "gigachat"])
def test_credentials_that_no_placeholder_displaces_are_not_sent_at_all(
    provider: str, recorder: RecordingServer
) -> None:
    with pytest.raises(UsageError, match="They are not sent there"):
        ModuleLLM(f"{provider}/m", recorder.base_url).generate("hi")
    assert recorder.heard == []


def test_a_key_given_by_hand_goes_where_its_owner_said(recorder: RecordingServer) -> None:
    ModuleLLM("openai/m", recorder.base_url, api_key=KEY).generate("hi")
    assert recorder.heard[0].headers["authorization"] == f"Bearer {KEY}"


def test_a_key_from_the_environment_goes_to_the_base_that_the_environment_names(
    recorder: RecordingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_API_BASE", recorder.base_url)
    ModuleLLM("openai/m").generate("hi")
    ModuleLLM("openai/m", recorder.base_url).generate("hi")
    assert [h.headers["authorization"] for h in recorder.heard] == [f"Bearer {KEY}"] * 2


def test_a_missing_key_is_found_before_the_call(
    recorder: RecordingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_BASE", recorder.base_url)
    with pytest.raises(ModelSetupError, match=r"OPENAI_API_KEY is not set.*export OPENAI_API_KEY"):
        ModuleLLM("openai/m").generate("hi")
    monkeypatch.setenv("OPENAI_API_KEY", "  ")
    with pytest.raises(ModelSetupError, match="OPENAI_API_KEY is not set"):
        asyncio.run(ModuleLLM("openai/m").agenerate("hi"))
    assert recorder.heard == []


def test_each_provider_s_own_variable_is_named() -> None:
    with pytest.raises(ModelSetupError, match="ANTHROPIC_API_KEY is not set"):
        ModuleLLM("anthropic/claude").generate("hi")
    with pytest.raises(ModelSetupError, match="GOOGLE_API_KEY or GEMINI_API_KEY"):
        ModuleLLM("gemini/flash").generate("hi")


@pytest.mark.parametrize(
    ("base", "own"),
    [
        (None, True),
        ("https://api.openai.com/v1", True),
        ("https://api.openai.com:443/other", True),
        ("http://api.openai.com/v1", False),  # in the clear
        ("https://api.openai.com:8443/v1", False),
        ("https://api.openai.com.example.org/v1", False),
        ("https://example.org/api.openai.com", False),
        ("http://127.0.0.1:8000/v1", False),
        ("https://api.openai.com:port/v1", False),
    ],
)
def test_a_provider_s_own_place_is_its_origin(base: str | None, own: bool) -> None:  # noqa: FBT001
    assert keys.is_own_place("openai", base, None) is own


secret_texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=6)


@given(secret=secret_texts, before=st.binary(max_size=9), after=st.binary(max_size=9))
def test_no_form_of_a_key_survives_redaction(secret: str, before: bytes, after: bytes) -> None:
    redact = keys.Redactor([secret])
    coded = base64.b64encode(before + secret.encode() + after).decode()
    for text in (
        secret,
        quote(secret),
        quote(secret, safe=""),
        repr(secret)[1:-1],
        json.dumps(secret)[1:-1],
    ):
        assert redact(f"Key {text}!") == "Key [key]!"
    for text in (coded, coded.replace("+", "-").replace("/", "_")):
        assert "[key]" in redact(text)
        assert redact(text) != text


# Failures.


def echo(form: str) -> dict[str, Any]:
    return {"error": {"message": f"Your key {form} is no good."}}


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503])
@pytest.mark.parametrize(
    "form",
    [KEY, quote(KEY, safe=""), base64.b64encode(f"user:{KEY}".encode()).decode()],
    ids=["plain", "url", "base64"],
)
def test_no_error_shows_the_key(status: int, form: str, recorder: RecordingServer) -> None:
    recorder.answers = [(status, echo(form))]
    llm = ModuleLLM("openai/m", recorder.base_url, api_key=KEY)
    for ask in (llm.generate, lambda text: asyncio.run(llm.agenerate(text))):
        with pytest.raises(ModelCallError) as caught:
            ask("hi")
        assert f"status {status}" in str(caught.value)
        assert "is no good" in str(caught.value)
        assert vars(caught.value)["status"] == status
        text = shown(caught.value)
        assert KEY not in text
        assert form not in text
        assert "litellm.exceptions" not in text  # it holds the request, headers and all


def test_an_error_redacts_other_keys_of_the_environment_too(
    recorder: RecordingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_SERVICE_TOKEN", "tok-of-something-else")
    recorder.answers = [(400, echo("tok-of-something-else"))]
    with pytest.raises(ModelCallError, match=r"Your key \[key\] is no good"):
        ModuleLLM("openai/m", recorder.base_url).generate("hi")


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (400, "Check the parameters"),
        (401, "Check the key"),
        (404, "Check the model's name"),
        (429, "num_retries="),
        (500, "This may pass"),
    ],
)
def test_an_error_says_what_to_do(status: int, advice: str, recorder: RecordingServer) -> None:
    recorder.answers = [(status, echo("x"))]
    with pytest.raises(ModelCallError, match=advice):
        ModuleLLM("openai/m", recorder.base_url, api_key=KEY).generate("hi")


def test_nothing_is_retried_unless_asked_for(recorder: RecordingServer) -> None:
    recorder.answers = [(500, echo("x"))]
    with pytest.raises(ModelCallError):
        ModuleLLM("openai/m", recorder.base_url).generate("hi")
    assert len(recorder.heard) == 1


def test_passing_failures_are_retried_as_often_as_asked_for(recorder: RecordingServer) -> None:
    recorder.answers = [(500, echo("x")), (429, echo("x")), recorder.answers[0]]
    llm = ModuleLLM("openai/m", recorder.base_url, num_retries=2)
    assert llm.generate("hi").text == "Good morning."
    assert len(recorder.heard) == 3


def test_a_refusal_is_not_retried(recorder: RecordingServer) -> None:
    recorder.answers = [(400, echo("x"))]
    with pytest.raises(ModelCallError):
        ModuleLLM("openai/m", recorder.base_url, num_retries=5).generate("hi")
    assert len(recorder.heard) == 1


@pytest.mark.parametrize(
    ("status", "passing"),
    [(400, False), (401, False), (404, False), (408, True), (422, False), (429, True), (503, True)],
)
def test_an_error_says_whether_trying_again_may_help(
    status: int,
    passing: bool,  # noqa: FBT001 - a column of the table
    recorder: RecordingServer,
) -> None:
    recorder.answers = [(status, echo("x"))]
    with pytest.raises(ModelCallError) as caught:
        LiteModel("openai/m", api_base=recorder.base_url).complete(HI)
    assert (caught.value.status, caught.value.passing) == (status, passing)
    assert caught.value.retry_after == 0  # as the server's header says


def test_retry_after_is_seconds_or_a_date() -> None:
    assert [retry_after_seconds(text) for text in ("86400", "1.5", "-3")] == [86_400, 1.5, 0]
    now = datetime.now(UTC)
    assert retry_after_seconds(format_datetime(now - timedelta(days=1), usegmt=True)) == 0
    seconds = retry_after_seconds(format_datetime(now + timedelta(days=1), usegmt=True))
    assert seconds is not None
    assert 80_000 < seconds <= 86_400


@pytest.mark.parametrize("header", [None, "", "soon", "nan", "inf"])
def test_a_retry_after_that_says_nothing_is_none(header: str | None) -> None:
    assert retry_after_seconds(header) is None


def test_prices_are_those_of_litellm_s_list() -> None:
    assert LiteModel("openai/gpt-4o-mini").price() == Price(1.5e-7, 6e-7)
    assert LiteModel("ollama/llama3").price() == Price(0, 0)
    assert LiteModel("openai/nobody-has-heard-of-it").price() is None


def test_an_unreachable_server_is_said_to_be_so() -> None:
    llm = ModuleLLM("openai/m", "http://127.0.0.1:1/v1", api_key=KEY)
    with pytest.raises(ModelCallError, match=r"could not be reached at .*Is it running") as caught:
        llm.generate("hi")
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)
    assert KEY not in shown(caught.value)


def test_a_call_ends_with_its_timeout(recorder: RecordingServer) -> None:
    recorder.gate.clear()
    llm = ModuleLLM("openai/m", recorder.base_url, timeout=0.2)
    with pytest.raises(ModelCallError, match=r"no answer within 0\.2 s"):
        llm.generate("hi")
    with pytest.raises(ModelCallError, match=r"no answer within 0\.2 s"):
        asyncio.run(llm.agenerate("hi"))


def test_an_unknown_provider_is_a_usage_error_with_a_guess() -> None:
    with pytest.raises(UsageError, match=r"Did you mean .*'openai'"):
        ModuleLLM("opnai/m").generate("hi")


def test_a_parameter_that_the_provider_does_not_take_is_named(
    recorder: RecordingServer,
) -> None:
    llm = ModuleLLM("anthropic/claude-3-5-sonnet-20241022", recorder.base_url, seed=3)
    with pytest.raises(ModelCallError, match=r"seed.*Leave that parameter out"):
        llm.generate("hi")
    assert recorder.heard == []


# Quiet.

QUIET = """
import json, sys
seen = []
def hook(event, args):
    if event == "socket.connect" and isinstance(args[1], tuple):
        seen.append(args[1][:2])
    if event == "socket.getaddrinfo":
        seen.append(args[:2])
sys.addaudithook(hook)
from llm_net.llm.module_llm import ModuleLLM
from llm_net.errors import ModelCallError
base = sys.argv[1]
try:
    ModuleLLM("openai/m", base).generate("hi")
except ModelCallError as error:
    assert "status 500" in str(error)
hosts = sorted({str(host) for host, _ in seen})
print(json.dumps(hosts))
"""


def test_no_network_but_the_call_and_no_word_on_the_streams(recorder: RecordingServer) -> None:
    recorder.answers = [(500, echo("x"))]
    result = subprocess.run(
        [sys.executable, "-c", QUIET, recorder.base_url], capture_output=True, text=True, check=True
    )
    assert json.loads(result.stdout) == ["127.0.0.1"]
    assert result.stderr == ""


# A real server.


@pytest.mark.real_llm
def test_a_real_openai_compatible_server_answers() -> None:
    place = server()
    llm = ModuleLLM(
        "openai/smollm2-135m", place.base_url, api_key=place.api_key, temperature=0, max_tokens=40
    )
    completion = llm.generate("Say hello.")
    assert completion.text
    assert completion.usage.completion_tokens > 0
    shape = {
        "type": "object",
        "properties": {"price": {"type": "integer", "maximum": 99}},
        "required": ["price"],
        "additionalProperties": False,
    }
    again = asyncio.run(llm.agenerate("What is your price?", response_format=shape))
    assert isinstance(again.parsed["price"], int)
    with pytest.raises(AnswerError, match="cut off after 1 token,"):
        llm.generate("Price?", response_format=shape, max_tokens=1)


@pytest.mark.real_llm
def test_a_real_server_refuses_who_has_no_key() -> None:
    with pytest.raises(ModelCallError, match="No key was sent"):
        ModuleLLM("openai/smollm2-135m", server().base_url).generate("hi")
