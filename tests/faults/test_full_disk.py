"""The results folder's disk, a small one, is full: while trials write checkpoints, and when the report is written."""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.faults.command import TRIALS, Command, command, complete
from support.faults.in_a_bucket import finished_in, plain_copy
from support.faults.processes import quiet
from support.faults.proof import check_nothing_is_left_to_do, check_results, records
from support.services import s3_server

from pipelines.storage.bucket.mirror import mirror_folder

pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount a small disk"),
]
SIZE = "64m"
NO_SPACE = "No space left on device"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    quiet("mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder))
    yield folder
    quiet("umount", "--lazy", str(folder))


@contextlib.contextmanager
def _full(disk: Path) -> Iterator[None]:
    """Fill the disk for the block, to the last byte."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 12))
    yield
    ballast.unlink()


def test_full_disk_while_trials_train(disk: Path, reference: Path, chance: random.Random) -> None:
    """No checkpoint can be written: the run ends by itself, says so, harms nothing that was finished; with room
    again, the same command goes on from the last good checkpoints."""
    results = disk / "results"
    with command(results) as run:
        run.wait_until_it_says("[1/4]")
        _wait(run, chance)
        before = records(results)
        with _full(disk):
            assert run.wait() != 0, run.said
            assert NO_SPACE in run.said
            assert "Traceback" not in run.said, run.said
            assert records(results).items() >= before.items()
    complete(results, "--mode", "retry")
    check_results(results, reference, 10)
    check_nothing_is_left_to_do(results)


def test_full_disk_at_the_report(disk: Path, reference: Path) -> None:
    """Everything is trained and the report cannot be written: one clear line; with room again, the same command
    writes it and trains nothing."""
    results = disk / "results"
    with command(results) as run:
        run.wait_until_it_says("[4/4]")
        with _full(disk):
            assert run.wait() == 2, run.said
            assert NO_SPACE in run.said
            assert "Traceback" not in run.said, run.said
            before = records(results)
    assert len(before) == 4
    complete(results)
    assert records(results) == before
    check_results(results, reference, 0)


def test_full_disk_of_a_buckets_copy(
    disk: Path, reference: Path, chance: random.Random, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver's machine has no room for the copy: trials go on into the bucket, the driver ends with one clear
    line; with room again, the same command finds them there and trains none twice."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(disk / "cache"))
    place = "s3://results/run"
    with s3_server.serve() as s3:
        with command(place, folder=mirror_folder(place)) as run:
            _wait(run, chance)
            with _full(disk):
                assert run.wait() == 2, run.said
                assert NO_SPACE in run.said.splitlines()[-1]
                assert "Traceback" not in run.said, run.said
        done = finished_in(s3.bucket("run"))
        assert len(done) == TRIALS
        complete(place)
        assert finished_in(s3.bucket("run")) == done
        check_results(plain_copy(s3.bucket("run"), tmp_path / "plain"), reference, 0)


def _wait(run: Command, chance: random.Random) -> None:
    run.wait_for_training()
    time.sleep(chance.uniform(0, 1))
