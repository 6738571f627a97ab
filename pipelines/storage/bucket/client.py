"""A folder of a bucket (S3, or what speaks its protocol): objects by key, through pyarrow's file systems.

One PUT is atomic, and nothing else is: there is no rename, and no "only if it is not there yet". What is read or
listed is what was last written. Every method raises OSError where the bucket cannot be reached or refuses;
FileNotFoundError means that there is no such object. Keys go by the usual AWS ways (environment, files, the machine's
role), never by an address or through Ray; where the server is goes along with this object to other machines.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dnw_core.errors import UserError

CHUNK_BYTES = 8 * 2**20
_CONNECT_SECONDS = 10.0
_SILENT_SECONDS = 60.0
_ATTEMPTS = 3


@dataclass(frozen=True)
class Stored:
    """What a listing tells of an object."""

    size: int
    changed_ns: int  # by the server's clock


class Bucket:
    """A folder of a bucket. Opened when it is first used; goes to other processes by pickle.

    Args:
        uri: ``s3://BUCKET/FOLDER`` (or ``gs://``).
        endpoint: address of the server, where it is not the provider's own.
        region: the provider's region.

    Raises:
        UserError: if the address is of another kind, or holds a password.
    """

    def __init__(self, uri: str, endpoint: str | None = None, region: str | None = None) -> None:
        parts = urlsplit(uri)
        if parts.scheme not in ("s3", "gs"):
            raise UserError(f"--results-dir {parts.scheme}://… is no bucket; give s3://BUCKET/FOLDER, or a folder")
        if "@" in parts.netloc:
            raise UserError("--results-dir holds a key; give it in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead")
        self.uri = uri.rstrip("/")
        self.name = parts.netloc
        self._root = f"{parts.netloc}{parts.path.rstrip('/')}"
        self._scheme = parts.scheme
        self._endpoint, self._region = endpoint, region
        self._opened: Any = None

    @classmethod
    def of(cls, uri: str) -> Bucket:
        """Return the bucket at ``uri``, on the server that the AWS_* variables name."""
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        return cls(uri, endpoint, os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"))

    def __reduce__(self) -> tuple[type[Bucket], tuple[str, str | None, str | None]]:
        """Go to another machine without what was opened here."""
        return Bucket, (self.uri, self._endpoint, self._region)

    def __str__(self) -> str:
        return self.uri

    def check(self, *, writes: bool) -> None:
        """Try the bucket: is it there, may we read and (``writes``) write?

        Raises:
            UserError: what is wrong, in one line.
        """
        try:
            self.list("drivers/")
            if writes:
                key = f"probe-{os.urandom(8).hex()}"
                self.put(key, b"probe")
                self.delete(key)
        except OSError as error:
            raise UserError(f"results in {self} cannot be used: {explain(error)}") from None

    def put(self, key: str, content: bytes) -> None:
        """Write one object, whole or not at all."""
        with _os_errors(), self._system().open_output_stream(self._path(key)) as stream:
            stream.write(content)

    def upload(self, key: str, path: Path) -> str:
        """Write a file, however large, and return the SHA-256 of what was sent.

        A reading error in the middle may leave a shorter object: give it a name that tells its size.
        """
        digest = hashlib.sha256()
        with path.open("rb") as file, _os_errors(), self._system().open_output_stream(self._path(key)) as stream:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
                stream.write(chunk)
        return digest.hexdigest()

    def get(self, key: str) -> bytes:
        """Return an object's content."""
        with _os_errors(), self._system().open_input_file(self._path(key)) as stream:
            content: bytes = stream.read()
            return content

    def download(self, key: str, path: Path) -> str:
        """Write an object's content into a file and return its SHA-256."""
        digest = hashlib.sha256()
        with _os_errors(), self._system().open_input_file(self._path(key)) as stream, path.open("wb") as file:
            while chunk := stream.read(CHUNK_BYTES):
                digest.update(chunk)
                file.write(chunk)
        return digest.hexdigest()

    def info(self, key: str) -> Stored | None:
        """Return what is known of an object, None if there is none."""
        from pyarrow.fs import FileType

        with _os_errors():
            found = self._system().get_file_info(self._path(key))
        return Stored(found.size, found.mtime_ns) if found.type == FileType.File else None

    def list(self, prefix: str) -> dict[str, Stored]:
        """Return all objects below a folder (``trials/``) by key."""
        from pyarrow.fs import FileSelector, FileType

        with _os_errors():
            where = FileSelector(self._path(prefix.rstrip("/")), recursive=True, allow_not_found=True)
            found = self._system().get_file_info(where)
            # of a bucket that is not there pyarrow lists nothing, without a word
            if not found and self._system().get_file_info(self.name).type == FileType.NotFound:
                raise OSError(f"there is no bucket {self.name}")
        start = len(self._root) + 1
        return {info.path[start:]: Stored(info.size, info.mtime_ns) for info in found if info.type == FileType.File}

    def copy(self, key: str, to: str) -> None:
        """Copy an object within the bucket."""
        with _os_errors():
            self._system().copy_file(self._path(key), self._path(to))

    def delete(self, key: str) -> None:
        """Delete an object, if it is there."""
        with contextlib.suppress(FileNotFoundError), _os_errors():
            self._system().delete_file(self._path(key))

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}" if key else self._root

    def _system(self) -> Any:
        if self._opened is None:
            self._opened = self._open()
        return self._opened

    def _open(self) -> Any:
        from pyarrow import fs

        if self._scheme == "gs":
            return fs.GcsFileSystem()
        options: dict[str, Any] = {}
        if self._endpoint is not None:
            server = urlsplit(self._endpoint if "://" in self._endpoint else f"https://{self._endpoint}")
            options = {"scheme": server.scheme, "endpoint_override": f"{server.netloc}{server.path.rstrip('/')}"}
        region = self._region or ("us-east-1" if self._endpoint else fs.resolve_s3_region(self.name))
        return fs.S3FileSystem(
            region=region,
            background_writes=False,  # else a slow line holds a whole checkpoint in memory
            allow_delayed_open=True,  # small objects are one request
            connect_timeout=_CONNECT_SECONDS,
            request_timeout=_SILENT_SECONDS,
            retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
            **options,
        )


def explain(error: OSError) -> str:
    """Return in a line why a bucket did not do what it was asked: in our words where we know the case."""
    text = " ".join(str(error).split())
    if "NETWORK_CONNECTION" in text or "curlCode" in text:
        return "the server does not answer; is AWS_ENDPOINT_URL right, and is the server reachable from here?"
    if "NO_SUCH_BUCKET" in text or "there is no bucket" in text:
        return "there is no such bucket; make it first"
    if re.search(r"ACCESS_DENIED|FORBIDDEN|HTTP status 403|INVALID_ACCESS_KEY|SIGNATURE|INVALID_CLIENT_TOKEN", text):
        return (
            "access is denied; do AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or the machine's role) allow to list, "
            "read, write and delete there?"
        )
    return text.partition(" (Request ID")[0][:300]


@contextlib.contextmanager
def _os_errors() -> Iterator[None]:
    """Have everything that pyarrow raises of a bucket be an OSError."""
    import pyarrow as pa

    try:
        yield
    except pa.ArrowException as error:
        if isinstance(error, OSError):
            raise
        raise OSError(" ".join(str(error).split())) from None
