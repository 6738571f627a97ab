"""Showing a run: a live table in the terminal, or plain lines where the output is not a terminal."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from typing_extensions import override

from pipelines.driver.progress import Progress, TrialProgress
from pipelines.text import duration

if TYPE_CHECKING:
    from rich.table import Table

Raised = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]
_LINE_SECONDS = 30.0


class Display:
    """What the scheduler reports a run to; shows nothing but notes. Entered for the length of the run."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: *Raised) -> None:
        pass

    def note(self, text: str) -> None:
        """Print one line that stays."""
        print(text, flush=True)

    def ended(self, trial: TrialProgress) -> None:
        """Report that a trial has ended."""

    def tick(self) -> None:
        """Called often while the run lasts."""


def make_display(progress: Progress) -> Display:
    """Return the live table in a terminal and plain lines elsewhere."""
    return LiveTable(progress) if sys.stdout.isatty() else PlainLines(progress)


class PlainLines(Display):
    """One line for each trial that ends, and one every half minute for those that run."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._last = time.monotonic()

    @override
    def ended(self, trial: TrialProgress) -> None:
        self.note(describe_end(self._progress, trial))
        self._last = time.monotonic()

    @override
    def tick(self) -> None:
        if time.monotonic() - self._last < _LINE_SECONDS:
            return
        self._last = time.monotonic()
        running = ", ".join(describe_running(trial) for trial in self._progress.running())
        left = duration(self._progress.seconds_left())
        waiting = self._progress.waiting_for_parents()
        text = f"running: {running}" if running else idle_line(self._progress)
        text += f"; {waiting} waiting for a parent trial" if waiting else ""
        self.note(f"{text}; about {left} left" if left else text)


class LiveTable(Display):
    """A table that updates in place: rows, seeds done, epoch, accuracy, work left. Notes stay above it."""

    def __init__(self, progress: Progress) -> None:
        from rich.console import Console
        from rich.live import Live

        self._progress = progress
        self._console = Console()
        self._ran = progress.started  # when a trial was last seen running
        self._live = Live(get_renderable=self._render, console=self._console, refresh_per_second=4)
        self._lock = threading.Lock()

    @override
    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    @override
    def __exit__(self, *error: *Raised) -> None:
        self._live.__exit__(*error)

    @override
    def note(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False)

    @override
    def ended(self, trial: TrialProgress) -> None:
        if trial.state in ("failed", "blocked"):  # a success shows in the table
            self.note(describe_end(self._progress, trial))

    def _render(self) -> Table:
        from rich.markup import escape
        from rich.table import Table

        progress = self._progress
        left = duration(progress.seconds_left())
        title = f"{progress.count('done')} of {len(progress.trials)} trials done"
        if left:
            title += f", about {left} left"
        if progress.running():
            self._ran = time.monotonic()
        elif time.monotonic() - self._ran > _LINE_SECONDS and progress.count("waiting"):
            title += f", {idle_line(progress)}"
        table = Table(title=title, title_justify="left", title_style="bold")
        for name, side in (("row", "left"), ("seeds", "right"), ("running", "right"), ("epoch", "right")):
            table.add_column(name, justify="right" if side == "right" else "left", no_wrap=True)
        table.add_column("accuracy %", justify="right", no_wrap=True)
        table.add_column("work left", justify="right", no_wrap=True)
        rows = progress.rows()
        # a table longer than the screen would jump: it shows running rows first, then unfinished ones
        fitting = max(3, self._console.height - 6)
        if len(rows) > fitting:
            rows = sorted(rows, key=lambda row: (not row.running, row.done == row.planned))[:fitting]
        for row in rows:
            failed = f" [red]{row.failed} failed[/red]" if row.failed else ""
            failed += f" [red]{row.blocked} blocked[/red]" if row.blocked else ""
            waits = f"after {escape(row.waits_for)}" if row.waits_for else ""
            table.add_row(
                escape(f"{row.table}/{row.row}"),  # a variant's name may hold brackets
                f"{row.done}/{row.planned}{failed}",
                str(row.running) if row.running else waits,
                f"{row.epoch}/{row.epochs}" if row.running else "",
                "" if row.accuracy is None else f"{100 * row.accuracy:.2f}",
                "" if row.done + row.failed + row.blocked == row.planned else duration(row.seconds_left),
                style="" if row.running else "dim",
            )
        return table


def idle_line(progress: Progress) -> str:
    """Return the line to show while no trial runs: no machine has space for one yet."""
    waiting = progress.count("waiting") - progress.waiting_for_parents()
    return "no trial is running" + (f": {waiting} waiting for a machine" if waiting else "")


def describe_running(trial: TrialProgress) -> str:
    """Return ``tiny/static-dnw seed 0 epoch 3/8``, with the accuracy once there is one."""
    accuracy = "" if trial.accuracy is None else f" {100 * trial.accuracy:.2f} %"
    epoch = f"{trial.epoch}/{trial.spec.recipe.epochs}"
    return f"{trial.spec.row_name} seed {trial.spec.seed} epoch {epoch}{accuracy}"


def describe_end(progress: Progress, trial: TrialProgress) -> str:
    """Return the line about a trial that ended."""
    ended = sum(progress.count(state) for state in ("done", "failed", "blocked"))
    name = f"[{ended}/{len(progress.trials)}] {trial.spec.row_name} seed {trial.spec.seed}"
    if trial.state == "failed":
        return f"{name} FAILED: {trial.reason}"
    if trial.state == "blocked":
        return f"{name} not started: {trial.reason}"
    if trial.state == "stopped":
        return f"{name} stopped at epoch {trial.epoch}/{trial.spec.recipe.epochs}; its checkpoint is kept"
    accuracy = "" if trial.accuracy is None else f": {100 * trial.accuracy:.2f} %"
    return f"{name} done{accuracy} in {duration(time.monotonic() - trial.started)}"
