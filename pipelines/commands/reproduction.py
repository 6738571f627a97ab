"""Command lines to print: to reproduce a row, to resume after Ctrl-C, to see a run's progress and to stop it."""

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
    """Return the command that reproduces one row with these seeds."""
    command = ["python", COMMAND, "--scale", scale, "--only", f"{row.table.id}/{row.row.id}"]
    command += ["--seeds", seeds_text(seeds)]
    for setting in split_variant(row.id)[1]:
        command += ["--set", setting]
    if row.recipe.data.dataset != "digits":  # digits need no folder
        command += ["--data-dir", str(data_dir)] if data_dir else []
        command += ["--download"] if download else []
    return shlex.join(command)


def resume_command(argv: Sequence[str]) -> str:
    """Return the command that resumes an interrupted run.

    ``--mode force`` is left out: its old results are set aside already, and what it trained since is kept.
    """
    return shlex.join(["python", COMMAND, *_without_force(argv)])


def status_command(argv: Sequence[str]) -> str:
    """Return the command that shows the progress of a command's trials."""
    return shlex.join(["python", COMMAND, *(word for word in _without_force(argv) if word != "--detach"), "--status"])


def stop_command(results: str) -> str:
    """Return the command that stops the run that uses the results, a folder or its URI."""
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
