"""Which trials a command means, which of them will run, and where."""

from pipelines.plan.data_checks import check_data, make_room, missing_line, read_data
from pipelines.plan.estimate import Estimator
from pipelines.plan.folder_data import complete_tables
from pipelines.plan.leftovers import find_leftovers, leftover_entries, leftover_lines, unread_trials
from pipelines.plan.placement import DeviceChoice, Placement, gpus_of, settle_device, worker_lines
from pipelines.plan.planner import Plan, PlannedRow, PlannedTrial, make_plan, plan_rows
from pipelines.plan.reported_rows import all_rows, report_rows
from pipelines.plan.rows import (
    VARIANT_MARK,
    Override,
    parse_overrides,
    parse_seeds,
    seeds_text,
    select_rows,
    split_variant,
    variant_name,
)
from pipelines.plan.trial_states import MODES, Mode

__all__ = [
    "MODES",
    "VARIANT_MARK",
    "DeviceChoice",
    "Estimator",
    "Mode",
    "Override",
    "Placement",
    "Plan",
    "PlannedRow",
    "PlannedTrial",
    "all_rows",
    "check_data",
    "complete_tables",
    "find_leftovers",
    "gpus_of",
    "leftover_entries",
    "leftover_lines",
    "make_plan",
    "make_room",
    "missing_line",
    "parse_overrides",
    "parse_seeds",
    "plan_rows",
    "read_data",
    "report_rows",
    "seeds_text",
    "select_rows",
    "settle_device",
    "split_variant",
    "unread_trials",
    "variant_name",
    "worker_lines",
]
