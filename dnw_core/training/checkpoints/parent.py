"""What a trial takes over from a finished one: its edges and, if the rule says so, its weights (facts 4.1).

A lottery ticket trains the parent's edges from the weights that the parent itself started from. These are not stored:
both trials draw them from the same seed, and a digest in every checkpoint proves that they came out the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dnw_core.config import Recipe, fingerprint
from dnw_core.errors import CheckpointRefusedError, RecordError, TrialFailedError
from dnw_core.files import sha256_of
from dnw_core.record import CHECKPOINT_FILE, RECORD_FILE, TrialRecord, read_record
from dnw_core.training.checkpoints.checkpoint import CheckpointKey, read_checkpoint
from dnw_core.wiring.attach import attached_rules
from dnw_core.wiring.rule import WiringRule


@dataclass(frozen=True)
class Parent:
    """A finished trial's last state.

    Attributes:
        model: its parameters and buffers by name, on the CPU.
        initial_digest: of the state that it started from (``state_digest``).
        torch_version: that trained it.
        origin: its name and the SHA-256 of its checkpoint, for the record.
    """

    model: dict[str, Tensor]
    initial_digest: str | None
    torch_version: str
    origin: str


def check_parent_given(recipe: Recipe, folder: Path | None) -> None:
    """Check that a parent's folder is given exactly if the recipe asks for one.

    Raises:
        ValueError: if not.
    """
    if recipe.parent is not None and folder is None:
        raise ValueError(f"rule {recipe.wiring.rule} starts from a finished trial; give run_trial its folder (parent)")
    if recipe.parent is None and folder is not None:
        raise ValueError(f"recipe.parent is not set, so nothing would be taken from {folder}; leave parent out")


def load_parent(recipe: Recipe, seed: int, folder: Path) -> Parent:
    """Read the finished trial of ``recipe.parent`` with this seed from its folder.

    Raises:
        TrialFailedError: if it is not there, not finished, damaged, or another trial's.
    """
    assert recipe.parent is not None
    key = CheckpointKey(fingerprint(recipe.parent), seed)
    record = _finished_record(folder, key)
    path = folder / CHECKPOINT_FILE
    try:
        digest = sha256_of(path)
        if digest != record.files.get(CHECKPOINT_FILE):
            raise _unusable(folder, f"{CHECKPOINT_FILE} is truncated or altered (its SHA-256 is not the recorded one)")
        saved = read_checkpoint(path, key)
    except OSError as error:
        raise _unusable(folder, f"{CHECKPOINT_FILE} cannot be read ({error.strerror})") from None
    except CheckpointRefusedError as error:
        raise _unusable(folder, str(error)) from None
    if saved.get("epoch") != recipe.parent.epochs:
        raise _unusable(folder, f"it is not finished (epoch {saved.get('epoch')} of {recipe.parent.epochs})")
    model = saved.get("model")
    if not isinstance(model, dict) or not all(isinstance(value, Tensor) for value in model.values()):
        raise _unusable(folder, f"{CHECKPOINT_FILE} holds no network")
    name = f"{record.table}/{record.row}/{record.fingerprint}/seed-{record.seed}"
    packages = record.provenance.packages if record.provenance else {}
    return Parent(
        model=model,
        initial_digest=saved.get("initial_digest"),
        torch_version=packages.get("torch", "unknown"),
        origin=f"{name}, checkpoint sha256 {digest}",
    )


def _finished_record(folder: Path, key: CheckpointKey) -> TrialRecord:
    try:
        record = read_record(folder / RECORD_FILE)
    except OSError as error:
        raise _unusable(folder, f"{RECORD_FILE} cannot be read ({error.strerror}); is it finished?") from None
    except RecordError as error:
        raise _unusable(folder, str(error)) from None
    if record.status != "done":
        raise _unusable(folder, f"its status is {record.status!r}, not 'done'")
    if (record.fingerprint, record.seed) != (key.fingerprint, key.seed):
        raise _unusable(
            folder,
            f"it is recipe {record.fingerprint} with seed {record.seed}, needed is {key.fingerprint} "
            f"with seed {key.seed}",
        )
    return record


def _unusable(folder: Path, why: str) -> TrialFailedError:
    return TrialFailedError(f"the trial to start from, {folder}, cannot be used: {why}")


def start_from(recipe: Recipe, network: nn.Module, parent: Parent) -> None:
    """Hand every rule the parent's final weight; take over the parent's state if training starts from that.

    Args:
        recipe: of the trial that starts.
        network: with its rules attached, as drawn from the seed; changed in place.
        parent: the finished trial.

    Raises:
        TrialFailedError: if the parent's network is another one, or did not start from the same weights.
    """
    with torch.no_grad():
        if recipe.wiring.starts_from == "parent":
            for name, own in own_state(network):
                own.copy_(_value(parent, name, own))
        elif state_digest(network) != parent.initial_digest:
            raise TrialFailedError(
                f"cannot rebuild the initial weights: the parent was trained with torch {parent.torch_version} "
                f"(here: {torch.__version__}) and did not start from what this seed gives now; train it again"
            )
        for attached in attached_rules(network):
            module_name, _, weight_name = attached.name.rpartition(".")
            dense = ".".join(part for part in (module_name, "parametrizations", weight_name, "original") if part)
            attached.rule.load_parent_weight(_value(parent, dense, attached.weight))


def _value(parent: Parent, name: str, own: Tensor) -> Tensor:
    value = parent.model.get(name)
    if value is None or value.shape != own.shape:
        found = "nothing" if value is None else f"shape {tuple(value.shape)}"
        raise TrialFailedError(f"{parent.origin}: {name} should have shape {tuple(own.shape)}, found {found}")
    return value


def own_state(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield parameters and buffers in name order: all that a checkpoint holds but the rules' own buffers."""
    rules = tuple(f"{name}." for name, module in network.named_modules() if isinstance(module, WiringRule))
    state: dict[str, Any] = network.state_dict()
    for name in sorted(state):
        if not name.startswith(rules):
            yield name, state[name]


def state_digest(network: nn.Module) -> str:
    """Return the SHA-256 over names, types, shapes and values of ``own_state``."""
    digest = hashlib.sha256()
    for name, value in own_state(network):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
