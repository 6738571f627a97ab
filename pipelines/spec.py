"""One trial to run, as the planner hands it to the scheduler and to the process that trains.

Plain, picklable, JSON-able and free of torch, ray and mlflow.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import NamedTuple

from pydantic import Field

from dnw_core.config import Config, Execution, Recipe


class Resources(Config):
    """What a trial requests of its machine: cores and GPUs of all its workers together."""

    cpus: float = Field(default=1.0, gt=0)
    gpus: float = Field(default=0.0, ge=0)
    workers: int = Field(default=1, ge=1)
    across_nodes: bool = Field(default=False, description="no machine fits all workers: each requests its share")

    @property
    def share(self) -> Resources:
        """What one worker requests."""
        return Resources(cpus=self.cpus / self.workers, gpus=self.gpus / self.workers)


class ParentTrial(Config):
    """The trial (of the same seed) that another one starts from."""

    table: str
    row: str
    fingerprint: str


class TrialSpec(Config):
    """One table row with one seed, ready to run."""

    table: str
    row: str
    seed: int = Field(ge=0)
    scale: str
    fingerprint: str
    recipe: Recipe
    execution: Execution
    resources: Resources
    results_dir: Path
    parent: ParentTrial | None = None  # must be done before this one starts

    @property
    def row_key(self) -> RowKey:
        """Table and row."""
        return self.table, self.row

    @property
    def row_name(self) -> str:
        """``table/row``."""
        return f"{self.table}/{self.row}"

    @property
    def last_epoch(self) -> int:
        """Epochs after which the trial ends, or stops with a checkpoint (``Execution.stop_after_epochs``)."""
        return min(self.execution.stop_after_epochs or self.recipe.epochs, self.recipe.epochs)

    @property
    def parent_id(self) -> str | None:
        """The parent's ``trial_id``."""
        if self.parent is None:
            return None
        return f"{self.parent.table}/{self.parent.row}/{self.parent.fingerprint}/seed-{self.seed}"

    @property
    def trial_id(self) -> str:
        """``table/row/fingerprint/seed-N``: the trial's name everywhere, and its folder in the store."""
        return f"{self.table}/{self.row}/{self.fingerprint}/seed-{self.seed}"


RowKey = tuple[str, str]
"""Table and row."""

Room = tuple[float, float]
"""CPUs and GPUs of all machines together."""


class NodeType(NamedTuple):
    """The shape of one machine."""

    cpus: float
    gpus: float = 0.0


def parse_node_type(text: str) -> NodeType:
    """Read ``CPU=16,GPU=4`` (the GPUs may be left out)."""
    found: dict[str, float] = {}
    for part in text.split(","):
        name, equals, value = part.strip().partition("=")
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not equals or name not in ("CPU", "GPU") or name in found or not 0 <= number < math.inf:
            raise argparse.ArgumentTypeError(f"{text!r} is not a machine; give CPU=NUMBER or CPU=NUMBER,GPU=NUMBER")
        found[name] = number
    if not found.get("CPU"):
        raise argparse.ArgumentTypeError(f"{text!r} has no CPU; give CPU=NUMBER or CPU=NUMBER,GPU=NUMBER")
    return NodeType(found["CPU"], found.get("GPU", 0.0))
