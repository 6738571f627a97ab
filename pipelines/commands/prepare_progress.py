"""Shows a preparation: a bar in the terminal, or a line every half minute where the output is not a terminal."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Protocol

from typing_extensions import override

from dnw_core.data.prepare import ProgressListener
from pipelines.text import duration

Raised = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]
_LINE_SECONDS = 30.0


class Display(ProgressListener, Protocol):
    """What the command shows itself on. Entered for the length of a preparation."""

    def __enter__(self) -> Display: ...

    def __exit__(self, *error: *Raised) -> None: ...


def make_display() -> Display:
    """Return the bar in a terminal, and plain lines elsewhere."""
    return Bar() if sys.stdout.isatty() else PlainLines()


class Speed:
    """How many images are done, and how fast they are prepared (those that are there already do not count)."""

    def __init__(self) -> None:
        self.images = 0
        self.done = 0
        self._prepared = 0
        self._started = time.monotonic()

    def begin(self, images: int) -> None:
        """Start the clock."""
        self.images, self._started = images, time.monotonic()

    def add(self, images: int, *, prepared: bool) -> None:
        """Count images."""
        self.done += images
        self._prepared += images if prepared else 0

    def __str__(self) -> str:
        """Return ``412 images/s, about 3 min left``; nothing before the first image was prepared."""
        if not self._prepared:
            return ""
        per_second = self._prepared / max(time.monotonic() - self._started, 1e-3)
        return f"{per_second:,.0f} images/s, about {duration((self.images - self.done) / per_second)} left"


class PlainLines(Display):
    """A line or two at the beginning, and one every half minute."""

    def __init__(self) -> None:
        self._speed = Speed()
        self._said = 0.0

    def __enter__(self) -> PlainLines:
        self._say("listing the images")
        return self

    def __exit__(self, *error: *Raised) -> None:
        pass

    @override
    def begin(self, images: int, room: float) -> None:
        self._speed.begin(images)
        self._say(beginning(images, room))

    @override
    def prepared(self, images: int) -> None:
        self._speed.add(images, prepared=True)
        if time.monotonic() - self._said >= _LINE_SECONDS:
            self._say(f"{self._speed.done:,} of {self._speed.images:,} images, {self._speed}")

    @override
    def kept(self, images: int) -> None:
        self._speed.add(images, prepared=False)

    def _say(self, text: str) -> None:
        self._said = time.monotonic()
        print(text, flush=True)


class Bar(Display):
    """A bar that lives in the terminal."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._speed = Speed()
        self._progress = Progress(
            TextColumn("images"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[speed]}")
        )
        self._task = self._progress.add_task("", total=None, speed="listing")

    def __enter__(self) -> Bar:
        self._progress.__enter__()
        return self

    def __exit__(self, *error: *Raised) -> None:
        self._progress.__exit__(*error)

    @override
    def begin(self, images: int, room: float) -> None:
        self._speed.begin(images)
        self._progress.console.print(beginning(images, room), markup=False, highlight=False)
        self._progress.update(self._task, total=images, speed="")

    @override
    def prepared(self, images: int) -> None:
        self._add(images, prepared=True)

    @override
    def kept(self, images: int) -> None:
        self._add(images, prepared=False)

    def _add(self, images: int, *, prepared: bool) -> None:
        self._speed.add(images, prepared=prepared)
        self._progress.update(self._task, completed=self._speed.done, speed=str(self._speed))


def beginning(images: int, room: float) -> str:
    """Return the line about what is to be done; ``room`` is in bytes."""
    what = f"about {size(room)} will be written" if room else "all shards are there and are checked"
    return f"{images:,} images; {what}"


def size(count: float) -> str:
    """Return a number of bytes as ``26.1 MB`` or ``58.3 GB``."""
    return f"{count / 1e6:,.1f} MB" if count < 1e9 else f"{count / 1e9:,.1f} GB"
