"""Prints the cost of every row's network beside the published numbers: ``python pipelines/costs.py --help``.

Parameters and multiply-adds at paper scale, without training and without data.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from dnw_core.errors import UserError
from dnw_core.files import write_text
from dnw_core.record import Cost
from pipelines.commands.arguments import CommandParser, absolute_path, add_row_options, results_location
from pipelines.commands.shell import ALL_DONE, run
from pipelines.counts import CostFile, CostLine, RowCounts, cost_lines, source_digest, trained_costs
from pipelines.plan import select_rows
from pipelines.storage import open_backend
from pipelines.text import columns
from tune_configs import Table, load_tables

_EXAMPLES = """\
examples:
  python pipelines/costs.py
      every row of every table
  python pipelines/costs.py --only 'imagenet/dnw-*' --results-dir results
      some rows, beside the counts of their finished trials

exit codes: 0 counted; 2 a mistake in the command; 130 after Ctrl-C
"""


@dataclass(frozen=True)
class CostOptions:
    """The command line, typed; paths are absolute."""

    tables: Sequence[str]
    only: Sequence[str]
    results_dir: Path | str | None  # a folder, or the URI of one in a bucket
    json: Path | None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; a user's mistake is one line on standard error."""
    return run(lambda arguments: _run(_parse(arguments)), argv, "stopped")


def _run(options: CostOptions) -> int:
    tables = load_tables()
    rows = select_rows(tables, only=options.only, table_ids=options.tables)
    trained = _trained(options.results_dir) if options.results_dir is not None else None

    # before torch is loaded: beside a training, several threads cost more than they save
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from pipelines.counts import count_rows

    counts = count_rows(row for row in rows if row.not_reproducible is None)
    lines = cost_lines(rows, counts, trained)
    for table in tables.values():
        members = [line for line in lines if line.table == table.id]
        if members:
            print("\n".join([*table_lines(table, members), ""]))
    print(f"{LEGEND}\n\n{summary_line(lines)}", flush=True)
    if options.json is not None:
        _write(options.json, counts, lines)
    return ALL_DONE


def _trained(place: Path | str) -> dict[tuple[str, str, str], list[Cost]]:
    """Return the counts of finished trials."""
    home = open_backend(place)
    with home.reading():
        if not home.results_dir.is_dir():
            raise UserError(f"there is no results folder {home}; give another --results-dir, or leave it out")
        return trained_costs(home.open_store())


def _write(path: Path, counts: dict[str, RowCounts], lines: Sequence[CostLine]) -> None:
    kept = CostFile(source=source_digest(), counts=counts).model_dump(mode="json")
    content = {**kept, "rows": [asdict(line) for line in lines]}
    try:
        write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    except OSError as error:
        raise UserError(f"--json {path} cannot be written ({error.strerror or error})") from None


def _parse(argv: Sequence[str]) -> CostOptions:
    parser = CommandParser(
        "costs.py",
        "Prints parameters and multiply-adds of every row at paper scale beside the published ones; trains nothing.",
        _EXAMPLES,
    )
    add_row_options(parser, "imagenet/dnw-*")
    parser.add_argument(
        "--results-dir",
        type=results_location,
        metavar="FOLDER",
        help="a folder, or s3://BUCKET/FOLDER: also show the counts of its finished trials",
    )
    parser.add_argument("--json", type=absolute_path, metavar="FILE", help="also write the counts to this file")
    return CostOptions(**vars(parser.parse(argv, "name rows with --only, tables with --table")))


_COUNTS = (("parameters", 3), ("macs", 2))  # and the decimals shown, in millions
_NOTHING = "–"

LEGEND = """\
in millions; nothing dead: every node sends and every output is fed; at start: the edges that seed 0 begins with
agrees: within 1 %, or ours rounds to the printed digits (or lies above a printed bound)
only after training: training decides which nodes die, and the printed count is the trained network's
random graphs: which nodes send nothing is a matter of the draw, ours is that of seed 0
graph networks without norms, biases and dead nodes, ordinary ones with norms and biases, residual ones by their kept
weights (and the bias of a linear classifier), as the papers count them
multiply-adds left out: known only after training, which divides the weights among the layers"""


def table_lines(table: Table, lines: Sequence[CostLine]) -> list[str]:
    """Return the lines of one table."""
    trained = any(line.trained_seeds for line in lines)
    names = ["published", "nothing dead", "at start", *(["trained"] if trained else []), "agreement"]
    heads = [("", "parameters", *[""] * (len(names) - 1), "multiply-adds", *[""] * (len(names) - 1))]
    cells = [*heads, ("row", *names, *names), *(_cells(line, trained) for line in lines)]
    return [f"{table.id}: {table.title}", *(f"  {line}" for line in columns(cells))]


def summary_line(lines: Sequence[CostLine]) -> str:
    """Return how many published counts agree."""
    found = [text for line in lines for text in (line.parameters_agreement, line.macs_agreement) if text is not None]
    agree = sum(text.startswith("agrees") for text in found)
    differ = sum(text.startswith("differs") for text in found)
    later = len(found) - agree - differ
    return f"{len(found)} counts are printed: {agree} agree, {differ} differ, {later} are known only after training"


def _cells(line: CostLine, trained: bool) -> tuple[str, ...]:
    cells = [f"{line.table}/{line.row}"]
    for name, digits in _COUNTS:
        kinds = ["nothing_dead", "at_start", *(["trained"] if trained else [])]
        cells.append(getattr(line, f"{name}_published") or _NOTHING)
        cells += [_millions(getattr(line, f"{name}_{kind}"), digits) for kind in kinds]
        cells.append(_agreement(line, name))
    return tuple(cells)


def _agreement(line: CostLine, name: str) -> str:
    if line.not_reproducible is not None:
        return f"not reproducible: {line.not_reproducible}"
    return getattr(line, f"{name}_agreement") or _NOTHING


def _millions(count: float | None, digits: int) -> str:
    return _NOTHING if count is None else f"{count / 1e6:.{digits}f}M"
