"""One driver at a time on a bucket: a lease, which is one object that every driver writes by conditional PUTs only.

A driver creates the object if it is not there, and replaces it if its holder is gone: it was released, it is left from
a driver of the same local copy (whose lock the caller holds), or it did not change for ``Times.stale`` seconds while
this driver watched. The PUT depends on the version that was looked at, so of several drivers one succeeds, and a
holder that has renewed its lease meanwhile keeps it. No two clocks are compared.

The holder renews the lease every ``Times.renew`` seconds, likewise by the version it wrote last. If that fails another
driver has taken over, and the former holder stops. A driver that was cut off for a minute may so work beside its heir
until its next renewal. That does no harm: trials are committed by one PUT, and the first stands.

Earlier versions of this project put claims of random names beside it, in the same format. They respect the lease, and
theirs are respected until they are stale.
"""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple

from dnw_core.errors import UserError
from pipelines.driver import LockOwner
from pipelines.storage.background import every
from pipelines.storage.bucket.client import Bucket, explain

if TYPE_CHECKING:
    from obstore import UpdateVersion

KEY = "drivers/claim-lease"
_CLAIMS = "drivers/claim-"


class Times(NamedTuple):
    """Seconds between renewals, and for how long a lease is watched that nobody renews."""

    renew: float = 5.0
    stale: float = 60.0


class Lease:
    """A driver's right to the bucket's folder. Made by ``hold``."""

    def __init__(self, bucket: Bucket, place: str) -> None:
        self._bucket = bucket
        self._values = {**asdict(LockOwner.this_process()), "place": place, "token": uuid.uuid4().hex}
        self._version: UpdateVersion | None = None
        self._writes = 0
        self._on_lost: Callable[[], None] | None = None
        self.lost = False

    def when_lost(self, act: Callable[[], None]) -> None:
        """Have ``act`` called (in another thread, once) if another driver has taken over."""
        self._on_lost = act
        if self.lost:
            act()

    def write(self, replaces: UpdateVersion | None, *, holds: bool = True) -> bool:
        """Write the lease in place of a version (None: of nothing); False if another driver has written it meanwhile.

        Raises:
            OSError: if the bucket cannot be reached; whether it was written is not known then.
        """
        self._writes += 1  # each PUT makes another version
        content = json.dumps({**self._values, "holds": holds, "writes": self._writes}).encode()
        version = self._bucket.put_if(KEY, content, replaces)
        if version is None:  # another driver's, or ours, whose answer was lost
            with contextlib.suppress(FileNotFoundError):
                found, version = self._bucket.get_version(KEY)
                if _values_of(found).get("token") != self._values["token"]:
                    return False
        self._version = version
        return version is not None

    def renew(self) -> None:
        """Write the lease again, or find it lost; raises OSError."""
        if not self.lost and not self.write(self._version):
            self.lost = True
            if self._on_lost is not None:
                self._on_lost()

    def release(self) -> None:
        """Let the next driver have the lease at once."""
        with contextlib.suppress(OSError):  # it will be stale soon
            if not self.lost:
                self.write(self._version, holds=False)


@contextlib.contextmanager
def hold(
    bucket: Bucket, place: str, times: Times | None = None, say: Callable[[str], None] = lambda _: None
) -> Iterator[Lease]:
    """Hold the bucket's folder for the block.

    Args:
        bucket: the results.
        place: names the local copy of the results, whose folder's lock the caller has: a lease of the same place is
            left from a driver that was killed.
        times: of renewal and staleness.
        say: told if it must be watched whether another driver is alive.

    Raises:
        UserError: if another driver holds it (named), or the bucket cannot be used.
    """
    times = times or Times()
    lease = Lease(bucket, place)
    with contextlib.ExitStack() as held:
        try:
            while not lease.write(_free_version(bucket, KEY, place, times, say)):
                pass  # another driver was quicker
            held.callback(lease.release)
            held.enter_context(every(times.renew, lease.renew, "lease"))
            for key in bucket.list("drivers/"):
                if key.startswith(_CLAIMS) and key != KEY:
                    _free_version(bucket, key, place, times, say)
                    bucket.delete(key)
        except OSError as error:
            raise UserError(f"results in {bucket} cannot be used: {explain(error)}") from None
        yield lease


def _free_version(
    bucket: Bucket, key: str, place: str, times: Times, say: Callable[[str], None]
) -> UpdateVersion | None:
    """Return the version of a lease whose holder is gone, None if there is none; wait until that is known.

    Raises:
        UserError: if it is renewed; names the driver.
    """
    seen: UpdateVersion | None = None
    until = 0.0
    while True:
        try:
            content, version = bucket.get_version(key)
        except FileNotFoundError:
            return None
        values = _values_of(content)
        if values.get("holds") is False or values.get("place") == place:
            return version
        owner = LockOwner.read(values)
        if seen is None:
            say(f"looking whether {owner} is still at work on {bucket} (up to {times.stale:.0f} s)")
            seen, until = version, time.monotonic() + times.stale
        elif version != seen:
            raise UserError(f"{bucket} is in use by {owner}; wait for it, end it, or give another --results-dir")
        elif time.monotonic() > until:
            return version
        time.sleep(min(times.renew, times.stale) / 4)


def _values_of(content: bytes) -> dict[str, Any]:
    """Return what a lease says; one that cannot be read says nothing, and counts as held until it is stale."""
    with contextlib.suppress(ValueError, RecursionError):
        values = json.loads(content)
        if isinstance(values, dict):
            return values
    return {}
