"""What the commands' options have in common: one clear line for whatever is mistyped."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from dnw_core.errors import UserError
from tune_configs.validation import nearest


class CommandParser(argparse.ArgumentParser):
    """A parser whose mistakes are the user's, said in one line, and which guesses at no abbreviation."""

    def __init__(self, prog: str, description: str, epilog: str) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing a usage and leaving."""
        raise UserError(message)

    def parse_words(self, argv: Sequence[str] | None, hint: str) -> argparse.Namespace:
        """Parse the words; an unknown option is answered with the nearest one, any other word with ``hint``.

        Raises:
            UserError: for anything that cannot be meant.
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


def one_of(kind: str, known: Sequence[str]) -> Callable[[str], str]:
    """Return an argument type: one of the known words."""

    def parse(text: str) -> str:
        if text not in known:
            raise argparse.ArgumentTypeError(f"there is no {kind} {text!r}{nearest(text, known)}")
        return text

    return parse


def whole_number(least: int) -> Callable[[str], int]:
    """Return an argument type: a whole number that is not smaller."""

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and least <= int(text) < 100_000):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} on")
        return int(text)

    return parse


def absolute_path(text: str) -> Path:
    """Read an argument as a path: absolute, ``~`` resolved."""
    if not text:
        raise argparse.ArgumentTypeError("a folder's or file's name is empty; leave the option out for the default")
    if "://" in text:
        raise argparse.ArgumentTypeError(f"{text!r} is an address; a folder or file of this machine is wanted here")
    try:
        path = Path(text).expanduser().absolute()
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None
    try:
        str(path).encode()
    except UnicodeEncodeError:  # an address, a report and Ray's messages are text
        raise argparse.ArgumentTypeError(f"{str(path)!r} holds bytes that are no UTF-8; rename that folder") from None
    return path


def results_location(text: str) -> Path | str:
    """Read an argument as a folder (absolute, ``~`` resolved) or, where it is one, as the URI of a bucket's folder."""
    if "://" not in text:
        return absolute_path(text)
    if not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/?#\s]+(/[^?#\s]*)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no address of a bucket; give s3://BUCKET/FOLDER")
    return text.rstrip("/")


def whole_number_or(word: str, least: int) -> Callable[[str], int | str]:
    """Return an argument type: a whole number that is not smaller, or one word."""
    number = whole_number(least)

    def parse(text: str) -> int | str:
        if text == word:
            return word
        try:
            return number(text)
        except argparse.ArgumentTypeError as error:
            raise argparse.ArgumentTypeError(f"{error}, nor {word!r}") from None

    return parse


def data_location(text: str) -> str:
    """Read an argument as a folder (absolute, ``~`` resolved) or, where it is one, as a URI."""
    return text if "://" in text else str(absolute_path(text))
