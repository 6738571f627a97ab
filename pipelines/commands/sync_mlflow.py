"""Rebuilds the tracker from the results folder: ``python pipelines/sync_mlflow.py --help``.

Every trial of the store is mirrored, at any scale and of any fingerprint; runs that are up to date are left alone. The
command only reads the store, so it may run beside a training.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from dnw_core.errors import UserError
from pipelines.commands.arguments import CommandParser, results_location
from pipelines.commands.reproduction import row_command
from pipelines.commands.shell import ALL_DONE, NOT_ALL_DONE, run
from pipelines.plan import all_rows, unread_trials
from pipelines.storage import open_backend
from pipelines.store import Store
from pipelines.tracking import Tracker, check_reachable, describe
from tune_configs import SCALES, load_tables


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0 up to date, 1 the tracker failed half-way, 2 the user's mistake."""
    return run(_run, argv, "stopped; the same command continues")


def _run(argv: Sequence[str]) -> int:
    options = make_parser().parse(argv, "name the folder with --results-dir")
    return sync_all(options.results_dir, options.tracking_uri)


def make_parser() -> CommandParser:
    """Return the parser."""
    parser = CommandParser("sync_mlflow.py", "Rebuilds the tracker from the results.", "")
    parser.add_argument(
        "--results-dir",
        type=results_location,
        default="results",
        metavar="FOLDER",
        help="a folder, or s3://BUCKET/FOLDER (default: ./results)",
    )
    parser.add_argument(
        "--tracking-uri",
        metavar="URI",
        help="MLflow server or database (default: the SQLite file in the results folder, or in this machine's copy)",
    )
    return parser


def sync_all(place: Path | str, tracking_uri: str | None) -> int:
    """Mirror everything in the results folder, or in the bucket's folder of that address; return the exit code.

    Raises:
        UserError: if there is no such folder, or the tracker cannot be reached.
    """
    home = open_backend(place)
    with home.reading():
        if not home.results_dir.is_dir():
            raise UserError(f"there is no results folder {home}; give --results-dir")
        store = home.open_store()
        rows = stored_rows(store)
        if not rows:
            raise UserError(f"{home} holds no finished or failed trial yet; give another --results-dir")
        check_reachable(tracking_uri, home.results_dir)
        tracker = Tracker(tracking_uri, home.results_dir)
        begun = time.monotonic()
        outcome = tracker.sync(rows)
        named = {text.partition(": ")[0] for text in outcome.skipped}
        outcome.skipped += [f"{name}: its record cannot be read" for name in unread_trials(store) if name not in named]
    if outcome.error is not None:
        print(f"error: {tracker}: {outcome.error}; the same command continues", file=sys.stderr)
        return NOT_ALL_DONE
    print(f"{tracker}: {describe(outcome, time.monotonic() - begun)}")
    return ALL_DONE


def stored_rows(store: Store) -> list[dict[str, Any]]:
    """Return report rows for all trials of the store: as the tables have them, else from the records alone."""
    tables = load_tables()
    known = [row for scale in SCALES for row in all_rows(tables, store, scale, partial(row_command, scale=scale))]
    rows = {(row["table"], row["row"], row["fingerprint"]): row for row in known}
    for stored in store.records():
        record = stored.record
        key = (record.table, record.row, record.fingerprint)
        row = rows.setdefault(
            key,
            {
                "table": record.table,
                "row": record.row,
                "fingerprint": record.fingerprint,
                "seeds": (),
                "scale": record.scale,
                "epochs": record.recipe.epochs,
                "variant": True,  # not in the tables: never compared with a published number
            },
        )
        row["seeds"] = tuple(sorted({*row["seeds"], record.seed}))
    return list(rows.values())
