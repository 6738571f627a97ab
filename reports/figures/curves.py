"""Learning curves: test accuracy by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from reports.figures.lines import Measure, draw_lines
from reports.figures.style import Looks
from reports.rows import ReportRow
from reports.text import number


def draw_curves(title: str, rows: Sequence[ReportRow], history: pd.DataFrame, looks: Looks, path: Path) -> Path | None:
    """Draw a table's learning curves; None if there are none.

    The published means stand as dashed lines at paper scale only: elsewhere they would invite a comparison
    that means nothing.
    """
    return draw_lines(ACCURACY, title, rows, history, looks, path)


def _published(row: ReportRow) -> float | None:
    return row.published_mean if row.comparable else None


ACCURACY = Measure("test_accuracy", "test accuracy (%)", number, reference=_published)
