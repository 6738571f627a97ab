"""One driver at a time on a bucket: claims, renewal, taking over. Against moto's server; no clock of ours decides."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path

import pytest
from support.services import s3_server

from dnw_core.errors import UserError
from pipelines.storage.bucket.client import Bucket, Stored
from pipelines.storage.bucket.lease import Lease, Times, hold, owner_of

QUICK = Times(renew=1.2, stale=4.0)  # the server's times are whole seconds


@pytest.fixture
def bucket(s3: s3_server.S3, tmp_path: Path) -> Bucket:
    """An empty folder of the bucket."""
    return s3.bucket(tmp_path.name)


def test_second_driver_is_told_who_holds(bucket: Bucket) -> None:
    """While one holds, another is refused with the owner's name, and leaves nothing; afterwards it gets it."""
    with hold(bucket, "here", QUICK):
        with pytest.raises(UserError, match=r"is in use by process \d+ on "), hold(bucket, "there", QUICK):
            pass
        owner = owner_of(bucket)
        assert owner is not None
        assert len(bucket.list("drivers/")) == 1
    assert owner_of(bucket) is None
    with hold(bucket, "there", QUICK):
        assert owner_of(bucket) is not None


def test_killed_driver_is_taken_over_when_stale(bucket: Bucket) -> None:
    """A claim that nobody renewed is deleted; its owner, if it lives after all, finds out and stops."""
    dead = Lease(bucket, "drivers/claim-0", "elsewhere", QUICK)
    dead.put(holds=True)
    s3_server.age(_key(bucket, dead), 10.0)
    said: list[str] = []
    with hold(bucket, "here", QUICK, said.append):
        assert not dead.still_there()
        lost = threading.Event()
        dead.when_lost(lost.set)
        dead.start()
        assert lost.wait(10)
        assert dead.lost
    assert said == []


def test_driver_that_may_be_alive_is_waited_for(bucket: Bucket) -> None:
    """A claim that is neither renewed nor stale yet: it is said that we look, and taken over once it is stale."""
    dead = Lease(bucket, "drivers/claim-0", "elsewhere", QUICK)
    dead.put(holds=True)

    def say(line: str) -> None:
        assert "looking whether process" in line
        s3_server.age(_key(bucket, dead), 10.0)

    with hold(bucket, "here", QUICK, say):
        assert not dead.still_there()


def test_claim_taken_away_before_it_holds_begins_again(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who was cut off between looking and deciding, and was found stale meanwhile, holds nothing by its first claim."""
    claims, gone = Bucket.list, []

    def list_and_lose(self: Bucket, prefix: str) -> dict[str, Stored]:
        found = claims(self, prefix)
        if not gone:
            gone.extend(found)
            self.delete(gone[0])  # as another driver does
        return found

    monkeypatch.setattr(Bucket, "list", list_and_lose)
    with hold(bucket, "here", QUICK) as lease:
        assert len(gone) == 1
        assert lease.key != gone[0]
        assert list(claims(bucket, "drivers/")) == [lease.key]


def test_killed_driver_of_the_same_copy_is_taken_over_at_once(bucket: Bucket) -> None:
    """Whoever has the lock of the copy's folder knows that the claim of that copy is a dead one's."""
    Lease(bucket, "drivers/claim-0", "here", Times()).put(holds=True)
    said: list[str] = []
    with hold(bucket, "here", Times(), said.append):
        assert said == []


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
    until = time.monotonic() + 60
    while refused[0] < 4 and time.monotonic() < until:
        time.sleep(0.1)
    done.set()
    for thread in threads:
        thread.join()
    assert (most[0], refused[0]) == (1, 4)


def test_claim_outlives_a_server_that_is_away(s3: s3_server.S3, bucket: Bucket) -> None:
    """A cut line loses no lease: nobody took over, and it is renewed again."""
    with hold(bucket, "here", QUICK) as lease:
        s3.line.cut()
        time.sleep(2 * QUICK.renew)
        s3.line.mend()
        behind = s3.behind(bucket.uri.rpartition("/")[2])
        before = behind.info(lease.key)
        until = time.monotonic() + 30
        while behind.info(lease.key) == before and time.monotonic() < until:
            time.sleep(0.2)
        assert behind.info(lease.key) != before
        assert not lease.lost


def test_clock_that_jumps_decides_nothing(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """With our clock a day ahead or behind, a living driver is not taken over."""
    with hold(bucket, "here", QUICK):
        real = time.time
        for shift in (86400.0, -86400.0):
            monkeypatch.setattr(time, "time", lambda by=shift: real() + by)
            with pytest.raises(UserError, match="in use"), hold(bucket, "there", QUICK):
                pass


def test_nonsense_claim_is_no_holder(bucket: Bucket) -> None:
    """What cannot be read counts as undecided until it is stale; then it goes."""
    bucket.put("drivers/claim-zzz", b"[")
    s3_server.age(f"{bucket.uri.rpartition('/')[2]}/drivers/claim-zzz", 10.0)
    with contextlib.ExitStack() as stack:
        stack.enter_context(hold(bucket, "here", QUICK))
        assert len(bucket.list("drivers/")) == 1


def _key(bucket: Bucket, lease: Lease) -> str:
    return f"{bucket.uri.rpartition('/')[2]}/{lease.key}"
