"""A folder of a bucket (S3, or what speaks its protocol, or Google's): objects by key, through obstore.

One PUT is atomic, and may depend on what it replaces (``put_if``); there is no rename. What is read or listed is what
was last written. Every method raises OSError where the bucket cannot be reached or refuses; FileNotFoundError means
that there is no such object. Keys come from where AWS's tools take them (environment, files, the machine's role), never
from an address or through Ray; without any the bucket is asked unsigned, as one that everybody may read. Where the
server is goes along with this object to other machines.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from dnw_core.errors import UserError

if TYPE_CHECKING:
    from obstore import ObjectMeta, PutMode, PutResult, UpdateVersion
    from obstore.store import GCSStore, S3Store

CHUNK_BYTES = 5 * 2**20  # S3's smallest part of an upload: what a slow line brings over within the time for an answer
_CLIENT = {"connect_timeout": "10s", "read_timeout": "120s", "timeout": "1day", "allow_http": True}
_RETRY = {"max_retries": 2, "retry_timeout": timedelta(seconds=60)}
_KEYS_RENEWED = timedelta(minutes=5)  # boto3 renews keys ten minutes before they expire


class Stored(NamedTuple):
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
            raise UserError(f"--results-dir {parts.scheme}://… is not a bucket; give s3://BUCKET/FOLDER, or a folder")
        if "@" in parts.netloc:
            raise UserError("--results-dir holds a key; give it in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead")
        self.uri = uri.rstrip("/")
        self.name = parts.netloc
        self._folder = f"{parts.path.strip('/')}/".lstrip("/")
        self._scheme = parts.scheme
        self._endpoint, self._region = endpoint, region
        self._opened: S3Store | GCSStore | None = None

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
        """Try the bucket: is it there, may we read and (``writes``) write, and does it heed conditions?

        Raises:
            UserError: what is wrong, in one line.
        """
        try:
            self.list("drivers/")
            if writes:
                key = f"probe-{os.urandom(8).hex()}"
                self.put(key, b"probe")
                replaced = self.put_if(key, b"other", None)
                self.delete(key)
                if replaced is not None:
                    raise OSError(_NO_CONDITIONS)
        except OSError as error:
            raise UserError(f"results in {self} cannot be used: {explain(error)}") from None

    def put(self, key: str, content: bytes) -> None:
        """Write one object, whole or not at all."""
        with self._store() as store:
            store.put(self._folder + key, content)

    def put_if(self, key: str, content: bytes, replaces: UpdateVersion | None) -> UpdateVersion | None:
        """Write one object if it still is of version ``replaces`` (None: if it is not there).

        Returns:
            The new version, None if another one is there. That may be this very content, if an answer was lost.
        """
        mode: PutMode = replaces or "create"
        with contextlib.suppress(FileExistsError, FileNotFoundError), self._store() as store:
            return _version(store.put(self._folder + key, content, mode=mode, use_multipart=False))
        return None

    def upload(self, key: str, path: Path) -> str:
        """Write a file, however large, and return the SHA-256 of what was sent."""
        import obstore

        digest = hashlib.sha256()
        with (
            path.open("rb") as file,
            self._store() as store,
            obstore.open_writer(store, self._folder + key, buffer_size=CHUNK_BYTES, max_concurrency=1) as writer,
        ):
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
                writer.write(chunk)
        return digest.hexdigest()

    def get(self, key: str) -> bytes:
        """Return an object's content."""
        return self.get_version(key)[0]

    def get_version(self, key: str) -> tuple[bytes, UpdateVersion]:
        """Return an object's content and version."""
        with self._store() as store:
            found = store.get(self._folder + key)
            return bytes(found.bytes()), _version(found.meta)

    def download(self, key: str, path: Path) -> str:
        """Write an object's content into a file and return its SHA-256."""
        digest = hashlib.sha256()
        with self._store() as store:
            stream = store.get(self._folder + key).stream(CHUNK_BYTES)
            with path.open("wb") as file:
                for chunk in stream:
                    digest.update(chunk)
                    file.write(chunk)
        return digest.hexdigest()

    def info(self, key: str) -> Stored | None:
        """Return what is known of an object, None if there is none."""
        with contextlib.suppress(FileNotFoundError), self._store() as store:
            return _stored(store.head(self._folder + key))
        return None

    def list(self, prefix: str) -> dict[str, Stored]:
        """Return all objects below a folder (``trials/``) by key."""
        with self._store() as store:
            found = [meta for chunk in store.list(self._folder + prefix) for meta in chunk]
        return {meta["path"].removeprefix(self._folder): _stored(meta) for meta in found}

    def copy(self, key: str, to: str) -> None:
        """Copy an object within the bucket."""
        with self._store() as store:
            store.copy(self._folder + key, self._folder + to)

    def delete(self, key: str) -> None:
        """Delete an object, if it is there."""
        with contextlib.suppress(FileNotFoundError), self._store() as store:
            store.delete(self._folder + key)

    @contextlib.contextmanager
    def _store(self) -> Iterator[S3Store | GCSStore]:
        """Yield the store; whatever it raises in the block is an OSError."""
        from obstore import exceptions as of

        try:
            self._opened = self._opened or self._open()
            yield self._opened
        except (of.BaseError, OSError, ValueError) as error:
            text = " ".join(str(error).partition("Debug source:")[0].split())
            if isinstance(error, of.AlreadyExistsError | of.PreconditionError):
                raise FileExistsError(text) from None
            if not isinstance(error, OSError) or "NoSuchBucket" in text:
                raise OSError(text) from None
            raise

    def _open(self) -> S3Store | GCSStore:
        from obstore.store import GCSStore, S3Store

        options: dict[str, Any] = {"client_options": _CLIENT, "retry_config": _RETRY}
        if self._scheme == "gs":
            return GCSStore(self.name, **options)
        region = self._region
        if not os.environ.get("AWS_ACCESS_KEY_ID"):
            import boto3
            from botocore.exceptions import BotoCoreError
            from obstore.auth.boto3 import Boto3CredentialProvider

            try:
                session = boto3.Session()
                region = region or session.region_name
                if session.get_credentials() is None:
                    options["skip_signature"] = True
                else:
                    options["credential_provider"] = Boto3CredentialProvider(session, ttl=_KEYS_RENEWED)
            except BotoCoreError as error:  # a profile that is not there, a file that is damaged
                raise OSError(str(error)) from None
        if self._endpoint is not None:
            options["aws_endpoint_url_s3"] = self._endpoint if "://" in self._endpoint else f"https://{self._endpoint}"
        elif region is None:
            from pyarrow.fs import resolve_s3_region

            region = resolve_s3_region(self.name)
        # one request an object: not every server can delete several at once
        return S3Store(self.name, region=region or "us-east-1", disable_bulk_delete=True, **options)


_NO_CONDITIONS = "the server ignores If-None-Match"


def explain(error: OSError) -> str:
    """Return in a line why a bucket did not do what it was asked: in our words where we know the case."""
    text = " ".join(str(error).split())
    if "HTTP error" in text or "NETWORK_CONNECTION" in text:  # the latter from pyarrow, asked for the region
        return "the server does not answer; is AWS_ENDPOINT_URL right, and is the server reachable from here?"
    if "NoSuchBucket" in text:
        return "there is no such bucket; make it first"
    if _NO_CONDITIONS in text or "NotImplemented" in text:
        return "the server has no conditional PUT (If-None-Match), which keeps two drivers apart; give another server"
    if re.search(r"status code: 40[13]\b|ExpiredToken|InvalidToken", text):
        return (
            "access is denied; do AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or the machine's role) allow to list, "
            "read, write and delete there?"
        )
    if "invalid path" in text:
        return f"an object there has a name that cannot be used, remove it: {text[:200]}"
    return " ".join(re.sub("<[^>]*>", " ", text).split())[:300]


def _stored(meta: ObjectMeta) -> Stored:
    return Stored(meta["size"], round(meta["last_modified"].timestamp() * 1000) * 1_000_000)


def _version(found: PutResult | ObjectMeta) -> UpdateVersion:
    """Return what changes with each PUT of other content; obstore takes no None in it."""
    version: UpdateVersion = {"e_tag": found["e_tag"], "version": found["version"]}
    return {name: value for name, value in version.items() if value is not None}  # type: ignore[return-value]
