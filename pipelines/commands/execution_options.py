"""The options of ``reproduce_all.py`` that say where and how fast trials run; none of them changes a result."""

from __future__ import annotations

import argparse
import math

from pipelines.commands.arguments import (
    absolute_path,
    data_location,
    one_of,
    results_location,
    whole_number,
    whole_number_or,
)
from pipelines.driver import MAX_DEATHS
from pipelines.plan import DeviceChoice
from pipelines.spec import parse_node_type

DEVICES: tuple[DeviceChoice, ...] = ("auto", "cpu", "cuda")


def add_execution_options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = parser.add_argument_group("where and how fast (changes no result)").add_argument
    add(
        "--cluster",
        nargs="?",
        const="auto",
        metavar="ADDRESS",
        help="use the running Ray cluster at host:port; without an address: RAY_ADDRESS or this machine's cluster",
    )
    add(
        "--device",
        type=one_of("device", DEVICES),
        default="auto",
        metavar="DEVICE",
        help="cpu, cuda, or auto: cuda where there is a GPU, and on a cluster (default: auto)",
    )
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
    add(
        "--data-dir",
        type=data_location,
        metavar="FOLDER",
        help="where the data sets are, a folder or s3://... (default: the user's data folder)",
    )
    add("--cache-dir", type=absolute_path, metavar="FOLDER", help="decoded images (default: the user's cache folder)")
    add("--download", action="store_true", help="download missing data sets and verify their checksums")
    add(
        "--tracking-uri", metavar="URI", help="MLflow server or database (default: a SQLite file in the results folder)"
    )


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = math.nan
    if not 0 <= minutes < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of minutes; give 0 or more")
    return minutes
