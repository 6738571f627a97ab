"""One trial in its process: train it, commit what came out or record why it failed."""

from pipelines.trial.gpu_share import GpuShareTooSmallError, doubled, format_share, share_for, trials_that_fit
from pipelines.trial.parents import WITHOUT_WEIGHTS, TrialBlockedError, blocked_by, parent_spec
from pipelines.trial.run import LOCK_FILE, TRAIN, RunTrial, load_function, prepare_process, record_failure, run_spec
