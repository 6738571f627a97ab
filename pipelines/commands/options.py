"""The options of ``reproduce_all.py``: what they are called, what they mean, and clear words when one is mistyped."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dnw_core.errors import UserError
from pipelines.commands.arguments import CommandParser, one_of
from pipelines.commands.execution_options import add_where
from pipelines.plan import MODES, DeviceChoice, Mode, parse_seeds
from pipelines.spec import NodeType
from pipelines.storage import mirror_folder
from tune_configs.scales import SCALES, Scale

COMMAND = "pipelines/reproduce_all.py"

_EXAMPLES = """\
examples:
  python pipelines/reproduce_all.py
      every row, one or two seeds, on small images that come along: minutes on a laptop, and no reproduction
  python pipelines/reproduce_all.py --scale paper --only 'tiny/static-*' --plan
      what the published rows would take, and what of it is done already
  python pipelines/reproduce_all.py --scale short --seeds 2 --data-dir ~/data --download
      4 of 160 epochs on CIFAR-10
  python pipelines/reproduce_all.py --only tiny/static-dnw --set optimiser.learning_rate=0.05
      a variant of a row
  python pipelines/reproduce_all.py --cluster 10.0.0.1:6379 --results-dir /shared/results
      the paper's recipes on a Ray cluster that is already running

exit codes: 0 all done; 1 a trial failed or is missing; 2 a mistake in the command; 130 after Ctrl-C
(the same command goes on where it was stopped)
"""


@dataclass(frozen=True)
class Options:
    """The command line, typed."""

    scale: Scale
    tables: tuple[str, ...]
    only: tuple[str, ...]
    extra: bool
    seeds: tuple[int, ...] | None
    settings: tuple[str, ...]
    mode: Mode
    plan: bool
    list: bool
    status: bool
    report_only: bool
    cluster: str | None
    device: DeviceChoice
    workers: int | None
    trials_per_gpu: int | Literal["auto"] | None
    node_types: tuple[NodeType, ...]
    max_failures: int
    threads: int | None
    checkpoint_minutes: float
    compile: bool
    results_dir: Path  # on this machine; of results in a bucket a copy of what is there
    results_uri: str | None
    store: Literal["shared", "head"]
    detach: bool
    stop: bool
    data_dir: str | None
    cache_dir: Path | None
    tracking_uri: str | None
    download: bool


def parse_options(argv: Sequence[str] | None = None) -> Options:
    """Parse the command line.

    Raises:
        UserError: for anything that cannot be meant; a mistyped option is answered with the nearest one.
        SystemExit: after ``--help``.
    """
    parser = make_parser()
    values = parser.parse_words(argv, "rows are named with --only, tables with --table")
    if values.trials_per_gpu is not None and (values.workers or 1) > 1:
        raise UserError("--trials-per-gpu lets trials share a GPU, --workers gives each several; leave one of them out")
    if values.store == "head" and values.cluster is None:
        raise UserError("--store head means nothing without --cluster; leave one of them out")
    uri = values.results_dir if isinstance(values.results_dir, str) else None
    if uri and values.store == "head":
        raise UserError("--store head keeps results in a folder of the head; results in a bucket need no such store")
    if values.detach and (values.plan or values.list or values.status or values.stop or values.report_only):
        raise UserError("--detach is for training; looking takes a moment only")
    return Options(
        scale=values.scale or ("paper" if values.cluster else "smoke"),
        tables=tuple(values.table),
        only=tuple(values.only),
        extra=not values.no_extra,
        seeds=values.seeds,
        settings=tuple(values.set),
        mode=values.mode,
        plan=values.plan,
        list=values.list,
        status=values.status,
        report_only=values.report_only,
        cluster=values.cluster,
        device=values.device,
        workers=values.workers,
        trials_per_gpu=values.trials_per_gpu,
        node_types=tuple(values.node_type),
        max_failures=values.max_failures,
        threads=values.threads,
        checkpoint_minutes=values.checkpoint_minutes,
        compile=values.compile,
        results_dir=mirror_folder(uri) if uri else values.results_dir,
        results_uri=uri,
        store=values.store,
        detach=values.detach,
        stop=values.stop,
        data_dir=values.data_dir,
        cache_dir=values.cache_dir,
        tracking_uri=values.tracking_uri,
        download=values.download,
    )


def make_parser() -> CommandParser:
    """Return the parser (for its help text as well)."""
    parser = CommandParser(
        "reproduce_all.py",
        "Trains the rows of the paper's tables, each with several seeds, and reports which rows hold.",
        _EXAMPLES,
    )
    what = parser.add_argument_group("what to train")
    what.add_argument(
        "--scale",
        type=one_of("scale", SCALES),
        metavar="SCALE",
        help="smoke: proves that everything runs, on small images; short: the real images, a fraction of the epochs; "
        "paper: as published (default: smoke, with --cluster paper)",
    )
    what.add_argument("--table", action="append", default=[], metavar="TABLE", help="only this table; repeatable")
    what.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="PATTERN",
        help="only rows whose table/row matches, e.g. 'tiny/static-*'; repeatable",
    )
    what.add_argument("--no-extra", action="store_true", help="only the paper's own rows, no extra ones beside them")
    what.add_argument(
        "--seeds",
        type=_seeds,
        metavar="N|LIST",
        help="5: seeds 0 to 4; 0,1,2: these ones; 7,: this one (default: the table's number for the scale)",
    )
    what.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a setting of the recipe, e.g. optimiser.learning_rate=0.05; the run is a named variant, "
        "never compared with a published number; repeatable",
    )
    what.add_argument(
        "--mode",
        type=one_of("mode", tuple(MODES)),
        default="cached",
        metavar="MODE",
        help="; ".join(f"{name}: {text}" for name, text in MODES.items()) + " (default: cached)",
    )
    _add_looking(parser)
    add_where(parser)
    return parser


def _add_looking(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("look, and train nothing")
    looking = group.add_mutually_exclusive_group()
    looking.add_argument("--plan", action="store_true", help="print what would be trained and how long it takes")
    looking.add_argument("--list", action="store_true", help="print tables, rows and published numbers")
    looking.add_argument(
        "--status", action="store_true", help="print how far each row is, also while a run is going on"
    )
    looking.add_argument("--stop", action="store_true", help="ask the run at work on the results folder to stop")
    looking.add_argument("--report-only", action="store_true", help="write the report from the results there are")


def _seeds(text: str) -> tuple[int, ...]:
    try:
        return parse_seeds(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("--seeds ")) from None


__all__ = ["COMMAND", "Options", "make_parser", "parse_options"]
