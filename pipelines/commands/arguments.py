"""What the commands' options share: argument types, and one clear line for every mistake."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from dnw_core.errors import UserError
from dnw_core.nearest import nearest
from pipelines.plan import DeviceChoice

DEVICES: tuple[DeviceChoice, ...] = ("auto", "cpu", "cuda")


class CommandParser(argparse.ArgumentParser):
    """A parser that reports a mistake in one line and accepts no abbreviations."""

    def __init__(self, prog: str, description: str, epilog: str) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Raise ``UserError`` instead of printing the usage and exiting."""
        raise UserError(message)

    def parse(self, argv: Sequence[str] | None, hint: str) -> argparse.Namespace:
        """Parse the arguments; an unknown option is answered with the nearest one, any other one with ``hint``.

        Raises:
            UserError: for a mistake.
            SystemExit: after ``--help``.
        """
        values, unknown = self.parse_known_args(argv)
        if unknown:
            name = unknown[0].partition("=")[0]
            if name.startswith("-"):
                known = [option for action in self._actions for option in action.option_strings]
                raise UserError(f"unknown option {name}{nearest(name, known)}")
            raise UserError(f"unexpected argument {unknown[0]!r}; {hint}")
        return values


def add_row_options(group: argparse._ActionsContainer, example: str) -> None:
    """Add ``--table`` and ``--only``."""
    group.add_argument(
        "--table", dest="tables", action="append", default=[], metavar="TABLE", help="only this table; repeatable"
    )
    group.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="PATTERN",
        help=f"only rows whose table/row matches, e.g. '{example}'; repeatable",
    )


def add_place_options(add: Callable[..., object]) -> None:
    """Add the options that say where a command trains, reads images and tracks; they change no result.

    Args:
        add: ``add_argument`` of a parser or a group.
    """
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
        "--data-dir",
        type=data_location,
        metavar="FOLDER",
        help="where the data sets are, a folder or s3://... (default: the user's data folder)",
    )
    add("--download", action="store_true", help="download missing data sets and verify their checksums")
    add(
        "--tracking-uri", metavar="URI", help="MLflow server or database (default: a SQLite file in the results folder)"
    )


def one_of(kind: str, known: Sequence[str]) -> Callable[[str], str]:
    """Return an argument type: one of the known names."""

    def parse(text: str) -> str:
        if text not in known:
            raise argparse.ArgumentTypeError(f"there is no {kind} {text!r}{nearest(text, known)}")
        return text

    return parse


def whole_number(least: int) -> Callable[[str], int]:
    """Return an argument type: a whole number, ``least`` or more."""

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and least <= int(text) < 100_000):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of {least} or more")
        return int(text)

    return parse


def absolute_path(text: str) -> Path:
    """Read an argument as a path: absolute, ``~`` resolved."""
    if not text:
        raise argparse.ArgumentTypeError("the path is empty; leave the option out for the default")
    if "://" in text:
        raise argparse.ArgumentTypeError(f"{text!r} is an address; give a folder or file on this machine")
    try:
        path = Path(text).expanduser().absolute()
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None
    try:
        str(path).encode()
    except UnicodeEncodeError:  # an address, a report and Ray's messages are text
        raise argparse.ArgumentTypeError(f"{str(path)!r} is not UTF-8; rename the folder") from None
    return path


def results_location(text: str) -> Path | str:
    """Read an argument as a folder (absolute, ``~`` resolved) or as the URI of a folder in a bucket."""
    if "://" not in text:
        return absolute_path(text)
    if not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/?#\s]+(/[^?#\s]*)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not the address of a bucket; give s3://BUCKET/FOLDER")
    return text.rstrip("/")


def whole_number_or(word: str, least: int) -> Callable[[str], int | str]:
    """Return an argument type: a whole number, ``least`` or more, or the word."""
    number = whole_number(least)

    def parse(text: str) -> int | str:
        if text == word:
            return word
        try:
            return number(text)
        except argparse.ArgumentTypeError as error:
            raise argparse.ArgumentTypeError(f"{error}, or {word!r}") from None

    return parse


def data_location(text: str) -> str:
    """Read an argument as a folder (absolute, ``~`` resolved) or as a URI."""
    return text if "://" in text else str(absolute_path(text))
