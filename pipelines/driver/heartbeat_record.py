"""The record of a driver in ``driver.json`` of the results folder.

The file describes a run and decides nothing: the lock says who may train. Its times are those of the driver's clock,
which may differ from the reader's; ``beat`` counts, so that a living driver can be told from a dead one without any
clock. Texts are shown on screens, so unprintable characters are replaced.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from dnw_core.files import read_json
from pipelines.store import HEARTBEAT_FILE, LOCK_FILE

BEAT_SECONDS = 10.0
LONGEST = 10_000  # characters of a text; no path or command comes near


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)


Text = Annotated[str, Field(max_length=LONGEST), AfterValidator(_printable)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


DriverState = Literal["at work", "ended", "stopped"]


class _Record(BaseModel):
    """A newer version may have more fields."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class RunningTrial(_Record):
    """One running trial."""

    table: Text
    row: Text
    seed: int
    epoch: int  # epochs finished
    epochs: int
    host: Text = ""  # where it trains; unknown until it reports
    silent_seconds: Seconds = 0.0  # since it last reported to the driver


class Heartbeat(_Record):
    """One heartbeat of a driver."""

    run: Text  # identifies one run of a driver
    host: Text
    boot: Text  # identifies the running kernel; empty if unknown
    lock: Text = ""  # identifies the lock file on that kernel; a copied folder has another one
    pid: int
    started: Text  # ISO 8601, as ``written``
    written: Text
    beat: int
    command: Text  # resumes the run
    cluster: Text = ""  # address; empty for this machine's own Ray
    job: Text = ""  # the scheduler's job that the driver runs as, e.g. "SLURM job 12"
    state: DriverState
    reason: Text = ""  # of a stop by an error
    counts: dict[Text, int] = {}  # trials of this run by state; empty before training begins
    running: tuple[RunningTrial, ...] = ()
    seconds_left: Seconds | None = None

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def read_heartbeat(results_dir: Path) -> Heartbeat | None:
    """Return the last heartbeat; None without one, or if it cannot be read."""
    path = results_dir / HEARTBEAT_FILE
    if path.is_symlink():
        return None
    try:
        return Heartbeat.model_validate(read_json(path))
    except ValidationError:
        return None


def lock_name(results_dir: Path) -> str:
    """Return what identifies the folder's lock on this kernel; an empty text without a lock."""
    try:
        found = (results_dir / LOCK_FILE).stat(follow_symlinks=False)
    except OSError:
        return ""
    return f"{found.st_dev}:{found.st_ino}"


def kernel_name() -> str:
    """Return what identifies this machine's kernel until it restarts: processes on the same one see the same locks."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
