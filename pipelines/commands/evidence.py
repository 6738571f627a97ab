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

from dnw_core.errors import UserError
from dnw_core.files import write_text
from pipelines.commands.arguments import CommandParser, absolute_path
from pipelines.commands.reproduction import row_command
from pipelines.commands.shell import ALL_DONE, NOT_ALL_DONE, run, say
from pipelines.plan import all_rows
from pipelines.store import Store, adopt_trials, finished_trials
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
        taken = adopt_trials(options.add, store, weights=False, scale="paper")
        say(f"{len(taken.copied)} trials added to {EVIDENCE}, {len(taken.present)} were there")
    with tempfile.TemporaryDirectory() as folder:
        pages = _make_pages(root, Path(folder))
        if options.check:
            stale = [name for name, text in pages.items() if _read(root / name) != text]
            drawn = [f"{FIGURES}/{path.name}" for path in Path(folder).glob("figures/*")]
            stale += [name for name in drawn if not (root / name).is_file()]  # their bytes are the machine's own
            if stale:
                print(
                    f"error: not made from {EVIDENCE}: {', '.join(stale)}; run pipelines/evidence.py", file=sys.stderr
                )
            return NOT_ALL_DONE if stale else ALL_DONE
        shutil.rmtree(root / FIGURES, ignore_errors=True)
        if (figures := Path(folder) / "figures").is_dir():
            shutil.copytree(figures, root / FIGURES)
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
        type=absolute_path,
        metavar="FOLDER",
        help="first copy this results folder's trials of scale paper, without their weights",
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if the pages are stale")
    parser.add_argument(
        "--root", type=absolute_path, default=ROOT, metavar="FOLDER", help="the repository (default: this one)"
    )
    return parser


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError:
        return ""


def _make_pages(root: Path, folder: Path) -> dict[str, str]:
    """Return the pages by name; draw their figures in ``folder``."""
    from reports import build_report, read_trials, trial_table, verdict_table

    found = finished_trials(root / EVIDENCE)
    shutil.copytree(root / EVIDENCE, folder, dirs_exist_ok=True)
    store = Store.open(folder)
    tables = load_tables()
    rows = all_rows(tables, store, "paper", partial(row_command, scale="paper", download=True))
    known = {(row["table"], row["row"], row["fingerprint"]) for row in rows}
    for record in (one.record for one in found):
        if (record.table, record.row, record.fingerprint) not in known:
            name = f"{record.table}/{record.row} {record.fingerprint} seed {record.seed}"
            raise UserError(f"{EVIDENCE} holds {name}, a recipe that no row has any more; remove its folder")
    body = table = _NOTHING
    if rows:
        trials = read_trials(folder, rows)
        last = max(str(moment) for moment in trials["finished_at"])
        report = build_report(folder, rows, scale="paper", generated_at=f"last trial finished {last[:10]}")
        text = report.markdown.read_text("utf-8")
        text = text[text.index("\n") :].replace("](figures/", f"]({Path(FIGURES).relative_to('docs')}/")
        body = f"## Every trial\n\n{trial_table(trials)}\n{text}"
        table = verdict_table(rows, trials)
    readme = _read(root / README)
    if _MARKED.search(readme) is None:
        raise UserError(f"{README} has no place for the table: two lines, {_BEGIN} and {_END}")
    marked = f"{_BEGIN}\n\n{table}\n\n{_END}"
    return {PAGE: f"{_INTRODUCTION}\n{body.rstrip()}\n", README: _MARKED.sub(lambda _: marked, readme)}
