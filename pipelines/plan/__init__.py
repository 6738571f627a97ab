"""Which trials a command means, which of them will run, and where."""

from pipelines.plan.data_checks import check_data, missing_line, prepare_store, read_data
from pipelines.plan.estimate import Estimator
from pipelines.plan.folder_data import complete_tables
from pipelines.plan.leftovers import find_leftovers, leftover_entries, leftover_lines, unread_trials
from pipelines.plan.placement import DeviceChoice, Placement, choose_device, gpus_of, worker_lines
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
