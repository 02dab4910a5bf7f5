"""Actors that break a promise of Pykka's; its suite has to find that out."""

from __future__ import annotations

from typing import Any

from llm_net.event_loop_actor import EventLoopActor


class Swallowing(EventLoopActor):
    """Whoever asks is not told that it failed."""

    def _handle_receive(self, message: Any) -> Any:
        try:
            return super()._handle_receive(message)
        except Exception:  # noqa: BLE001 - that is the point
            return None
