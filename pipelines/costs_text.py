"""What ``costs.py`` prints: a table of the paper at a time, in columns of fixed width."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.costs_lines import CostLine
from pipelines.listing import columns
from tune_configs import Table

_COUNTS = (("parameters", 3), ("macs", 2))  # with the digits after the point that are shown, in millions
_NOTHING = "–"

LEGEND = """\
in millions; nothing dead: every node sends and every output is fed; at start: the edges that seed 0 begins with
agrees: within 1 %, or ours rounds to the printed digits (or lies above a printed bound)
only after training: training decides which nodes die, and the printed count is the trained network's
random graphs: which nodes send nothing is a matter of the draw, ours is that of seed 0
graph networks without norms, biases and dead nodes, ordinary ones with norms and biases, residual ones by their kept
weights (and the bias of a linear classifier), as the papers count them
multiply-adds left out: known only after training, which divides the weights among the layers"""


def table_lines(table: Table, lines: Sequence[CostLine]) -> list[str]:
    """Return the lines of one table."""
    trained = any(line.trained_seeds for line in lines)
    names = ["published", "nothing dead", "at start", *(["trained"] if trained else []), "agreement"]
    heads = [("", "parameters", *[""] * (len(names) - 1), "multiply-adds", *[""] * (len(names) - 1))]
    cells = [*heads, ("row", *names, *names), *(_cells(line, trained) for line in lines)]
    return [f"{table.id}: {table.title}", *(f"  {line}" for line in columns(cells))]


def summary_line(lines: Sequence[CostLine]) -> str:
    """Return how many printed counts agree."""
    found = [text for line in lines for text in (line.parameters_agreement, line.macs_agreement) if text is not None]
    agree = sum(text.startswith("agrees") for text in found)
    differ = sum(text.startswith("differs") for text in found)
    later = len(found) - agree - differ
    return f"{len(found)} counts are printed: {agree} agree, {differ} differ, {later} are known only after training"


def _cells(line: CostLine, trained: bool) -> tuple[str, ...]:
    cells = [f"{line.table}/{line.row}"]
    for name, digits in _COUNTS:
        kinds = ["nothing_dead", "at_start", *(["trained"] if trained else [])]
        cells.append(getattr(line, f"{name}_published") or _NOTHING)
        cells += [_millions(getattr(line, f"{name}_{kind}"), digits) for kind in kinds]
        cells.append(_agreement(line, name))
    return tuple(cells)


def _agreement(line: CostLine, name: str) -> str:
    if line.not_reproducible is not None:
        return f"not reproducible: {line.not_reproducible}"
    return getattr(line, f"{name}_agreement") or _NOTHING


def _millions(count: float | None, digits: int) -> str:
    return _NOTHING if count is None else f"{count / 1e6:.{digits}f}M"
