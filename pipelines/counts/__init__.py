"""Parameters and multiply-adds of rows: counted, kept, and compared with the published numbers.

Importing this package loads no torch; ``count_rows`` does.
"""

from collections.abc import Iterable

from pipelines.counts.cache import report_costs
from pipelines.counts.table import CostFile, CostLine, RowCounts, cost_lines, source_digest, trained_costs
from tune_configs import Row


def count_rows(rows: Iterable[Row]) -> dict[str, RowCounts]:
    """Return the counts of the rows' networks by the fingerprint of each row's recipe at paper scale."""
    from pipelines.counts.count import count_rows as count

    return count(rows)
