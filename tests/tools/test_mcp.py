"""Tools of a real server, in a process of its own, over standard input and output."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llm_net.errors import ToolError, UsageError
from llm_net.tools.json_parameters import JsonParameters
from llm_net.tools.manager import ToolManager
from llm_net.tools.mcp import MCPTools
from llm_net.tools.schema import Misfit
from tests.waiting import DEADLINE_S, within_deadline

SERVER = [sys.executable, str(Path(__file__).with_name("mcp_server.py"))]
NAMES = ["price", "sell", "environment", "where", "die", "sleep", "odd_name_tool"]


@pytest.fixture(scope="module")
def server() -> Iterator[MCPTools]:
    """One server for the tests that leave it as it is."""
    with MCPTools(SERVER) as running:
        yield running


@pytest.fixture
def manager(server: MCPTools) -> ToolManager:
    return ToolManager(server.tools)


def of_mcp() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "llm_net-mcp"]


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_server_offers_its_tools(server: MCPTools, manager: ToolManager) -> None:
    assert server.name == "market"
    assert list(manager.tools) == NAMES
    assert [name for name in NAMES if manager.reads(name)] == ["price"]
    function = manager.get_tool_schema("price")["function"]
    assert function["description"] == "What a thing costs."
    assert function["parameters"]["required"] == ["thing"]


def test_its_tools_are_called_from_blocking_code_and_from_any_loop(manager: ToolManager) -> None:
    async def in_loop() -> list[str]:
        return [
            (await manager.arun("price", {"thing": "tea"})).text,
            manager.run("price", {"thing": "tea"}).text,
        ]

    said = [manager.run("price", '{"thing": "tea"}').text]
    said += within_deadline(lambda: asyncio.run(in_loop()))
    said += within_deadline(lambda: asyncio.run(in_loop()))
    assert said == ["1 piece of tea: 3"] * 5


def test_calls_from_many_threads_get_each_its_own_answer(manager: ToolManager) -> None:
    said: dict[int, str] = {}

    def ask(amount: int) -> None:
        said[amount] = manager.run("price", {"thing": "tea", "amount": amount}).text

    threads = [threading.Thread(target=ask, args=(amount,)) for amount in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert said == {amount: f"{amount} piece of tea: {amount * 3}" for amount in range(20)}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({}, "'thing' is a required property"),
        ({"thing": 3}, "thing: 3 is not of type 'string'"),
        ({"thing": "tea", "amount": "lots"}, "amount: 'lots' is not of type 'integer'"),
        ({"thing": "tea", "unit": "ton"}, "unit: 'ton' is not one of"),
        ({"thing": "tea", "agent": "me"}, "'agent' was unexpected"),
    ],
)
def test_arguments_are_checked_before_the_server_sees_them(
    manager: ToolManager, arguments: dict[str, Any], told: str
) -> None:
    assert told in (manager.run("price", arguments).error or "")


def test_an_error_of_a_tool_is_a_value(manager: ToolManager) -> None:
    result = manager.run("sell", {"thing": "tea"})
    assert "no tea left" in (result.error or "")


def test_a_tool_whose_name_no_provider_takes_gets_another(manager: ToolManager) -> None:
    assert manager.run("odd_name_tool", "").text == "odd"


def test_a_server_sees_no_key_that_was_not_meant_for_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "canary-in-the-mine")
    with MCPTools(
        SERVER, env={"MARKET": "open"}, cwd=tmp_path, allowed=["environment", "where"]
    ) as s:
        manager = ToolManager(s.tools)
        seen = manager.run("environment", "").text
        assert "canary" not in seen
        assert "OPENAI" not in seen
        assert '"MARKET": "open"' in seen
        assert manager.run("where", "").text.startswith(str(tmp_path))


def test_a_clean_end_leaves_no_process_and_no_thread(server: MCPTools) -> None:
    before = set(of_mcp())
    with MCPTools(SERVER) as other:
        manager = ToolManager(other.tools)
        process = int(manager.run("where", "").text.splitlines()[1])
        assert is_running(process)
        assert set(of_mcp()) - before
    assert not is_running(process)
    assert set(of_mcp()) == before
    assert "'market' is gone" in (manager.run("where", "").error or "")
    with pytest.raises(UsageError, match="was closed"):
        _ = other.tools
    other.close()


def test_a_program_that_forgets_to_close_a_server_ends_it_quietly() -> None:
    program = f"""
from llm_net.tools.manager import ToolManager
from llm_net.tools.mcp import MCPTools
server = MCPTools({SERVER!r}, env={{"MARKET_STAYS": "yes"}})
print(ToolManager(server.tools).run("where", "").text)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=6 * DEADLINE_S,
        check=True,
    )
    assert done.stderr == ""
    assert not is_running(int(done.stdout.splitlines()[1]))


def test_a_server_lives_through_a_block_of_async_code() -> None:
    async def scenario() -> str:
        async with MCPTools(SERVER, allowed=["price"]) as server:
            return (await ToolManager(server.tools).arun("price", {"thing": "tea"})).text

    assert within_deadline(lambda: asyncio.run(scenario())) == "1 piece of tea: 3"


def test_a_server_that_dies_is_an_error_that_names_it() -> None:
    with MCPTools(SERVER) as server:
        manager = ToolManager(server.tools)
        died = within_deadline(lambda: manager.run("die", ""))
        assert "MCP server 'market' gave no answer to 'die'" in (died.error or "")
        for _ in range(2):
            late = within_deadline(lambda: manager.run("price", {"thing": "tea"}))
            assert "MCP server 'market' is gone" in (late.error or "")


def test_a_call_that_takes_too_long_is_given_up_and_the_server_can_be_ended() -> None:
    with MCPTools(SERVER, allowed=["sleep"]) as server:
        # Given at the start, so short a time would fail the start.
        server._session._server = replace(server._session._server, timeout=0.1)
        manager = ToolManager(server.tools)
        assert "it took too long" in (manager.run("sleep", "").error or "")
        within_deadline(server.close)


def test_what_still_waits_when_the_server_is_closed_gets_an_error() -> None:
    server = MCPTools(SERVER, allowed=["sleep"])
    manager = ToolManager(server.tools)
    results: list[str] = []
    asking = threading.Thread(target=lambda: results.append(manager.run("sleep", "").text))
    asking.start()
    while not server._session._calls:  # until the call is on its way
        assert asking.is_alive()
    within_deadline(server.close)
    asking.join(DEADLINE_S)
    assert "'market' is gone" in results[0]


def test_a_call_that_is_cancelled_harms_nobody_else() -> None:
    async def scenario(manager: ToolManager, server: MCPTools) -> str:
        call = asyncio.create_task(manager.arun("sleep", ""))
        while not server._session._calls:  # noqa: ASYNC110 - another thread's, without an event
            await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        return (await manager.arun("price", {"thing": "tea"})).text

    with MCPTools(SERVER) as server:
        manager = ToolManager(server.tools)
        said = within_deadline(lambda: asyncio.run(scenario(manager, server)))
        assert said == "1 piece of tea: 3"


def test_only_allowed_tools_are_offered_and_names_may_have_a_prefix() -> None:
    with MCPTools(SERVER, allowed=["sell", "price"], prefix="shop_") as server:
        assert [each.name for each in server.tools] == ["shop_sell", "shop_price"]
        assert ToolManager(server.tools).run("shop_price", {"thing": "tea"}).text.endswith("3")


def test_an_allowed_tool_that_is_not_offered_is_refused_and_nothing_is_left(
    server: MCPTools,
) -> None:
    before = set(of_mcp())
    with pytest.raises(UsageError, match=r"allowed holds 'prize'.*Did you mean 'price'\?"):
        _ = MCPTools(SERVER, allowed=["prize"]).tools
    assert set(of_mcp()) == before


def test_tools_of_two_servers_do_not_take_each_others_place(server: MCPTools) -> None:
    def price(thing: str) -> str:
        """Our own."""
        return thing

    manager = ToolManager([price])
    with pytest.raises(UsageError, match="There is a tool 'price' already"):
        manager.register(server.tools[0])
    with MCPTools(SERVER, allowed=["price"]) as other:
        manager = ToolManager(server.tools)
        with pytest.raises(UsageError, match="There is a tool 'price' already"):
            manager.register(other.tools[0])


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["no-such-program-at-all"], "No such file"),
        ([sys.executable, "-c", "pass"], "'python"),
    ],
)
def test_a_server_that_does_not_start_is_an_error_that_says_why(
    command: list[str], told: str
) -> None:
    before = set(of_mcp())
    with pytest.raises(ToolError, match="could not be started") as raised:
        within_deadline(lambda: MCPTools(command).tools)
    assert told in str(raised.value)
    assert set(of_mcp()) <= before


def test_a_server_that_never_answers_is_given_up() -> None:
    silent = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with pytest.raises(ToolError, match="it took too long"):
        within_deadline(lambda: MCPTools(silent, timeout=0.5).tools)


def test_what_the_server_writes_beside_goes_where_it_is_told(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w+") as log, MCPTools(SERVER, errlog=log, allowed=["price"]):
        pass
    assert "market is open" in (tmp_path / "log").read_text()


@pytest.mark.parametrize("command", ["python server.py", []])
def test_a_command_that_a_shell_would_have_to_read_is_refused(command: Any) -> None:
    with pytest.raises(UsageError, match="not a list of a program"):
        MCPTools(command)


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_a_timeout_that_leaves_no_time_is_refused(timeout: float) -> None:
    with pytest.raises(UsageError, match="leaves no time"):
        MCPTools(SERVER, timeout=timeout)


def test_without_the_extra_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mcp", None)
    with pytest.raises(ToolError, match=r"^Tools of MCP .* pip install 'llm-net\[mcp\]'$"):
        _ = MCPTools(SERVER).tools


@pytest.mark.parametrize(
    "schema",
    [{"type": "nothing"}, {"properties": 3}, {"description": "x" * 200_000}],
)
def test_a_schema_that_is_none_or_too_long_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(ToolError, match="The schema"):
        JsonParameters(schema)


@pytest.mark.parametrize(
    "reference", ["#", "#/$defs/a", "#/$defs/nowhere", "http://127.0.0.1:9/schema.json"]
)
def test_a_reference_in_a_circle_or_to_elsewhere_is_a_refusal_and_fetches_nothing(
    reference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[Any] = []
    monkeypatch.setattr("urllib.request.urlopen", fetched.append)
    schema = {"$ref": reference, "$defs": {"a": {"$ref": "#/$defs/a"}}}
    with pytest.raises(Misfit, match="cannot be followed"):
        JsonParameters(schema).check({"x": 1})
    assert not fetched
