"""The layout of the results folder, and the promise that no name leads out of it."""

from __future__ import annotations

import re
import stat
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from dnw_core.errors import UserError
from dnw_core.files import read_json
from dnw_core.record import TrialRecord
from pipelines.spec import TrialSpec

STORE_FILE = "store.json"
LOCK_FILE = "driver.lock"
HEARTBEAT_FILE = "driver.json"  # what the driver said of itself last
STOP_FILE = "driver.stop"  # asks it to stop
LOG_FILE = "driver.log"  # what detached drivers have said
KNOWN_HASHES_FILE = "known-hashes.json"  # lets --plan skip what did not change; may be deleted at any time
COSTS_FILE = "costs.json"  # what the rows' networks cost, for the report; may be deleted at any time
TRIALS = "trials"
SET_ASIDE = "set-aside"  # what was replaced or failed verification; nothing reads it
WORK_SUFFIX = ".work"
NAME_LENGTH = 200  # bytes; file systems allow 255, and a time may be appended

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,120}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@=,+:\[\]-]*")
_FINGERPRINT = re.compile(r"[0-9a-f]{8,64}")
_SEED = re.compile(r"seed-(0|[1-9][0-9]*)")


def check_name(name: str, kind: str) -> None:
    """Check that a table's or row's id can name a folder.

    Raises:
        UserError: if it could lead elsewhere (a slash, ``..``) or is too long for a file system.
    """
    if not _NAME.fullmatch(name) or ".." in name:
        raise UserError(f"{kind} {name!r} cannot name a folder; use letters, digits and . _ - only, without '..'")
    if len(name) > NAME_LENGTH:
        raise UserError(
            f"{kind} {name[:40]!r}… is {len(name)} characters long; at most {NAME_LENGTH} fit: use fewer --set"
        )


def is_plain(name: str) -> bool:
    """Whether a name is that of a file right in a folder, and not hidden."""
    return _PLAIN.fullmatch(name) is not None and ".." not in name


def trial_folder(results_dir: Path, spec: TrialSpec | TrialRecord) -> Path:
    """Return the folder of a finished trial.

    Raises:
        UserError: if a name cannot name a folder, or a part of the path is a symbolic link.
    """
    check_name(spec.table, "table")
    check_name(spec.row, "row")
    if not _FINGERPRINT.fullmatch(spec.fingerprint):
        raise UserError(f"fingerprint {spec.fingerprint!r} is not 8 hexadecimal digits")
    folder = results_dir / TRIALS / spec.table / spec.row / spec.fingerprint / f"seed-{spec.seed}"
    refuse_links(results_dir, folder)
    refuse_links(results_dir, work_folder(folder))
    return folder


def work_folder(folder: Path) -> Path:
    """Return the folder in which the trial of ``folder`` is trained."""
    return folder.with_name(folder.name + WORK_SUFFIX)


def seed_of(folder: Path) -> int | None:
    """Return the seed of a finished trial's or working folder, None if it is neither."""
    match = _SEED.fullmatch(folder.name.removesuffix(WORK_SUFFIX))
    return int(match[1]) if match else None


def folders_in(folder: Path, pattern: str = "*") -> list[Path]:
    """Return the real folders below ``folder`` (no links, nothing hidden); all, or the one called ``pattern``."""
    if folder.is_symlink() or not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.iterdir()
        if (pattern in ("*", path.name)) and not path.name.startswith(".") and not path.is_symlink() and path.is_dir()
    )


def recipe_folders(results_dir: Path, table: str = "*", row: str = "*") -> Iterator[Path]:
    """Yield the folder of every recipe that was trained: ``trials/<table>/<row>/<fingerprint>``, in order."""
    for table_folder in folders_in(results_dir / TRIALS, table):
        for row_folder in folders_in(table_folder, row):
            yield from folders_in(row_folder)


def refuse_links(results_dir: Path, path: Path) -> None:
    """Check that no part of ``path`` below the results folder is a symbolic link (the results folder may be one).

    Raises:
        UserError: naming the link, or the part that is not a folder.
    """
    here = results_dir
    for part in path.relative_to(results_dir).parts:
        here = here / part
        try:
            mode = here.lstat().st_mode
        except OSError:  # nothing there, so nothing below it
            return
        if stat.S_ISLNK(mode):
            raise UserError(f"{here} is a symbolic link, which may lead elsewhere; put the folder itself there")
        if here != path and not stat.S_ISDIR(mode):
            raise UserError(f"{here} is not a folder; move it out of the results folder")


def move_aside(results_dir: Path, source: Path) -> Path | None:
    """Move a trial's folder (or its working folder) to ``set-aside/`` and return where it went; None without one.

    Raises:
        UserError: as ``refuse_links``.
    """
    if not source.exists():
        return None
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    target = results_dir / SET_ASIDE / source.parent.relative_to(results_dir / TRIALS)
    refuse_links(results_dir, target)
    target.mkdir(parents=True, exist_ok=True)
    target = target / f"{source.name}-{now}-{uuid.uuid4().hex[:4]}"
    source.rename(target)
    return target


STORE_SCHEMA = 1


def make_writable(results_dir: Path) -> None:
    """Make the folder if it is missing and try to write into it.

    Raises:
        UserError: if that cannot be done.
    """
    probe = results_dir / f".probe-{uuid.uuid4().hex}"
    try:
        results_dir.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"results folder {results_dir} cannot be written to ({error.strerror or error}); give another --results-dir"
        ) from None


def check_schema(path: Path) -> None:
    """Check that ``store.json`` is of a schema that this version knows.

    Raises:
        UserError: if it is newer, or is not readable.
    """
    values = read_json(path)
    schema = values.get("schema") if isinstance(values, dict) else None
    if isinstance(values, dict) and values.get("layout") == "bucket":
        raise UserError(f"{path} says that this is a copy of a bucket's objects; give the bucket with --results-dir")
    if not isinstance(schema, int):
        raise UserError(f"{path} does not say its schema; restore it or give another --results-dir")
    if schema > STORE_SCHEMA:
        raise UserError(
            f"{path} was written by a newer version of this project (schema {schema}, this one reads up to "
            f"{STORE_SCHEMA}); use that version or another --results-dir"
        )
