"""Leaving a machine that is about to go: SIGTERM, or a node that drains, makes a trial checkpoint and go on elsewhere.

A trial's function runs in a thread of Ray's worker process. Signals are taken by the main thread, which waits for that
function's reports meanwhile. So the handler is set where Tune makes its actor, in the main thread
(``schedule.tune.make_trainable_class``), and the trial asks (``ShouldStop``) between two of its steps. Measured with
Ray 2.60: the handler runs at once; Ray's own would end the process and lose what came after the last checkpoint.

Free of Ray at import.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from pipelines.cluster.process_registry import registered
from pipelines.cluster.ray_internals import draining_nodes

DRAIN_SECONDS = 3.0
"""Time between two questions whether this node drains."""

TERMINATED = "it was asked to leave (SIGTERM)"
DRAINED = "its machine is about to go"


class Preempted(Exception):  # noqa: N818 - a signal, not an error
    """The trial has left its machine with a checkpoint, and goes on elsewhere; says why."""


class _State:
    """Of this process: why it should be left, and what Ray had set for SIGTERM."""

    reason: str | None = None
    watched = False
    trials = 0  # that train in this process now
    previous: Callable[[int, FrameType | None], object] | int | None = None
    draining: threading.Thread | None = None


def watch_for_sigterm() -> None:
    """From now on SIGTERM asks a trial to leave; without a trial it ends the process as before. Main thread only."""
    if not _State.watched:
        _State.watched = True
        _State.previous = signal.signal(signal.SIGTERM, _on_sigterm)


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    if _State.trials:
        _State.reason = TERMINATED
    elif callable(_State.previous):
        _State.previous(number, frame)
    else:
        raise SystemExit(128 + number)


@contextlib.contextmanager
def training_marker() -> Iterator[None]:
    """Mark this process for the block as one that trains: it can be found, and be asked to leave."""
    _State.trials += 1
    try:
        with registered():
            yield
    finally:
        _State.trials -= 1


class ShouldStop:
    """Whether a trial should stop: all trials were asked to, or this process must be left.

    Goes through pickle: the first worker of a trial over several machines asks of its own process and node then.

    Args:
        all_should_stop: whether all trials were asked to stop.
    """

    def __init__(self, all_should_stop: Callable[[], bool]) -> None:
        self._all_should_stop = all_should_stop

    def __call__(self) -> bool:
        """Whether the trial should write its checkpoint and end."""
        return preemption_reason() is not None or self._all_should_stop()


def preemption_reason() -> str | None:
    """Return why this process must be left; None while it need not."""
    if _State.draining is None:
        _State.draining = threading.Thread(target=_watch_draining, daemon=True)
        _State.draining.start()
    return _State.reason


def _watch_draining() -> None:
    """Ask Ray now and then whether this node drains; in a thread, since a head that is gone lets the question hang."""
    import ray

    if not ray.is_initialized():
        return
    node = ray.get_runtime_context().get_node_id()
    while _State.reason is None:
        with contextlib.suppress(Exception):  # no answer is no request
            if node in draining_nodes():
                _State.reason = _State.reason or DRAINED
                return
        time.sleep(DRAIN_SECONDS)
