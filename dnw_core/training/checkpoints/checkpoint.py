"""Checkpoints: one atomic file, and the one before it as a fallback; plain tensors and values only.

Loaded with ``weights_only=True``: a file that holds anything else is refused, never executed. torch writes checksums
into its archive and does not look at them, so that a flipped bit would become a weight: they are verified here.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dnw_core.errors import CheckpointRefusedError
from dnw_core.files import open_plain, write_atomically
from dnw_core.record import CHECKPOINT_FILE
from dnw_core.record import PREVIOUS_FILE as PREVIOUS_FILE
from dnw_core.task import TrialTask

CHECKPOINT_VERSION = 1
REFUSED_SUFFIX = ".refused"

_READ_BYTES = 1 << 20


@dataclass(frozen=True)
class CheckpointKey:
    """What a checkpoint must belong to."""

    fingerprint: str
    seed: int

    @classmethod
    def of(cls, task: TrialTask) -> CheckpointKey:
        """Return the trial's."""
        return cls(task.identity.fingerprint, task.seed)


def save_checkpoint(folder: Path, key: CheckpointKey, state: dict[str, Any]) -> None:
    """Write ``state``; the checkpoint that was there becomes the fallback."""
    current, previous = folder / CHECKPOINT_FILE, folder / PREVIOUS_FILE
    values = {"version": CHECKPOINT_VERSION, "fingerprint": key.fingerprint, "seed": key.seed, **state}
    if current.exists():
        # a hard link, so that there is a good CHECKPOINT_FILE at every moment
        previous.unlink(missing_ok=True)
        os.link(current, previous)
    write_atomically(current, lambda temporary: _save(values, temporary))


def _save(values: dict[str, Any], path: Path) -> None:
    """Write the file.

    Raises:
        OSError: the system's reason (no space left); torch alone would report an unexpected position.
    """
    with path.open("wb") as file:
        try:
            torch.save(values, file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def load_checkpoint(
    folder: Path,
    key: CheckpointKey,
    check: Callable[[dict[str, Any]], object] = lambda state: None,
    *,
    move_refused: bool = False,
) -> tuple[dict[str, Any] | None, list[str]]:
    """Return the newest good state (None if there is none) and a sentence for each file that was refused.

    Args:
        folder: the trial's working folder.
        key: what the checkpoint must belong to.
        check: raises CheckpointRefusedError for a state that the trial cannot go on from.
        move_refused: rename what is refused, so that the next checkpoint does not push the good one out for it.
    """
    refused: list[str] = []
    for name in (CHECKPOINT_FILE, PREVIOUS_FILE):
        path = folder / name
        if not path.exists():
            continue
        try:
            state = read_checkpoint(path, key)
            check(state)
        except CheckpointRefusedError as error:
            sentence = str(error)
            refused.append(sentence if sentence.startswith(name) else f"{name} refused: {sentence}")
            if move_refused:
                path.replace(path.with_name(name + REFUSED_SUFFIX))
        else:
            return state, refused
    return None, refused


def read_checkpoint(path: Path, key: CheckpointKey | None = None) -> dict[str, Any]:
    """Read one checkpoint file.

    Raises:
        CheckpointRefusedError: if it is truncated or altered, holds more than tensors and plain values, or is another
            trial's.
    """
    try:
        _verify_archive(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged archive or pickle fails in a dozen ways; each means: refused
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointRefusedError(f"{path.name} refused: {first_line[:200]}") from None
    if not isinstance(state, dict) or state.get("version") != CHECKPOINT_VERSION:
        raise CheckpointRefusedError(f"{path.name} refused: not a checkpoint of version {CHECKPOINT_VERSION}")
    if key is not None and (state.get("fingerprint"), state.get("seed")) != (key.fingerprint, key.seed):
        raise CheckpointRefusedError(
            f"{path.name} refused: it belongs to recipe {state.get('fingerprint')} with seed {state.get('seed')}, "
            f"not to {key.fingerprint} with seed {key.seed}"
        )
    return state


def _verify_archive(path: Path) -> None:
    """Check that the file is an archive as torch writes it: nothing compressed, no name twice, every checksum right.

    Raises:
        OSError: if it is not a plain file, or cannot be read.
        ValueError, zipfile.BadZipFile: what is wrong with it.
    """
    with open_plain(path) as file, zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("it is compressed, which a checkpoint never is")
        if len({entry.filename for entry in entries}) < len(entries):
            raise ValueError("it holds a name twice")
        if sum(entry.file_size for entry in entries) > os.fstat(file.fileno()).st_size:
            raise ValueError("it claims to hold more than it is large")
        for entry in entries:
            with archive.open(entry) as member:  # the end of an entry compares its checksum
                while member.read(_READ_BYTES):
                    pass
