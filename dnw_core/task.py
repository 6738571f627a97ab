"""What a training function gets: the trial, and the caller's hooks. Free of torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dnw_core.config import Config, Execution, Recipe
from dnw_core.record import EpochMetrics


class TrialIdentity(Config):
    """The trial's names; with the seed they identify it."""

    table: str
    row: str
    scale: str
    fingerprint: str


@dataclass(frozen=True)
class TrialTask:
    """One trial to train.

    Attributes:
        recipe: what to train.
        seed: of initialisation, wiring, order and augmentation.
        execution: where; changes no result, but ``threads``, and on a CPU ``workers``, are overruled by a
            checkpoint's, because bits depend on them.
        folder: the trial's working folder.
        identity: names that go into the record.
        parent: folder of the finished trial that ``recipe.parent`` asks for, with the same seed; else None.
    """

    recipe: Recipe
    seed: int
    execution: Execution
    folder: Path
    identity: TrialIdentity
    parent: Path | None = None


def _ignore(line: EpochMetrics) -> None:
    """Do nothing."""


def _never() -> bool:
    return False


@dataclass(frozen=True)
class Hooks:
    """Functions of the caller that are called while a trial trains.

    Attributes:
        on_epoch: called after each epoch.
        should_stop: asked about twice a second; once it returns True, a checkpoint is written and TrialStopped raised.
    """

    on_epoch: Callable[[EpochMetrics], object] = _ignore
    should_stop: Callable[[], bool] = _never


NO_HOOKS = Hooks()
