"""Tools of a server that speaks the Model Context Protocol, in a process of its own: `MCPTools`.

Tools, floor 3.

The server is a stranger. It gets no environment but the little that a process needs and what `env`
says; what it offers is read once, at the start, so it cannot put another tool in the place of one
that was looked at; its schemas fetch nothing; its descriptions are text that prompts will hold, so
offer those of servers you trust, by `allowed`.
"""

from __future__ import annotations

import asyncio
import atexit
import difflib
import re
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TextIO

from llm_net.errors import ToolError, UsageError
from llm_net.tools.json_parameters import JsonParameters
from llm_net.tools.mcp_session import Offer, Server, Session
from llm_net.tools.tool import Tool
from llm_net.tools.waiting import from_other_loop

__all__ = ["MCPTools"]


class MCPTools:
    """A server over standard input and output, and its tools.

    It is started when its tools are first asked for, or by `with`; `close`, or the end of the
    `with`, ends it.

        with MCPTools(["uvx", "mcp-server-time"]) as server:
            manager = ToolManager(server.tools)

    Args:
        command: The program and its arguments; no shell reads them.
        env: Variables for the server, besides HOME, PATH and the like: no key goes to it unasked.
        cwd: The directory it is started in.
        timeout: Seconds that its start, and each call, may take.
        allowed: The tools to offer, by the server's names; None for all.
        prefix: Put before the names, so that tools of two servers do not meet.
        errlog: A file for what the server writes to its standard error; None throws it away.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        timeout: float = 30,
        allowed: Sequence[str] | None = None,
        prefix: str = "",
        errlog: TextIO | None = None,
    ) -> None:
        if isinstance(command, str) or not command:
            # Not shown: a command may hold a key.
            raise UsageError(
                "command= is empty or a text, not a list of a program and its arguments, and no "
                "shell reads it. Write MCPTools(['program', 'argument', …])."
            )
        if not timeout > 0:
            raise UsageError(f"timeout={timeout!r} leaves no time. Give seconds, more than 0.")
        self._session = Session(Server(list(command), dict(env or {}), cwd, timeout, errlog))
        self._allowed = allowed
        self._prefix = prefix
        self._lock = threading.Lock()
        self._tools: list[Tool] | None = None
        self._closed = False

    @property
    def name(self) -> str:
        """What the server calls itself; until it does, its program."""
        return self._session.name

    @property
    def tools(self) -> list[Tool]:
        """The tools on offer, as they were when the server started, which it does now if need be.

        Raises:
            ToolError: If the server cannot be started, or offers what cannot be a tool.
            UsageError: If there is no tool of a name in `allowed`, or the server was closed.
        """
        with self._lock:
            if self._closed:
                raise UsageError(
                    f"The MCP server {self.name!r} was closed, or did not start, so there are no "
                    "tools. Make another MCPTools(…)."
                )
            if self._tools is None:
                try:
                    self._tools = [self._tool(offer) for offer in self._chosen()]
                except BaseException:
                    self._closed = True
                    self._session.end()
                    raise
                atexit.register(self.close)  # a program that forgets it leaves no process either
            return list(self._tools)

    def close(self) -> None:
        """End the server and its thread. Its tools answer with an error from now on."""
        with self._lock:
            self._closed = True
            self._session.end()
        atexit.unregister(self.close)

    def __enter__(self) -> Self:
        self.tools  # noqa: B018 - it starts the server
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.close)

    def _chosen(self) -> list[Offer]:
        offers = {offer.name: offer for offer in self._session.start()}
        if self._allowed is None:
            return list(offers.values())
        for name in self._allowed:
            if name not in offers:
                close = difflib.get_close_matches(name, offers, n=1)
                better = f" Did you mean {close[0]!r}?" if close else ""
                raise UsageError(
                    f"allowed holds {name!r}, and the MCP server {self.name!r} offers no such "
                    f"tool.{better} It offers: {', '.join(offers) or 'none'}."
                )
        return [offers[name] for name in self._allowed]

    def _tool(self, offer: Offer) -> Tool:
        try:
            takes = JsonParameters(offer.schema)
        except ToolError as error:
            raise ToolError(
                f"The tool {offer.name!r} of the MCP server {self.name!r} cannot be used. {error} "
                "Leave it out: name those you want in allowed=[…]."
            ) from error
        name = re.sub(r"[^A-Za-z0-9_-]", "_", self._prefix + offer.name)[:64]
        return Tool(name, offer.description, self._function(offer.name), takes, offer.reads)

    def _function(self, name: str) -> Callable[..., Coroutine[Any, Any, str]]:
        async def call(**arguments: Any) -> str:
            return await from_other_loop(self._session.call(name, arguments))

        # What a function of another name, or of another server, is told apart by.
        call.__qualname__ = f"MCPTools.{id(self):x}.{name}"
        return call
