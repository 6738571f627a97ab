"""The driver's sign of life: a thread writes ``driver.json`` every ten seconds, and hears who asks it to stop.

Where it is at work and how far is read by ``--status`` (``status.py``) on any machine that sees the results folder. A
request to stop comes by the same way (``stop_command.py``) and is passed on as the SIGINT of a Ctrl-C: so it means the
same in every phase of a run. Nothing here can fail a run, and no clock decides anything.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dnw_core.errors import UserError
from dnw_core.files import read_json, write_text
from dnw_core.record import PROGRESS_FILE
from pipelines.driver.heartbeat_record import (
    BEAT_SECONDS,
    LONGEST,
    Heartbeat,
    RunningTrial,
    State,
    kernel_name,
    lock_name,
)
from pipelines.driver.progress import Progress, TrialProgress
from pipelines.store import HEARTBEAT_FILE, STOP_FILE, trial_folder, work_folder

_LOOK_SECONDS = 1.0  # between two looks for a request to stop
_JOIN_SECONDS = 5.0


class HeartbeatWriter:
    """Writes a driver's heartbeats; made by ``beating``.

    Args:
        results_dir: the results folder, whose lock the caller holds.
        command: that goes on with the run.
        cluster: address of the Ray cluster, empty on this machine alone.
    """

    def __init__(self, results_dir: Path, command: str, cluster: str) -> None:
        self._results_dir = results_dir
        self._first = Heartbeat(
            run=uuid.uuid4().hex,
            host=socket.gethostname(),
            boot=kernel_name(),
            lock=lock_name(results_dir),
            pid=os.getpid(),
            started=_now(),
            written=_now(),
            beat=0,
            command=command[:LONGEST],
            cluster=cluster,
            job=job_name(os.environ),
            state="at work",
        )
        self._writing = threading.Lock()
        self._progress: Progress | None = None
        self._signs: dict[str, _Signs] = {}
        self._beat = 0
        self._interrupted = False
        self._reason = ""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def watch(self, progress: Progress) -> None:
        """Tell of this run's trials from now on."""
        self._progress = progress
        self._write("at work")

    def interrupted(self, reason: str = "") -> None:
        """Note that the run ends before all was done: it was asked to, or for the reason given."""
        self._interrupted = True
        self._reason = reason[:LONGEST]

    def start(self) -> None:
        """Say that the driver is at work, and go on saying it."""
        with contextlib.suppress(OSError):
            (self._results_dir / STOP_FILE).unlink(missing_ok=True)  # meant for a driver that is gone
        self._write("at work")
        self._thread.start()

    def end(self) -> None:
        """Say how it ended, and nothing more."""
        self._ended.set()
        self._thread.join(_JOIN_SECONDS)
        with contextlib.suppress(OSError):
            (self._results_dir / STOP_FILE).unlink(missing_ok=True)
        self._write("stopped" if self._interrupted else "ended")

    def _run(self) -> None:
        said = time.monotonic()
        told = False
        while not self._ended.wait(_LOOK_SECONDS):
            if not told and self._asked_to_stop() and signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
                told = True
                os.kill(os.getpid(), signal.SIGINT)
            if time.monotonic() - said >= BEAT_SECONDS:
                said = time.monotonic()
                self._write("at work")

    def _asked_to_stop(self) -> bool:
        """Whether somebody asked this very driver: a request for an earlier one may still lie there."""
        values = read_json(self._results_dir / STOP_FILE)
        return isinstance(values, dict) and values.get("run") == self._first.run

    def _write(self, state: State) -> None:
        # a full disk, a shared one that is away, a link in the way: the next one may get through
        with self._writing, contextlib.suppress(OSError, UserError):
            self._beat += 1
            values: dict[str, Any] = {"state": state, "beat": self._beat, "written": _now(), "reason": self._reason}
            if self._progress is not None:
                values |= self._of(self._progress, state)
            text = json.dumps(self._first.model_dump() | values, indent=1)
            write_text(self._results_dir / HEARTBEAT_FILE, text + "\n")

    def _of(self, progress: Progress, state: State) -> dict[str, Any]:
        counts = dict(Counter(trial.state for trial in list(progress.trials.values())))
        running = progress.running() if state == "at work" else []
        signs = {trial.spec.trial_id: self._signs_of(trial) for trial in running}
        self._signs = signs
        return {
            "counts": counts,
            "running": [_describe(trial, signs[trial.spec.trial_id]) for trial in running],
            "seconds_left": progress.seconds_left() if running else None,
        }

    def _signs_of(self, trial: TrialProgress) -> _Signs:
        signs = self._signs.get(trial.spec.trial_id)
        if signs is None or signs.started != trial.started:
            signs = _Signs(trial.started, trial.epoch)
        folder = work_folder(trial_folder(self._results_dir, trial.spec))
        signs.look(trial, read_json(folder / PROGRESS_FILE))
        return signs


class _Signs:
    """What is heard of one trial since it got its process: a file that changes, or an epoch that is reported."""

    def __init__(self, started: float, epoch: int) -> None:
        self.started = self.heard = started
        self.host = ""
        self._epoch = epoch
        self._said: object = ...

    def look(self, trial: TrialProgress, said: object) -> None:
        """Note whether the trial has said something new; what lay there before may be of another process."""
        changed = self._said is not ... and said != self._said
        self._said = said
        if changed and isinstance(said, dict):
            self.host = str(said.get("host", ""))[:200]
        if changed or trial.epoch != self._epoch:
            self._epoch = trial.epoch
            self.heard = time.monotonic()


def _describe(trial: TrialProgress, signs: _Signs) -> dict[str, Any]:
    said = RunningTrial(
        table=trial.spec.table,
        row=trial.spec.row,
        seed=trial.spec.seed,
        epoch=trial.epoch,
        epochs=trial.spec.recipe.epochs,
        host=signs.host,
        silent_seconds=max(0.0, time.monotonic() - signs.heard),
    )
    return said.model_dump()


@contextlib.contextmanager
def beating(results_dir: Path, command: str, cluster: str | None = None) -> Iterator[HeartbeatWriter]:
    """Let the driver be seen to live for the block; an exception is a stop and why. The caller holds the lock."""
    heart = HeartbeatWriter(results_dir, command, cluster or "")
    heart.start()
    try:
        yield heart
    except Exception as error:
        heart.interrupted(" ".join(str(error).split()) or type(error).__name__)
        raise
    except BaseException:  # Ctrl-C
        heart.interrupted()
        raise
    finally:
        heart.end()


def job_name(variables: Mapping[str, str]) -> str:
    """Return the scheduler's job that this process is, by the environment it was started with; empty if it is none."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        name = json.loads(variables["RAY_JOB_CONFIG_JSON_ENV_VAR"])["metadata"]["job_submission_id"]
        return f"Ray job {name}"
    return f"SLURM job {variables['SLURM_JOB_ID']}" if "SLURM_JOB_ID" in variables else ""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
