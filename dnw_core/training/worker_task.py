"""What a trial's process and its worker processes say to each other, over one pipe for each worker."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dnw_core.execution import Execution
from dnw_core.recipe import Recipe
from dnw_core.record import EpochMetrics, TrialRecord
from dnw_core.training.session import TrialIdentity

STOP = "stop"
"""The one word that a worker hears after its task."""


@dataclass(frozen=True)
class WorkerTask:
    """What a worker process is to do: the arguments of ``run_worker``, and where it meets the others.

    Attributes:
        meeting: a file that does not exist yet, the same for all workers of one start.
    """

    rank: int
    meeting: Path
    recipe: Recipe
    seed: int
    execution: Execution
    folder: Path
    identity: TrialIdentity
    parent: Path | None
    resumed: int


@dataclass(frozen=True)
class Said:
    """What a worker says.

    Attributes:
        kind: ``epoch`` ended; or, once and last: ``done``, ``stopped`` on request, ``failed`` with an error of its own,
            or ``lost`` sight of another worker, whose own end will tell more.
        content: the epoch, the first worker's record, the error, or a sentence.
    """

    kind: Literal["epoch", "done", "stopped", "failed", "lost"]
    content: EpochMetrics | TrialRecord | BaseException | str | None = None

    @property
    def final(self) -> bool:
        """Whether nothing comes after it."""
        return self.kind != "epoch"
