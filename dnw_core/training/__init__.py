"""One training run: the loop, schedules, checkpoints, workers, and what is written at the end."""

from dnw_core.errors import PeerLostError, TrialStopped
from dnw_core.training.engine.group import LONE, WorkerGroup
from dnw_core.training.session import TrialIdentity
from dnw_core.training.trial import run_trial
from dnw_core.training.worker import run_worker

__all__ = ["LONE", "PeerLostError", "TrialIdentity", "TrialStopped", "WorkerGroup", "run_trial", "run_worker"]
