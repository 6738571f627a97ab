"""The errors of the project, all of one family, and the signals that end a trial without an error.

Each error carries one sentence: what is wrong, and what would be right. Pipelines derives its own from ``DnwError``.
A ``ValueError`` is a programmer's mistake, or becomes one of these where the user's part in it is known.
"""

from __future__ import annotations


class DnwError(Exception):
    """The base of every error that this project raises on purpose."""


class UserError(DnwError):
    """The user made a mistake (a bad value, a missing folder): one line, exit code 2, no traceback."""


class DataMissingError(UserError):
    """The data set is not where it was looked for."""


class DataBrokenError(UserError):
    """The data set is there but truncated or altered."""


class RecordError(DnwError):
    """A record cannot be used. ``newer`` is true when a later version of this project wrote it."""

    def __init__(self, message: str, *, newer: bool = False) -> None:
        super().__init__(message)
        self.newer = newer


class CheckpointRefusedError(DnwError):
    """A checkpoint is truncated, belongs to another trial, or holds more than plain tensors and values."""


class TrialFailedError(DnwError):
    """Training cannot go on (a loss that is not finite). The reason becomes part of the result."""


class NotFiniteError(TrialFailedError):
    """A loss, a logit or a weight is infinite or NaN: the network has diverged, and no score of it counts."""


class PeerLostError(DnwError):
    """Another worker could not be reached: it died, or failed before it got here."""


class WorkersLostError(DnwError):
    """A worker ended without a result; says which and how."""


# Signals: they unwind a trial whose end is intended.


class TrialStopped(Exception):  # noqa: N818 - a signal, not an error
    """The trial was asked to stop, or has the epochs that it was asked for; its checkpoint is written."""
