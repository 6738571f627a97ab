"""A machine that cannot train a trial although others can: the trial is handed out again, and it is no failure."""

from __future__ import annotations


class UnfitNode(Exception):
    """This machine cannot train the trial, although others can; names it and says why."""
