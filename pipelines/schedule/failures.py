"""Why a trial's process ended without a result, as Ray tells it, and what follows from that.

Measured with Ray 2.60 on a cluster of three raylets; all are ``ActorDiedError`` and differ in their text alone:

=====================================  ==============================================================================
SIGKILL, SIGSEGV, ``os._exit``         its worker process has died ... connection error code 2. End of file
``sys.exit(4)``                        its worker process has died ... exits with an exit code 4
SIGTERM with Ray's own handler         its worker process has died ... The process receives a SIGTERM
``ray.kill``                           it was killed by `ray.kill`
raylet killed, machine or network lost its node has died; ``preempted`` where the node drained with a deadline
=====================================  ==============================================================================

Only a process that died by itself, or that Ray's memory monitor killed, says something about the trial, and what it
raised outside of training: both are counted (``--max-failures``). A lost machine, a pre-empted trial and a mishap of
Ray's are not: however many of them a long run meets, it goes on.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from pipelines.cluster import TERMINATED, Preempted
from pipelines.storage import NodeUnusableError
from pipelines.trial import GpuShareTooSmallError

Kind = Literal["died", "raised", "lost", "preempted", "share", "unfit"]

_MEMORY = ("NODE_OUT_OF_MEMORY", "running low on memory")
# errors of Ray's, by their names: this module is read without Ray
_MISHAPS = {
    "ActorPlacementGroupRemoved",
    "ActorUnavailableError",
    "LocalRayletDiedError",
    "NodeDiedError",
    "ObjectLostError",
    "RaySystemError",
    "RpcError",
}


class End(NamedTuple):
    """How a process ended, and why, in the words that follow a trial's name."""

    kind: Kind
    words: str

    @property
    def counts(self) -> bool:
        """Whether it is held against the trial."""
        return self.kind in ("died", "raised")


def end_of_process(error: BaseException | None) -> End:
    """Return what the error that Tune keeps of a trial means; None if it could not be kept."""
    raised = getattr(error, "cause", None) or error  # Ray wraps what a trial has raised
    if isinstance(raised, Preempted):
        return End("preempted", str(raised))
    if isinstance(raised, GpuShareTooSmallError):
        return End("share", str(raised))
    if isinstance(raised, NodeUnusableError):
        return End("unfit", str(raised))
    if error is None:
        return End("died", "its process died")
    names, text = {kind.__name__ for kind in type(error).__mro__}, str(error)
    if "OutOfMemoryError" in names or any(word in text for word in _MEMORY):
        return End("died", "its process was killed because its machine ran out of memory")
    if names & _MISHAPS:
        return End("lost", f"Ray lost its process ({_last_line(text)})")
    if "RayActorError" in names and not getattr(error, "actor_init_failed", False):
        return _end_of_actor(text, preempted=getattr(error, "preempted", False))
    return End("raised", _last_line(text) or type(error).__name__)


def _end_of_actor(text: str, *, preempted: bool) -> End:
    if preempted:
        return End("preempted", "its machine was taken away")
    if "node has died" in text:
        return End("lost", "its machine was lost")
    if "receives a SIGTERM" in text:
        return End("preempted", TERMINATED)
    if "worker process has died" in text:
        return End("died", "its process died (killed, crashed, or out of memory)")
    return End("lost", f"Ray ended its process ({_last_line(text)})")


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
