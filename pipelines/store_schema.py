"""May we write into a results folder, and do we understand it?"""

from __future__ import annotations

import uuid
from pathlib import Path

from dnw_core.errors import UserError
from dnw_core.files import read_json

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
