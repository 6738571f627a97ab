"""Whether a machine sees what a trial needs, asked again where the trial starts: nodes join while a run lasts.

Those that are there at its beginning are asked before anything is trained (``ray_nodes.check_nodes``). One that comes
later and does not see the results folder or the data would fail every trial it is given, quickly, and so be given the
next one. Such a trial waits a little before it ends, is no failure, and is handed out again.
"""

from __future__ import annotations

import secrets
import time
from pathlib import Path

from dnw_core.errors import UserError
from pipelines.spec import TrialSpec
from pipelines.storage import NodeUnusableError, RemoteStaging

MOST_UNFIT = 6
"""Trials that machines send back, until the run ends and says why."""

WAIT_SECONDS = 10.0
"""Before a trial is sent back: meanwhile the other machines take the next ones."""


class VisibilityProbe:
    """What every machine of a run must see; goes to the trial's process through pickle.

    Args:
        folder: this run's own folder below the results folder, where all machines should see it.
        far: what reaches the results where no other machine sees that folder; asked in its place.
    """

    def __init__(self, folder: Path, far: RemoteStaging | None = None) -> None:
        self.far = far
        self._path = None if far is not None else folder / "probe"
        self._word = secrets.token_hex(16)

    @property
    def probe(self) -> tuple[str, str]:
        """The file and the word in it."""
        return str(self._path), self._word

    def leave(self) -> None:
        """Leave the word for the others to find."""
        if self.far is not None:
            self.far.write_marker(self._word)
        if self._path is not None:
            self._path.write_text(self._word, "utf-8")

    def check(self, spec: TrialSpec) -> None:
        """Look for the word and the trial's data from this machine.

        Raises:
            NodeUnusableError: after ``WAIT_SECONDS``, if one of them cannot be seen.
        """
        trouble = self._trouble(spec)
        if trouble:
            time.sleep(WAIT_SECONDS)
            raise NodeUnusableError(f"node {_name()}: {trouble}")

    def _trouble(self, spec: TrialSpec) -> str:
        if self._path is not None:
            try:
                seen = self._path.read_text("utf-8")
            except OSError:
                seen = ""
            if seen != self._word:
                return f"it does not see the results folder {spec.results_dir} of the driver"
        if spec.resources.across_nodes:  # it only leads
            return ""
        from dnw_core.data import check_dataset

        try:
            check_dataset(spec.recipe.data.dataset, spec.execution)
        except UserError as error:
            return str(error)
        return ""


def _name() -> str:
    import platform

    return platform.node()
