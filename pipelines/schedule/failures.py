"""Why a trial's process ended without a result, as Ray tells it, and what follows from that.

Measured with Ray 2.60 on a cluster of three raylets; all are ``ActorDiedError`` and differ in their text alone:

=====================================  ==============================================================================
SIGKILL, SIGSEGV, ``os._exit``         its worker process has died ... connection error code 2. End of file
``sys.exit(4)``                        its worker process has died ... exits with an exit code 4
SIGTERM with Ray's own handler         its worker process has died ... The process receives a SIGTERM
``ray.kill``                           it was killed by `ray.kill`
raylet killed, machine or network lost its node has died; ``preempted`` where the node drained with a deadline
=====================================  ==============================================================================

What a process did itself counts against its trial (``--max-failures``): it died, Ray's memory monitor killed it, or it
raised an error outside of training. A lost machine, a pre-emption and Ray's own failures do not count: however many of
them a long run meets, it goes on.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from pipelines.cluster import TERMINATED, Preempted, cause, death_of_actor, is_loss, is_out_of_memory
from pipelines.storage import NodeUnusableError
from pipelines.text import one_line
from pipelines.trial import GpuShareTooSmallError

Kind = Literal["died", "raised", "lost", "preempted", "small share", "unusable node"]


class ProcessEnd(NamedTuple):
    """How a process ended, and why, in words that follow a trial's name."""

    kind: Kind
    reason: str

    @property
    def counts(self) -> bool:
        """Whether it counts against the trial."""
        return self.kind in ("died", "raised")


def end_of_process(error: BaseException | None) -> ProcessEnd:
    """Return what the error that Tune keeps of a trial means; None if it was not kept."""
    if error is None:
        return ProcessEnd("died", "its process died")
    raised = cause(error)
    for kind, raised_by_us in _RAISED.items():
        if isinstance(raised, raised_by_us):
            return ProcessEnd(kind, str(raised))
    line = one_line(str(error), last=True)
    if is_out_of_memory(error):
        return ProcessEnd("died", "its process was killed because its machine ran out of memory")
    if is_loss(error):
        return ProcessEnd("lost", f"Ray lost its process ({line})")
    death = death_of_actor(error)
    if death is None:
        return ProcessEnd("raised", line or type(error).__name__)
    return _DEATHS.get(death) or ProcessEnd("lost", f"Ray ended its process ({line})")


_RAISED: dict[Kind, type[Exception]] = {
    "preempted": Preempted,
    "small share": GpuShareTooSmallError,
    "unusable node": NodeUnusableError,
}
_DEATHS = {
    "preempted": ProcessEnd("preempted", "its machine was taken away"),
    "node lost": ProcessEnd("lost", "its machine was lost"),
    "sigterm": ProcessEnd("preempted", TERMINATED),
    "process died": ProcessEnd("died", "its process died (killed, crashed, or out of memory)"),
}
