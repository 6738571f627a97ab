"""Command lines to print: to make a row again, to go on after Ctrl-C, to look at a run and to end it."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Sequence

from pipelines.commands.options import COMMAND
from pipelines.plan import PlannedRow, seeds_text, split_variant
from tune_configs import Scale


def row_command(
    row: PlannedRow, seeds: Sequence[int], scale: Scale, data_dir: str | None = None, download: bool = False
) -> str:
    """Return the command that trains one row again with these seeds."""
    words = ["python", COMMAND, "--scale", scale, "--only", f"{row.table.id}/{row.row.id}"]
    words += ["--seeds", seeds_text(seeds)]
    for setting in split_variant(row.id)[1]:
        words += ["--set", setting]
    if row.recipe.data.dataset != "digits":  # which needs no folder
        words += ["--data-dir", str(data_dir)] if data_dir else []
        words += ["--download"] if download else []
    return shlex.join(words)


def resume_command(argv: Sequence[str]) -> str:
    """Return the command that goes on with an interrupted run.

    ``--mode force`` is left out: what it set aside is gone from its place, and what it trained since is kept.
    """
    return shlex.join(["python", COMMAND, *_without_force(argv)])


def status_command(argv: Sequence[str]) -> str:
    """Return the command that says how far the trials of a command are."""
    return shlex.join(["python", COMMAND, *(word for word in _without_force(argv) if word != "--detach"), "--status"])


def stop_command(results: str) -> str:
    """Return the command that ends the run at work on the results, a folder or its URI."""
    return shlex.join(["python", COMMAND, "--stop", "--results-dir", results])


def _without_force(argv: Sequence[str]) -> list[str]:
    kept: list[str] = []
    skip = False
    for word, following in itertools.pairwise([*argv, ""]):
        if skip:
            skip = False
        elif word == "--mode" and following == "force":
            skip = True
        elif word != "--mode=force":
            kept.append(word)
    return kept
