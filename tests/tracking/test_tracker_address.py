"""Where the tracker is, and that an unreachable or slow one holds nothing up."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.stubs.specs import closed_address, report_row, spec

from dnw_core.errors import UserError
from pipelines.tracking.addresses import artifact_root, resolve_uri, sqlite_uri
from pipelines.tracking.background import BackgroundSync
from pipelines.tracking.reachable import check_reachable
from pipelines.tracking.tracker import SyncOutcome


@pytest.fixture
def mute_server() -> Iterator[str]:
    """Yield the address of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        yield f"http://127.0.0.1:{mute.getsockname()[1]}"


def test_closed_server_is_one_line_at_once(tmp_path: Path) -> None:
    """A server that is not there is refused in a second, without a traceback or MLflow's retries."""
    begun = time.monotonic()
    with pytest.raises(UserError, match="cannot be used: Connection refused"):
        check_reachable(closed_address(), tmp_path)
    assert time.monotonic() - begun < 3


def test_mute_server_is_given_up(tmp_path: Path, mute_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that never answers is given up at the limit."""
    monkeypatch.setattr("pipelines.tracking.reachable.REACH_SECONDS", 2.0)
    begun = time.monotonic()
    with pytest.raises(UserError, match="no answer within 2 s"):
        check_reachable(mute_server, tmp_path)
    assert time.monotonic() - begun < 4


@pytest.mark.parametrize(
    ("uri", "part"),
    [
        ("file:///tmp/mlruns", "no longer supports plain folders"),
        ("mlruns", "no longer supports plain folders"),
        ("htp://host:1", "unknown kind"),
        ("http://", "is not an address"),
        ("http://host:99999", "is not an address"),
    ],
)
def test_malformed_address(uri: str, part: str, tmp_path: Path) -> None:
    """An address of a kind that cannot work is refused, with one that can."""
    with pytest.raises(UserError, match=part):
        resolve_uri(uri, tmp_path)


def test_unusable_files(tmp_path: Path) -> None:
    """A file that is no database, or a place where none can be made, is refused by name."""
    other = tmp_path / "notes.db"
    other.write_text("these are my notes, not a database")
    with pytest.raises(UserError, match=r"notes\.db is not a SQLite database"):
        check_reachable(sqlite_uri(other), tmp_path)
    with pytest.raises(UserError, match="cannot be written"):
        check_reachable(sqlite_uri(other / "below" / "mlflow.db"), tmp_path)
    assert other.read_text() == "these are my notes, not a database"


def test_artifacts_lie_beside_the_database(tmp_path: Path) -> None:
    """Artifacts never land in the current folder; a server chooses for itself."""
    assert artifact_root(resolve_uri(None, tmp_path), tmp_path) == tmp_path / "mlflow" / "artifacts"
    assert artifact_root("sqlite:////elsewhere/m.db", tmp_path) == Path("/elsewhere/artifacts")
    assert artifact_root("http://host:5000", tmp_path) is None


class _FakeTracker:
    """Counts syncs; fails as told."""

    def __init__(self, error: str | None = None, seconds: float = 0.0) -> None:
        self.error, self.seconds = error, seconds
        self.synced: list[str] = []
        self.called = threading.Event()

    def prepare(self) -> None:
        pass

    def sync(self, rows: list[dict[str, Any]]) -> SyncOutcome:
        self.called.set()
        time.sleep(self.seconds)
        self.synced += [row["row"] for row in rows]
        return SyncOutcome(error=self.error)

    def __str__(self) -> str:
        return "http://tracker"


def test_background_mirrors_what_finished(tmp_path: Path) -> None:
    """The rows of the trials that ended are mirrored, also those that ended just before the end."""
    tracker = _FakeTracker()
    rows = [report_row(spec(tmp_path, row)) for row in ("a", "b", "c")]
    with BackgroundSync(tracker, rows) as sync:  # type: ignore[arg-type]
        sync.finished(spec(tmp_path, "a", 0))
        sync.finished(spec(tmp_path, "b", 1))
        sync.finished(spec(tmp_path, "not in the rows", 1))
    assert tracker.synced == ["a", "b"]


def test_background_warns_once(tmp_path: Path) -> None:
    """A tracker that fails is said once, with the command that mends it; trials that end meanwhile are not held up."""
    tracker = _FakeTracker(error="connection refused")
    said: list[str] = []
    rows = [report_row(spec(tmp_path, "a"))]
    with BackgroundSync(tracker, rows, warn=said.append) as sync:  # type: ignore[arg-type]
        for seed in range(3):
            sync.finished(spec(tmp_path, "a", seed))
        assert tracker.called.wait(10)
    assert len(tracker.synced) == 2, "it should try again at the end, and not in a loop"
    (line,) = said
    assert "connection refused" in line
    assert "python pipelines/sync_mlflow.py" in line


def test_background_does_not_wait_for_ever(tmp_path: Path) -> None:
    """A tracker that hangs is left at the limit."""
    tracker = _FakeTracker(seconds=5.0)
    said: list[str] = []
    begun = time.monotonic()
    with BackgroundSync(tracker, [report_row(spec(tmp_path, "a"))], warn=said.append, limit=0.5) as sync:  # type: ignore[arg-type]
        sync.finished(spec(tmp_path, "a", 0))
    assert time.monotonic() - begun < 3
    assert "took longer than" in said[0]
