"""The cost table of a report: kept in the results folder, and counted again when the code or the rows have changed.

The command that trains does not load torch for it: ``costs.py`` counts in a process of its own. A report is written in
any case; if the networks cannot be counted, one line says so.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dnw_core.files import read_json, write_text
from dnw_core.record import DIGEST, digest_of, sealed
from pipelines.counts.table import CostFile, RowCounts, cost_lines, source_digest, trained_costs
from pipelines.store import COSTS_FILE, Store
from pipelines.text import one_line
from tune_configs import Row, Table

COUNT_SECONDS = 300.0  # 25 on an idle core


def report_costs(
    tables: Mapping[str, Table], report: Sequence[Mapping[str, Any]], store: Store, say: Callable[[str], None]
) -> list[dict[str, Any]] | None:
    """Return the cost lines of the report's rows, without variants; None, after a warning, if they cannot be counted.

    Args:
        tables: all tables.
        report: the report's rows.
        store: the results.
        say: prints one line.
    """
    rows = [tables[one["table"]].rows[one["row"]] for one in report if not one["variant"]]
    countable = [row for row in rows if row.not_reproducible is None]
    path = store.results_dir / COSTS_FILE
    source = source_digest()
    counts = _read(path, source)
    missing = [row for row in countable if row.fingerprint_at("paper") not in counts]
    if missing:
        try:
            counts |= _count(missing, source)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            say(f"warning: the report has no cost table, because the networks could not be counted ({_why(error)})")
            return None
        with contextlib.suppress(OSError):  # a folder that cannot be written to: the report will say so
            values = json.loads(CostFile(source=source, counts=counts).model_dump_json())
            write_text(path, json.dumps(sealed(values), indent=1) + "\n")
    return [asdict(line) for line in cost_lines(rows, counts, trained_costs(store))]


def _read(path: Path, source: str) -> dict[str, RowCounts]:
    """Return the counts made with this source; nothing if there is no such file, or it was altered."""
    values = read_json(path)
    if not isinstance(values, dict) or values.get("source") != source or values.pop(DIGEST, None) != digest_of(values):
        return {}
    try:
        return dict(CostFile.model_validate_json(json.dumps(values)).counts)
    except ValidationError:
        return {}


def _count(rows: Sequence[Row], source: str) -> dict[str, RowCounts]:
    """Count the rows' networks in a process of its own.

    Raises:
        OSError, ValueError, subprocess.SubprocessError: if that process fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / COSTS_FILE
        names = [word for row in rows for word in ("--only", f"{row.table}/{row.id}")]
        command = [sys.executable, str(Path(__file__).parents[1] / "costs.py"), *names, "--json", str(target)]
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}  # a count needs no GPU
        subprocess.run(  # noqa: S603 - our own command
            command, check=True, capture_output=True, text=True, timeout=COUNT_SECONDS, env=environment
        )
        values = read_json(target)
    if not isinstance(values, dict):
        raise ValueError("the count wrote no file")
    values.pop("rows", None)
    counted = CostFile.model_validate_json(json.dumps(values))
    if counted.source != source or not {row.fingerprint_at("paper") for row in rows} <= set(counted.counts):
        raise ValueError("the code has changed meanwhile")
    return dict(counted.counts)


def _why(error: Exception) -> str:
    """Return the last line that the process printed, or what else went wrong."""
    printed = getattr(error, "stderr", None)
    return (one_line(printed, last=True) if isinstance(printed, str) else "") or one_line(error)
