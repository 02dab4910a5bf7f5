"""Under pytest, no call leaves this machine unless somebody said so.

Model tower, floor 0. A test that asks a provider costs money, and fails when the provider does.
Functions, scripts and models in the process are not asked over a network, and never stopped.
"""

from __future__ import annotations

import os
import re
import threading
from contextlib import contextmanager
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from llm_net.errors import LiveCallBlocked

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["VARIABLE", "allow_live_calls", "check_live"]

VARIABLE = "LLMNET_ALLOW_LIVE_CALLS"
"""Set to 1, live calls are allowed in every test."""

_LOCALHOST = re.compile(r"(.+\.)?localhost")

# For the process, not for a context: agents think on threads that are older than the test.
_allowing = 0
_lock = threading.Lock()


@contextmanager
def allow_live_calls() -> Generator[None, None, None]:
    """Let calls leave this machine while the block runs, whoever makes them.

    ```python
    from llm_net.testing import allow_live_calls

    with allow_live_calls():
        ...  # ask the provider
    ```
    """
    global _allowing  # noqa: PLW0603 - how many blocks are open, for the whole process
    with _lock:
        _allowing += 1
    try:
        yield
    finally:
        with _lock:
            _allowing -= 1


def check_live(name: str, address: str | None) -> None:
    """Let a call to `address` go out, or stop it.

    Args:
        name: The model, for the text.
        address: Where it is asked; None for a provider's own address, which is elsewhere.

    Raises:
        LiveCallBlocked: If a test is running, the address is not this machine's, and nobody
            allowed it.
    """
    if "PYTEST_CURRENT_TEST" not in os.environ:
        return
    if _allowing or os.environ.get(VARIABLE) == "1" or _is_here(address):
        return
    where = f"at {address}" if address else "at its provider's address"
    raise LiveCallBlocked(
        f"{name!r} would be asked {where}, and a test is running: live calls cost money, and their "
        "answers change. Record them once in a cassette and replay that; or use "
        "ModuleLLM('scripted', replies=[…]) or a function; or allow them: with "
        f"llm_net.testing.allow_live_calls(): …, or {VARIABLE}=1."
    )


def _is_here(address: str | None) -> bool:
    """Whether an address is this machine's: loopback, or a socket in its file system."""
    try:
        parts = urlsplit(address or "")
        host = parts.hostname or ""
        socket = parts.scheme in {"unix", "http+unix"}
        return socket or _LOCALHOST.fullmatch(host) is not None or ip_address(host).is_loopback
    except ValueError:  # no address at all; or a name, which may lead anywhere
        return False
