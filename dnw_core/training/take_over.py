"""What an earlier session left in a trial's working folder: taken over where it is sound, moved out of the way if not.

A working folder may have been on a disk that filled up, or come from elsewhere. Nothing in it ends the trial: what
cannot be used costs the epochs that it held, and a line in the trial's log.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from dnw_core.files import move_odd_files
from dnw_core.recipe import Recipe
from dnw_core.record import CHECKPOINT_FILE, HISTORY_FILE, PROGRESS_FILE, RECORD_FILE, WIRING_FILE
from dnw_core.training.checkpoint import PREVIOUS_FILE, CheckpointKey, load_checkpoint
from dnw_core.training.checkpoint_fit import refuse_unfit
from dnw_core.training.trial_log import TrialLog

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
