"""Can a trial go on from a state? Asked before any of it is taken over, so that a refused one leaves no trace.

A checkpoint may be whole and still not fit: a key is missing, a weight has another shape, a figure is out of range.
Refused like a truncated one, it costs the epochs since the one before it, not the trial.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeGuard

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from dnw_core.config import Recipe
from dnw_core.errors import CheckpointRefusedError
from dnw_core.files import move_odd_files
from dnw_core.models.build import build_wired
from dnw_core.record import CHECKPOINT_FILE, HISTORY_FILE, PROGRESS_FILE, RECORD_FILE, WIRING_FILE, EpochMetrics
from dnw_core.training.checkpoints.checkpoint import PREVIOUS_FILE, CheckpointKey, load_checkpoint
from dnw_core.training.checkpoints.trial_log import TrialLog
from dnw_core.training.engine.loop import make_optimiser

_COUNTS = ("epoch", "step", "resumed", "threads", "workers")
_SECONDS = ("seconds", "epoch_seconds")
_SINCE = {"workers": 1}  # keys that older checkpoints lack, and what they stand for
_SETTINGS = ("lr", "momentum", "weight_decay", "dampening", "nesterov")  # of the optimiser, whatever torch adds to them
_MOST_THREADS = 1 << 14


def refuse_unfit(state: Mapping[str, Any], recipe: Recipe, seed: int) -> None:
    """Check that a trial of this recipe and seed can go on from the state.

    Raises:
        CheckpointRefusedError: the first thing that does not fit.
    """
    _check_values(state, recipe)
    network, graphs = build_wired(recipe.network, recipe.wiring, seed)
    _check_model(_section(state, "model"), network)
    finished = state["epoch"] == recipe.epochs
    if not finished or "optimiser" in state:
        _check_optimiser(_section(state, "optimiser"), make_optimiser(recipe, network))
    masks = {graph.name: graph.slots.shape for graph in graphs}
    found = _section(state, "start_masks") if not finished or "start_masks" in state else {}
    if found and set(found) != set(masks):
        raise CheckpointRefusedError("start_masks are those of other graphs")
    for name, mask in found.items():
        _check_tensor(f"start_masks.{name}", mask, tuple(masks[name]), torch.bool)


def _check_values(state: Mapping[str, Any], recipe: Recipe) -> None:
    for name in _COUNTS:
        value = state.get(name, _SINCE.get(name))
        if type(value) is not int or value < 0:
            raise CheckpointRefusedError(f"{name} is {str(value)[:40]}; it must be a whole number from 0 on")
    for name in _SECONDS:
        value = state.get(name)
        if not isinstance(value, int | float) or not 0 <= value < float("inf"):
            raise CheckpointRefusedError(f"{name} is {str(value)[:40]}; it must be a number from 0 on")
    for name, absent in (("started_at", False), ("initial_digest", True), ("parent", True)):
        value = state.get(name)
        if not (isinstance(value, str) or (absent and value is None)):
            raise CheckpointRefusedError(f"{name} is no text")
    if not 1 <= state["threads"] <= _MOST_THREADS or state.get("workers", 1) < 1:
        raise CheckpointRefusedError("its numbers of threads and workers are those of no machine")
    if state["epoch"] > recipe.epochs:
        raise CheckpointRefusedError(f"epoch is {state['epoch']} of {recipe.epochs}")
    _check_history(state)
    for name, dtype in (("loss_sum", torch.float64), ("correct", torch.int64)):
        _check_tensor(name, state.get(name), (), dtype)
    _check_random(state)


def _check_history(state: Mapping[str, Any]) -> None:
    history = state.get("history")
    if not isinstance(history, list) or len(history) != state["epoch"]:
        raise CheckpointRefusedError("its history is not that of the epochs that it has behind it")
    try:
        epochs = [EpochMetrics.model_validate(line).epoch for line in history]
    except ValidationError as error:
        raise CheckpointRefusedError(f"its history holds no epoch's figures ({error.errors()[0]['msg']})") from None
    if epochs != list(range(len(epochs))):
        raise CheckpointRefusedError("its history is out of order")


def _check_random(state: Mapping[str, Any]) -> None:
    random, cuda = state.get("random"), state.get("random_cuda")
    states = [random, *cuda] if isinstance(cuda, list) else [None]
    if not all(_is_plain(one) and one.dtype == torch.uint8 and one.dim() == 1 for one in states):
        raise CheckpointRefusedError("its random state is damaged")
    try:
        torch.Generator().set_state(state["random"])
    except (RuntimeError, TypeError):
        raise CheckpointRefusedError("its random state is damaged") from None


def _check_model(found: Mapping[str, Any], network: nn.Module) -> None:
    own: dict[str, Tensor] = network.state_dict()
    _same_names("model", found, own)
    for name, value in own.items():
        _check_tensor(f"model.{name}", found[name], tuple(value.shape), value.dtype)
    for name, _ in network.named_parameters():
        _check_finite(f"model.{name}", found[name])


def _check_optimiser(found: Mapping[str, Any], own: torch.optim.Optimizer) -> None:
    """Check momenta against the parameters that they belong to, which both list by number."""
    expected = own.state_dict()["param_groups"]
    groups = found.get("param_groups")
    if not isinstance(groups, list) or [_numbers(group) for group in groups] != [_numbers(one) for one in expected]:
        raise CheckpointRefusedError("optimiser.param_groups are those of another network")
    for given, mine in zip(groups, expected, strict=True):
        if any(type(given.get(name)) is not type(mine[name]) for name in _SETTINGS):
            raise CheckpointRefusedError("optimiser.param_groups lack a setting")
    parameters = [parameter for group in own.param_groups for parameter in group["params"]]
    states = found.get("state")
    if not isinstance(states, dict):
        raise CheckpointRefusedError("optimiser.state is missing")
    for number, momenta in states.items():
        if type(number) is not int or not 0 <= number < len(parameters) or not isinstance(momenta, dict):
            raise CheckpointRefusedError("optimiser.state is that of another network")
        for name, value in momenta.items():
            if value is not None:
                shape = tuple(parameters[number].shape)
                _check_tensor(f"optimiser.state.{number}.{name}", value, shape, parameters[number].dtype)
                _check_finite(f"optimiser.state.{number}.{name}", value)


def _section(state: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = state.get(name)
    if not isinstance(value, dict):
        raise CheckpointRefusedError(f"{name} is missing")
    return value


def _numbers(group: Any) -> Any:
    return group.get("params") if isinstance(group, dict) else None


def _same_names(section: str, found: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    odd = sorted(map(str, set(found) ^ set(own)))
    if odd:
        raise CheckpointRefusedError(f"{section}: {odd[0]!r} is {'unknown' if odd[0] in found else 'missing'}")


def _check_tensor(name: str, value: Any, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    if not _is_plain(value):
        raise CheckpointRefusedError(f"{name} is not a plain tensor")
    if tuple(value.shape) != shape or value.dtype != dtype:
        raise CheckpointRefusedError(f"{name} is {value.dtype} {tuple(value.shape)}; it must be {dtype} {shape}")


def _check_finite(name: str, value: Tensor) -> None:
    if not bool(value.isfinite().all()):
        raise CheckpointRefusedError(f"{name} holds numbers that are not finite")


def _is_plain(value: Any) -> TypeGuard[Tensor]:
    return isinstance(value, Tensor) and value.layout == torch.strided and not value.is_meta and not value.is_quantized


_FILES = (CHECKPOINT_FILE, PREVIOUS_FILE, HISTORY_FILE, WIRING_FILE, PROGRESS_FILE, RECORD_FILE)


def take_over(folder: Path, key: CheckpointKey, recipe: Recipe, log: TrialLog) -> dict[str, Any] | None:
    """Return the newest state that the trial can go on from, or None; write to the log what was refused.

    Links, folders and pipes where files should be are renamed, and so are checkpoints that are refused.
    """
    for sentence in move_odd_files(folder, _FILES):
        log.write(sentence)
    check = partial(refuse_unfit, recipe=recipe, seed=key.seed)
    saved, refused = load_checkpoint(folder, key, check, move_refused=True)
    for sentence in refused:
        log.write(f"{sentence}; going on from the last good state")
    return saved
