"""Whether a machine sees the results folder and the data, asked before training and where each trial starts.

Nodes join while a run lasts, so the machines that are there at its beginning (``node_checks``) are not all. One that
comes later and does not see what it needs would fail every trial that it gets, quickly, and so get the next one. Such
a trial waits a little before it ends, does not count as a failure, and is handed out again.
"""

from __future__ import annotations

import os
import platform
import secrets
import time
from pathlib import Path

from dnw_core.errors import UserError
from pipelines.spec import TrialSpec
from pipelines.storage import NodeUnusableError, RemoteStaging

MAX_SENT_BACK = 6
"""Trials that machines send back before the run ends and says why."""

WAIT_SECONDS = 10.0
"""How long a trial waits before it is sent back: meanwhile the other machines take the next ones."""


class VisibilityProbe:
    """What every machine of a run must see; goes to other processes through pickle.

    Args:
        folder: this run's own folder below the results folder, where all machines should see it.
        remote: what reaches the results where no other machine sees that folder; asked in its place.
    """

    def __init__(self, folder: Path, remote: RemoteStaging | None = None) -> None:
        self._remote = remote
        self._marker = folder / "probe"
        self._text = secrets.token_hex(16)

    def write_marker(self) -> None:
        """Write in the driver what the other machines must find."""
        if self._remote is not None:
            self._remote.write_marker(self._text)
        else:
            self._marker.write_text(self._text, "utf-8")

    def trouble(self, node: str) -> str:
        """Return what keeps this machine, whose id is ``node``, from the results; an empty text if nothing does."""
        if self._remote is not None:
            return self._remote.probe(self._text, node)
        results = self._marker.parents[2]
        try:
            seen = self._marker.read_text("utf-8")
        except OSError:
            seen = ""
        if seen != self._text:
            return f"it does not see the results folder {results} of the driver; put --results-dir on a shared disk"
        return "" if os.access(self._marker.parent, os.W_OK) else f"it may not write into the results folder {results}"

    def trouble_after(self, node: str) -> str:
        """Return, in the driver, what is wrong with what a machine has written; an empty text if nothing is."""
        arrived = self._remote is None or self._remote.answered(self._text, node)
        return "" if arrived else f"what it wrote to {self._remote} did not arrive there"

    def check(self, spec: TrialSpec) -> None:
        """Check that this machine sees the results folder and the trial's data.

        Raises:
            NodeUnusableError: after ``WAIT_SECONDS``, if it does not.
        """
        trouble = self.trouble("") if self._remote is None else ""  # staging checks the way to remote results itself
        if not trouble and not spec.resources.across_nodes:  # else this process only leads
            from dnw_core.data import check_dataset

            try:
                check_dataset(spec.recipe.data.dataset, spec.execution)
            except UserError as error:
                trouble = str(error)
        if trouble:
            time.sleep(WAIT_SECONDS)
            raise NodeUnusableError(f"node {platform.node()}: {trouble}")
