"""ASHA (Li et al., arXiv 1810.05934) as Ray Tune has it, with a memory that outlives the driver.

Tune's own restore is not used (docs/architecture.md). Instead configurations go by their names in the store, what was
trained before is replayed, and the mark of a configuration that is given up is on disk before Tune hears of it.
Importing this module loads Ray.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from pipelines.hpo.curve import Curve, write_stopped
from pipelines.hpo.tune import running
from pipelines.schedule.trainable import KEY
from pipelines.spec import TrialSpec
from pipelines.store import Store


@dataclass(frozen=True)
class _Named:
    """All that ASHA looks at in a trial."""

    trial_id: str


class StoredASHA(ASHAScheduler):  # type: ignore[misc]  # Ray is not typed
    """ASHA over validation accuracy by epochs, whose rungs are those of all drivers that worked on the search.

    Args:
        epochs: the full budget of a configuration.
        first_rung: epochs before the first choice.
        reduction_factor: one of so many goes on at each rung.
        results_dir: the search's store, in which given up configurations are marked.
    """

    def __init__(self, epochs: int, first_rung: int, reduction_factor: float, results_dir: Path) -> None:
        super().__init__(
            time_attr="epoch",
            metric="accuracy",
            mode="max",
            max_t=epochs,
            grace_period=first_rung,
            reduction_factor=reduction_factor,
        )
        self._epochs = epochs
        self._results_dir = results_dir
        self._names: dict[str, _Named] = {}

    def replay(self, name: str, curve: Curve) -> None:
        """Enter into the rungs what a configuration reached before; the choices that were made then stand."""
        super().on_trial_add(None, _Named(name))
        for line in curve.epochs:
            if line.epoch + 1 < self._epochs:
                super().on_trial_result(None, _Named(name), running(line))

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Take a configuration in, by its name in the store."""
        super().on_trial_add(tune_controller, self._named(trial))

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Choose, and mark a configuration that is given up before anybody hears of it."""
        action: str = super().on_trial_result(tune_controller, self._named(trial), result)
        if action == TrialScheduler.STOP and result.get("status") == "running":
            spec = TrialSpec.model_validate_json(trial.config[KEY])
            with contextlib.suppress(OSError):  # a full disk: the next driver goes on with it
                write_stopped(Store(self._results_dir).folder(spec), result["epoch"], result["accuracy"])
        return action

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Note an end; the choice is made."""
        super().on_trial_complete(tune_controller, self._named(trial), result)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """Forget a configuration that Tune drops."""
        self._trial_info.pop(self._named(trial).trial_id, None)

    def _named(self, trial: Any) -> _Named:
        name = self._names.get(trial.trial_id)
        if name is None:
            spec = TrialSpec.model_validate_json(trial.config[KEY])
            name = self._names[trial.trial_id] = _Named(spec.trial_id)
        return name
