"""Checkpoints: one atomic file, and the one before it as a fallback; plain tensors and values only.

Loaded with ``weights_only=True``: a file that holds anything else is refused, never executed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dnw_core.errors import CheckpointRefused
from dnw_core.files import write_atomically
from dnw_core.record import CHECKPOINT_FILE

CHECKPOINT_VERSION = 1
PREVIOUS_FILE = "checkpoint.previous.pt"


@dataclass(frozen=True)
class CheckpointKey:
    """What a checkpoint must belong to."""

    fingerprint: str
    seed: int


def save_checkpoint(folder: Path, key: CheckpointKey, state: dict[str, Any]) -> None:
    """Write ``state``; the checkpoint that was there becomes the fallback."""
    current, previous = folder / CHECKPOINT_FILE, folder / PREVIOUS_FILE
    values = {"version": CHECKPOINT_VERSION, "fingerprint": key.fingerprint, "seed": key.seed, **state}
    if current.exists():
        # a hard link, so that a good checkpoint stands under CHECKPOINT_FILE at every moment
        previous.unlink(missing_ok=True)
        os.link(current, previous)
    write_atomically(current, lambda temporary: torch.save(values, temporary))


def load_checkpoint(folder: Path, key: CheckpointKey) -> tuple[dict[str, Any] | None, list[str]]:
    """Return the newest good state (None if there is none) and a sentence for each file that was refused."""
    refused: list[str] = []
    for name in (CHECKPOINT_FILE, PREVIOUS_FILE):
        path = folder / name
        if not path.exists():
            continue
        try:
            return read_checkpoint(path, key), refused
        except CheckpointRefused as error:
            refused.append(str(error))
    return None, refused


def read_checkpoint(path: Path, key: CheckpointKey | None = None) -> dict[str, Any]:
    """Read one checkpoint file.

    Raises:
        CheckpointRefused: if it is truncated, holds more than tensors and plain values, or is another trial's.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged archive or pickle fails in a dozen ways; each means: refused
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointRefused(f"{path.name} refused: {first_line[:200]}") from None
    if not isinstance(state, dict) or state.get("version") != CHECKPOINT_VERSION:
        raise CheckpointRefused(f"{path.name} refused: not a checkpoint of version {CHECKPOINT_VERSION}")
    if key is not None and (state.get("fingerprint"), state.get("seed")) != (key.fingerprint, key.seed):
        raise CheckpointRefused(
            f"{path.name} refused: it belongs to recipe {state.get('fingerprint')} with seed {state.get('seed')}, "
            f"not to {key.fingerprint} with seed {key.seed}"
        )
    return state
