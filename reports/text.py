"""Text that is safe in Markdown, figures, file names and spreadsheets, and readable numbers.

Row ids, labels, notes and failure reasons come from YAML files, folder names and logs. None of them may
change the structure of the report, leave the output folder, or become a formula in a spreadsheet.
"""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence

DASH = "–"
_LONGEST_FILE_STEM = 80
_MARKDOWN = re.compile(r"([\\`*_\[\]|~$])")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def encodable(text: object) -> str:
    """Return the text with whatever UTF-8 cannot hold (lone surrogates, legal in JSON) replaced by ``?``."""
    return str(text).encode("utf-8", "replace").decode("utf-8")


def plain(text: object, limit: int | None = None) -> str:
    """Return the text on one line, without control or direction characters, cut to ``limit`` characters."""
    kept = "".join(_visible(character) for character in str(text))
    line = " ".join(kept.split())
    if limit is not None and len(line) > limit:
        return line[: limit - 1] + "…"
    return line


def lines(text: object) -> str:
    """Return the text with its line breaks but without other control characters (a log's last lines)."""
    return "\n".join(
        "".join(_visible(character) for character in line).rstrip() for line in str(text).splitlines()
    ).strip("\n")


def escape(text: object) -> str:
    """Return one line that Markdown, in a table cell too, shows exactly as it is written."""
    line = "".join(_ENTITIES.get(character, character) for character in plain(text))
    line = _MARKDOWN.sub(r"\\\1", line)
    # a leading list, heading or numbering mark would open a block when the text begins a line
    return re.sub(r"^([#+-]|\d+[.)])", lambda match: match[1][:-1] + "\\" + match[1][-1], line)


def code(text: object) -> str:
    """Return the text as a code span that holds any text, also inside a table cell."""
    line = plain(text) or " "
    fence = "`" * (_longest_run(line) + 1)
    space = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{space}{line}{space}{fence}".replace("|", "\\|")


def code_block(text: object, language: str = "") -> str:
    """Return the text as a fenced block whose fence the text cannot close."""
    body = lines(text)
    fence = "`" * max(3, _longest_run(body) + 1)
    return f"{fence}{language}\n{body}\n{fence}"


def slug(*parts: str) -> str:
    """Return a file name's stem: lower-case letters, digits, ``.``, ``_`` and ``-``, never hidden, never a path.

    Names that had to be altered get a hash, so that two of them cannot overwrite each other's file.
    """
    wanted = "-".join(parts)
    safe = re.sub(r"[^a-z0-9._-]+", "-", wanted.lower()).strip(".-_")
    if safe == wanted and len(safe) <= _LONGEST_FILE_STEM:
        return safe
    digest = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{safe[:_LONGEST_FILE_STEM].strip('.-_') or 'row'}-{digest}"


def spreadsheet_safe(text: str) -> str:
    """Return the text with an apostrophe before whatever a spreadsheet would take for a formula."""
    return "'" + text if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def grid(header: Sequence[str], lines: Iterable[Sequence[str]], right: Collection[str] = ()) -> str:
    """Return a Markdown table; the columns of these names are aligned on the right."""
    ruler = [" ---: " if name in right else " --- " for name in header]
    rows = [f"| {' | '.join(cells)} |" for cells in (header, *lines)]
    return "\n".join([rows[0], f"|{'|'.join(ruler)}|", *rows[1:]])


def number(value: float | None, digits: int = 1) -> str:
    """Return a fixed-point number with a true minus sign, or a dash for nothing."""
    if _missing(value):
        return DASH
    return f"{value:.{digits}f}".replace("-", "−")


def signed(value: float | None, digits: int = 1) -> str:
    """Return a number that always shows its sign (``+0.4``, ``−1.2``), or a dash for nothing."""
    if _missing(value):
        return DASH
    return f"{value:+.{digits}f}".replace("-", "−")


def plus_minus(mean: float | None, std: float | None, digits: int = 1) -> str:
    """Return ``80.9 ± 0.6``, or the mean alone where there is no standard deviation."""
    if _missing(mean) or _missing(std):
        return number(mean, digits)
    return f"{number(mean, digits)} ± {number(std, digits)}"


def count(value: float | None) -> str:
    """Return a count in short: ``912``, ``41.5k``, ``12.3M``, ``4.09G``."""
    if value is None or _missing(value):
        return DASH
    size, unit = abs(value), ""
    for step in ("k", "M", "G", "T"):
        if size < 999.5:  # what would round to 1000 moves on to the next unit
            break
        size, unit = size / 1000, step
    digits = 0 if (unit == "" and size == round(size)) or size >= 99.95 else 2 if size < 9.995 else 1
    return f"{'−' if value < 0 else ''}{size:.{digits}f}{unit}"


def count_of(value: float | None) -> str:
    """Return a mean count in full: ``50,000``; one digit where it is small and not whole: ``31.6``."""
    if value is None or _missing(value):
        return DASH
    digits = 0 if abs(value) >= 9_999.95 or value == round(value) else 1
    return f"{value:,.{digits}f}".replace("-", "−")


def share(percent: float | None) -> str:
    """Return a share in percent with two digits; only all of it is ``100.00``: 99.998 is ``99.99``."""
    if percent is None or _missing(percent):
        return DASH
    return f"{percent if percent >= 100 else min(percent, 99.99):.2f}"


def duration(seconds: float | None) -> str:
    """Return a duration: ``4.2 s``, ``3 min 12 s``, ``2 h 05 min``."""
    if seconds is None or _missing(seconds):
        return DASH
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _missing(value: float | None) -> bool:
    return value is None or not math.isfinite(value)


def _visible(character: str) -> str:
    # Cc: control, Cf: invisible formatting (reverses the reading direction, among others), Cs: lone surrogates
    category = unicodedata.category(character)
    return " " if category in ("Cc", "Zl", "Zp") else "" if category in ("Cf", "Cs") else character


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall(r"`+", text)), default=0)
