"""One training run: the loop, schedules, checkpoints, and what is written at the end."""

from dnw_core.training.trial import TrialIdentity, TrialStopped, run_trial

__all__ = ["TrialIdentity", "TrialStopped", "run_trial"]
