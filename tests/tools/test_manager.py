"""The manager offers tools and runs them: each call once, checked before, an error as a value."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import gc
import json
import pickle
import threading
import weakref
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_net.errors import ToolArgumentsError, UnknownTool, UsageError
from llm_net.tools.manager import ToolManager
from llm_net.tools.result import ToolResult
from llm_net.tools.tool import Tool, tool
from tests.waiting import within_deadline


def add(x: int, y: int = 1) -> int:
    """Add."""
    return x + y


@tool(reads=True)
async def fetch(key: str) -> str:
    """Fetch."""
    await asyncio.sleep(0)
    return f"value of {key}"


@tool
def sign(agent: Any, text: str) -> str:
    """Sign."""
    return f"{text} ({agent})"


class Ledger:
    """Counts how often it is paid from."""

    def __init__(self) -> None:
        self.paid: list[int] = []

    def pay(self, amount: int) -> list[int]:
        """Pay."""
        self.paid.append(amount)
        return self.paid


def message(*calls: tuple[str, str | None]) -> Any:
    """A model's message, in LiteLLM's shape."""
    return SimpleNamespace(
        content="",
        tool_calls=[
            SimpleNamespace(
                id=f"call_{n}", function=SimpleNamespace(name=name, arguments=arguments)
            )
            for n, (name, arguments) in enumerate(calls)
        ],
    )


def names(schemas: list[dict[str, Any]]) -> list[str]:
    return [schema["function"]["name"] for schema in schemas]


@pytest.fixture
def manager() -> ToolManager:
    return ToolManager([add, fetch, sign])


def test_tools_come_as_functions_as_tools_or_by_name() -> None:
    assert list(ToolManager().tools) == []
    assert list(ToolManager([add, Tool.of(fetch)]).tools) == ["add", "fetch"]
    named: dict[str, Callable[..., Any]] = {"plus": add, "get": fetch}
    assert list(ToolManager(named).tools) == ["plus", "get"]
    assert ToolManager([add]).tools["add"](2, y=3) == 5


def test_a_tool_is_found_by_name(manager: ToolManager) -> None:
    assert manager.has_tool("add")
    assert not manager.has_tool("fly")
    assert manager.reads("fetch")
    assert not manager.reads("add")
    assert not manager.reads("fly")
    assert manager.get_tool_schema("add") == manager.get_tool_schema(add) == Tool.of(add).schema
    with pytest.raises(UnknownTool, match=r"Did you mean 'add'\? There are: add, fetch, sign"):
        manager.get_tool_schema("ad")


def test_schemas_that_are_given_out_may_be_changed_at_will(manager: ToolManager) -> None:
    before = copy.deepcopy(manager.offers())
    for schema in (
        *manager.get_all_tools_schema(),
        *(each.schema for each in manager.tools.values()),
    ):
        schema["function"]["parameters"].clear()
    assert manager.offers() == before


def test_one_text_is_no_list_of_tools(manager: ToolManager) -> None:
    with pytest.raises(UsageError, match=r"selected_tools=\['add'\]"):
        manager.get_all_tools_schema("add")


def test_selected_tools_are_all_none_or_those_named(manager: ToolManager) -> None:
    assert names(manager.get_all_tools_schema()) == ["add", "fetch", "sign"]
    assert names(manager.get_all_tools_schema([])) == []
    assert names(manager.get_all_tools_schema(["sign", "add"])) == ["add", "sign"]
    with pytest.raises(UsageError, match=r"'fetsh'.*Did you mean 'fetch'\?"):
        manager.get_all_tools_schema(["add", "fetsh"])


def test_only_what_is_selected_passes_the_check(manager: ToolManager) -> None:
    assert manager.check("add", '{"x": "2"}', ["add"]) == {"x": 2}
    assert manager.check("add", {"x": 2}) == {"x": 2}
    for selected in ([], ["fetch"]):
        with pytest.raises(UnknownTool, match="'add' is offered here, so nothing was run"):
            manager.check("add", {"x": 2}, selected)
    with pytest.raises(ToolArgumentsError):
        manager.check("add", {"x": "bob"})


def test_two_tools_of_one_name_are_refused() -> None:
    def another(x: int) -> int:
        """Another."""
        return x

    manager = ToolManager([add])
    with pytest.raises(UsageError, match="There is a tool 'add' already"):
        manager.register(another, "add")
    manager.register(another, "add_too")
    assert manager.call("add_too", {"x": 1}) == 1


def test_the_same_method_of_two_objects_is_two_tools() -> None:
    mine, yours = Ledger(), Ledger()
    manager = ToolManager([mine.pay, mine.pay])
    with pytest.raises(UsageError, match="There is a tool 'pay' already"):
        manager.register(yours.pay)
    manager.call("pay", {"amount": 1})
    assert (mine.paid, yours.paid) == ([1], [])


def test_a_function_that_is_defined_again_takes_its_old_place() -> None:
    manager = ToolManager()
    for word in ("first", "second"):

        @tool(tool_manager=manager)
        def say() -> str:
            """Say."""
            return word  # noqa: B023 - each is called in its own round

        assert manager.call("say", {}) == word
    assert list(manager.tools) == ["say"]


@pytest.mark.parametrize("where", ["run", "arun", "run in a loop"])
def test_sync_and_async_tools_run_from_blocking_code_and_from_a_loop(
    manager: ToolManager, where: str
) -> None:
    def run(name: str, arguments: str) -> ToolResult:
        async def in_loop() -> ToolResult:
            if where == "arun":
                return await manager.arun(name, arguments, agent="ann", id="7")
            return manager.run(name, arguments, agent="ann", id="7")

        if where == "run":
            return manager.run(name, arguments, agent="ann", id="7")
        return within_deadline(lambda: asyncio.run(in_loop()))

    assert run("add", '{"x": "2"}') == ToolResult("add", "7", 3)
    assert run("fetch", '{"key": "a"}') == ToolResult("fetch", "7", "value of a")
    assert run("sign", '{"text": "I do"}') == ToolResult("sign", "7", "I do (ann)")


def test_an_async_tool_sees_the_context_of_whoever_runs_it() -> None:
    place = contextvars.ContextVar("place", default="nowhere")

    async def where() -> str:
        """Where."""
        return place.get()

    async def in_loop() -> str:
        place.set("market")
        return ToolManager([where]).run("where", "").text

    assert asyncio.run(in_loop()) == "market"


def test_a_thread_that_drove_a_tool_is_gone_when_it_is_done(manager: ToolManager) -> None:
    async def in_loop() -> None:
        manager.run("fetch", {"key": "a"})

    asyncio.run(in_loop())
    for thread in threading.enumerate():
        if thread.name == "llm_net-tool":
            thread.join(10)
            assert not thread.is_alive()


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("fly", "{}", "No tool 'fly'"),
        ("add", '{"x": 1', "no complete JSON"),
        ("add", "[1]", "a list"),
        ("add", "{}", "x: is missing"),
        ("add", '{"x": "bob"}', '"bob" was given'),
        ("add", '{"x": 1, "z": 2}', "z: there is no such parameter"),
        ("sign", '{"text": "I do", "agent": "bob"}', "agent: there is no such parameter"),
    ],
)
def test_a_wrong_call_is_an_error_that_a_model_can_read(
    manager: ToolManager, name: str, arguments: str, told: str
) -> None:
    for result in (manager.run(name, arguments), asyncio.run(manager.arun(name, arguments))):
        assert told in (result.error or "")
        assert result.text == f"Error: {result.error}"


@given(
    name=st.sampled_from(["pay", "fetch", "sign", "fly"]) | st.text(),
    arguments=st.text()
    | st.dictionaries(st.sampled_from(["amount", "key", "agent"]), st.integers() | st.text()),
)
def test_whatever_a_model_calls_nothing_is_raised_and_only_what_fits_is_run(
    name: str, arguments: Any
) -> None:
    ledger = Ledger()
    manager = ToolManager([ledger.pay, fetch, sign])
    for _ in range(2):
        before = len(ledger.paid)
        result = manager.run(name, arguments)
        ran = result.error is None and name == "pay"
        assert len(ledger.paid) == before + ran


class Oops(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("too dark"), "ValueError: too dark"),
        (Oops(), "Oops"),
        (SystemExit(1), "SystemExit: 1"),
        (asyncio.CancelledError(), "CancelledError"),
        (RecursionError("deep"), "RecursionError: deep"),
    ],
)
@pytest.mark.parametrize("is_async", [False, True])
def test_a_tool_that_raises_is_an_error_as_a_value(
    error: BaseException,
    told: str,
    is_async: bool,  # noqa: FBT001
) -> None:
    def fail() -> None:
        """Fail."""
        raise error

    async def afail() -> None:
        """Fail."""
        raise error

    manager = ToolManager({"fail": afail if is_async else fail})

    async def in_loop() -> list[ToolResult]:
        return [await manager.arun("fail", ""), manager.run("fail", "")]

    for result in (manager.run("fail", ""), *asyncio.run(in_loop())):
        assert result.error == told
        assert "Traceback" not in result.text
    with pytest.raises(type(error)):
        manager.call("fail", {})


def test_the_user_may_end_the_program_while_a_tool_runs() -> None:
    def fail() -> None:
        """Fail."""
        raise KeyboardInterrupt

    manager = ToolManager([fail])
    with pytest.raises(KeyboardInterrupt):
        manager.run("fail", "")


def test_a_task_may_be_cancelled_while_a_tool_runs() -> None:
    async def scenario() -> None:
        begun = asyncio.Event()

        async def wait() -> None:
            """Wait."""
            begun.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(ToolManager([wait]).arun("wait", ""))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    within_deadline(lambda: asyncio.run(scenario()))


def test_a_program_gets_values_and_exceptions(manager: ToolManager) -> None:
    assert manager.call("add", {"x": 2, "y": 3}) == 5
    assert manager.call("fetch", {"key": "a"}) == "value of a"
    assert manager.call("sign", {"text": "I do"}, agent="ann") == "I do (ann)"
    with pytest.raises(ToolArgumentsError):
        manager.call("add", {})
    with pytest.raises(UnknownTool):
        manager.call("fly", {})


def call_all(manager: ToolManager, said: Any, how: str) -> list[dict[str, str]]:
    if how == "sync":
        return manager.call_tools("ann", said)
    return asyncio.run(manager.acall_tools("ann", said))


@pytest.mark.parametrize("how", ["sync", "async"])
def test_all_calls_of_a_message_are_run_in_order_each_once(how: str) -> None:
    ledger = Ledger()
    manager = ToolManager([ledger.pay, fetch, sign])
    said = message(
        ("pay", '{"amount": "1"}'),
        ("pay", '{"amount": "lots"}'),
        ("fly", None),
        ("fetch", '{"key": "a"}'),
        ("sign", '{"text": "I do"}'),
        ("pay", '{"amount": 2}'),
    )
    answers = call_all(manager, said, how)
    assert ledger.paid == [1, 2]
    assert [each["tool_call_id"] for each in answers] == [f"call_{n}" for n in range(6)]
    assert [each["role"] for each in answers] == ["tool"] * 6
    assert [each["name"] for each in answers] == ["pay", "pay", "fly", "fetch", "sign", "pay"]
    said_back = [each["response"] for each in answers]
    assert said_back[0] == "[1]"
    assert said_back[1].startswith("Error: The call of 'pay' was refused")
    assert said_back[2].startswith("Error: No tool 'fly'")
    assert said_back[3:] == ["value of a", "I do (ann)", "[1, 2]"]
    json.dumps(answers)


@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize("said", [SimpleNamespace(tool_calls=None), "no message", message()])
def test_a_message_without_calls_runs_nothing(manager: ToolManager, said: Any, how: str) -> None:
    assert call_all(manager, said, how) == []


def test_managers_of_module_level_functions_can_be_copied_and_pickled(
    manager: ToolManager,
) -> None:
    manager.get_all_tools_schema()
    again: Callable[[ToolManager], ToolManager]
    for again in (copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))):
        twin = again(manager)
        assert twin.get_all_tools_schema() == manager.get_all_tools_schema()
        twin.register(add, "plus")
        assert not manager.has_tool("plus")
        assert twin.run("add", {"x": 1}).value == 2


def test_a_manager_that_nobody_holds_goes_away() -> None:
    manager = ToolManager([add, fetch])
    manager.run("add", {"x": 1})
    held = weakref.ref(manager)
    del manager
    gc.collect()
    assert held() is None
