"""Showing a run: a table that lives in the terminal, or plain lines where the output is no terminal."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Protocol

from pipelines.driver.progress import Progress, TrialProgress
from pipelines.text import duration

if TYPE_CHECKING:
    from rich.table import Table

Raised = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]
Show = Literal["auto", "live", "plain", "none"]
_LINE_SECONDS = 30.0


class Display(Protocol):
    """What the scheduler tells whoever watches. Entered for the length of a run."""

    def __enter__(self) -> Display: ...

    def __exit__(self, *error: *Raised) -> None: ...

    def note(self, text: str) -> None:
        """Say one line that stays."""

    def ended(self, trial: TrialProgress) -> None:
        """Say that a trial has ended."""

    def tick(self) -> None:
        """Called often while the run lasts."""


def make_display(progress: Progress, show: Show = "auto") -> Display:
    """Return the display: ``auto`` is the live table in a terminal and plain lines elsewhere."""
    if show == "none":
        return Silent()
    if show == "live" or (show == "auto" and sys.stdout.isatty()):
        return LiveTable(progress)
    return PlainLines(progress)


class Silent:
    """Shows nothing but what must be said."""

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *error: *Raised) -> None:
        pass

    def note(self, text: str) -> None:
        """Say one line, on standard error."""
        print(text, file=sys.stderr, flush=True)

    def ended(self, trial: TrialProgress) -> None:
        """Say nothing."""

    def tick(self) -> None:
        """Do nothing."""


class PlainLines(Silent):
    """One line for each trial that ends, and every half minute one for those that run."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._said = time.monotonic()

    def note(self, text: str) -> None:
        """Say one line."""
        print(text, flush=True)

    def ended(self, trial: TrialProgress) -> None:
        """Say how the trial ended."""
        print(describe_end(self._progress, trial), flush=True)
        self._said = time.monotonic()

    def tick(self) -> None:
        """Say what runs, if nothing was said for half a minute."""
        if time.monotonic() - self._said < _LINE_SECONDS:
            return
        self._said = time.monotonic()
        running = ", ".join(describe_running(trial) for trial in self._progress.running())
        left = duration(self._progress.seconds_left())
        waiting = self._progress.waiting_for_parents()
        text = f"running: {running}" if running else no_machine(self._progress)
        text += f"; {waiting} wait for what they start from" if waiting else ""
        print(f"{text}; about {left} left" if left else text, flush=True)


class LiveTable:
    """A table in place: rows, seeds done, epoch, accuracy, time left. What is said stays above it."""

    def __init__(self, progress: Progress) -> None:
        from rich.console import Console
        from rich.live import Live

        self._progress = progress
        self._console = Console()
        self._ran = progress.started  # when a trial was last seen at work
        self._live = Live(get_renderable=self._render, console=self._console, refresh_per_second=4)
        self._lock = threading.Lock()

    def __enter__(self) -> LiveTable:
        self._live.__enter__()
        return self

    def __exit__(self, *error: *Raised) -> None:
        self._live.__exit__(*error)

    def note(self, text: str) -> None:
        """Say one line above the table."""
        self._console.print(text, markup=False, highlight=False)

    def ended(self, trial: TrialProgress) -> None:
        """Say a failure and what it blocks; a success shows in the table."""
        if trial.state in ("failed", "blocked"):
            self.note(describe_end(self._progress, trial))

    def tick(self) -> None:
        """Do nothing: the table refreshes itself."""

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
            title += f", {no_machine(progress)}"
        table = Table(title=title, title_justify="left", title_style="bold")
        for name, side in (("row", "left"), ("seeds", "right"), ("running", "right"), ("epoch", "right")):
            table.add_column(name, justify="right" if side == "right" else "left", no_wrap=True)
        table.add_column("accuracy %", justify="right", no_wrap=True)
        table.add_column("work left", justify="right", no_wrap=True)
        rows = progress.rows()
        # what does not fit on the screen would make the table jump: rows in work come first then
        room = max(3, self._console.height - 6)
        if len(rows) > room:
            rows = sorted(rows, key=lambda row: (not row.running, row.done == row.planned))[:room]
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


def no_machine(progress: Progress) -> str:
    """Return what is to be said while no trial runs: Ray has no room for any, and may get some."""
    waiting = progress.count("waiting") - progress.waiting_for_parents()
    return "no trial runs" + (f": {waiting} wait{'s' if waiting == 1 else ''} for a machine" if waiting else "")


def describe_running(trial: TrialProgress) -> str:
    """Return ``tiny/static-dnw seed 0 epoch 3/8``, with the accuracy when there is one."""
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
