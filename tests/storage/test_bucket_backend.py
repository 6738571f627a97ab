"""Results in a bucket as the driver sees them: what is refused before training, and what goes to and fro."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.services import s3_server
from support.stubs.specs import spec
from support.stubs.store import write_finished

from dnw_core.errors import UserError
from pipelines.commands.options import parse_options
from pipelines.commands.reproduce_all import _backend as backend_of
from pipelines.driver.stopping import stop_request
from pipelines.private_folder import private_folder
from pipelines.spec import Resources
from pipelines.storage.backends import DriverFolderBackend, SharedFolderBackend
from pipelines.storage.bucket.client import Bucket
from pipelines.storage.bucket.lease import KEY
from pipelines.storage.bucket.trials import BucketTrials
from pipelines.storage.bucket_backend import BucketBackend
from pipelines.store.folder import Store


@pytest.fixture
def backend(s3: s3_server.S3, tmp_path: Path) -> BucketBackend:
    """An empty folder of the bucket and an empty copy."""
    return BucketBackend(s3.bucket(tmp_path.name), tmp_path / "copy")


def _say(_: str) -> None:
    """Nobody listens."""


@pytest.fixture
def forbidding() -> Iterator[tuple[str, list[str]]]:
    """A server that answers 403 to the methods named in the list, and what a bucket with nothing answers to others."""
    methods: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Silent."""

        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            denied = self.command in methods
            text = "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
            listing = "<ListBucketResult><IsTruncated>false</IsTruncated><KeyCount>0</KeyCount></ListBucketResult>"
            content = b"" if self.command == "HEAD" else (text if denied else listing).encode()
            self.send_response(403 if denied else 200)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _answer  # noqa: N815

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", methods
    server.shutdown()
    server.server_close()


def test_wrong_keys_and_read_only_are_one_line(forbidding: tuple[str, list[str]], s3: s3_server.S3) -> None:
    """A bucket that may not be listed, and one that may not be written to: said in a line, without any key."""
    endpoint, methods = forbidding
    bucket = Bucket("s3://results/x", endpoint, "us-east-1")
    bucket.check(writes=False)
    methods += ["PUT", "POST"]
    with pytest.raises(UserError, match=r"^results in s3://results/x cannot be used: access is denied; do AWS_"):
        bucket.check(writes=True)
    methods += ["GET", "HEAD"]
    with pytest.raises(UserError, match="access is denied") as caught:
        bucket.check(writes=False)
    assert "testing" not in str(caught.value)


def test_keys_from_a_file_and_none(s3: s3_server.S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS's own files are read; without keys requests are unsigned; a profile that is not there is a line."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    for text, signed in (("", False), ("[lab]\naws_access_key_id = k\naws_secret_access_key = s\n", True)):
        (tmp_path / "credentials").write_text(text)
        bucket = s3.bucket("keys")
        bucket.check(writes=False)
        assert bucket._opened is not None
        assert (bucket._opened.credential_provider is not None) is signed
        monkeypatch.setenv("AWS_PROFILE", "lab")
    monkeypatch.setenv("AWS_PROFILE", "typo")
    with pytest.raises(UserError, match=r"cannot be used: The config profile \(typo\) could not be found"):
        s3.bucket("keys").check(writes=False)


def test_unusable_addresses_are_one_line(s3: s3_server.S3, tmp_path: Path) -> None:
    """A bucket that is not there, a server that is not there, another kind of address, a key in the address."""
    with (
        pytest.raises(UserError, match="there is no such bucket"),
        BucketBackend(Bucket("s3://nowhere/x", s3.endpoint, "us-east-1"), tmp_path / "copy").exclusive(_say),
    ):
        pass
    with (
        pytest.raises(UserError, match="the server does not answer"),
        BucketBackend(Bucket("s3://results/x", "http://127.0.0.1:1", "us-east-1"), tmp_path / "copy").reading(),
    ):
        pass
    with pytest.raises(UserError, match="is not a bucket; give s3://BUCKET/FOLDER"):
        Bucket("hdfs://host/x")
    with pytest.raises(UserError, match="holds a key") as caught:
        Bucket("s3://user:secret@results/x")
    assert "secret" not in str(caught.value)


def test_options_name_the_home(tmp_path: Path) -> None:
    """Folder, folder of the head, bucket."""
    assert type(backend_of(parse_options(["--results-dir", str(tmp_path)]))) is SharedFolderBackend
    head = ["--results-dir", str(tmp_path), "--cluster", "10.0.0.1:6379", "--store", "head"]
    assert type(backend_of(parse_options(head))) is DriverFolderBackend
    assert type(backend_of(parse_options(["--results-dir", "s3://results/x"]))) is BucketBackend


def test_workers_on_several_machines_need_a_shared_folder(backend: BucketBackend, tmp_path: Path) -> None:
    """Such a trial is refused with its row's name, in a bucket and in the head's folder; others are not."""
    one = spec(tmp_path, "wide")
    across = one.model_copy(update={"resources": Resources(cpus=4, workers=2, across_nodes=True)})
    for place in (backend, DriverFolderBackend(tmp_path)):
        place.refuse([one])
        with pytest.raises(UserError, match="stub/wide needs workers on several machines"):
            place.refuse([one, across])


def test_driver_finds_what_is_there_and_brings_the_report(backend: BucketBackend, tmp_path: Path) -> None:
    """A new copy has what the bucket has; the report goes to the bucket, nothing else of the copy does."""
    one = spec(tmp_path / "copy")
    write_finished(tmp_path / "made", one)
    BucketTrials(backend._bucket, "drivers/run-1/").commit(one, tmp_path / "made")
    with backend.exclusive(_say):
        assert backend.open_store(create=True).state(one).kind == "done"
        (tmp_path / "copy" / "results.md").write_text("the report")
        (tmp_path / "copy" / "costs.json").write_text("{}")
        backend.publish()
        assert backend._bucket.get("results.md") == b"the report"
        kept = {key for key in backend._bucket.list("") if not key.startswith(("trials/", "drivers/"))}
        assert kept == {"results.md", "store.json"}
    assert list(backend._bucket.list("drivers/")) == [KEY]  # released


def test_second_driver_with_a_copy_of_its_own_is_refused(backend: BucketBackend, tmp_path: Path) -> None:
    """Elsewhere, and on the same machine with the same copy: one works, the other is told who."""
    other = BucketBackend(backend._bucket, tmp_path / "another")
    with backend.exclusive(_say):
        with pytest.raises(UserError, match=r"s3://.* is in use by process"), other.exclusive(_say):
            pass
        with pytest.raises(UserError, match=r"copy is in use by process"), backend.exclusive(_say):
            pass


def test_request_to_stop_reaches_trials_and_a_lost_lease_is_one(backend: BucketBackend, tmp_path: Path) -> None:
    """What Ctrl-C asks is seen through the bucket, and nothing of it stays; who lost the bucket stops, too."""
    with backend.exclusive(_say), stop_request(tmp_path / "copy") as stop:
        with backend.staging(stop):
            assert not backend._trials.stop_wanted()
            stop.request()
            while not backend._trials.stop_wanted():
                pass
        assert not backend._bucket.list(backend._trials.run)
    with backend.exclusive(_say), stop_request(tmp_path / "copy") as stop, backend.staging(stop):
        assert backend._lease is not None
        backend._bucket.delete(KEY)
        backend._lease.renew()
        assert stop.requested


def test_copy_of_the_objects_is_no_results_folder(backend: BucketBackend, tmp_path: Path) -> None:
    """A folder into which somebody copied the bucket's objects is refused rather than trained anew."""
    with backend.exclusive(_say):
        pass
    (tmp_path / "synced").mkdir()
    (tmp_path / "synced" / "store.json").write_bytes(backend._bucket.get("store.json"))
    with pytest.raises(UserError, match="give the bucket with --results-dir"):
        Store.open(tmp_path / "synced")


def test_bucket_with_something_else_is_refused(backend: BucketBackend) -> None:
    """A plain results folder that was copied into a bucket, and a later layout, are not written to."""
    for content, words in (({"schema": 1}, "holds something else"), ({"schema": 99, "layout": "bucket"}, "newer")):
        backend._bucket.put("store.json", json.dumps(content).encode())
        with pytest.raises(UserError, match=words), backend.exclusive(_say):
            pass


def test_abandoned_private_folders_are_removed(tmp_path: Path) -> None:
    """The folder of a process that is gone is removed by the next one; that of a living one stays."""
    dead = tmp_path / "dnw-trial-dead"
    dead.mkdir()
    (dead / "lock").touch()
    with private_folder("dnw-trial-", tmp_path) as living, private_folder("dnw-trial-", tmp_path) as second:
        assert living.is_dir()
        assert second.is_dir()
        assert not dead.exists()
        assert living.stat().st_mode & 0o077 == 0
    assert list(tmp_path.iterdir()) == []
