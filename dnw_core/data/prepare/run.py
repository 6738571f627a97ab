"""A folder of images becomes Parquet shards with a manifest: checked image by image, in parallel, resumable.

Every image is decoded in full before anything is trained on it; those that cannot be are all named at the end, and the
shards without one are kept, so that the same call resumes after the repair. What comes out depends on the images and
the settings alone. The caller holds a lock on the target folder.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

from dnw_core.data.formats.folder_listing import TRAIN_FOLDER, list_folder
from dnw_core.data.formats.manifest import Manifest, Settings, Shard
from dnw_core.data.prepare.plan import ShardPlan, plan_shards
from dnw_core.data.prepare.shard import BadImage, BadImagesError, Preparation, read_prepared
from dnw_core.data.prepare.state import Begun, State, foreign_files
from dnw_core.data.prepare.workers import Ended, Message, Task, run_tasks
from dnw_core.errors import DataMissingError, UserError

_SAMPLE = 48  # images from which the room that the rest will take is estimated
_MARGIN = 1.1


class ProgressListener(Protocol):
    """Is told how a preparation progresses."""

    def begin(self, images: int, room: float) -> None:
        """Take note of how many images there are, and about how many bytes those not yet prepared will take."""

    def prepared(self, images: int) -> None:
        """Count images that were prepared."""

    def kept(self, images: int) -> None:
        """Count images of a shard that is there already."""


@dataclass(frozen=True)
class Prepared:
    """A finished preparation: the manifest, and how many shards this call made."""

    manifest: Manifest
    made: int


def check_folders(source: Path, out: Path) -> None:
    """Refuse folders that cannot be right, before anything is written.

    Raises:
        UserError: if there is no image folder ``source``, or ``out`` is inside it or holds other files.
    """
    if not source.is_dir():
        raise DataMissingError(f"there is no folder {source}")
    if not (source / TRAIN_FOLDER).is_dir():
        raise DataMissingError(f"{source} is not an image folder: it has no train/<class>/ and val/<class>/")
    if out.resolve().is_relative_to(source.resolve()):
        raise UserError(f"{out} is inside {source}; give a folder outside of the images")
    found = foreign_files(out) if out.is_dir() else []
    if found:
        raise UserError(
            f"{out} holds other files than a preparation's ({', '.join(found[:3])}); give a new or an empty folder"
        )


def prepare(
    source: Path, out: Path, settings: Settings, *, processes: int, overwrite: bool, watch: ProgressListener
) -> Prepared:
    """Make the shards of ``source`` in ``out``, but for those that are there and whole; then write the manifest.

    Args:
        source: image folder, ``train/<class>/*`` and ``val/<class>/*``.
        out: an existing folder, empty or of an earlier preparation; no other process works on it.
        settings: size, quality, images a shard.
        processes: how many work at once.
        overwrite: whether an earlier preparation of something else may be replaced.
        watch: is told how it progresses.

    Raises:
        BadImagesError: if images cannot be used; the other shards are finished and kept.
        DataMissingError: if the source lacks a split.
        DataBrokenError: if its splits have different classes, a class is empty, or a file is not an image.
        UserError: if ``out`` holds something else, has too little room, or cannot be written.
    """
    listing = list_folder(source)
    plans = plan_shards(listing, settings)
    preparation = Preparation(source, out, listing.classes, settings)
    state = State(out, Begun(settings=settings, source=str(source.resolve()), listing=listing.digest()))
    try:
        known = state.enter(plans, overwrite=overwrite)
        watch.begin(len(listing.train) + len(listing.test), _check_room(preparation, plans, known))
        work = _Work(state, watch)
        try:
            run_tasks(preparation, [Task(plan, known.get(plan.name)) for plan in plans], processes, work.on_message)
        finally:
            state.remove_temporaries()
        if work.bad:
            raise BadImagesError(
                f"{len(work.bad):,} of {len(listing.train) + len(listing.test):,} images cannot be used; repair or "
                f"remove them, then the same command makes the {len(plans) - len(work.shards)} of {len(plans)} "
                "shards that are missing",
                sorted(work.bad, key=lambda image: image.path),
            )
        return Prepared(state.conclude(listing.classes, plans, work.shards), work.made)
    except OSError as error:
        raise UserError(f"{out} cannot be written: {error.strerror or error}") from None


class _Work:
    """What the workers have reported so far."""

    def __init__(self, state: State, watch: ProgressListener) -> None:
        self._state = state
        self._watch = watch
        self.shards: dict[str, Shard] = {}
        self.bad: list[BadImage] = []
        self.made = 0

    def on_message(self, message: Message) -> None:
        if not isinstance(message, Ended):
            self._watch.prepared(message.images)
            return
        self.bad += message.bad
        if message.shard is None:
            return
        self.shards[message.plan.name] = message.shard
        self._state.finished(message.plan, message.shard)
        if message.made:
            self.made += 1
        else:
            self._watch.kept(message.shard.images)


def _check_room(preparation: Preparation, plans: list[ShardPlan], known: dict[str, Shard]) -> float:
    """Return about how many bytes the shards that are not ``known`` will take; raises UserError if there is less room.

    A sample says by how much images become smaller. Its bad images are left to the preparation itself.
    """
    missing = [plan for plan in plans if plan.name not in known]
    images = sum(len(plan.paths) for plan in missing)
    rows = ((plan, row) for plan in missing for row in range(len(plan.paths)))
    before = after = 0
    for plan, row in islice(rows, 0, None, max(1, images // _SAMPLE)):
        try:
            after += len(read_prepared(preparation, plan, row))
        except ValueError:
            continue
        before += plan.sizes[row]
    needed = _MARGIN * sum(sum(plan.sizes) for plan in missing) * (after / before if before else 1.0)
    free = shutil.disk_usage(preparation.out).free
    if needed > free:
        raise UserError(
            f"{preparation.out} has {free / 1e9:,.1f} GB free, and the shards will take about "
            f"{needed / 1e9:,.1f} GB; give a folder with more, or a smaller --short-side"
        )
    return needed
