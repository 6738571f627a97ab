"""The options of ``reproduce_all.py``: what they are called, what they mean, and clear words when one is mistyped."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dnw_core.errors import UserError
from pipelines.cli_words import (
    WordParser,
    absolute_path,
    data_location,
    one_of,
    results_location,
    whole_number,
    whole_number_or,
)
from pipelines.limits import MAX_DEATHS
from pipelines.mirror_place import mirror_folder
from pipelines.modes import MODES, Mode
from pipelines.node_type import NodeType, parse_node_type
from pipelines.placement import DeviceChoice
from pipelines.selection import parse_seeds
from tune_configs.schema import SCALES, Scale

COMMAND = "pipelines/reproduce_all.py"
DEVICES: tuple[DeviceChoice, ...] = ("auto", "cpu", "cuda")

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


def make_parser() -> WordParser:
    """Return the parser (for its help text as well)."""
    parser = WordParser(
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
    _add_where(parser)
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


def _add_where(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("where and how fast (changes no result)")
    group.add_argument(
        "--cluster",
        nargs="?",
        const="auto",
        metavar="ADDRESS",
        help="use the running Ray cluster at host:port; without an address: RAY_ADDRESS or the one this machine is in",
    )
    group.add_argument(
        "--device",
        type=one_of("device", DEVICES),
        default="auto",
        metavar="DEVICE",
        help="cpu, cuda, or auto: cuda where there is a GPU, and on a cluster (default: auto)",
    )
    group.add_argument(
        "--workers",
        type=whole_number(1),
        metavar="N",
        help="processes that share each batch of a trial, with a GPU each (default: the row's GPUs; on a CPU 1)",
    )
    group.add_argument(
        "--trials-per-gpu",
        type=whole_number_or("auto", 1),
        metavar="N",
        help="trials that share a GPU; auto: as many as fit, by a probe (default: the row's own share)",
    )
    group.add_argument(
        "--node-type",
        action="append",
        default=[],
        type=parse_node_type,
        metavar="SHAPE",
        help="a machine that the cluster's autoscaler can start, e.g. CPU=16,GPU=4; repeatable",
    )
    group.add_argument(
        "--max-failures",
        type=whole_number(0),
        default=MAX_DEATHS,
        metavar="N",
        help="times a trial is started again after its process died; lost machines do not count "
        f"(default: {MAX_DEATHS})",
    )
    group.add_argument(
        "--detach", action="store_true", help="go on in the background; --status says how far it is, --stop ends it"
    )
    group.add_argument(
        "--threads", type=whole_number(1), metavar="N", help="CPU threads a worker (default: the row's own)"
    )
    group.add_argument(
        "--checkpoint-minutes",
        type=_minutes,
        default=5.0,
        metavar="M",
        help="time between checkpoints; 0: after every epoch (default: 5)",
    )
    group.add_argument("--compile", action="store_true", help="torch.compile the networks (pays on long GPU runs)")
    group.add_argument(
        "--results-dir",
        type=results_location,
        default="results",
        metavar="FOLDER",
        help="a folder, or s3://BUCKET/FOLDER (default: ./results)",
    )
    group.add_argument(
        "--store",
        type=one_of("store", ("shared", "head")),
        default="shared",
        metavar="WHERE",
        help="shared: every machine of the cluster sees the results folder; head: none but this one needs to "
        "(default: shared)",
    )
    group.add_argument(
        "--data-dir",
        type=data_location,
        metavar="FOLDER",
        help="where the data sets lie, a folder or s3://... (default: in the user's data folder)",
    )
    group.add_argument(
        "--cache-dir", type=absolute_path, metavar="FOLDER", help="decoded images (default: in the user's cache folder)"
    )
    group.add_argument("--download", action="store_true", help="fetch a data set that is missing, checksum verified")
    group.add_argument(
        "--tracking-uri", metavar="URI", help="MLflow server or database (default: a SQLite file in the results folder)"
    )


def _seeds(text: str) -> tuple[int, ...]:
    try:
        return parse_seeds(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("--seeds ")) from None


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = math.nan
    if not 0 <= minutes < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of minutes; give 0 or more")
    return minutes


__all__ = ["COMMAND", "Options", "make_parser", "parse_options"]
