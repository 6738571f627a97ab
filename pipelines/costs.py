"""Prints what every row's network costs, beside the published numbers: ``python pipelines/costs.py --help``.

Parameters and multiply-adds at paper scale, without training and without data.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__" and not __package__:
    # run as a script, Python puts this folder first, where `import pipelines` finds nothing: the root takes its place
    here = Path(__file__).resolve().parent
    sys.path[:] = [str(here.parent), *(entry for entry in sys.path if Path(entry or ".").resolve() != here)]

from dnw_core.errors import UserError
from dnw_core.files import write_text
from dnw_core.record import Cost
from pipelines.cli_words import WordParser, absolute_path, results_location
from pipelines.costs_counts import CostFile, RowCounts, source_digest
from pipelines.costs_lines import CostLine, cost_lines, trained_costs
from pipelines.costs_text import LEGEND, summary_line, table_lines
from pipelines.home_choice import home_at
from pipelines.selection import select_rows
from tune_configs import load_tables

DONE, USER_ERROR, INTERRUPTED = 0, 2, 130

_EXAMPLES = """\
examples:
  python pipelines/costs.py
      every row of every table
  python pipelines/costs.py --only 'imagenet/dnw-*' --results-dir results
      some rows, with the counts of their finished trials beside them

exit codes: 0 counted; 2 a mistake in the command; 130 after Ctrl-C
"""


@dataclass(frozen=True)
class CostOptions:
    """The command line, typed; paths are absolute."""

    tables: tuple[str, ...]
    only: tuple[str, ...]
    results: Path | str | None  # a folder, or the address of a bucket's
    json: Path | None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; a user's mistake is one line on standard error."""
    try:
        return _run(_parse(list(sys.argv[1:] if argv is None else argv)))
    except UserError as error:
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `costs.py | head`: nobody reads any more, and that is no error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE


def _run(options: CostOptions) -> int:
    tables = load_tables()
    rows = select_rows(tables, only=options.only, table_ids=options.tables)
    trained = _trained(options.results) if options.results is not None else None

    # before torch is loaded: beside a training, threads that wait for each other cost more than they save
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from pipelines.costs_count import count_rows

    counts = count_rows(row for row in rows if row.not_reproducible is None)
    lines = cost_lines(rows, counts, trained)
    for table in tables.values():
        members = [line for line in lines if line.table == table.id]
        if members:
            print("\n".join([*table_lines(table, members), ""]))
    print(f"{LEGEND}\n\n{summary_line(lines)}", flush=True)
    if options.json is not None:
        _write(options.json, counts, lines)
    return DONE


def _trained(place: Path | str) -> dict[tuple[str, str, str], list[Cost]]:
    """Return what finished trials counted."""
    home = home_at(place)
    with home.looking():
        if not home.results_dir.is_dir():
            raise UserError(f"there is no results folder {home}; leave --results-dir out")
        return trained_costs(home.open_store())


def _write(path: Path, counts: dict[str, RowCounts], lines: Sequence[CostLine]) -> None:
    kept = CostFile(source=source_digest(), counts=counts).model_dump(mode="json")
    content = {**kept, "rows": [line.as_dict() for line in lines]}
    try:
        write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    except OSError as error:
        raise UserError(f"--json {path} cannot be written ({error.strerror or error})") from None


def _parse(argv: Sequence[str]) -> CostOptions:
    parser = WordParser(
        "costs.py",
        "Prints parameters and multiply-adds of every row at paper scale beside the published ones; trains nothing.",
        _EXAMPLES,
    )
    parser.add_argument("--table", action="append", default=[], metavar="TABLE", help="only this table; repeatable")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="PATTERN",
        help="only rows whose table/row matches, e.g. 'imagenet/dnw-*'; repeatable",
    )
    parser.add_argument(
        "--results-dir",
        type=results_location,
        metavar="FOLDER",
        help="a folder, or s3://BUCKET/FOLDER: show the counts of finished trials there, too",
    )
    parser.add_argument("--json", type=absolute_path, metavar="FILE", help="write the counts into this file, too")
    values = parser.parse_words(argv, "rows are named with --only, tables with --table")
    return CostOptions(
        tables=tuple(values.table), only=tuple(values.only), results=values.results_dir, json=values.json
    )


if __name__ == "__main__":
    sys.exit(main())
