"""The options of ``reproduce_all.py``."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dnw_core.errors import UserError
from pipelines.commands.arguments import (
    CommandParser,
    absolute_path,
    add_place_options,
    add_row_options,
    one_of,
    results_location,
    whole_number,
    whole_number_or,
)
from pipelines.driver import MAX_DEATHS
from pipelines.plan import MODES, DeviceChoice, Mode, parse_seeds
from pipelines.spec import NodeType, parse_node_type
from pipelines.storage import mirror_folder
from tune_configs.scales import SCALES, Scale

COMMAND = "pipelines/reproduce_all.py"

_EXAMPLES = """\
examples:
  python pipelines/reproduce_all.py
      every row, one or two seeds, on small images that come with the project: takes minutes, reproduces nothing
  python pipelines/reproduce_all.py --scale paper --only 'tiny/static-*' --plan
      how long the published rows would take, and what is done already
  python pipelines/reproduce_all.py --scale short --seeds 2 --data-dir ~/data --download
      4 of 160 epochs on CIFAR-10
  python pipelines/reproduce_all.py --only tiny/static-dnw --set optimiser.learning_rate=0.05
      a variant of a row
  python pipelines/reproduce_all.py --cluster 10.0.0.1:6379 --results-dir /shared/results
      the paper's recipes on a running Ray cluster

exit codes: 0 all done; 1 a trial failed or is missing; 2 a mistake in the command; 130 after Ctrl-C
(the same command resumes where it stopped)
"""


@dataclass(frozen=True)
class Options:
    """The command line, typed."""

    scale: Scale
    tables: Sequence[str]
    only: Sequence[str]
    extra: bool
    seeds: tuple[int, ...] | None
    settings: Sequence[str]
    mode: Mode
    plan: bool
    list: bool
    status: bool
    report_only: bool
    cluster: str | None
    device: DeviceChoice
    workers: int | None
    trials_per_gpu: int | Literal["auto"] | None
    node_types: Sequence[NodeType]
    max_failures: int
    threads: int | None
    checkpoint_minutes: float
    compile: bool
    results_dir: Path  # on this machine; of results in a bucket, the copy of what is there
    results_uri: str | None
    store: Literal["shared", "head"]
    detach: bool
    stop: bool
    data_dir: str | None
    cache_dir: Path | None
    tracking_uri: str | None
    download: bool
    adopt: Path | None


def parse_options(argv: Sequence[str] | None = None) -> Options:
    """Parse the command line.

    Raises:
        UserError: for a mistake; a mistyped option is answered with the nearest one.
        SystemExit: after ``--help``.
    """
    values = make_parser().parse(argv, "name rows with --only, tables with --table")
    if values.trials_per_gpu is not None and (values.workers or 1) > 1:
        raise UserError("--trials-per-gpu lets trials share a GPU, --workers gives each several; leave one of them out")
    if values.store == "head" and values.cluster is None:
        raise UserError("--store head needs --cluster; leave it out, or add --cluster")
    uri = values.results_dir if isinstance(values.results_dir, str) else None
    if uri and values.store == "head":
        raise UserError("--store head keeps results in a folder of the head node; leave it out for results in a bucket")
    if values.detach and (values.plan or values.list or values.status or values.stop or values.report_only):
        raise UserError("--detach is for training only; leave it out")
    if values.adopt is not None and (values.plan or values.list or values.status or values.stop or uri):
        look = "results in a bucket" if uri else "a look at results, which changes nothing"
        raise UserError(f"--adopt copies trials into a results folder; leave it out for {look}")
    values.scale = values.scale or ("paper" if values.cluster else "smoke")
    values.results_dir, values.results_uri = mirror_folder(uri) if uri else values.results_dir, uri
    return Options(**vars(values))


def make_parser() -> CommandParser:
    """Return the parser (for its help text as well)."""
    parser = CommandParser(
        "reproduce_all.py",
        "Trains the rows of the papers' tables, each with several seeds, and reports which rows reproduce.",
        _EXAMPLES,
    )
    group = parser.add_argument_group("what to train")
    add = group.add_argument
    add(
        "--scale",
        type=one_of("scale", SCALES),
        metavar="SCALE",
        help="smoke: check that everything runs, on small images; short: the real images, a fraction of the epochs; "
        "paper: as published (default: smoke; with --cluster: paper)",
    )
    add_row_options(group, "tiny/static-*")
    add("--no-extra", dest="extra", action="store_false", help="only the paper's own rows, not the extra ones")
    add(
        "--seeds",
        type=_seeds,
        metavar="N|LIST",
        help="5: seeds 0 to 4; 0,1,2: these seeds; 7,: this seed (default: the table's number for the scale)",
    )
    add(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a setting of the recipe, e.g. optimiser.learning_rate=0.05; the result is a named variant, "
        "never compared with a published number; repeatable",
    )
    add(
        "--adopt",
        type=absolute_path,
        metavar="FOLDER",
        help="first copy the finished trials of another results folder into this one, such as evidence",
    )
    add(
        "--mode",
        type=one_of("mode", tuple(MODES)),
        default="cached",
        metavar="MODE",
        help="; ".join(f"{name}: {text}" for name, text in MODES.items()) + " (default: cached)",
    )
    group = parser.add_argument_group("instead of training")
    add = group.add_mutually_exclusive_group().add_argument
    add("--plan", action="store_true", help="print what would be trained and how long it would take")
    add("--list", action="store_true", help="print tables, rows and published numbers")
    add("--status", action="store_true", help="print the progress of each row, also during a run")
    add("--stop", action="store_true", help="ask the run that uses the results folder to stop")
    add("--report-only", action="store_true", help="write the report from the results so far")
    _add_execution_options(parser)
    return parser


def _seeds(text: str) -> tuple[int, ...]:
    try:
        return parse_seeds(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("--seeds ")) from None


def _add_execution_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where and how fast trials run; none of them changes a result."""
    add = parser.add_argument_group("where and how fast (changes no result)").add_argument
    add_place_options(add)
    add(
        "--workers",
        type=whole_number(1),
        metavar="N",
        help="processes that share each batch of a trial, one GPU each (default: the row's GPUs; on a CPU 1)",
    )
    add(
        "--trials-per-gpu",
        type=whole_number_or("auto", 1),
        metavar="N",
        help="trials that share a GPU; auto: as many as fit, found by a probe (default: the row's own share)",
    )
    add(
        "--node-type",
        dest="node_types",
        action="append",
        default=[],
        type=parse_node_type,
        metavar="SHAPE",
        help="a machine that the cluster's autoscaler can start, e.g. CPU=16,GPU=4; repeatable",
    )
    add(
        "--max-failures",
        type=whole_number(0),
        default=MAX_DEATHS,
        metavar="N",
        help=f"restarts of a trial whose process died; lost machines do not count (default: {MAX_DEATHS})",
    )
    add("--detach", action="store_true", help="train in the background; see --status and --stop")
    add("--threads", type=whole_number(1), metavar="N", help="CPU threads per worker (default: the row's own)")
    add(
        "--checkpoint-minutes",
        type=_minutes,
        default=5.0,
        metavar="M",
        help="time between checkpoints; 0: after every epoch (default: 5)",
    )
    add("--compile", action="store_true", help="torch.compile the networks (pays off in long GPU runs)")
    add(
        "--results-dir",
        type=results_location,
        default="results",
        metavar="FOLDER",
        help="a folder, or s3://BUCKET/FOLDER (default: ./results)",
    )
    add(
        "--store",
        type=one_of("store", ("shared", "head")),
        default="shared",
        metavar="WHERE",
        help="shared: every machine of the cluster sees the results folder; head: only this one does (default: shared)",
    )
    add("--cache-dir", type=absolute_path, metavar="FOLDER", help="decoded images (default: the user's cache folder)")


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = math.nan
    if not 0 <= minutes < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of minutes; give 0 or more")
    return minutes


__all__ = ["COMMAND", "Options", "make_parser", "parse_options"]
