"""What is said about trials with several workers: in the plan, and once the machines are known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pipelines.spec import Resources, TrialSpec

_MOST_ROWS = 3


def worker_lines(specs: Iterable[TrialSpec]) -> list[str]:
    """Return a line for each kind of trial that has several workers, with the rows that it is said of."""
    rows: dict[Resources, dict[str, None]] = {}
    for spec in specs:
        if spec.resources.workers > 1:
            rows.setdefault(spec.resources, {})[f"{spec.table}/{spec.row}"] = None
    return [f"{_names(list(names))}: {_kind(resources)}" for resources, names in rows.items()]


def _kind(resources: Resources) -> str:
    share = resources.share
    each = f"{share.cpus:g} CPU" + (f" and {share.gpus:g} GPU" if share.gpus else "")
    where = ", over several machines, since none takes them all" if resources.across_nodes else ""
    return f"{resources.workers} workers a trial, {each} each{where}"


def _names(rows: Sequence[str]) -> str:
    more = len(rows) - _MOST_ROWS
    shown = ", ".join(rows[:_MOST_ROWS])
    return f"{shown} and {more} more row{'s' if more > 1 else ''}" if more > 0 else shown
