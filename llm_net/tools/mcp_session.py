"""A running server that speaks the Model Context Protocol, and the thread that speaks with it.

Tools, floor 2. The only file that imports the protocol's SDK, when a server is started. The session
lives in an event loop of its own thread: blocking code and any event loop may call it, and the
short-lived loops of `asyncio.run` do not end it.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

from llm_net.errors import ToolError

if TYPE_CHECKING:
    from mcp import ClientSession
    from mcp.types import CallToolResult

__all__ = ["Offer", "Server", "Session"]


@dataclass(frozen=True)
class Server:
    """How a server is started; see `MCPTools`."""

    command: Sequence[str]
    env: Mapping[str, str]
    cwd: str | Path | None
    timeout: float
    errlog: TextIO | None


@dataclass(frozen=True)
class Offer:
    """A tool, as the server describes it."""

    name: str
    description: str
    schema: dict[str, Any]
    reads: bool


class Session:
    """A server's process, from `start` to `end`.

    Attributes:
        name: What the server calls itself; until it does, its program.
    """

    def __init__(self, server: Server) -> None:
        self.name = Path(server.command[0]).name
        self._server = server
        self._ready: Future[list[Offer]] = Future()
        self._lock = threading.Lock()
        # Under the lock: whether it shall end, who waits for an answer, and the loop while it runs.
        self._over = False
        self._waiting: set[Future[str]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        # Of the session's own thread.
        self._session: ClientSession | None = None
        self._serving: asyncio.Task[Any] | None = None
        self._calls: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, name="llm_net-mcp", daemon=True)

    def start(self) -> list[Offer]:
        """Start the server, and ask it what it offers.

        Raises:
            ToolError: If it cannot be started, or does not answer in time.
        """
        self._thread.start()
        try:
            return self._ready.result()
        except ToolError:
            raise
        except Exception as error:
            raise ToolError(
                f"The MCP server {self.name!r} could not be started: {_reason(error)}. "
                "Run its command by hand to see why, or give errlog=sys.stderr."
            ) from error

    def call(self, name: str, arguments: Mapping[str, Any]) -> Future[str]:
        """Call a tool; from any thread.

        Raises:
            ToolError: If the server is gone.
        """
        answer: Future[str] = Future()
        answer.set_running_or_notify_cancel()  # the server does it, whoever stops waiting
        with self._lock:
            if self._loop is None:
                raise self._gone()
            self._waiting.add(answer)
            self._loop.call_soon_threadsafe(self._begin, name, arguments, answer)
        return answer

    def end(self) -> None:
        """End the process and the thread, and wait until they are gone."""
        with self._lock:
            self._over = True
            if self._loop is not None and self._serving is not None:
                self._loop.call_soon_threadsafe(self._serving.cancel)
        if self._thread.ident is not None:
            self._thread.join()

    def _gone(self) -> ToolError:
        return ToolError(
            f"The MCP server {self.name!r} is gone: it has ended, or was closed. "
            "Its tools cannot be called any more."
        )

    def _run(self) -> None:
        server = self._server
        with Path(os.devnull).open("w") as nowhere, asyncio.Runner() as runner:
            try:
                runner.run(self._serve(server, server.errlog or nowhere))
            except BaseException as error:  # noqa: BLE001 - told to whoever waits for the start
                if not self._ready.done():
                    self._ready.set_exception(error)
            # While the loop is still open: from here on nobody posts to it, and nobody waits.
            with self._lock:
                self._loop = None
            if not self._ready.done():
                self._ready.set_exception(self._gone())
            for answer in self._waiting:
                answer.set_exception(self._gone())

    async def _serve(self, server: Server, errlog: TextIO) -> None:
        try:
            from mcp import ClientSession, StdioServerParameters, stdio_client  # noqa: PLC0415
        except ImportError as error:
            raise ToolError(
                "Tools of MCP servers need an extra that is not installed: "
                "pip install 'llm-net[mcp]'"
            ) from error

        with self._lock:
            if self._over:
                return
            self._loop = asyncio.get_running_loop()
            self._serving = asyncio.current_task()
        how = StdioServerParameters(
            command=server.command[0],
            args=list(server.command[1:]),
            env=dict(server.env),
            cwd=server.cwd,
        )
        async with stdio_client(how, errlog) as streams, ClientSession(*streams) as session:
            async with asyncio.timeout(server.timeout):
                self.name = (await session.initialize()).serverInfo.name
                offers = await _offers(session)
            self._session = session
            self._ready.set_result(offers)
            await asyncio.Event().wait()  # until `end`, or until the server breaks the pipe

    def _begin(self, name: str, arguments: Mapping[str, Any], answer: Future[str]) -> None:
        task = asyncio.get_running_loop().create_task(self._answer(name, arguments, answer))
        self._calls.add(task)  # a loop holds its tasks weakly
        task.add_done_callback(self._calls.discard)

    async def _answer(self, name: str, arguments: Mapping[str, Any], answer: Future[str]) -> None:
        from anyio import BrokenResourceError, ClosedResourceError  # noqa: PLC0415

        assert self._session is not None
        try:
            async with asyncio.timeout(self._server.timeout):
                text = _text(await self._session.call_tool(name, dict(arguments)))
        except ToolError as error:
            answer.set_exception(error)
        except (ClosedResourceError, BrokenResourceError):  # nobody reads or writes there any more
            answer.set_exception(self._gone())
        except Exception as error:  # noqa: BLE001 - of the SDK, of anyio: whoever asked is told
            answer.set_exception(
                ToolError(
                    f"The MCP server {self.name!r} gave no answer to {name!r}: {_reason(error)}. "
                    "Whether it did what it was asked is not known."
                )
            )
        else:
            answer.set_result(text)
        self._waiting.discard(answer)


async def _offers(session: ClientSession) -> list[Offer]:
    from mcp.types import PaginatedRequestParams  # noqa: PLC0415 - comes with an extra

    offers: list[Offer] = []
    page = await session.list_tools()
    while True:
        for each in page.tools:
            reads = each.annotations is not None and each.annotations.readOnlyHint is True
            offers.append(Offer(each.name, each.description or "", each.inputSchema, reads))
        if not page.nextCursor:
            return offers
        page = await session.list_tools(params=PaginatedRequestParams(cursor=page.nextCursor))


def _text(result: CallToolResult) -> str:
    """What a model can read of a result.

    Raises:
        ToolError: If it is an error.
    """
    parts = [getattr(each, "text", None) or f"[{each.type}, not shown]" for each in result.content]
    text = "\n".join(parts)
    if result.isError:
        raise ToolError(text or "the server gave no reason")
    if not parts and result.structuredContent is not None:
        return json.dumps(result.structuredContent, ensure_ascii=False)
    return text


def _reason(error: BaseException) -> str:
    """The text of an error; a task group puts it in another, or in several."""
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    if isinstance(error, TimeoutError):
        return "it took too long"
    return str(error) or type(error).__name__
