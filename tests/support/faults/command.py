"""The command as a user gives it, in a process of its own, on real trials that take seconds."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from support.faults.processes import GIVE_UP_SECONDS, MARK, default_signals, kill_marked, marked, training, wait_for

ROOT = Path(__file__).resolve().parents[3]
EPOCHS = 16
SETTINGS = (f"epochs={EPOCHS}", "data.train_images=64", "data.test_images=32", "batch_size=32")
TRIALS = 4
WORDS = ["--device", "cpu", "--scale", "smoke", "--only", "tiny/static-*", "--no-extra", "--seeds", "2"]
WORDS += [word for setting in SETTINGS for word in ("--set", setting)]
WORDS += ["--checkpoint-minutes", "0"]


class Command:
    """One start of the command, in a session of its own. Use ``command()``, which leaves no process behind.

    Args:
        results: the results folder, or the address of a bucket's.
        words: more options.
        variables: more environment.
        program: another program than the command, for stubs.
        folder: where the driver has the results; the copy of a bucket's.
    """

    def __init__(
        self,
        results: Path | str,
        *words: str,
        variables: dict[str, str] | None = None,
        program: list[str] | None = None,
        folder: Path | None = None,
    ) -> None:
        self.folder = folder or Path(results)
        self.mark = uuid.uuid4().hex
        # its name short, for Ray's sockets
        self.temporary = Path(tempfile.mkdtemp(prefix="fc-", dir="/tmp"))
        self._output = self.temporary / "said"
        start = program or [sys.executable, str(ROOT / "pipelines" / "reproduce_all.py"), *WORDS]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1", **(variables or {})}
        with self._output.open("wb") as file:
            self.process = subprocess.Popen(
                [*start, "--results-dir", str(results), *words],
                stdout=file,
                stderr=file,
                start_new_session=True,
                preexec_fn=default_signals,
                env=environment | {MARK: self.mark, "TMPDIR": str(self.temporary)},
            )

    @property
    def said(self) -> str:
        """What it has printed so far."""
        return self._output.read_text("utf-8", "replace")

    @property
    def ended(self) -> bool:
        """Whether it has ended by itself, or was ended."""
        return self.process.poll() is not None

    def wait(self, limit: float = GIVE_UP_SECONDS) -> int:
        """Wait for the end and return the exit code."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.process.wait(limit)
        raise AssertionError(f"the command did not end within {limit:.0f} s; it said:\n{self.said}")

    def wait_until_it_says(self, text: str) -> None:
        """Wait for a line; fail if it ends without one."""
        wait_for(f"{text!r}, it said:\n{self.said}", lambda: text in self.said or self.ended)
        assert text in self.said, self.said

    def wait_for_training(self, trials: int = 1) -> dict[int, Path]:
        """Wait until so many trials have a process; return the processes and working folders."""
        wait_for("training to begin", lambda: self.ended or len(training(self.mark)) >= trials)
        assert not self.ended, self.said
        return training(self.mark)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the trials that train now for the block, which takes longer than they do."""
        numbers = list(self.wait_for_training(2))  # as many as a machine of two cores takes
        for number in numbers:
            os.kill(number, signal.SIGSTOP)
        try:
            yield
        finally:
            for number in numbers:
                os.kill(number, signal.SIGCONT)

    def at_work(self) -> dict[int, Path]:
        """Return the processes that have a trial now, and the working folder of each."""
        return training(self.mark)

    def interrupt(self) -> None:
        """Ctrl-C, as a terminal sends it: to the whole group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGINT)

    def left_behind(self) -> list[str]:
        """Return what is left of an ended command after some seconds: processes, and Ray's temporary folders."""
        with contextlib.suppress(AssertionError):
            wait_for("its processes to end", lambda: not marked(self.mark), 30)
        return [*marked(self.mark).values(), *map(str, self.temporary.glob("dnw-ray-*"))]

    def close(self) -> None:
        """End whatever is left."""
        self.process.kill()
        self.process.wait()
        kill_marked(self.mark)
        shutil.rmtree(self.temporary, ignore_errors=True)


@contextlib.contextmanager
def command(
    results: Path | str, *words: str, variables: dict[str, str] | None = None, folder: Path | None = None
) -> Iterator[Command]:
    """Start the command for the block."""
    one = Command(results, *words, variables=variables, folder=folder)
    try:
        yield one
    finally:
        one.close()


def complete(results: Path | str, *words: str, variables: dict[str, str] | None = None) -> str:
    """Run the command to its end, which must be a good one, and return what it said."""
    with command(results, *words, variables=variables) as last:
        assert last.wait() == 0, last.said
        assert f"{TRIALS} of {TRIALS} trials done, 0 failed, 0 missing" in last.said
        return last.said
