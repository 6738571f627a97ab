"""What a driver says of itself in ``driver.json`` of the results folder, for whoever sees the folder.

The file tells of a run, and decides nothing: the lock says who may work. Times in it are by the driver's clock, which
need not be that of who reads; ``beat`` counts, so that a driver that lives can be told from one that does not without
any clock. What a file says is shown on screens, so only printable text is believed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from dnw_core.files import read_json
from pipelines.store import HEARTBEAT_FILE, LOCK_FILE

BEAT_SECONDS = 10.0
LONGEST = 10_000  # letters of a text; no path or command of ours comes near


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)


Text = Annotated[str, Field(max_length=LONGEST), AfterValidator(_printable)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


State = Literal["at work", "ended", "stopped"]


class _Said(BaseModel):
    """A newer version may say more."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class RunningTrial(_Said):
    """One trial at work."""

    table: Text
    row: Text
    seed: int
    epoch: int  # epochs finished
    epochs: int
    host: Text = ""  # where it trains; unknown until it has said something
    silent_seconds: Seconds = 0.0  # since the driver last heard of it


class Heartbeat(_Said):
    """One word of a driver."""

    run: Text  # names this life of a driver; another one's is another
    host: Text
    boot: Text  # names the running kernel; empty where it has no name
    lock: Text = ""  # names the file whose lock it holds, for who has the same kernel; a copied folder has another
    pid: int
    started: Text  # ISO 8601, as ``written``
    written: Text
    beat: int
    command: Text  # that goes on with the run
    cluster: Text = ""  # address; empty on this machine's own Ray
    job: Text = ""  # the job of a scheduler that the driver is, e.g. "SLURM job 12"
    state: State
    reason: Text = ""  # of a stop that nobody asked for
    counts: dict[Text, int] = {}  # trials of this run by state; empty before training begins
    running: tuple[RunningTrial, ...] = ()
    seconds_left: Seconds | None = None

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def read_heartbeat(results_dir: Path) -> Heartbeat | None:
    """Return what the last driver said; None where none ever did, or it cannot be read."""
    path = results_dir / HEARTBEAT_FILE
    if path.is_symlink():
        return None
    try:
        return Heartbeat.model_validate(read_json(path))
    except ValidationError:
        return None


def lock_name(results_dir: Path) -> str:
    """Return what names the folder's lock on this kernel; nothing where there is none."""
    try:
        found = (results_dir / LOCK_FILE).stat(follow_symlinks=False)
    except OSError:
        return ""
    return f"{found.st_dev}:{found.st_ino}"


def kernel_name() -> str:
    """Return what names this machine's kernel until it is started again: who has the same sees the same locks."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
