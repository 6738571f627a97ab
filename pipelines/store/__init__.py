"""The results folder: its layout, the commit of a finished trial, and the check of what is there."""

from pipelines.store.adopt import Adopted, adopt_trials, finished_trials
from pipelines.store.folder import Store, TrialState
from pipelines.store.layout import (
    COSTS_FILE,
    HEARTBEAT_FILE,
    LOCK_FILE,
    LOG_FILE,
    SET_ASIDE,
    STOP_FILE,
    STORE_FILE,
    STORE_SCHEMA,
    TRIALS,
    WORK_SUFFIX,
    check_name,
    folders_in,
    is_plain,
    recipe_folders,
    refuse_links,
    seed_of,
    trial_folder,
    work_folder,
)
from pipelines.store.verify import KnownHashes, VerificationError, read_own_record, verify_finished
