"""One training run: the loop, schedules, checkpoints, workers, and what is written at the end."""

from dnw_core.errors import PeerLostError
from dnw_core.training.engine.group import SINGLE, WorkerGroup
from dnw_core.training.trial import run_trial
from dnw_core.training.worker import run_worker
