"""The driver's heartbeat: a thread writes ``driver.json`` every ten seconds and watches for a request to stop.

``--status`` (``status.py``) reads where the driver runs and its progress, on any machine that sees the results folder.
A request to stop comes the same way (``stop_command.py``) and is passed on as the SIGINT of a Ctrl-C, so both mean the
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
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dnw_core.errors import UserError
from dnw_core.files import read_json, write_text
from dnw_core.record import PROGRESS_FILE
from pipelines.driver.heartbeat_record import (
    BEAT_SECONDS,
    LONGEST,
    DriverState,
    Heartbeat,
    RunningTrial,
    kernel_name,
    lock_name,
)
from pipelines.driver.progress import Progress, TrialProgress
from pipelines.store import HEARTBEAT_FILE, STOP_FILE, trial_folder, work_folder

_POLL_SECONDS = 1.0  # between two checks for a request to stop
_JOIN_SECONDS = 5.0


class HeartbeatWriter:
    """Writes the driver's heartbeats for the block; an exception is recorded as a stop, with its reason.

    Args:
        results_dir: the results folder, whose lock the caller holds.
        command: resumes the run.
        cluster: address of the Ray cluster; None on this machine alone.
    """

    def __init__(self, results_dir: Path, command: str, cluster: str | None = None) -> None:
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
            cluster=cluster or "",
            job=job_name(os.environ),
            state="at work",
        )
        self._writing = threading.Lock()
        self._progress: Progress | None = None
        self._contacts: dict[str, _Contact] = {}
        self._beat = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> HeartbeatWriter:
        self._forget_requests()  # meant for an earlier driver
        self._write("at work")
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._ended.set()
        self._thread.join(_JOIN_SECONDS)
        self._forget_requests()
        failed = isinstance(error, Exception)  # not by Ctrl-C
        reason = " ".join(str(error).split()) or type(error).__name__ if failed else ""
        self._write("ended" if error is None else "stopped", reason[:LONGEST])

    def watch(self, progress: Progress) -> None:
        """Report this run's trials from now on."""
        self._progress = progress
        self._write("at work")

    def _run(self) -> None:
        last = time.monotonic()
        interrupted = False
        while not self._ended.wait(_POLL_SECONDS):
            if not interrupted and self._stop_requested() and signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
                interrupted = True
                os.kill(os.getpid(), signal.SIGINT)
            if time.monotonic() - last >= BEAT_SECONDS:
                last = time.monotonic()
                self._write("at work")

    def _stop_requested(self) -> bool:
        """Whether this very driver was asked to stop: a request for an earlier one may be left over."""
        values = read_json(self._results_dir / STOP_FILE)
        return isinstance(values, dict) and values.get("run") == self._first.run

    def _forget_requests(self) -> None:
        with contextlib.suppress(OSError):
            (self._results_dir / STOP_FILE).unlink(missing_ok=True)

    def _write(self, state: DriverState, reason: str = "") -> None:
        # a full disk, a shared folder that is away, a link in its place: the next heartbeat may get through
        with self._writing, contextlib.suppress(OSError, UserError):
            self._beat += 1
            values: dict[str, Any] = {"state": state, "beat": self._beat, "written": _now(), "reason": reason}
            if self._progress is not None:
                values |= self._describe(self._progress, state)
            text = json.dumps(self._first.model_dump() | values, indent=1)
            write_text(self._results_dir / HEARTBEAT_FILE, text + "\n")

    def _describe(self, progress: Progress, state: DriverState) -> dict[str, Any]:
        running = progress.running() if state == "at work" else []
        self._contacts = {trial.spec.trial_id: self._contact(trial) for trial in running}
        return {
            "counts": dict(Counter(trial.state for trial in list(progress.trials.values()))),
            "running": [_describe(trial, self._contacts[trial.spec.trial_id]) for trial in running],
            "seconds_left": progress.seconds_left() if running else None,
        }

    def _contact(self, trial: TrialProgress) -> _Contact:
        contact = self._contacts.get(trial.spec.trial_id)
        if contact is None or contact.started != trial.started:
            contact = _Contact(trial.started, trial.epoch)
        folder = work_folder(trial_folder(self._results_dir, trial.spec))
        contact.update(trial, read_json(folder / PROGRESS_FILE))
        return contact


class _Contact:
    """When a trial last reported since its process started: its progress file changed, or it finished an epoch."""

    def __init__(self, started: float, epoch: int) -> None:
        self.started = self.reported = started
        self.host = ""
        self._epoch = epoch
        self._last: object = ...  # the progress file's content

    def update(self, trial: TrialProgress, content: object) -> None:
        """Note whether the trial has reported; the first content may be that of an earlier process."""
        changed = self._last is not ... and content != self._last
        self._last = content
        if changed and isinstance(content, dict):
            self.host = str(content.get("host", ""))[:200]
        if changed or trial.epoch != self._epoch:
            self._epoch = trial.epoch
            self.reported = time.monotonic()


def _describe(trial: TrialProgress, contact: _Contact) -> dict[str, Any]:
    return RunningTrial(
        table=trial.spec.table,
        row=trial.spec.row,
        seed=trial.spec.seed,
        epoch=trial.epoch,
        epochs=trial.spec.recipe.epochs,
        host=contact.host,
        silent_seconds=max(0.0, time.monotonic() - contact.reported),
    ).model_dump()


def job_name(variables: Mapping[str, str]) -> str:
    """Return the scheduler's job that this process runs as, by its environment; empty without one."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        name = json.loads(variables["RAY_JOB_CONFIG_JSON_ENV_VAR"])["metadata"]["job_submission_id"]
        return f"Ray job {name}"
    return f"SLURM job {variables['SLURM_JOB_ID']}" if "SLURM_JOB_ID" in variables else ""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
