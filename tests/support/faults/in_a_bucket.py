"""Results in a bucket, as the tests of faults look at them: without the copy that a driver keeps."""

from __future__ import annotations

from pathlib import Path

from pipelines.storage.bucket.client import Bucket, Stored
from pipelines.storage.bucket.trials import files_of

# a killed process loses what was not yet uploaded: some of these epochs of tenths of a second
EPOCHS_LOST = 6


def plain_copy(bucket: Bucket, folder: Path) -> Path:
    """Lay the bucket out as a plain results folder, to be held against another one."""
    found = bucket.list("")
    for key in found:
        place, _, name = key.rpartition("/")
        if place.endswith(".work") or key == "results.parquet":
            (folder / place).mkdir(parents=True, exist_ok=True)
            bucket.download(key, folder / key)
        elif name == "trial.json":
            (folder / place).mkdir(parents=True)
            bucket.download(key, folder / key)
            objects = {one.rpartition("/")[2]: found[one] for one in found if one.rpartition("/")[0] == place}
            for file, named in files_of(bucket.get(key), objects).items():
                bucket.download(f"{place}/{named}", folder / place / file)
    assert not bucket.list("set-aside/")
    return folder


def finished_in(bucket: Bucket) -> dict[str, Stored]:
    """Return the records of the finished trials, and when they were written."""
    records = {key: one for key, one in bucket.list("trials/").items() if key.endswith("/trial.json")}
    return {key: one for key, one in records.items() if ".work/" not in key}
