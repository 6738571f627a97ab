"""Run one trial: train, then commit the result or record the failure.

Free of Ray and MLflow. A trial that fails is a result (a folder with a reason), not a crash: only what kills the
process ends it without one. The function that trains is imported only when it is called, because threads and visible
devices must be set before torch is imported.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dnw_core.config import Execution
from dnw_core.errors import TrialFailedError, TrialStopped, UserError
from dnw_core.record import LOG_FILE, RECORD_FILE, TrialRecord, read_record
from dnw_core.task import NO_HOOKS, Hooks, TrialIdentity, TrialTask
from pipelines.spec import TrialSpec
from pipelines.store import Store
from pipelines.trial.gpu_share import GpuShareTooSmallError, is_out_of_gpu_memory, is_share, memory_advice
from pipelines.trial.parents import finished_parent

log = logging.getLogger(__name__)

TRAIN = "dnw_core.training:run_trial"
"""The function that trains, as ``module:name``; a test puts a quick one in its place."""

RunTrial = Callable[[TrialTask, Hooks], TrialRecord]

_TAIL_LINES = 40
_REASON_LENGTH = 500
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def run_spec(spec: TrialSpec, hooks: Hooks = NO_HOOKS, *, train: str | RunTrial = TRAIN) -> TrialRecord | None:
    """Train one trial in its working folder and put the outcome into the store.

    Args:
        spec: the trial; its results folder must exist.
        hooks: told of epochs, and asked whether to stop.
        train: the function that trains, or its name as ``module:name`` (the signature is ``run_trial``'s).

    Returns:
        The committed or failed record (a trial that was already done is not trained again), or None if it was
        told to stop.

    Raises:
        TrialBlockedError: if its parent is not done or failed verification; nothing is recorded then.
        GpuShareTooSmallError: if it ran out of memory on a share of a GPU; nothing is recorded then, either.
    """
    store = Store.open(spec.results_dir, create=False)
    if (finished := committed(store, spec)) is not None:
        return finished
    parent = finished_parent(store, spec)
    identity = TrialIdentity(table=spec.table, row=spec.row, scale=spec.scale, fingerprint=spec.fingerprint)
    task = TrialTask(spec.recipe, spec.seed, spec.execution, store.work_folder(spec), identity, parent)
    with exclusive(task.folder, hooks.should_stop) as mine:
        if not mine:
            return None
        return committed(store, spec) or _train(store, spec, task, hooks, train)


def _train(store: Store, spec: TrialSpec, task: TrialTask, hooks: Hooks, train: str | RunTrial) -> TrialRecord | None:
    prepare_process(spec.execution)
    try:
        run_trial: RunTrial = load_function(train) if isinstance(train, str) else train
        record = run_trial(task, hooks)
    except TrialStopped:
        return None
    except (TrialFailedError, UserError) as error:
        return record_failure(store, spec, str(error))
    except Exception as error:
        if is_out_of_gpu_memory(error):
            if is_share(spec.resources):
                raise GpuShareTooSmallError(" ".join(str(error).split())[:_REASON_LENGTH]) from None
            advice = memory_advice(spec.recipe.batch_groups)
            return record_failure(store, spec, f"out of memory on the GPU: {advice}", traceback.format_exc())
        log.exception("%s failed", spec.trial_id)
        return record_failure(store, spec, f"{type(error).__name__}: {error}", traceback.format_exc())
    store.commit(spec)  # False: the same trial was committed from elsewhere meanwhile, and that one counts
    return committed(store, spec) or record


def committed(store: Store, spec: TrialSpec) -> TrialRecord | None:
    """Return the record of a trial that is done in the store, or None."""
    return store.state(spec).record


def record_failure(store: Store, spec: TrialSpec, reason: str, trace: str = "") -> TrialRecord:
    """Record a failed trial in the store: the reason on one line, and the end of its log (with ``trace``)."""
    line = " ".join(reason.split())[:_REASON_LENGTH] or "failed without a message"
    tail = read_tail(store.work_folder(spec) / LOG_FILE)
    store.record_failure(spec, line, "\n".join(part for part in (tail, trace.rstrip()) if part))
    return read_record(store.work_folder(spec) / RECORD_FILE)


def read_tail(path: Path, lines: int = _TAIL_LINES) -> str:
    """Return the last lines of a text file, or nothing if it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 200 * lines))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def prepare_process(execution: Execution) -> None:
    """Set what must be set before torch is imported: thread counts, and no visible GPU for a CPU trial.

    Ray leaves CUDA_VISIBLE_DEVICES unset for a trial without a GPU, which then sees all of them. Once torch is
    loaded it is too late, and nothing is set.
    """
    if "torch" in sys.modules:
        return
    for name in _THREAD_VARIABLES:
        os.environ[name] = str(execution.threads)
    if execution.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def load_function(path: str) -> Callable[..., Any]:
    """Return the function named ``module:name``."""
    module, _, name = path.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function


LOCK_FILE = "trial.lock"
WAIT_SECONDS = 150.0  # Ray ends what it has lost after a minute; then the folder is taken regardless
_PAUSE_SECONDS = 0.5


@contextlib.contextmanager
def exclusive(
    work: Path, should_stop: Callable[[], bool] = NO_HOOKS.should_stop, limit: float = WAIT_SECONDS
) -> Iterator[bool]:
    """Hold the lock of a trial's working folder for the block; without a wait where the file system has no locks.

    Args:
        work: the folder; it may be committed, that is renamed, while this waits.
        should_stop: asked while it waits.
        limit: seconds to wait at most.

    Yields:
        False if it was told to stop before the lock was free.
    """
    try:
        descriptor = os.open(work / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except OSError:  # a full disk, or just committed: what follows finds out
        yield True
        return
    try:
        yield _wait(descriptor, should_stop, limit)
        _tidy(work)
    finally:
        os.close(descriptor)


def _wait(descriptor: int, should_stop: Callable[[], bool], limit: float) -> bool:
    until = time.monotonic() + limit
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if should_stop():
                return False
            if time.monotonic() >= until:
                return True
            time.sleep(_PAUSE_SECONDS)
        except OSError:
            return True
        else:
            return True


def _tidy(work: Path) -> None:
    """Remove a folder that holds nothing but the lock: its trial was committed meanwhile."""
    with contextlib.suppress(OSError):
        if [path.name for path in work.iterdir()] == [LOCK_FILE]:
            (work / LOCK_FILE).unlink()
            work.rmdir()
