"""A worker process: ``python -m dnw_core.training.workers.process FD``, started by ``WorkerHandle`` only.

FD is the process's end of its pipe. When the other end closes, because the trial's process has ended,
the worker ends itself and everything that it has started.
"""

from __future__ import annotations

import contextlib
import copy
import os
import signal
import sys
import threading
import traceback
from datetime import timedelta
from multiprocessing.connection import Connection

import torch
import torch.distributed as dist

from dnw_core.errors import PeerLostError, TrialStopped, UserError
from dnw_core.task import NO_HOOKS, Hooks
from dnw_core.training.engine.group import WorkerGroup, peer_errors
from dnw_core.training.worker import run_worker
from dnw_core.training.workers.handle import STOP, WorkerMessage, WorkerTask

# the trial's process ends a worker whose peer has died; this is for a peer that lives and is stuck
TIMEOUT = timedelta(hours=2)


def main(descriptor: int) -> None:
    """Do the task that comes through the pipe, and report how it ended."""
    os.set_inheritable(descriptor, False)
    pipe: Connection[WorkerMessage, object] = Connection(descriptor)
    task = pipe.recv()
    assert isinstance(task, WorkerTask)
    stop = threading.Event()
    threading.Thread(target=_listen, args=(pipe, stop), daemon=True).start()
    outcome = _work(task, pipe, stop)
    try:
        pipe.send(outcome)
    except Exception:  # an error that cannot be pickled
        pipe.send(WorkerMessage("failed", RuntimeError(str(outcome.content))))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # the process group would wait for peers that may be gone


def _work(task: WorkerTask, pipe: Connection[WorkerMessage, object], stop: threading.Event) -> WorkerMessage:
    try:
        on_epoch = (lambda line: pipe.send(WorkerMessage("epoch", line))) if task.rank == 0 else NO_HOOKS.on_epoch
        record = run_worker(task.task, _join(task), Hooks(on_epoch, stop.is_set), resumed=task.resumed)
    except TrialStopped:
        return WorkerMessage("stopped")
    except PeerLostError as error:
        return WorkerMessage("lost", str(error))
    except BaseException as error:
        error.add_note(f"in worker {task.rank}:\n{traceback.format_exc()}")
        return WorkerMessage("failed", _portable(error))
    return WorkerMessage("done", record)


def _listen(pipe: Connection[WorkerMessage, object], stop: threading.Event) -> None:
    with contextlib.suppress(EOFError, OSError):
        while pipe.recv() == STOP:
            stop.set()
    os.killpg(0, signal.SIGKILL)  # also what loads images


def _join(task: WorkerTask) -> WorkerGroup:
    device, workers = torch.device(task.task.execution.device), task.task.execution.workers
    if device.type == "cuda":
        if device.index >= torch.cuda.device_count():
            raise UserError(
                f"workers is {workers}, which take a GPU each, but GPU {device.index} is not there "
                f"(this process sees {torch.cuda.device_count()})"
            )
        torch.cuda.set_device(device)
    # all are on this machine, whatever its name resolves to, and no other machine need reach them
    variable = "NCCL_SOCKET_IFNAME" if device.type == "cuda" else "GLOO_SOCKET_IFNAME"
    os.environ.setdefault(variable, "lo" if sys.platform.startswith("linux") else "lo0")
    with peer_errors():
        # by its path: torch takes an address of it (file://...) up to the first ? or # and unquotes nothing
        store = dist.FileStore(str(task.meeting), workers)  # type: ignore[attr-defined]
        store.set_timeout(TIMEOUT)
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            store=store,
            rank=task.rank,
            world_size=workers,
            timeout=TIMEOUT,
            device_id=device if device.type == "cuda" else None,
        )
    return WorkerGroup.joined(device)


def _portable(error: BaseException) -> BaseException:
    """Return the error itself if it can be rebuilt elsewhere, else one that says the same."""
    try:
        copy.copy(error)
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


if __name__ == "__main__":
    main(int(sys.argv[1]))
