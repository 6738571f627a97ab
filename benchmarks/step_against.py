"""The training step of an earlier commit and of this working tree, in alternating processes.

``python benchmarks/training_step.py --against COMMIT``. Each tree has a process of its own for each row, which imports
its own ``benchmarks/training_step.py`` and everything below it. One step at a time is run, by the two in turn.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from benchmarks import step_process
from benchmarks.step_process import ROWS

ROOT = Path(__file__).resolve().parents[1]
BENCHMARK = "benchmarks/training_step.py"


class Figures(NamedTuple):
    """Medians of one tree's steps."""

    cpu: float  # seconds of processor time, all threads together
    wall: float  # seconds
    peak: float  # bytes of the process


def compare_with(commit: str, names: Sequence[str], precision: str, repeats: int, threads: int, *, dirty: bool) -> None:
    """Print a table of both trees' steps.

    Raises:
        SystemExit: with 2, if the commit has no such benchmark, or the working tree has uncommitted changes.
    """
    found = git("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}")
    if not found:
        refuse(f"--against: {commit} is not a commit of this repository; git log --oneline lists them")
    if not git("ls-tree", "--name-only", found, BENCHMARK):
        refuse(f"--against: commit {found[:10]} has no {BENCHMARK}; name a later commit")
    changed = git("status", "--porcelain", "--untracked-files=no")
    if changed and not dirty:
        refuse("--against measures what is committed; commit your changes, or add --dirty to measure them as they are")
    here = f"{git('rev-parse', '--short=10', 'HEAD')}{' + changes' if changed else ''}"
    print(f"{found[:10]} and {here}, {precision}, {threads} thread(s), medians of {repeats} alternating steps")
    print("row                     batch   CPU s before   now  ratio   wall before   now  ratio   peak MB before  now")
    with checked_out(found) as before:
        for name in names:
            row = ROWS[name]
            old, new, dropped = measure(before, ROOT, name, precision, repeats, threads)
            print(
                f"{name:23s} {row.batch:5d}  {old.cpu:13.3f} {new.cpu:5.3f}  {new.cpu / old.cpu:5.2f}"
                f"  {old.wall:12.3f} {new.wall:5.3f}  {new.wall / old.wall:5.2f}"
                f"  {old.peak / 1e6:14.0f} {new.peak / 1e6:4.0f}"
                + (f"   (before: no {', '.join(dropped)})" if dropped else ""),
                flush=True,
            )


def measure(
    before: Path, now: Path, name: str, precision: str, repeats: int, threads: int
) -> tuple[Figures, Figures, list[str]]:
    """Return both trees' figures for a row, and the settings that the earlier one lacks."""
    with contextlib.ExitStack() as stack:
        trees = [stack.enter_context(started(tree, name, precision, threads)) for tree in (before, now)]
        dropped: list[list[str]] = [answer(process)["dropped"] for process in trees]
        steps: list[list[Mapping[str, float]]] = [[], []]
        for repeat in range(repeats + 2):
            for process, kept in zip(trees, steps, strict=True):
                process.stdin.write("step\n")
                process.stdin.flush()
                figures = answer(process)
                if repeat >= 2:  # the first two warm up: memory, and the first selection of edges
                    kept.append(figures)
    old, new = (
        Figures(*(statistics.median(step[field] for step in kept) for field in Figures._fields)) for kept in steps
    )
    return old, new, dropped[0]


@contextlib.contextmanager
def started(tree: Path, name: str, precision: str, threads: int) -> Iterator[Any]:
    """The process of a tree, which waits for lines."""
    code = (
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('step_process', {str(Path(step_process.__file__))!r})\n"
        "module = importlib.util.module_from_spec(spec); sys.modules['step_process'] = module\n"
        f"spec.loader.exec_module(module)\nmodule.serve(module.ROWS[{name!r}], {precision!r}, {threads})\n"
    )
    variables = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": str(threads)}
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tree, env=variables, stdin=pipe, stdout=pipe, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def answer(process: Any) -> Any:
    """The next line of a tree's process."""
    line = process.stdout.readline()
    if not line:
        raise SystemExit("a measured process ended; its error is above")
    return json.loads(line)


@contextlib.contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """A folder with the commit's files."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        git("worktree", "add", "--detach", str(tree), commit)
        try:
            yield tree
        finally:
            git("worktree", "remove", "--force", str(tree))


def git(*words: str) -> str:
    """What git says of this repository, or nothing if it fails."""
    ran = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True)
    return ran.stdout.strip() if ran.returncode == 0 else ""


def refuse(why: str) -> NoReturn:
    """End with one line and exit code 2."""
    print(f"error: {why}", file=sys.stderr)
    raise SystemExit(2)
