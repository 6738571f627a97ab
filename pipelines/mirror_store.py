"""The store of a driver whose results lie in a bucket: the copy is read, every change goes to the bucket as well."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dnw_core.record import CHECKPOINT_FILE, RECORD_FILE
from pipelines.bucket_trials import BucketTrials
from pipelines.depot_carrier import insist
from pipelines.known_hashes import KnownHashes
from pipelines.layout import work_folder
from pipelines.mirror import Mirror
from pipelines.spec import TrialSpec
from pipelines.store import Store

_PATIENCE_SECONDS = 300.0


class MirrorStore(Store):
    """See ``Store``; a trial is believed whose checkpoint lies in the bucket (see ``mirror``).

    Nothing is committed through it: trials commit in the bucket itself.
    """

    _mirror: Mirror
    _trials: BucketTrials

    @classmethod
    def over(
        cls, mirror: Mirror, trials: BucketTrials, *, create: bool = False, trust_unchanged: bool = False
    ) -> MirrorStore:
        """Open the copy; see ``Store.open``."""
        store = cls.open(mirror.folder, create=create, trust_unchanged=trust_unchanged)
        assert isinstance(store, MirrorStore)
        store._mirror, store._trials = mirror, trials
        store._hashes = _MirrorHashes(mirror, trust=trust_unchanged)
        return store

    def commit(self, spec: TrialSpec) -> bool:
        """Refuse: no trial is trained in the copy."""
        raise AssertionError("trials commit in the bucket")

    def record_failure(self, spec: TrialSpec, reason: str, log_tail: str | None = None) -> None:
        """See ``Store.record_failure``."""
        super().record_failure(spec, reason, log_tail)
        self._mirror.changed_here(self.work_folder(spec))
        path = self.work_folder(spec) / RECORD_FILE
        self._insist(lambda: self._trials.deliver(spec, RECORD_FILE, path), "recording a failure")

    def clear_failure(self, spec: TrialSpec) -> None:
        """See ``Store.clear_failure``."""
        self._insist(lambda: self._trials.clear_failure(spec), "clearing a failure")
        super().clear_failure(spec)
        self._mirror.changed_here(self.work_folder(spec))

    def set_aside(self, spec: TrialSpec, *, work: bool = False) -> Path | None:
        """See ``Store.set_aside``. Returns where the copy went; in the bucket it is the like."""
        self._insist(lambda: self._trials.set_aside(spec, work=work), "setting a trial aside")
        for folder in (self.folder(spec), work_folder(self.folder(spec))):
            self._mirror.changed_here(folder)
        return super().set_aside(spec, work=work)

    def _insist(self, act: Callable[[], object], what: str) -> None:
        insist(act, f"{what} in {self._trials}", _PATIENCE_SECONDS)


class _MirrorHashes(KnownHashes):
    """Knows the checkpoints of finished trials, which are not copied, by their objects' names."""

    def __init__(self, mirror: Mirror, *, trust: bool) -> None:
        super().__init__(mirror.folder, trust=trust)
        self._mirror = mirror

    def sha256(self, path: Path) -> str:
        """See ``KnownHashes.sha256``."""
        if path.name == CHECKPOINT_FILE and not path.exists():
            digest = self._mirror.checkpoint_sha256(path.parent)
            if digest is not None:
                return digest
        return super().sha256(path)
