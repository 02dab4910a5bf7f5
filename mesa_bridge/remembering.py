"""An agent's memory, in step with its model; and the words to speak to others, who remember it.

Bridge, floor 6. A step in memory begins by itself with the first thing that is remembered in it,
and ends when the next one begins. So nobody's `step` is wrapped, and one that raises leaves nothing
half done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from llm_net.errors import UsageError
from mesa_bridge.gate import later
from mesa_bridge.hearing import hears
from mesa_bridge.letters import Spoken
from mesa_bridge.mailroom import post
from mesa_bridge.place import listed, named
from mesa_bridge.recording import record
from mesa_bridge.versions import steps

__all__ = ["Remembering"]


class Remembering:
    """For Mesa agents: a memory, and the words to speak and to hear. Goes before `mesa.Agent`."""

    model: Any
    unique_id: int
    _memory: Any = None
    _memory_is_open_for: int | None = None

    @property
    def memory(self) -> Any:
        """What it remembers."""
        memory = self._memory
        if memory is not None:
            memory.agent = self  # held weakly there, so a copy or a restored agent binds it anew
        return memory

    @memory.setter
    def memory(self, memory: Any) -> None:
        self._memory = memory
        self._memory_is_open_for = None

    @property
    def memory_step(self) -> int:
        """The step to which what it remembers now belongs."""
        return steps(self.model)

    def send_message(self, message: str, recipients: Iterable[Any]) -> str:
        """Say something to other agents, of any class.

        It goes by post, as a message of the class `Spoken`: who has a method
        `receive_message(message, sender)` is told by it, who has a memory will remember it.

        Returns:
            Who was told what.

        Raises:
            ValueError: If nobody of them can hear.
        """
        if not isinstance(recipients, Iterable):
            raise UsageError(f"recipients={recipients!r} is no list of agents. Write [agent].")
        asked = list(recipients)
        spoken = Spoken(message)
        heard = [each for each in asked if hears(each, spoken)]
        deaf = [each for each in asked if not any(each is other for other in heard)]
        cannot = f" {listed(deaf)} cannot hear: no receive_message, no memory." if deaf else ""
        if not heard:
            raise ValueError(f"nobody was told.{cannot}")
        for each in heard:
            post(self, each, spoken)
        ids = [each.unique_id for each in heard]
        record(self, "message", {"message": message, "recipients": ids})
        return f"{named(self)} told {listed(heard)}: {message}{cannot}"

    async def asend_message(self, message: str, recipients: Iterable[Any]) -> str:
        """As `send_message`; nobody is waited for."""
        return self.send_message(message, recipients)

    def receive_message(self, message: str, sender: Any) -> None:
        """Remember what somebody said."""
        if self._memory_is_open_for not in {None, self.memory_step}:
            self.post_step()  # it does not belong to the step that was left open
        self.remember("message", {"message": message, "sender": sender.unique_id})

    def pre_step(self) -> None:
        """Begin a step in memory; done by itself at the first thing remembered in it."""
        if self.memory is not None:
            self.memory.process_step(pre_step=True)
        self._memory_is_open_for = self.memory_step

    async def apre_step(self) -> None:
        """As `pre_step`, without blocking the event loop."""
        if self.memory is not None:
            await self.memory.aprocess_step(pre_step=True)
        self._memory_is_open_for = self.memory_step

    def post_step(self) -> None:
        """End a step in memory, and condense what is old; done by itself, too."""
        self._memory_is_open_for = None
        if self.memory is not None:
            self.memory.process_step()

    async def apost_step(self) -> None:
        """As `post_step`, without blocking the event loop."""
        self._memory_is_open_for = None
        if self.memory is not None:
            await self.memory.aprocess_step()

    def _open_memory(self) -> None:
        if self._memory_is_open_for != self.memory_step:
            self.pre_step()  # ends the step that was left open
            self._opened()

    async def _aopen_memory(self) -> None:
        if self._memory_is_open_for != self.memory_step:
            await self.apre_step()
            self._opened()

    def remember(self, kind: str, content: dict[str, Any]) -> None:
        """Something has happened to this agent; no memory is no matter."""
        if self.memory is not None:
            self.memory.add_to_memory(kind, content)

    def _opened(self) -> None:
        """A step has begun in memory."""
        if getattr(self.memory, "llm", None) is not None:
            # It may ask a model when the step is over: beside the plans of others, then.
            later(self._close_memory)

    def _close_memory(self) -> Any:
        if self._memory_is_open_for is None:
            return None
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return self.post_step()
        return self.apost_step()
