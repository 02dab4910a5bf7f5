"""The file of a cassette: one line an episode, whole after whatever end of the process.

Model tower, floor 2. Episodes are appended as they come, so that a process that is killed loses at
most the line it was writing. Closed, the file is put in order: by place, and at a place in order of
asking. So two recordings of the same calls are the same bytes, whichever thread was faster.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from llm_net.errors import UsageError
from llm_net.llm.episodes import KEY_VERSION, Episode, from_line, to_line

try:
    import fcntl
except ImportError:  # Windows: there, two that record on one file are not noticed
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from os import PathLike

__all__ = ["SCHEMA", "Tape"]

SCHEMA = 1
"""The form of the file; another number means other lines."""

_HEADER = (
    json.dumps({"format": "llm_net cassette", "schema": SCHEMA, "key_version": KEY_VERSION}) + "\n"
).encode()


class Tape:
    """A file of episodes. Not thread-safe: the cassette that owns it is.

    Args:
        path: The file, which need not exist yet.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)
        self._seen: bytes | None = None
        self._whole = 0  # bytes of what was seen that stay
        self._kept: list[Episode] = []
        self._added: list[tuple[int, Episode]] = []
        self._file: BinaryIO | None = None
        self._process = os.getpid()

    def read(self) -> list[Episode] | None:
        """All episodes, in the order of the file; None if nothing has been recorded yet.

        What is not read is replaced with the first episode that is appended. A last line without
        an end is what a killed process left, and is passed over.

        Raises:
            UsageError: If this is no cassette, one of another version, or a damaged one.
        """
        self._seen = self.path.read_bytes() if self.path.exists() else b""
        header, *lines = self._seen.splitlines(keepends=True) or [b""]
        if not header.endswith(b"\n"):
            if _HEADER.startswith(header):
                return None
            raise self._no_cassette()
        self._check(header)
        whole = [line for line in lines if line.endswith(b"\n")]
        self._kept = [self._episode(line, number) for number, line in enumerate(whole, start=2)]
        self._whole = len(header) + sum(map(len, whole))
        return list(self._kept)

    def append(self, number: int, episode: Episode) -> None:
        """Write an episode down, behind those that were read.

        Args:
            number: Its place in the order of asking.
            episode: What happened.

        Raises:
            UsageError: If somebody else records on the same file, or has since it was read.
        """
        if os.getpid() != self._process:  # a fork's file is its parent's
            raise self._shared()
        if self._file is None:
            self._file = self._opened()
        self._added.append((number, episode))
        self._file.write(to_line(episode))
        self._file.flush()

    def close(self) -> None:
        """Put the file in order, if anything was recorded; recording may go on later."""
        if self._file is None or os.getpid() != self._process:
            return
        self._added.sort(key=lambda numbered: numbered[0])
        self._kept = sorted(
            [*self._kept, *(episode for _, episode in self._added)], key=lambda each: each.place
        )
        self._added = []
        content = b"".join([_HEADER, *map(to_line, self._kept)])
        path = self.path.resolve()  # a link stays a link
        draft = path.with_name(f".{path.name}.{self._process}")
        draft.write_bytes(content)
        if fcntl is None:
            self._file.close()
        draft.replace(path)
        self._file.close()
        self._file = None
        self._seen, self._whole = content, len(content)

    def _opened(self) -> BinaryIO:
        """The file to append to, locked, and holding what is kept."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = self.path.open("a+b")
        try:
            self._lock(file)
            file.truncate(self._whole)
            if not self._whole:
                file.write(_HEADER)
        except BaseException:
            file.close()
            raise
        return file

    def _lock(self, file: BinaryIO) -> None:
        """Make sure that nobody else records here, and nobody has since the file was read."""
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise self._shared() from error
        # Who closes a tape puts another file in its place; a lock on the old one locks nothing.
        replaced = not os.path.samestat(os.fstat(file.fileno()), self.path.stat())
        file.seek(0)
        if replaced or (self._seen is not None and file.read() != self._seen):
            raise self._shared()

    def _check(self, header: bytes) -> None:
        try:
            told = json.loads(header)
            found = (int(told["schema"]), int(told["key_version"]))
        except (ValueError, KeyError, TypeError) as error:
            raise self._no_cassette() from error
        if found != (SCHEMA, KEY_VERSION):
            newer = found > (SCHEMA, KEY_VERSION)
            raise UsageError(
                f"The cassette {self.path} has schema {found[0]} and key version {found[1]}; this "
                f"llm_net reads schema {SCHEMA} and key version {KEY_VERSION}. "
                + ("Upgrade llm_net, or record" if newer else "Record")
                + " it again with mode='all'."
            )

    def _episode(self, line: bytes, number: int) -> Episode:
        try:
            return from_line(line)
        except ValueError as error:
            raise UsageError(
                f"Line {number} of the cassette {self.path} cannot be played: {error}. A cassette "
                "is evidence of what a model said. Restore the line, or delete it and record the "
                "call again with mode='new_episodes'."
            ) from error

    def _no_cassette(self) -> UsageError:
        return UsageError(
            f"{self.path} is no cassette: its first line is not the header of one. It is left as "
            "it is. Give another path."
        )

    def _shared(self) -> UsageError:
        return UsageError(
            f"Somebody else records on the cassette {self.path}, or has since it was read here; "
            "only one may at a time. Give all models of a process the same Cassette object, and "
            "each process its own file."
        )
