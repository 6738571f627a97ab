"""Search for the hyper-parameters that a paper does not give."""

from pipelines.hpo.plan import Judged, Search, find_row, judge, plan_search
from pipelines.hpo.result import check_target, include_name, write_found
from pipelines.hpo.run import run_search
from pipelines.hpo.text import counts_line, plan_lines, result_lines, space_lines
from pipelines.hpo.tracking import SearchTracker

__all__ = [
    "Judged",
    "Search",
    "SearchTracker",
    "check_target",
    "counts_line",
    "find_row",
    "include_name",
    "judge",
    "plan_lines",
    "plan_search",
    "result_lines",
    "run_search",
    "space_lines",
    "write_found",
]
