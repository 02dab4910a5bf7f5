"""Addresses: an agent's path, and the words to write to it.

Floor 0. A message carries addresses, never agents: an address holds its agent weakly, is written to
JSON as the path alone, and one that was read from JSON is bound again when an agent handles the
message.
"""

from __future__ import annotations

import weakref
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, Protocol, cast

from pydantic_core import core_schema

from llm_net.errors import AgentStopped, UsageError

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler

    from llm_net.message import Message

__all__ = ["Address", "Addressee"]


class Addressee(Protocol):
    """What an address is bound to: the place of an agent, with a reference while it is live."""

    @property
    def ref(self) -> Any:
        """The agent's reference."""
        ...

    @property
    def is_live(self) -> bool:
        """Whether the agent runs."""
        ...


class Address:
    """An agent's path, usable like its reference.

    Two addresses are equal if their paths are; an address also equals the text of its path.

    Attributes:
        path: From the outermost network's name downwards, as in `firm/sales/worker`.
        bound: Whether the address leads to an agent, and is not only a text.
    """

    __slots__ = ("_target", "bound", "path")

    def __init__(self, path: str, target: Addressee | None = None) -> None:
        self.path = path
        self.bound = target is not None
        self._target = None if target is None else weakref.ref(target)

    @property
    def target(self) -> Addressee | None:
        """What the address leads to, while it exists."""
        return None if self._target is None else self._target()

    @property
    def ref(self) -> Any:
        """The reference of the live agent that the address leads to.

        Raises:
            UsageError: If the address is a text that is bound to no agent.
            AgentStopped: If the agent is gone.
        """
        if self._target is None:
            msg = (
                f"The address {self.path!r} leads to no agent: it is a text, or came from JSON. "
                "It is bound when an agent handles the message that carries it; "
                "outside of a handler use the reference that start() gave."
            )
            raise UsageError(msg)
        target = self._target()
        if target is None:
            msg = f"The agent {self.path!r} is gone: it was stopped, and nothing holds it any more."
            raise AgentStopped(msg)
        return target.ref

    def tell(self, message: Message | str) -> None:
        """Send a message and go on; see `AgentRef.tell`."""
        self.ref.tell(message)

    async def atell(self, message: Message | str) -> None:
        """Send a message, waiting where the mailbox makes us; see `AgentRef.atell`."""
        await self.ref.atell(message)

    def ask(self, message: Message | str, **options: Any) -> Any:
        """Send a message and wait for the reply; see `AgentRef.ask`."""
        return self.ref.ask(message, **options)

    async def aask(self, message: Message | str, **options: Any) -> Any:
        """Send a message and await the reply; see `AgentRef.aask`."""
        return await self.ref.aask(message, **options)

    def stream(self, message: Message | str, **options: Any) -> Iterator[Message]:
        """Iterate over all replies; see `AgentRef.stream`."""
        replies: Iterator[Message] = self.ref.stream(message, **options)
        return replies

    def astream(self, message: Message | str, **options: Any) -> AsyncIterator[Message]:
        """Iterate over all replies; see `AgentRef.astream`."""
        replies: AsyncIterator[Message] = self.ref.astream(message, **options)
        return replies

    def stop(self, **options: Any) -> Any:
        """Stop the agent; see `AgentRef.stop`."""
        return self.ref.stop(**options)

    def is_alive(self) -> bool:
        """Whether the agent is there and runs."""
        target = self.target
        return target is not None and target.is_live

    def proxy(self) -> Any:
        """A Pykka proxy of the agent; see `AgentRef.proxy`."""
        return self.ref.proxy()

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str):
            return self.path == other
        path = getattr(other, "path", None)
        return self.path == path if isinstance(path, str) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.path)

    def __str__(self) -> str:
        return self.path

    def __repr__(self) -> str:
        return f"Address({self.path!r})"

    def __copy__(self) -> Address:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Address:
        # A copied message must not lead back into the network it was copied from.
        return Address(self.path)

    def __reduce__(self) -> tuple[type[Address], tuple[str]]:
        return (Address, (self.path,))

    @classmethod
    def of(cls, value: Any) -> Address:
        """The address of an address, a reference, an agent, or a path as text.

        Raises:
            ValueError: If the value is none of these.
        """
        if isinstance(value, Address):
            return value
        if isinstance(value, str):
            if not value:
                msg = "an address is a path as in 'firm/sales/worker', not an empty text"
                raise ValueError(msg)
            return cls(value)
        address = getattr(value, "__address__", None)
        if address is not None and not isinstance(value, type):
            return cast("Address", address())
        msg = f"an address is a reference, an agent, or a path as text, not {type(value).__name__}"
        raise ValueError(msg)

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.of,
            json_schema_input_schema=core_schema.str_schema(),
            serialization=core_schema.plain_serializer_function_ser_schema(
                str, return_schema=core_schema.str_schema()
            ),
        )
