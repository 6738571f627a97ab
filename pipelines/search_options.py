"""The options of ``search.py``: what they are called, what they mean, and clear words when one is mistyped."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypeVar

from dnw_core.errors import UserError
from pipelines.cli_options import DEVICES
from pipelines.placement import DeviceChoice
from tune_configs.schema import SCALES, Scale
from tune_configs.validation import nearest

SEARCH_COMMAND = "pipelines/search.py"
Word = TypeVar("Word", bound=str)

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
    data_dir: Path | None
    download: bool
    tracking_uri: str | None
    device: DeviceChoice
    cluster: str | None


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def parse_search_options(argv: Sequence[str]) -> SearchOptions:
    """Parse the command line.

    Raises:
        UserError: for anything that cannot be meant; a mistyped option is answered with the nearest one.
        SystemExit: after ``--help``.
    """
    parser = _make_parser()
    values, unknown = parser.parse_known_args(argv)
    if unknown:
        name = unknown[0].partition("=")[0]
        if name.startswith("-"):
            known = [option for action in parser._actions for option in action.option_strings]
            raise UserError(f"unknown option {name}{nearest(name, known)}")
        raise UserError(f"unexpected argument {unknown[0]!r}; the row is named with --row")
    if values.row is None:
        raise UserError("--row is missing; give for example --row wirings/l1-anneal")
    return SearchOptions(
        row=values.row,
        scale=_one_of("scale", values.scale, SCALES),
        trials=None if values.trials is None else _whole("--trials", values.trials, 1),
        seed=_whole("--seed", values.seed, 0),
        plan=values.plan,
        retry=values.retry,
        out=_absolute(values.out),
        tables=_absolute(values.tables),
        results_dir=_absolute(values.results_dir) or Path.cwd() / "results",
        data_dir=_absolute(values.data_dir),
        download=values.download,
        tracking_uri=values.tracking_uri,
        device=_one_of("device", values.device, DEVICES),
        cluster=values.cluster,
    )


def _make_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="search.py",
        description="Searches for hyper-parameters that the paper does not give, on held-out training images.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--row", metavar="TABLE/ROW", help="a row with a search: section in its table file")
    add(
        "--scale",
        default="smoke",
        metavar="SCALE",
        help="smoke, short or paper (default: smoke, whose values mean nothing)",
    )
    add("--trials", metavar="N", help="configurations (default: the row's own number for the scale)")
    add("--seed", default="0", metavar="N", help="of the draws and of the training (default: 0)")
    add("--plan", action="store_true", help="print what would be trained, and train nothing")
    add("--retry", action="store_true", help="train configurations that failed once more")
    add("--out", metavar="FILE", help="where the winner goes (default: found/<table>.<row>.yaml beside the tables)")
    add("--tables", metavar="FOLDER", help="table files of your own (default: those of the project)")
    add("--results-dir", default="results", metavar="FOLDER", help="default: ./results (the search: search/ in it)")
    add("--data-dir", metavar="FOLDER", help="where the data sets lie (default: in the user's data folder)")
    add("--download", action="store_true", help="fetch a data set that is missing, checksum verified")
    add("--tracking-uri", metavar="URI", help="MLflow server or database (default: in the results folder)")
    add("--device", default="auto", metavar="DEVICE", help="cpu, cuda, or auto (default)")
    add("--cluster", nargs="?", const="auto", metavar="ADDRESS", help="use the running Ray cluster at host:port")
    return parser


def _one_of(kind: str, text: str, known: Sequence[Word]) -> Word:
    for word in known:
        if word == text:
            return word
    raise UserError(f"--{kind}: there is no {kind} {text!r}{nearest(text, known)}")


def _whole(option: str, text: str, least: int) -> int:
    if not (text.isascii() and text.isdigit() and least <= int(text) < 100_000):
        raise UserError(f"{option} {text!r} is not a whole number from {least} on")
    return int(text)


def _absolute(text: str | None) -> Path | None:
    if text is None:
        return None
    if not text:
        raise UserError("a file's or folder's name is empty; leave the option out for the default")
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as error:
        raise UserError(f"{text!r}: {error}") from None
