"""The checkpoint that a trial goes on from: the newest one that fits it.

A checkpoint may be whole and still not fit: a key is missing, a weight has another shape, a figure is out of range. It
is checked before any of it is restored, so that a refused one leaves no trace: like a truncated one it costs the epochs
since the one before it, not the trial.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Annotated, Any

import torch
from pydantic import ConfigDict, Field, ValidationError
from torch import Tensor, nn

from dnw_core.config import Config, Recipe
from dnw_core.errors import CheckpointRefusedError
from dnw_core.files import move_odd_files
from dnw_core.models.graph import Graph
from dnw_core.record import (
    CHECKPOINT_FILE,
    HISTORY_FILE,
    PROGRESS_FILE,
    RECORD_FILE,
    WIRING_FILE,
    Amount,
    EpochMetrics,
    Whole,
)
from dnw_core.task import TrialTask
from dnw_core.training.checkpoints.checkpoint import PREVIOUS_FILE, CheckpointKey, load_checkpoint
from dnw_core.training.checkpoints.trial_log import TrialLog
from dnw_core.training.engine.optimiser import make_optimiser

Built = tuple[nn.Module, list[Graph]]  # a network with its rules, and its graphs

_FILES = (CHECKPOINT_FILE, PREVIOUS_FILE, HISTORY_FILE, WIRING_FILE, PROGRESS_FILE, RECORD_FILE)
_SETTINGS = ("lr", "momentum", "weight_decay", "dampening", "nesterov")  # of the optimiser, whatever torch adds to them


class SavedValues(Config):
    """The plain values of a checkpoint, as ``TrainingState`` has them."""

    model_config = ConfigDict(extra="ignore")

    epoch: Whole
    step: Whole
    resumed: Whole
    threads: Annotated[int, Field(ge=1, le=1 << 14)]
    workers: Annotated[int, Field(ge=1)] = 1  # older checkpoints lack it
    seconds: Amount
    epoch_seconds: Amount
    started_at: str
    initial_digest: str | None = None
    parent: str | None = None
    history: list[EpochMetrics]


def load_resumable(task: TrialTask, built: Built, log: TrialLog) -> dict[str, Any] | None:
    """Return the newest state that the trial can go on from, or None; write to the log what was refused.

    Links, folders and pipes where files should be are renamed, and so are checkpoints that are refused.
    """
    for sentence in move_odd_files(task.folder, _FILES):
        log.write(sentence)
    check = partial(check_resumable, recipe=task.recipe, built=built)
    saved, refused = load_checkpoint(task.folder, CheckpointKey.of(task), check, move_refused=True)
    for sentence in refused:
        log.write(f"{sentence}; going on from the last good state")
    return saved


def stored_values(task: TrialTask) -> SavedValues | None:
    """Return the plain values of the newest checkpoint whose values fit the trial, or None."""
    check = partial(check_values, recipe=task.recipe)
    saved, _ = load_checkpoint(task.folder, CheckpointKey.of(task), check)
    return SavedValues.model_validate(saved) if saved else None


def check_resumable(saved: Mapping[str, Any], recipe: Recipe, built: Built) -> None:
    """Check that a trial of this recipe can go on from a state, before anything is restored.

    Args:
        saved: the state.
        recipe: the trial's.
        built: the network that it would be restored into; on any device, not changed.

    Raises:
        CheckpointRefusedError: the first thing that does not fit.
    """
    check_values(saved, recipe)
    _check_random(saved)
    sums = {"loss_sum": torch.zeros((), dtype=torch.float64), "correct": torch.zeros((), dtype=torch.int64)}
    _check_tensors("", {name: saved.get(name) for name in sums}, sums)
    network, graphs = built
    _check_tensors("model.", saved.get("model"), network.state_dict(), finite=dict(network.named_parameters()))
    finished = saved["epoch"] == recipe.epochs  # then what only training needs may be left out
    if not finished or "optimiser" in saved:
        _check_optimiser(saved.get("optimiser"), make_optimiser(recipe, network))
    if not finished or "start_masks" in saved:
        masks = {graph.name: torch.empty(graph.slots.shape, dtype=torch.bool, device="meta") for graph in graphs}
        _check_tensors("start_masks.", saved.get("start_masks"), masks)


def check_values(saved: Mapping[str, Any], recipe: Recipe) -> None:
    """Check the plain values of a state.

    Raises:
        CheckpointRefusedError: the first one that is missing or out of range.
    """
    try:
        values = SavedValues.model_validate(saved)
    except ValidationError as error:
        first = error.errors()[0]
        raise CheckpointRefusedError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    if values.epoch > recipe.epochs:
        raise CheckpointRefusedError(f"epoch is {values.epoch} of {recipe.epochs}")
    if [line.epoch for line in values.history] != list(range(values.epoch)):
        raise CheckpointRefusedError("its history is not that of its finished epochs")


def _check_random(saved: Mapping[str, Any]) -> None:
    cuda = saved.get("random_cuda")
    try:
        torch.Generator().set_state(saved["random"])
        fits = isinstance(cuda, list) and all(_is_plain(one) and one.dtype == torch.uint8 for one in cuda)
    except (KeyError, RuntimeError, TypeError):
        fits = False
    if not fits:
        raise CheckpointRefusedError("its random state is damaged")


def _check_optimiser(found: Any, own: torch.optim.Optimizer) -> None:
    """Check momenta against the parameters that they belong to, which both list by number."""
    groups, states = (found.get("param_groups"), found.get("state")) if isinstance(found, dict) else (None, None)
    expected = own.state_dict()["param_groups"]
    if not isinstance(groups, list) or list(map(_settings, groups)) != list(map(_settings, expected)):
        raise CheckpointRefusedError("optimiser.param_groups are missing or those of another network")
    parameters = dict(enumerate(parameter for group in own.param_groups for parameter in group["params"]))
    if not isinstance(states, dict) or not states.keys() <= parameters.keys():
        raise CheckpointRefusedError("optimiser.state is missing or that of another network")
    for number, momenta in states.items():
        if not isinstance(momenta, dict):
            raise CheckpointRefusedError(f"optimiser.state.{number} is not a dictionary")
        given = {name: value for name, value in momenta.items() if value is not None}
        _check_tensors(f"optimiser.state.{number}.", given, dict.fromkeys(given, parameters[number]), finite=given)


def _settings(group: Any) -> Any:
    """Return what two groups of an optimiser must have in common: their parameters, and settings of the same types."""
    return isinstance(group, dict) and (group.get("params"), [type(group.get(name)) for name in _SETTINGS])


def _check_tensors(section: str, found: Any, expected: Mapping[str, Tensor], finite: Iterable[str] = ()) -> None:
    """Check that these are plain tensors of the names, shapes and types expected, without infinities in some."""
    if not isinstance(found, dict):
        raise CheckpointRefusedError(f"{section[:-1]} is missing")
    for name in sorted(map(str, found.keys() ^ expected.keys())):
        raise CheckpointRefusedError(f"{section}{name} is {'unknown' if name in found else 'missing'}")
    for name, own in expected.items():
        value = found[name]
        if not _is_plain(value):
            raise CheckpointRefusedError(f"{section}{name} is not a plain tensor")
        if (value.dtype, value.shape) != (own.dtype, own.shape):
            raise CheckpointRefusedError(
                f"{section}{name} is {value.dtype} {tuple(value.shape)}; it must be {own.dtype} {tuple(own.shape)}"
            )
    for name in finite:
        if not bool(found[name].isfinite().all()):
            raise CheckpointRefusedError(f"{section}{name} holds numbers that are not finite")


def _is_plain(value: Any) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided and not value.is_meta and not value.is_quantized
