"""Errors that are a user's to mend. Each carries one sentence: what is wrong, and what would be right."""

from __future__ import annotations


class UserError(ValueError):
    """A mistake of the user's (a bad value, a missing folder): one line, exit code 2, no traceback."""


class DataMissingError(UserError):
    """The data set is not where it was looked for."""


class DataBrokenError(UserError):
    """The data set is there but truncated or altered."""


class CheckpointRefusedError(UserError):
    """A checkpoint is truncated, belongs to another trial, or holds more than plain tensors and values."""


class TrialFailedError(RuntimeError):
    """Training cannot go on (a loss that is not finite). The reason becomes part of the result."""


class NotFinite(TrialFailedError):
    """A loss, a logit or a weight is infinite or no number: the network has diverged, and no score of it counts."""
