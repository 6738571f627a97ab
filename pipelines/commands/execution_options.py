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


def add_where(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
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


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = math.nan
    if not 0 <= minutes < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of minutes; give 0 or more")
    return minutes
