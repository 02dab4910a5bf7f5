"""How blocking code waits for an async tool, and any event loop for another.

Tools, floor 0. Knows nothing of the package. In a deterministic run a tool that is run by blocking
code keeps the turn until it is done: it may change what others see.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["finished", "from_other_loop"]

T = TypeVar("T")


def finished(awaitable: Awaitable[T]) -> T:
    """What an awaitable gives, awaited in an event loop of its own; also beside a running loop."""

    async def awaited() -> T:
        return await awaitable

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(awaited())
    return _on_a_thread(lambda: asyncio.run(awaited()))


def _on_a_thread(function: Callable[[], T]) -> T:
    future: Future[T] = Future()
    context = contextvars.copy_context()

    def work() -> None:
        try:
            future.set_result(context.run(function))
        except BaseException as error:  # noqa: BLE001 - raised again where the result is taken
            future.set_exception(error)

    threading.Thread(target=work, name="llm_net-tool", daemon=True).start()
    return future.result()


async def from_other_loop(future: Future[T]) -> T:
    """Await what another loop works on; a loop on virtual time lets it in in order of asking."""
    in_order: Callable[[Future[T]], Awaitable[Any]] | None
    in_order = getattr(asyncio.get_running_loop(), "from_outside", None)
    found: T = await (asyncio.wrap_future(future) if in_order is None else in_order(future))
    return found
