"""How long and how often a trial is borne with."""

from __future__ import annotations

MAX_DEATHS = 3
"""Times a trial is started again after its process died; what a trial raises itself is recorded, not repeated, and a
lost machine, a pre-emption or a mishap of Ray's does not count (``trial_ends``)."""

GRACE_SECONDS = 10.0
"""How long a trial may take to leave a checkpoint once it was asked to stop."""

FAR_GRACE_SECONDS = 60.0
"""The same where it hears of the wish after a while, and its checkpoint has to travel (a bucket, ``--store head``)."""
