"""Keeps finished paper-scale trials in the repository, and the pages that are made from them.

``evidence/`` is a results folder whose trials lack their weights. The report on it becomes ``docs/evidence.md``, a
table of its verdicts goes between two marks of ``README.md``.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from dnw_core.errors import UserError
from dnw_core.files import write_text
from pipelines.commands.arguments import CommandParser
from pipelines.commands.reproduction import row_command
from pipelines.commands.shell import ALL_DONE, NOT_ALL_DONE, run, say
from pipelines.plan import all_rows
from pipelines.store import TRIALS, Store, adopt_trials, finished_trials
from tune_configs import load_tables

ROOT = Path(__file__).resolve().parents[2]
EVIDENCE, PAGE, FIGURES, README = "evidence", "docs/evidence.md", "docs/images/evidence", "README.md"
_INTRODUCTION = """\
# Evidence

Trials of published rows, trained as published and kept in `evidence/` without their weights. This page is made by
`python pipelines/evidence.py`; `.ci/run` fails where it is stale.
"""
_NOTHING = "No trial has been finished yet."
_BEGIN, _END = "<!-- made by pipelines/evidence.py: -->", "<!-- end -->"
_MARKED = re.compile(f"{re.escape(_BEGIN)}.*?{re.escape(_END)}", re.DOTALL)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0 done, 1 the pages are not those of the evidence, 2 a mistake."""
    return run(_run, argv, "stopped; the same command starts again")


def _run(argv: Sequence[str]) -> int:
    options = make_parser().parse(argv, "name a folder with --add")
    root: Path = options.root
    if options.check and options.add:
        raise UserError("--check changes nothing; leave out --add or --check")
    if options.add:
        store = Store.open(root / EVIDENCE, create=True)
        _refuse_other_scales(finished_trials(options.add))
        taken = adopt_trials(options.add, store, weights=False)
        say(f"{len(taken.copied)} trials added to {EVIDENCE}, {len(taken.present)} were there")
    with tempfile.TemporaryDirectory() as folder:
        pages = _make_pages(root, Path(folder))
        if options.check:
            stale = [name for name, text in pages.items() if (root / name).read_text("utf-8") != text]
            if stale:
                print(f"error: {', '.join(stale)} not made from {EVIDENCE}; run pipelines/evidence.py", file=sys.stderr)
            return NOT_ALL_DONE if stale else ALL_DONE
        shutil.rmtree(root / FIGURES, ignore_errors=True)
        if (drawn := Path(folder) / "figures").is_dir():
            shutil.copytree(drawn, root / FIGURES)
    for name, text in pages.items():
        write_text(root / name, text)
    say(f"written: {', '.join(pages)}")
    return ALL_DONE


def make_parser() -> CommandParser:
    """Return the parser."""
    parser = CommandParser(
        "evidence.py", f"Makes {PAGE} and the table of {README} from the finished trials in {EVIDENCE}/.", ""
    )
    parser.add_argument(
        "--add",
        type=Path,
        metavar="FOLDER",
        help="first copy the trials of this results folder, without their weights",
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if the pages are stale")
    parser.add_argument("--root", type=Path, default=ROOT, metavar="FOLDER", help="the repository (default: this one)")
    return parser


def _refuse_other_scales(found: Sequence[Any]) -> None:
    for one in found:
        if one.record.scale != "paper":
            name = f"{one.record.table}/{one.record.row} seed {one.record.seed}"
            raise UserError(f"{name} is of scale {one.record.scale}; only trials of scale paper are evidence")


def _make_pages(root: Path, folder: Path) -> dict[str, str]:
    """Return the pages by name; draw their figures in ``folder``."""
    from reports import build_report, read_trials, trial_table, verdict_table

    finished_trials(root / EVIDENCE)  # refuses a damaged one
    shutil.copytree(root / EVIDENCE, folder, dirs_exist_ok=True)
    store = Store.open(folder)
    tables = load_tables()
    rows = all_rows(tables, store, "paper", partial(row_command, scale="paper", download=True))
    unknown = len(finished_trials(folder)) - sum(len(row["seeds"]) for row in rows)
    if unknown:
        raise UserError(f"{unknown} trials in {EVIDENCE}/{TRIALS} belong to no row of these tables; remove them")
    body = table = _NOTHING
    if rows:
        trials = read_trials(folder, rows)
        last = max(str(moment) for moment in trials["finished_at"])
        report = build_report(folder, rows, scale="paper", generated_at=f"last trial finished {last[:10]}")
        text = report.markdown.read_text("utf-8")
        text = text[text.index("\n") :].replace("](figures/", f"]({Path(FIGURES).relative_to('docs')}/")
        body = f"## Every trial\n\n{trial_table(trials)}\n{text}"
        table = verdict_table(folder, rows)
    readme = (root / README).read_text("utf-8")
    if _MARKED.search(readme) is None:
        raise UserError(f"{README} has no place for the table: two lines, {_BEGIN} and {_END}")
    marked = f"{_BEGIN}\n\n{table}\n\n{_END}"
    return {PAGE: f"{_INTRODUCTION}\n{body.rstrip()}\n", README: _MARKED.sub(lambda _: marked, readme)}
