"""The rows that a report shows, as the pipeline passes them: what was planned and what was published."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import pandas as pd

from dnw_core.nearest import did_you_mean
from reports.text import encodable
from reports.verdicts import PAPER_SCALE


@dataclass(frozen=True)
class ReportRow:
    """One row to be shown. Published numbers are in percent and None where nothing was published."""

    table: str
    row: str
    fingerprint: str
    seeds: tuple[int, ...]  # planned
    scale: str
    label: str
    table_title: str
    epochs: int | None = None
    extra: bool = False  # not in the paper
    variant: bool = False  # changed with --set
    corrects: str | None = None  # the row whose corrected variant this is
    published_mean: float | None = None
    published_std: float | None = None
    published_n: int | None = None
    published_n_is: str | None = None  # "stated" or "assumed"
    published_top5: float | None = None
    published_origin: str | None = None
    published_recipe: str = "same"  # "other": trained with another recipe than ours
    published_spread_is: str | None = None  # "std", "sem" or "ci95"; other text counts as "std"
    published_parameters: str | None = None  # as printed: "0.5M"
    published_macs: str | None = None  # as printed: "41M", "> 50M"
    quoted_mean: float | None = None  # as printed in the paper that the published number was quoted from
    quoted_origin: str | None = None  # that paper
    notes: tuple[str, ...] = ()
    command: str | None = None  # reproduces the row
    blocked: str | None = None  # why it cannot be run now: a trial that it starts from failed
    data_missing: str | None = None  # why it cannot be run now: its data were not found
    not_reproducible: str | None = None  # why it can never be run; such a row has no fingerprint and no seeds

    @property
    def key(self) -> tuple[str, str, str]:
        """Table, row and fingerprint: where the row's trials are."""
        return self.table, self.row, self.fingerprint

    @property
    def n_assumed(self) -> bool:
        """Whether the number of published runs is an assumption."""
        return self.published_n is None or self.published_n_is == "assumed"

    @property
    def other_recipe(self) -> bool:
        """Whether its published number was trained with another recipe: shown beside ours, never compared."""
        return self.published_mean is not None and self.published_recipe == "other"

    @property
    def comparable(self) -> bool:
        """Whether the row was run as published and has a published number."""
        as_published = self.scale == PAPER_SCALE and not self.variant and not self.other_recipe
        return as_published and self.published_mean is not None

    @property
    def held_up(self) -> str | None:
        """Why it cannot be run now."""
        return "; ".join(reason for reason in (self.data_missing, self.blocked) if reason) or None


_FIELDS = tuple(field.name for field in fields(ReportRow))
_REQUIRED = ("table", "row", "fingerprint", "seeds")
_TEXTS = (
    "table_title",
    "label",
    "corrects",
    "published_origin",
    "published_recipe",
    "published_n_is",
    "published_spread_is",
    "published_parameters",
    "published_macs",
    "quoted_origin",
    "command",
    "blocked",
    "data_missing",
    "not_reproducible",
)
Rows = Sequence[Mapping[str, Any]] | pd.DataFrame


def parse_rows(rows: Rows, scale: str) -> list[ReportRow]:
    """Return the rows with every absent value at its default (``scale`` for a row that does not name its own).

    Raises:
        ValueError: for a row without its id, fingerprint or seeds, an unknown field, or a row given twice.
    """
    given = rows.to_dict("records") if isinstance(rows, pd.DataFrame) else rows
    parsed = [_parse({str(name): value for name, value in row.items()}, scale) for row in given]
    seen: set[tuple[str, str, str]] = set()
    for row in parsed:
        if row.key in seen:
            raise ValueError(f"row {'/'.join(row.key)} is given twice; give each row once")
        seen.add(row.key)
    return parsed


def _parse(given: Mapping[str, Any], scale: str) -> ReportRow:
    values: dict[str, Any] = {}
    for name, value in given.items():
        if name not in _FIELDS:
            raise ValueError(f"unknown row field {name!r}{did_you_mean(name, _FIELDS)}")
        if not _absent(value):
            values[name] = value
    for name in _REQUIRED:
        if name not in values:
            raise ValueError(f"row {values.get('row', '?')!r} has no {name!r}")
    for name in _TEXTS:
        if name in values:
            values[name] = encodable(values[name])
    for name in ("published_mean", "published_std", "published_top5", "quoted_mean"):
        if name in values:
            values[name] = float(values[name])
    for name in ("published_n", "epochs"):
        if name in values:
            values[name] = int(values[name])
    notes = values.get("notes", ())
    values["notes"] = (notes,) if isinstance(notes, str) else tuple(encodable(note) for note in notes)
    values["seeds"] = tuple(sorted({int(seed) for seed in values["seeds"]}))
    for name in ("table", "row", "fingerprint"):
        values[name] = encodable(values[name])
    values["scale"] = encodable(values.get("scale", scale))
    values.setdefault("label", str(values["row"]))
    values.setdefault("table_title", str(values["table"]))
    return ReportRow(**values)


def _absent(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))
