"""The directory: the members of a network by name, as a read-only mapping.

Floor 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar, cast

from llm_net.topology import NetworkNode

__all__ = ["Directory"]

T = TypeVar("T")


class Directory(Mapping[str, T], Generic[T]):
    """The direct members of a network, in the order in which they were added."""

    def __init__(self, node: NetworkNode) -> None:
        self._node = node

    def __getitem__(self, name: str) -> T:
        """The member of that name.

        Raises:
            UnknownAgent: If there is none (it is a KeyError).
        """
        self._node.member(name)
        return cast("T", self._node.agents[name])

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._node.agents))

    def __len__(self) -> int:
        return len(self._node.agents)

    def __repr__(self) -> str:
        return f"<Directory of {self._node.path!r}: {', '.join(self)}>"
