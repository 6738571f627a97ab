"""One training run: the loop, schedules, checkpoints, workers, and what is written at the end."""

from dnw_core.training.engine.group import LONE, PeerLostError, WorkerGroup
from dnw_core.training.trial import TrialIdentity, TrialStopped, run_trial
from dnw_core.training.worker import run_worker

__all__ = ["LONE", "PeerLostError", "TrialIdentity", "TrialStopped", "WorkerGroup", "run_trial", "run_worker"]
