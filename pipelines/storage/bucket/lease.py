"""One driver at a time on a bucket, which has no locks: claims under ``drivers/``, renewed and judged by its own clock.

A driver puts a claim of a fresh random name, ``undecided``, and then lists the claims. If another one *holds*, it takes
its own back. If there are other undecided ones, those that are not the lowest take theirs back and begin again after a
pause, and the lowest waits until it is alone. Alone, it puts ``holds`` into its claim.

Why no two hold: a driver decides on a listing that showed no claim but its own, made after its own was put. Let P and Q
both decide so. A bucket lists what was put before (S3 is strongly consistent), so P's claim was put after Q's listing,
and Q's after P's. But each put its claim before it listed: P's claim < P's listing < Q's claim < Q's listing < P's
claim, which cannot be. The names only see to it that one of several comes through.

A claim is stale when it is ``STALE_SECONDS`` older than the one that the judge has put just now: both times are the
server's, so no clock of a driver matters. Its owner renews it every ``RENEW_SECONDS``; before each renewal, and
between deciding and holding, it looks whether its claim is still there and gives up if it is not: whoever takes over
deletes the stale one first. A driver that was cut off for a minute and comes back may so work beside its heir until its
next renewal. That does no harm: trials are committed by one PUT, and the first stands.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

from dnw_core.errors import UserError
from pipelines.driver import LockOwner
from pipelines.storage.bucket.client import Bucket, explain

RENEW_SECONDS = 5.0
STALE_SECONDS = 60.0
_CLAIMS = "drivers/claim-"
_PAUSE_SECONDS = 0.5
_ATTEMPTS = 60


class Times(NamedTuple):
    """How often a claim is renewed, and how old one is that nobody renews."""

    renew: float = RENEW_SECONDS
    stale: float = STALE_SECONDS


class _Claim(NamedTuple):
    key: str
    changed_ns: int
    holds: bool
    place: str  # the copy of the results, on whose folder the claim's owner has the lock
    owner: LockOwner


class Lease:
    """A claim that holds. Made by ``hold``."""

    def __init__(self, bucket: Bucket, key: str, place: str, times: Times) -> None:
        self._bucket = bucket
        self.key = key
        self.place = place
        self._times = times
        self._started = datetime.now(UTC).isoformat(timespec="seconds")
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._on_lost: Callable[[], None] | None = None
        self.lost = False

    def when_lost(self, act: Callable[[], None]) -> None:
        """Have ``act`` called (in another thread, once) if another driver has taken over."""
        self._on_lost = act
        if self.lost:
            act()

    def put(self, *, holds: bool) -> int:
        """Write the claim and return the server's time of it."""
        values = {
            "holds": holds,
            "place": self.place,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": self._started,
            "command": shlex.join(sys.argv),
        }
        self._bucket.put(self.key, json.dumps(values).encode())
        stored = self._bucket.info(self.key)
        if stored is None:
            raise OSError(f"{self._bucket} has lost {self.key}")
        return stored.changed_ns

    def start(self) -> None:
        """Renew the claim from now on."""
        self._thread.start()

    def end(self) -> None:
        """Renew it no more, and take it back."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        if not self.lost:
            self.withdraw()

    def withdraw(self) -> None:
        """Take the claim back."""
        with contextlib.suppress(OSError):  # it will be stale soon
            self._bucket.delete(self.key)

    def still_there(self) -> bool:
        """Whether the claim was not taken over."""
        return self._bucket.info(self.key) is not None

    def _renew(self) -> None:
        while not self._ended.wait(self._times.renew):
            with contextlib.suppress(OSError):  # away for now; nobody else can take over meanwhile, either
                if not self.still_there():
                    self.lost = True
                    if self._on_lost is not None:
                        self._on_lost()
                    return
                self.put(holds=True)


@contextlib.contextmanager
def hold(
    bucket: Bucket, place: str, times: Times | None = None, say: Callable[[str], None] = lambda _: None
) -> Iterator[Lease]:
    """Hold the bucket's folder for the block.

    Args:
        bucket: the results.
        place: names the copy of the results on this machine, whose folder's lock the caller has: a claim of the same
            place is left from a driver that was killed.
        times: of renewal and staleness.
        say: told once if it must be waited whether another driver is alive.

    Raises:
        UserError: if another driver holds it (named), or the bucket cannot be used.
    """
    times = times or Times()
    try:
        lease = _acquire(bucket, place, times, say)
    except OSError as error:
        raise UserError(f"results in {bucket} cannot be used: {explain(error)}") from None
    lease.start()
    try:
        yield lease
    finally:
        lease.end()


def owner_of(bucket: Bucket) -> LockOwner | None:
    """Return the driver that holds the bucket's folder, or held it when it was killed; None if there is none.

    Raises:
        OSError: if the bucket cannot be read.
    """
    holders = [claim for claim in _claims(bucket) if claim.holds]
    return max(holders, key=lambda claim: claim.changed_ns).owner if holders else None


def _acquire(bucket: Bucket, place: str, times: Times, say: Callable[[str], None]) -> Lease:
    seen: dict[str, int] = {}  # of claims that hold: when they had been renewed when they were first seen
    for _attempt in range(_ATTEMPTS):
        lease = Lease(bucket, f"{_CLAIMS}{uuid.uuid4().hex}", place, times)
        try:
            if _decide(bucket, lease, times, seen, say):
                return lease
        except BaseException:
            lease.withdraw()
            raise
        lease.withdraw()
        time.sleep(_PAUSE_SECONDS)
    raise UserError(f"too many commands start on {bucket} at once; try again")


def _decide(bucket: Bucket, lease: Lease, times: Times, seen: dict[str, int], say: Callable[[str], None]) -> bool:
    """Return whether the claim holds now; False if it must be taken back, to begin again."""
    while True:
        put_at = time.monotonic()
        now_ns = lease.put(holds=False)
        others = []
        for claim in _claims(bucket):
            if claim.key == lease.key:
                continue
            if claim.place == lease.place or now_ns - claim.changed_ns > times.stale * 1e9:
                bucket.delete(claim.key)
            else:
                others.append(claim)
        holders = [claim for claim in others if claim.holds]
        if holders:
            _refuse_if_alive(bucket, holders[0], seen, say)
            time.sleep(min(times.renew, times.stale) / 4)
            return False
        if others and min(claim.key for claim in others) < lease.key:
            return False
        if not others:
            break
        time.sleep(_PAUSE_SECONDS)
    # a claim that others may have found stale is one to begin again with
    if time.monotonic() - put_at > times.stale / 2 or not lease.still_there():
        return False
    lease.put(holds=True)
    return True


def _refuse_if_alive(bucket: Bucket, holder: _Claim, seen: dict[str, int], say: Callable[[str], None]) -> None:
    """Raise if the claim was renewed since it was first seen; else that cannot be known yet.

    Raises:
        UserError: names the driver.
    """
    if holder.key not in seen:
        say(f"looking whether {holder.owner} is still at work on {bucket}")
        seen[holder.key] = holder.changed_ns
    if holder.changed_ns != seen[holder.key]:
        raise UserError(f"{bucket} is in use by {holder.owner}; wait for it, end it, or give another --results-dir")


def _claims(bucket: Bucket) -> list[_Claim]:
    claims = []
    for key, stored in bucket.list("drivers/").items():
        if key.startswith(_CLAIMS):
            with contextlib.suppress(FileNotFoundError):  # taken back just now
                claims.append(_read(key, stored.changed_ns, bucket.get(key)))
    return claims


def _read(key: str, changed_ns: int, content: bytes) -> _Claim:
    """Return the claim; one that cannot be read counts as undecided, until it is stale."""
    values: Any = None
    with contextlib.suppress(ValueError, RecursionError):
        values = json.loads(content)
    values = values if isinstance(values, dict) else {}
    pid = values.get("pid")
    texts = [str(values.get(name, "?")) for name in ("host", "started", "command")]
    owner = LockOwner(texts[0], pid if isinstance(pid, int) else 0, texts[1], texts[2])
    return _Claim(key, changed_ns, values.get("holds") is True, str(values.get("place", "")), owner)
