"""The options of ``search.py``: what they are called, what they mean, and clear words when one is mistyped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dnw_core.errors import UserError
from pipelines.commands.arguments import CommandParser, absolute_path, data_location, one_of, whole_number
from pipelines.commands.execution_options import DEVICES
from pipelines.plan import DeviceChoice
from tune_configs.scales import SCALES, Scale

SEARCH_COMMAND = "pipelines/search.py"

_EXAMPLES = """\
examples:
  python pipelines/search.py --row wirings/l1-anneal --plan
      the space, the configurations drawn from it, and what of them is trained already
  python pipelines/search.py --row wirings/l1-anneal --scale short --data-dir ~/data
      at the short scale; the winner goes to tune_configs/found/wirings.l1-anneal.yaml

exit codes: 0 a winner was found; 1 none was; 2 a mistake in the command; 130 after Ctrl-C
(the same command goes on where it was stopped)
"""


@dataclass(frozen=True)
class SearchOptions:
    """The command line, typed; paths are absolute."""

    row: str
    scale: Scale
    trials: int | None
    seed: int
    plan: bool
    retry: bool
    out: Path | None
    tables: Path | None
    results_dir: Path
    data_dir: str | None
    download: bool
    tracking_uri: str | None
    device: DeviceChoice
    cluster: str | None


def parse_search_options(argv: Sequence[str]) -> SearchOptions:
    """Parse the command line.

    Raises:
        UserError: for anything that cannot be meant; a mistyped option is answered with the nearest one.
        SystemExit: after ``--help``.
    """
    parser = _make_parser()
    values = parser.parse(argv, "name the row with --row")
    if values.row is None:
        raise UserError("--row is missing; give for example --row wirings/l1-anneal")
    return SearchOptions(
        row=values.row,
        scale=values.scale,
        trials=values.trials,
        seed=values.seed,
        plan=values.plan,
        retry=values.retry,
        out=values.out,
        tables=values.tables,
        results_dir=values.results_dir,
        data_dir=values.data_dir,
        download=values.download,
        tracking_uri=values.tracking_uri,
        device=values.device,
        cluster=values.cluster,
    )


def _make_parser() -> CommandParser:
    parser = CommandParser(
        "search.py",
        "Searches for hyper-parameters that the paper does not give, on held-out training images.",
        _EXAMPLES,
    )
    add = parser.add_argument
    add("--row", metavar="TABLE/ROW", help="a row with a search: section in its table file")
    add(
        "--scale",
        type=one_of("scale", SCALES),
        default="smoke",
        metavar="SCALE",
        help="smoke, short or paper (default: smoke, whose values mean nothing)",
    )
    add(
        "--trials",
        type=whole_number(1),
        metavar="N",
        help="configurations (default: the row's own number for the scale)",
    )
    add("--seed", type=whole_number(0), default=0, metavar="N", help="of the draws and of the training (default: 0)")
    add("--plan", action="store_true", help="print what would be trained, and train nothing")
    add("--retry", action="store_true", help="train configurations that failed once more")
    add(
        "--out",
        type=absolute_path,
        metavar="FILE",
        help="where the winner goes (default: found/<table>.<row>.yaml beside the tables)",
    )
    add(
        "--tables", type=absolute_path, metavar="FOLDER", help="table files of your own (default: those of the project)"
    )
    add(
        "--results-dir",
        type=absolute_path,
        default="results",
        metavar="FOLDER",
        help="default: ./results (the search: search/ in it)",
    )
    add(
        "--data-dir",
        type=data_location,
        metavar="FOLDER",
        help="where the data sets lie, a folder or s3://... (default: in the user's data folder)",
    )
    add("--download", action="store_true", help="fetch a data set that is missing, checksum verified")
    add("--tracking-uri", metavar="URI", help="MLflow server or database (default: in the results folder)")
    add(
        "--device",
        type=one_of("device", DEVICES),
        default="auto",
        metavar="DEVICE",
        help="cpu, cuda, or auto (default)",
    )
    add("--cluster", nargs="?", const="auto", metavar="ADDRESS", help="use the running Ray cluster at host:port")
    return parser
