"""A real server of tools, over standard input and output, for the tests of `MCPTools`."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from enum import Enum
from pathlib import Path

from mcp.server.fastmcp import FastMCP
from mcp.types import ToolAnnotations

server = FastMCP("market")


class Unit(Enum):
    KILO = "kg"
    PIECE = "piece"


@server.tool(annotations=ToolAnnotations(readOnlyHint=True))
def price(thing: str, amount: int = 1, unit: Unit = Unit.PIECE) -> str:
    """What a thing costs."""
    return f"{amount} {unit.value} of {thing}: {amount * 3}"


@server.tool()
def sell(thing: str) -> str:
    """Sell a thing."""
    raise ValueError(f"no {thing} left")


@server.tool()
def environment() -> dict[str, str]:
    """All variables that the server sees."""
    return dict(os.environ)


@server.tool()
def where() -> str:
    """The directory that the server is in, and its process."""
    return f"{Path.cwd()}\n{os.getpid()}"


@server.tool()
def die() -> None:
    """End the server in the middle of an answer."""
    os._exit(3)


@server.tool()
async def sleep() -> None:
    """Answer never."""
    await asyncio.Event().wait()


@server.tool(name="odd.name/tool")
def odd() -> str:
    """A tool whose name no provider takes."""
    return "odd"


if __name__ == "__main__":
    sys.stderr.write("market is open\n")
    server.run()
    if "MARKET_STAYS" in os.environ:  # though nobody can ask it anything any more
        time.sleep(600)
