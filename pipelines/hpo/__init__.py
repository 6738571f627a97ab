"""Search for the hyper-parameters that a paper does not give.

Importing this package loads no Ray; ``run_search`` does.
"""

from pipelines.hpo.halving import Round, Status, assess
from pipelines.hpo.plan import Search, find_row, plan_search
from pipelines.hpo.result import check_target, include_name, write_found
from pipelines.hpo.run import run_search
from pipelines.hpo.text import counts_line, plan_lines, result_lines, space_lines, tracker_rows
