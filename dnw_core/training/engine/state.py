"""Everything that changes while a trial trains, to and from a checkpoint.

Model, optimiser, position, the sums of the current epoch, history, and every random state. The data need none: a batch
depends on (seed, epoch, step) alone, and so does the learning rate.

The last checkpoint of a finished trial leaves the momentum out: nothing reads it again, and it is half of the file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from dnw_core.record import EpochMetrics

# plain values that a checkpoint gives back as they were
_RESTORED = ("epoch", "step", "seconds", "epoch_seconds", "started_at", "initial_digest", "parent")


@dataclass
class TrainingState:
    """The state of one trial.

    Attributes:
        epoch: the epoch that runs now, counted from 0; equal to the number of finished epochs.
        step: optimiser steps done in it.
        loss_sum: sum over its images so far, on the device, float64.
        correct: correctly classified training images so far, on the device.
        start_masks: kept edges at its start, by graph name.
        initial_digest: of the weights that training started from; None if an older version of this project started it.
        parent: the finished trial that training started from, in words.
        history: the finished epochs.
        seconds: training time so far, over all sessions.
        resumed: how often the trial went on from a checkpoint.
        workers: that share its batches now.
    """

    model: nn.Module
    optimiser: torch.optim.Optimizer
    device: torch.device
    started_at: str
    threads: int
    start_masks: dict[str, Tensor] = field(default_factory=dict)
    initial_digest: str | None = None
    parent: str | None = None
    epoch: int = 0
    step: int = 0
    loss_sum: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))
    correct: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.int64))
    history: list[EpochMetrics] = field(default_factory=list)
    seconds: float = 0.0
    epoch_seconds: float = 0.0
    resumed: int = 0
    workers: int = 1

    def begin_epoch(self, masks: dict[str, Tensor]) -> None:
        """Reset what is counted per epoch."""
        self.step = 0
        self.epoch_seconds = 0.0
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        self.correct = torch.zeros((), dtype=torch.int64, device=self.device)
        self.start_masks = masks

    def to_checkpoint(self, *, finished: bool = False) -> dict[str, Any]:
        """Return tensors and plain values only; of a finished trial without what only training needs."""
        for_training = {"optimiser": self.optimiser.state_dict(), "start_masks": self.start_masks}
        return {
            "model": self.model.state_dict(),
            **({} if finished else for_training),
            **{name: getattr(self, name) for name in (*_RESTORED, "resumed", "threads", "workers")},
            "loss_sum": self.loss_sum,
            "correct": self.correct,
            "history": [line.model_dump() for line in self.history],
            "random": torch.get_rng_state(),
            "random_cuda": [torch.cuda.get_rng_state(self.device)] if self.device.type == "cuda" else [],
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Restore a checkpoint's state (``threads`` must have been set before anything was computed)."""
        self.model.load_state_dict(saved["model"])
        if "optimiser" in saved:  # not in a finished trial's last one
            self.optimiser.load_state_dict(saved["optimiser"])
        for name in _RESTORED:
            setattr(self, name, saved.get(name))
        self.resumed = saved["resumed"] + 1
        self.loss_sum = saved["loss_sum"].to(self.device)
        self.correct = saved["correct"].to(self.device)
        self.start_masks = {name: mask.to(self.device) for name, mask in saved.get("start_masks", {}).items()}
        self.history = [EpochMetrics.model_validate(line) for line in saved["history"]]
        torch.set_rng_state(saved["random"])
        if self.device.type == "cuda" and saved["random_cuda"]:
            states = saved["random_cuda"]  # of the trial's own device; in older checkpoints of all that were visible
            index = self.device.index or 0
            torch.cuda.set_rng_state(states[index if index < len(states) else 0], self.device)
