"""Leaving a machine that is about to go: SIGTERM, or a node that drains, makes a trial checkpoint and go on elsewhere.

A trial's function runs in a thread of Ray's worker process, and signals are taken by the main thread, which waits for
that function's reports meanwhile: so the handler is set where Tune makes its actor, in the main thread
(``tune_setup.with_resources``), and the trial asks (``Leaving``) between two of its steps. Measured with Ray 2.60: the
handler runs at once; Ray's own would end the process ("The process receives a SIGTERM") and lose what came after the
last checkpoint.

Free of Ray at import. Each trial's process has a file while it trains, so that whoever has to clear this machine
(``leave_node``) knows whom to tell.
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

DRAIN_SECONDS = 3.0
"""Time between two looks at whether this node drains."""

TERMINATED = "it was asked to leave (SIGTERM)"
DRAINED = "its machine is about to go"


class Preempted(Exception):  # noqa: N818 - a signal, not an error
    """The trial has left its machine with a checkpoint, and goes on elsewhere; says why."""


class _State:
    """Of this process: why it should be left, and what Ray had set for SIGTERM."""

    why: str | None = None
    watched = False
    busy = 0
    before: Callable[[int, FrameType | None], object] | int | None = None
    draining: threading.Thread | None = None


def trials_folder() -> Path:
    """Return the folder with a file for each process of this user that trains on this machine.

    Not below ``TMPDIR``: a job's trap or a container's hook need not have the worker's environment.
    """
    return Path("/tmp") / f"dnw-trials-{os.getuid()}"  # noqa: S108 - private, and checked before it is believed


def trial_processes() -> list[int]:
    """Return the ids of this user's processes that train on this machine; each takes SIGTERM as a wish to leave."""
    folder = trials_folder()
    if not _is_private(folder):
        return []
    found = []
    for file in folder.iterdir():
        with contextlib.suppress(OSError, ValueError):  # it ends this very moment
            if file.read_text("ascii") == _birth(int(file.name)):
                found.append(int(file.name))
    return sorted(found)


def watch_for_sigterm() -> None:
    """Take SIGTERM as a wish to leave from now on; without a trial it ends the process as before. Main thread only."""
    if _State.watched:
        return
    _State.watched = True
    _State.before = signal.signal(signal.SIGTERM, _on_sigterm)


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    if _State.busy:
        _State.why = TERMINATED
    elif callable(_State.before):
        _State.before(number, frame)
    else:
        raise SystemExit(128 + number)


@contextlib.contextmanager
def at_work() -> Iterator[None]:
    """For as long as a trial is in this process: it can be found, and be asked to leave."""
    _State.busy += 1
    file = _announce()
    try:
        yield
    finally:
        _State.busy -= 1
        if file is not None:
            with contextlib.suppress(OSError):
                file.unlink()


class Leaving:
    """Whether a trial should stop: because somebody asked all of them to, or because this process must be left.

    Goes through pickle: the first worker of a trial over several machines asks of its own process and node then.

    Args:
        should_stop: whether all trials were asked to stop.
    """

    def __init__(self, should_stop: Callable[[], bool]) -> None:
        self._should_stop = should_stop

    def __call__(self) -> bool:
        """Whether the trial should write its checkpoint and end."""
        return why_leave() is not None or self._should_stop()


def why_leave() -> str | None:
    """Return why this process must be left; None while it need not."""
    if _State.draining is None:
        _State.draining = threading.Thread(target=_watch_draining, daemon=True)
        _State.draining.start()
    return _State.why


def _watch_draining() -> None:
    """Ask Ray now and then whether this node drains; in a thread, since a head that is away lets the question hang."""
    import ray

    if not ray.is_initialized():
        return
    from ray._private.state import state

    node = ray.get_runtime_context().get_node_id()
    while _State.why is None:
        with contextlib.suppress(Exception):  # no answer is no wish
            if node in state.get_draining_nodes():
                _State.why = _State.why or DRAINED
                return
        time.sleep(DRAIN_SECONDS)


def _announce() -> Path | None:
    """Leave this process's file; None where that cannot be, and then nobody but Ray can ask it to leave."""
    folder = trials_folder()
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        if _is_private(folder):
            file = folder / str(os.getpid())
            file.write_text(_birth(os.getpid()), "ascii")
            return file
    return None


def _is_private(folder: Path) -> bool:
    """Whether the folder is ours alone: anybody may make one of this name."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not stat.S_IMODE(found.st_mode) & 0o077


def _birth(process: int) -> str:
    """Return when a process began, in the kernel's count: ids are used again.

    Raises:
        OSError: if there is no such process (or no /proc: elsewhere than on Linux).
    """
    fields = Path(f"/proc/{process}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
    return fields[19]
