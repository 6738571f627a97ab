"""The lock: one driver on a results folder, whoever it is is named, and a dead one holds nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dnw_core.errors import UserError
from pipelines.driver.lock import driver_lock, lock_owner

HOLD = "import sys, time; from pathlib import Path; from pipelines.driver.lock import driver_lock\n"
HOLD += "with driver_lock(Path(sys.argv[1])):\n    print('held', flush=True); time.sleep(60)"


def test_a_second_driver_is_told_who_holds_it(tmp_path: Path) -> None:
    """A second driver gets one line with process, host, time and command; after a SIGKILL the folder is free."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with (
            pytest.raises(UserError, match=f"is in use by process {process.pid} on .* since 20") as caught,
            driver_lock(tmp_path),
        ):
            pytest.fail("two drivers")
        assert "\n" not in str(caught.value)
        owner = lock_owner(tmp_path)
        assert owner is not None
        assert owner.pid == process.pid
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    assert lock_owner(tmp_path) is None
    with driver_lock(tmp_path):
        owner = lock_owner(tmp_path)
        assert owner is not None
        assert owner.pid == os.getpid()


def test_looking_at_the_lock_writes_nothing(tmp_path: Path) -> None:
    """Asking for the owner of a folder that was never used makes no file."""
    assert lock_owner(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_lock_file_that_is_a_link_is_refused(tmp_path: Path) -> None:
    """The lock never writes through a symbolic link."""
    (tmp_path / "precious").write_text("keep")
    (tmp_path / "driver.lock").symlink_to(tmp_path / "precious")
    with pytest.raises(UserError, match=r"driver\.lock cannot be opened"), driver_lock(tmp_path):
        pytest.fail("through a link")
    assert (tmp_path / "precious").read_text() == "keep"


def test_a_broken_lock_file_does_no_harm(tmp_path: Path) -> None:
    """What a crash left in the lock file means nothing."""
    (tmp_path / "driver.lock").write_text("{")
    with driver_lock(tmp_path):
        assert lock_owner(tmp_path) is not None
