"""A folder with files, on this machine (local disk, NFS) or behind a URI that pyarrow's file systems open (S3).

Only names, sizes and whole reads: all that looking for shards and copying them takes. pyarrow is loaded for a URI
alone.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from typing_extensions import override

from dnw_core.errors import DataBrokenError, DataMissingError, UserError
from dnw_core.folders import default_data_dir

if TYPE_CHECKING:
    from dnw_core.config import Execution


class Location(Protocol):
    """A folder; ``str()`` names it for messages."""

    def below(self, name: str) -> Location:
        """Return a folder in it, whether it is there or not."""

    def sizes(self) -> dict[str, int]:
        """Return the bytes of each file in it, by name; none if there is no such folder.

        Raises:
            DataMissingError: if it may not be looked into, or the other machine does not answer.
        """

    def read(self, name: str) -> bytes:
        """Return a file's content; raises DataBrokenError if that fails."""

    def open(self, name: str) -> Any:
        """Return a file for random access, as pyarrow takes it; raises OSError."""


@dataclass(frozen=True)
class LocalLocation(Location):
    """A folder of this machine."""

    path: Path

    @override
    def below(self, name: str) -> LocalLocation:
        return LocalLocation(self.path / name)

    @override
    def sizes(self) -> dict[str, int]:
        try:
            with os.scandir(self.path) as entries:
                return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except OSError as error:
            raise DataMissingError(f"{self.path} may not be read: {error.strerror or error}") from None

    @override
    def read(self, name: str) -> bytes:
        with _broken(self, name):
            return (self.path / name).read_bytes()

    @override
    def open(self, name: str) -> BinaryIO:
        return (self.path / name).open("rb")

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class RemoteLocation(Location):
    """A folder behind a URI: a pyarrow file system, and the path there."""

    uri: str
    system: Any
    path: str

    @override
    def below(self, name: str) -> RemoteLocation:
        before, question, options = self.uri.partition("?")
        return RemoteLocation(f"{before.rstrip('/')}/{name}{question}{options}", self.system, f"{self.path}/{name}")

    @override
    def sizes(self) -> dict[str, int]:
        from pyarrow.fs import FileSelector, FileType

        try:
            found = self.system.get_file_info(FileSelector(self.path, allow_not_found=True))
        except OSError as error:
            raise DataMissingError(f"{self} cannot be looked into: {_one_line(error)}") from None
        return {info.base_name: info.size for info in found if info.type == FileType.File}

    @override
    def read(self, name: str) -> bytes:
        with _broken(self, name), self.system.open_input_file(f"{self.path}/{name}") as file:
            content: bytes = file.read()
            return content

    @override
    def open(self, name: str) -> Any:
        return self.system.open_input_file(f"{self.path}/{name}")

    def __str__(self) -> str:
        scheme, separator, rest = self.uri.partition("?")[0].partition("://")
        return scheme + separator + rest.rpartition("@")[2]  # neither options nor a password


def data_location(execution: Execution) -> Location:
    """Return the location of the data: ``data_dir``, or the default folder.

    Raises:
        UserError: if it is a URI that pyarrow does not know.
    """
    if execution.data_dir is None or "://" not in execution.data_dir:
        return LocalLocation(default_data_dir() if execution.data_dir is None else Path(execution.data_dir))
    import pyarrow as pa
    from pyarrow.fs import FileSystem

    try:
        system, path = FileSystem.from_uri(execution.data_dir)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(f"--data-dir cannot be opened: {_one_line(error)}") from None
    return RemoteLocation(execution.data_dir, system, path.rstrip("/"))


@contextlib.contextmanager
def _broken(location: Location, name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataBrokenError(f"{location}/{name} cannot be read: {error.strerror or _one_line(error)}") from None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
