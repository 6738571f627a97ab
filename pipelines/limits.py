"""How long and how often a trial is borne with."""

from __future__ import annotations

MAX_DEATHS = 3
"""Times a trial is started again after its process died; what a trial raises itself is recorded, not repeated."""

GRACE_SECONDS = 10.0
"""How long a trial may take to leave a checkpoint once it was asked to stop."""
