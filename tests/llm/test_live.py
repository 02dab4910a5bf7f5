"""Under pytest no call leaves this machine, unless it is allowed."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_net.errors import LiveCallBlocked
from llm_net.llm import keys
from llm_net.llm.live import VARIABLE, allow_live_calls, check_live
from llm_net.llm.module_llm import ModuleLLM

HERE = [
    "http://127.0.0.1:8000/v1",
    "http://127.9.9.9",
    "http://localhost:11434",
    "http://LOCALHOST/v1",
    "http://models.localhost/v1",
    "http://[::1]:8000/v1",
    "unix:///run/model.sock",
    "http+unix://%2Frun%2Fmodel.sock/v1",
]
ELSEWHERE = [
    None,
    "",
    "https://api.openai.com/v1",
    "http://10.0.0.7:8000/v1",
    "http://192.168.1.2/v1",
    "http://0.0.0.0:8000/v1",
    "http://127.0.0.1.example.org/v1",
    "http://localhost.example.org/v1",
    "http://localhost@example.org/v1",
    "http://example.org/localhost",
    "http://[::2]/v1",
    "127.0.0.1:8000",
]


@pytest.fixture(autouse=True)
def _not_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may have allowed live calls."""
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.mark.parametrize("address", HERE)
def test_calls_within_this_machine_pass(address: str) -> None:
    check_live("openai/m", address)


@pytest.mark.parametrize("address", ELSEWHERE)
def test_calls_that_leave_it_are_blocked(address: str | None) -> None:
    with pytest.raises(LiveCallBlocked, match="'openai/m' would be asked at"):
        check_live("openai/m", address)


@given(host=st.from_regex(r"[a-z0-9.:\[\]@%-]{1,20}", fullmatch=True))
def test_no_odd_host_passes_for_this_machine(host: str) -> None:
    """Nothing but the names and numbers of the loopback interface, whatever it looks like."""
    if "localhost" in host or "127." in host or "::1" in host or "::ffff" in host:
        return
    with pytest.raises(LiveCallBlocked):
        check_live("openai/m", f"http://{host}/v1")


def test_the_text_says_how_to_do_without_and_how_to_allow_it() -> None:
    with pytest.raises(LiveCallBlocked) as caught:
        check_live("openai/m", None)
    for part in ("cassette", "scripted", "allow_live_calls()", f"{VARIABLE}=1"):
        assert part in str(caught.value)


def test_a_block_allows_them_and_ends() -> None:
    with allow_live_calls():
        with allow_live_calls():
            check_live("openai/m", None)
        check_live("openai/m", None)
    with pytest.raises(LiveCallBlocked):
        check_live("openai/m", None)


@allow_live_calls()
def test_a_decorated_test_is_allowed() -> None:
    check_live("openai/m", None)


def test_a_block_holds_for_threads_that_are_older_than_it() -> None:
    """Agents think on such threads."""
    begin, results = threading.Event(), list[str]()

    def work() -> None:
        begin.wait()
        check_live("openai/m", None)
        results.append("passed")

    thread = threading.Thread(target=work)
    thread.start()
    with allow_live_calls():
        begin.set()
        thread.join()
    assert results == ["passed"]


@pytest.mark.parametrize(("value", "allowed"), [("1", True), ("0", False), ("", False)])
def test_the_environment_allows_them(
    value: str,
    allowed: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(VARIABLE, value)
    if allowed:
        check_live("openai/m", None)
    else:
        with pytest.raises(LiveCallBlocked):
            check_live("openai/m", None)


def test_outside_of_a_test_nothing_is_blocked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    check_live("openai/m", None)


# Providers.


@pytest.mark.parametrize("model", ["openai/gpt-4o-mini", "anthropic/claude-x", "groq/m"])
def test_a_provider_s_own_address_is_not_asked_in_a_test(model: str) -> None:
    with pytest.raises(LiveCallBlocked, match=model):
        ModuleLLM(model, api_key="a-key-of-nobody-1").generate("hi")


def test_models_in_this_process_are_never_blocked() -> None:
    assert ModuleLLM("scripted", replies=["hi"]).generate("x").text == "hi"
    assert ModuleLLM(lambda request: request.prompt).generate("x").text == "x"


def test_a_call_goes_where_api_base_says_else_the_environment_else_the_provider(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = "https://api.openai.com"
    assert keys.addresses("openai", None, None) == [own]
    assert keys.addresses("groq", None, "https://groq") == ["https://groq"]
    assert keys.addresses("nobody", None, None) == [None]
    monkeypatch.setenv("OPENAI_API_BASE", "http://127.0.0.1:1")
    monkeypatch.setenv("OPENAI_BASE_URL", "https://proxy.example")
    assert keys.addresses("openai", None, None) == ["http://127.0.0.1:1", "https://proxy.example"]
    assert keys.addresses("openai", "http://[::1]", None) == ["http://[::1]"]
