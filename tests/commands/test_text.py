"""Errors in one line."""

from __future__ import annotations

from pipelines.text import one_line


def test_an_error_becomes_one_line() -> None:
    """The first line or the last, without blank ones, cut; an exception without a text is named by its class."""
    error = ValueError("\n  first \nsecond\n\n")
    assert (one_line(error), one_line(error, last=True), one_line(error, limit=3)) == ("first", "second", "fir")
    assert (one_line(KeyError()), one_line(" \n")) == ("KeyError", "")
