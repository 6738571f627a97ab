"""How far a preparation has come, kept in the target folder, so that the same command resumes one that was killed.

While it lasts, the hidden folder ``.prepare`` holds ``begun.json`` (settings and source) and for each finished shard a
small file with its checksum and what it was made from. At the end the manifest takes their place: a finished folder
is checked, and mended, by what its manifest says.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from dnw_core.config import Config
from dnw_core.data.formats.manifest import (
    MANIFEST_FILE,
    Manifest,
    PreparedSplit,
    Settings,
    Shard,
    manifest_text,
    read_manifest,
)
from dnw_core.data.prepare.plan import ShardPlan
from dnw_core.errors import DataBrokenError, UserError
from dnw_core.files import sync, write_text

STATE_FOLDER = ".prepare"
_BEGUN_FILE = "begun.json"
_SHARD_FILE = re.compile(r"^(train|validation)-\d{5}-of-\d{5}\.parquet$")
_TEMPORARY_FILE = re.compile(r"^\..+\.[0-9a-f]{32}\.tmp$")

Entry = TypeVar("Entry", bound=Config)


class Begun(Config):
    """What a preparation was begun with: ``source`` is the folder, ``listing`` the digest of what it held."""

    settings: Settings
    source: str
    listing: str


class Finished(Config):
    """A shard that is done, and the digest of what it was made from."""

    shard: Shard
    made_from: str


class State:
    """The state of the preparation in ``out``; its lock is held.

    Args:
        out: the target folder; it is there.
        begun: what the present command was given.
    """

    def __init__(self, out: Path, begun: Begun) -> None:
        self._out = out
        self._folder = out / STATE_FOLDER
        self._begun = begun

    def enter(self, plans: Sequence[ShardPlan], *, overwrite: bool) -> dict[str, Shard]:
        """Begin or resume; return the shards by name that are done, whose files are still to be checked.

        Raises:
            UserError: if it is the preparation of something else, and ``overwrite`` does not allow to replace it.
        """
        if overwrite:
            self._clear()
        done = self._agreed(plans)
        with contextlib.suppress(FileExistsError):
            self._folder.mkdir()
        write_text(self._folder / _BEGUN_FILE, self._begun.model_dump_json(indent=1) + "\n")
        self.remove_temporaries()
        names = {plan.name for plan in plans}
        for path in self._shard_files():  # of an earlier listing, which had more images or fewer
            if path.name not in names:
                path.unlink()
        return done

    def finished(self, plan: ShardPlan, shard: Shard) -> None:
        """Note that a shard is done."""
        entry = Finished(shard=shard, made_from=plan.made_from)
        write_text(self._folder / f"{plan.name}.json", entry.model_dump_json(indent=1) + "\n")

    def conclude(self, classes: tuple[str, ...], plans: Sequence[ShardPlan], shards: dict[str, Shard]) -> Manifest:
        """Write the manifest, now that all shards are there, and remove what led there."""

        def split(name: str) -> PreparedSplit:
            found = tuple(shards[plan.name] for plan in plans if plan.split == name)
            return PreparedSplit(images=sum(shard.images for shard in found), shards=found)

        manifest = Manifest(
            version=1,
            classes=classes,
            settings=self._begun.settings,
            source=self._begun.listing,
            train=split("train"),
            validation=split("validation"),
        )
        sync(self._out)  # a power cut must not leave the manifest without the shards
        write_text(self._out / MANIFEST_FILE, manifest_text(manifest))
        sync(self._out)
        shutil.rmtree(self._folder, ignore_errors=True)
        return manifest

    def remove_temporaries(self) -> None:
        """Remove files that a killed process was writing."""
        for folder in (self._out, self._folder):
            for path in folder.glob(".*.tmp"):
                if _TEMPORARY_FILE.match(path.name):
                    path.unlink(missing_ok=True)

    def _agreed(self, plans: Sequence[ShardPlan]) -> dict[str, Shard]:
        """Return what is done, if it is what the present command would do."""
        if (self._out / MANIFEST_FILE).exists():
            manifest = self._read_manifest()
            self._agree(manifest.settings, manifest.source == self._begun.listing)
            return {shard.name: shard for shard in manifest.shards}
        begun = _read(self._folder / _BEGUN_FILE, Begun)
        if begun is None:
            if self._shard_files():
                raise UserError(
                    f"{self._out} holds shards of unknown origin; give a new folder, or --overwrite to replace them"
                )
            return {}
        # a folder stays the same one when its images are repaired; a moved folder does when it holds the same images
        self._agree(begun.settings, begun.source == self._begun.source or begun.listing == self._begun.listing)
        done = {}
        for plan in plans:
            entry = _read(self._folder / f"{plan.name}.json", Finished)
            if entry is not None and entry.made_from == plan.made_from:
                done[plan.name] = entry.shard
        return done

    def _agree(self, settings: Settings, same_source: bool) -> None:
        mine = self._begun.settings
        differences = [
            f"{name.replace('_', ' ')} {_worded(getattr(settings, name))}, not {_worded(getattr(mine, name))}"
            for name in Settings.model_fields
            if getattr(settings, name) != getattr(mine, name)
        ]
        if not same_source:
            differences.insert(0, "other images")
        if differences:
            raise UserError(
                f"{self._out} holds another preparation ({'; '.join(differences)}); give a new folder, "
                "or --overwrite to replace it"
            )

    def _read_manifest(self) -> Manifest:
        try:
            return read_manifest(self._out / MANIFEST_FILE)
        except DataBrokenError as error:
            raise UserError(f"{error}, with --overwrite") from None

    def _clear(self) -> None:
        (self._out / MANIFEST_FILE).unlink(missing_ok=True)  # first: nothing trusts the rest without it
        for path in self._shard_files():
            path.unlink()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _shard_files(self) -> list[Path]:
        return [path for path in self._out.iterdir() if _SHARD_FILE.match(path.name)]


def foreign_files(out: Path) -> list[str]:
    """Return the names in ``out`` that do not belong to a preparation; hidden files are not counted."""
    return sorted(
        path.name
        for path in out.iterdir()
        if not path.name.startswith(".") and path.name != MANIFEST_FILE and not _SHARD_FILE.match(path.name)
    )


def _read(path: Path, kind: type[Entry]) -> Entry | None:
    """Return what a file of the state says; None if it is missing or damaged, and what it is about is done again."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def _worded(setting: int | None) -> str:
    return "as it is" if setting is None else str(setting)
