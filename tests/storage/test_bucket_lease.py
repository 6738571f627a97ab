"""One driver at a time on a bucket: the lease, its renewal, taking over. Against moto's server."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest
from support.faults.processes import wait_for
from support.services import s3_server

from dnw_core.errors import UserError
from pipelines.storage.bucket.client import Bucket
from pipelines.storage.bucket.lease import KEY, Lease, Times, hold

QUICK = Times(renew=0.3, stale=1.2)
OLD_CLAIM = "drivers/claim-0123456789abcdef"


@pytest.fixture
def bucket(s3: s3_server.S3, tmp_path: Path) -> Bucket:
    """An empty folder of the bucket."""
    return s3.bucket(tmp_path.name)


def test_second_driver_is_told_who_holds(bucket: Bucket) -> None:
    """While one holds, another is refused with the owner's name; afterwards it gets the lease at once."""
    with hold(bucket, "here", QUICK), pytest.raises(UserError, match=r"is in use by process \d+ on "):
        hold(bucket, "there", QUICK).__enter__()
    with hold(bucket, "there", QUICK, pytest.fail):
        assert json.loads(bucket.get(KEY))["holds"]
    assert not json.loads(bucket.get(KEY))["holds"]


def test_killed_driver_is_taken_over_when_stale(bucket: Bucket) -> None:
    """A lease that nobody renews is watched, which is said, and taken over; its owner, if it lives, stops."""
    dead = Lease(bucket, "elsewhere")
    assert dead.write(None)
    said: list[str] = []
    with hold(bucket, "here", QUICK, said.append):
        lost = threading.Event()
        dead.when_lost(lost.set)
        dead.renew()
        assert lost.is_set()
        assert dead.lost
        dead.release()
        assert json.loads(bucket.get(KEY))["place"] == "here"
    assert len(said) == 1
    assert "looking whether process" in said[0]


def test_killed_driver_of_the_same_copy_is_taken_over_at_once(bucket: Bucket) -> None:
    """Whoever has the lock of the copy's folder knows that the lease of that copy is a dead driver's."""
    assert Lease(bucket, "here").write(None)
    with hold(bucket, "here", Times(), pytest.fail):
        pass


def test_holder_that_renews_at_the_last_moment_keeps_the_lease(bucket: Bucket) -> None:
    """A driver that replaces a version which is no longer there writes nothing."""
    holder, other = Lease(bucket, "here"), Lease(bucket, "there")
    assert holder.write(None)
    _, seen = bucket.get_version(KEY)
    holder.renew()
    assert not other.write(seen)
    assert not other.write(None)
    holder.renew()
    assert not holder.lost


def test_lost_answers_lose_no_lease(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """A PUT that arrived although its answer did not is known as one's own; a deleted lease is lost."""
    real = Bucket.put_if
    monkeypatch.setattr(Bucket, "put_if", lambda *values: real(*values) and None)
    lease = Lease(bucket, "here")
    assert lease.write(None)
    lease.renew()
    monkeypatch.undo()
    lease.renew()
    assert not lease.lost
    bucket.delete(KEY)
    lease.renew()
    assert lease.lost


def test_several_at_the_same_moment(bucket: Bucket) -> None:
    """Of five that start together one holds; the others are told so. Never two."""
    holding, most, refused = [0], [0], [0]
    guard = threading.Lock()
    done = threading.Event()

    def drive(number: int) -> None:
        try:
            with hold(bucket, f"place-{number}", QUICK):
                with guard:
                    holding[0] += 1
                    most[0] = max(most[0], holding[0])
                done.wait(30)
                with guard:
                    holding[0] -= 1
        except UserError:
            with guard:
                refused[0] += 1

    threads = [threading.Thread(target=drive, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    wait_for("four to be refused", lambda: refused[0] == 4)
    done.set()
    for thread in threads:
        thread.join()
    assert (most[0], refused[0]) == (1, 4)


def test_lease_outlives_a_server_that_is_away(s3: s3_server.S3, bucket: Bucket) -> None:
    """A cut line loses no lease: nobody took over, and it is renewed again."""
    with hold(bucket, "here", QUICK) as lease:
        s3.line.cut()
        time.sleep(2 * QUICK.renew)
        s3.line.mend()
        behind = s3.behind(bucket.uri.rpartition("/")[2])
        before = behind.get(KEY)
        wait_for("a renewal", lambda: behind.get(KEY) != before)
        assert not lease.lost


def test_clock_that_jumps_decides_nothing(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """With our clock a day ahead or behind, a living driver is not taken over."""
    with hold(bucket, "here", QUICK):
        real = time.time
        for shift in (86400.0, -86400.0):
            monkeypatch.setattr(time, "time", lambda by=shift: real() + by)
            with pytest.raises(UserError, match="in use"), hold(bucket, "there", QUICK):
                pass


def test_nonsense_is_replaced_when_stale(bucket: Bucket) -> None:
    """What cannot be read counts as held until it is stale."""
    bucket.put(KEY, b"[")
    with hold(bucket, "here", QUICK):
        assert json.loads(bucket.get(KEY))["holds"]


def test_claims_of_earlier_versions(bucket: Bucket) -> None:
    """A claim that a driver of an earlier version renews is respected; one of a dead driver is removed."""
    claim = {"holds": True, "place": "elsewhere", "host": "old", "pid": 7, "started": "?", "command": "x"}
    bucket.put(OLD_CLAIM, json.dumps(claim).encode())
    renewed = threading.Timer(0.5, lambda: bucket.put(OLD_CLAIM, json.dumps({**claim, "pid": 8}).encode()))
    renewed.start()
    with pytest.raises(UserError, match="is in use by process 8 on old"), hold(bucket, "here", QUICK):
        pass
    with hold(bucket, "here", QUICK):
        assert list(bucket.list("drivers/")) == [KEY]


def test_server_without_conditions_is_refused(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that ignores If-None-Match would let two drivers work at once."""
    bucket.check(writes=True)
    real = Bucket.put_if
    monkeypatch.setattr(
        Bucket, "put_if", lambda self, key, content, _: self.put(key, content) or real(self, "x", b"", None)
    )
    with pytest.raises(UserError, match=r"has no conditional PUT \(If-None-Match\)"):
        bucket.check(writes=True)
