"""The four answers to "train it again?" (the words are exca's)."""

from __future__ import annotations

from typing import Literal

Mode = Literal["cached", "retry", "force", "read-only"]
State = Literal["done", "partial", "failed", "drifted", "new", "data missing", "blocked"]

MODES: dict[Mode, str] = {
    "cached": "keep results and failures, train what is missing or was interrupted",
    "retry": "also train what failed, from its last checkpoint",
    "force": "train everything again from the start; what was there moves to set-aside/",
    "read-only": "train nothing; exit code 1 if something is missing",
}


def should_run(mode: Mode, state: State, *, pulled: bool = False) -> bool:
    """Whether a trial in this state is trained in this mode.

    One whose data are missing, or that is blocked, cannot be trained in any mode. One that is ``pulled`` in only
    because another trial starts from it is not forced: what is done serves.
    """
    if mode == "read-only" or state in ("data missing", "blocked"):
        return False
    if mode == "force" and not pulled:
        return True
    return state != "done" and (state != "failed" or mode in ("retry", "force"))
