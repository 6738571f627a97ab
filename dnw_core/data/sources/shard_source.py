"""Images in Parquet shards, prepared (with a manifest) or from elsewhere, copied once into a local packed file.

Shards are not a format to draw single images from, and may be remote: all of them are read once, in order, and their
image files put one after the other into the cache (``packed``). Prepared shards are held against the manifest's
checksums, since every image in them was decoded when they were made; of others every image is decoded while copying.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import shutil
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dnw_core.data.formats.encoded import EncodedImages
from dnw_core.data.formats.folder_listing import first_of
from dnw_core.data.formats.manifest import MANIFEST_FILE, Manifest, parse_manifest
from dnw_core.data.formats.packed import PACKED_VERSION, SplitWriter, read_packed, write_packed
from dnw_core.data.formats.readable import describe_unreadable, find_unreadable
from dnw_core.data.formats.shard_rows import Row, read_rows
from dnw_core.data.formats.shard_schema import Footer, check_agreement, read_footer
from dnw_core.data.sources.base import Content
from dnw_core.data.sources.cache import cache_folder, folder_errors
from dnw_core.data.sources.location import Location
from dnw_core.data.sources.locks import file_lock
from dnw_core.data.sources.parquet_images import order_shards
from dnw_core.errors import DataBrokenError, UserError

if TYPE_CHECKING:
    from dnw_core.config import Execution

TEST_SPLITS = ("validation", "val")
_FOOTERS = 16  # read at once: a far away file takes its time
_AHEAD = 2  # shards read while another one is written


@dataclass(frozen=True)
class ShardSource:
    """All shards of both splits.

    Attributes:
        location: where they are.
        train: names of the training shards, in order.
        test: names of the others.
        sizes: bytes of each.
        manifest: what ``prepare`` says of them, if it made them.
        digest: of the manifest; without one, of the names and sizes.
    """

    location: Location
    train: tuple[str, ...]
    test: tuple[str, ...]
    sizes: Mapping[str, int]
    manifest: Manifest | None
    digest: str

    def classes(self) -> tuple[str, ...]:
        """Return the names of the classes.

        Raises:
            DataBrokenError: if no shard names them, or two shards differ.
        """
        return self._footers[self.train[0]].classes if self.manifest is None else self.manifest.classes

    def describe(self) -> Content:
        """See ``base.StreamedModule``."""
        return Content(len(self.classes()), self.digest)

    def counts(self) -> tuple[int, int]:
        """Return the number of training and test images, from the manifest or the shards' footers."""
        if self.manifest is not None:
            return self.manifest.train.images, self.manifest.validation.images
        train, test = (sum(self._footers[name].rows for name in names) for names in (self.train, self.test))
        return train, test

    def open_images(self, name: str, execution: Execution) -> EncodedImages:
        """Return the images, copied into the cache first if they are not there.

        Raises:
            DataBrokenError: if a shard is altered or an image cannot be decoded.
            UserError: if the cache folder cannot be written, or lacks the room.
        """
        classes = self.classes()
        folder = cache_folder(execution)
        key = f"{name}-v{PACKED_VERSION}-{self.digest[:16]}"
        path = folder / f"{key}.packed"
        splits = read_packed(path)
        if splits is None:
            with contextlib.ExitStack() as stack:
                with folder_errors(folder, "a copy of the images"):
                    folder.mkdir(parents=True, exist_ok=True)
                    locked = stack.enter_context(file_lock(folder / f"{key}.lock"))
                splits = read_packed(path)  # another process may have been faster
                if splits is None:
                    with folder_errors(folder, "a copy of the images"):
                        if locked:  # no other process is writing: leftovers of killed ones can go
                            for left in folder.glob(f"{key}.*.tmp"):
                                left.unlink(missing_ok=True)
                        self._check_room(folder)
                        write_packed(path, self._copy, sort=self.manifest is None)
                    splits = read_packed(path)
        if splits is None:
            raise UserError(f"cache folder {folder} gave back other bytes than were written to it; use another folder")
        return EncodedImages(*splits, classes=classes, digest=self.digest)

    @functools.cached_property
    def _footers(self) -> dict[str, Footer]:
        """The footers of all shards, which agree with each other; raises DataBrokenError."""
        names = [*self.train, *self.test]
        with ThreadPoolExecutor(_FOOTERS) as pool:
            footers = dict(zip(names, pool.map(self._read_footer, names), strict=True))
        check_agreement(footers.items(), str(self.location))
        return footers

    def _read_footer(self, name: str) -> Footer:
        try:
            file = self.location.open(name)
        except OSError as error:
            raise DataBrokenError(f"{self.location}/{name} cannot be read: {error.strerror or error}") from None
        with file:
            return read_footer(file, f"{self.location}/{name}")

    def _check_room(self, folder: Path) -> None:
        needed, free = sum(self.sizes[name] for name in (*self.train, *self.test)), shutil.disk_usage(folder).free
        if free < needed:
            raise UserError(
                f"a local copy of {self.location} takes {needed / 1e9:.1f} GB, and cache folder {folder} has "
                f"{free / 1e9:.1f} GB left; give one with room (--cache-dir)"
            )

    def _copy(self, train: SplitWriter, test: SplitWriter) -> None:
        classes = len(self.classes())
        expected = {shard.name: shard for shard in self.manifest.shards} if self.manifest is not None else {}
        bad: dict[str, str] = {}
        seen: dict[tuple[str, bool], str] = {}  # by digest and split: finds a file that is there twice
        writers = {name: writer for names, writer in ((self.train, train), (self.test, test)) for name in names}
        for name, content in _read_ahead(self.location, [*self.train, *self.test]):
            where = f"{self.location}/{name}"
            digest = hashlib.sha256(content).hexdigest()
            if name in expected and digest != expected[name].sha256:
                raise DataBrokenError(
                    f"{where} has another checksum than {MANIFEST_FILE} says; copy or prepare it again"
                )
            twin = seen.setdefault((digest, name in self.train), name)
            if name not in expected and twin != name:
                raise DataBrokenError(f"{where} is the same file as {twin}; copy the right one, or remove it")
            rows = list(read_rows(content, classes, where))
            if name not in expected:
                bad |= {_name(name, rows, row): reason for row, reason in _unreadable(rows).items()}
            elif len(rows) != expected[name].images:
                raise DataBrokenError(f"{where} has {len(rows)} images, {MANIFEST_FILE} says {expected[name].images}")
            for row in rows:
                writers[name].add(*row)
        if bad:
            raise DataBrokenError(describe_unreadable(str(self.location), bad, len(train) + len(test)))


def find_shards(location: Location, incomplete: list[str]) -> ShardSource | None:
    """Return the shards in a location, or None if it has none, or none of one split (which goes into ``incomplete``).

    Raises:
        DataMissingError: if the location cannot be looked into.
        DataBrokenError: if shards are missing from the middle, contradict each other, or do not fit the manifest.
    """
    sizes = location.sizes()
    manifest, digest = None, ""
    if MANIFEST_FILE in sizes:
        content = location.read(MANIFEST_FILE)
        manifest, digest = parse_manifest(content, f"{location}/{MANIFEST_FILE}"), hashlib.sha256(content).hexdigest()
        _check_sizes(location, sizes, manifest)
    where = str(location)
    train, missing = order_shards(sizes, "train", where)
    found = [split for split in TEST_SPLITS if order_shards(sizes, split, where)[0]]
    if len(found) > 1:
        raise DataBrokenError(f"{location} has shards of both {' and '.join(found)}; keep those to be scored on")
    test, missing_test = order_shards(sizes, found[0] if found else TEST_SPLITS[0], where)
    if not train and not test:
        return None
    if not train or not test:
        incomplete.append(f"{location} lacks {', '.join(missing if not train else missing_test)}")
        return None
    if missing or missing_test:
        raise DataBrokenError(f"{location} lacks {first_of([*missing, *missing_test])}; copy or prepare them again")
    if manifest is None:
        listed = "".join(f"{name}\0{sizes[name]}\n" for name in (*train, *test))
        digest = hashlib.sha256(listed.encode()).hexdigest()
    return ShardSource(location, train, test, {name: sizes[name] for name in (*train, *test)}, manifest, digest)


def _check_sizes(location: Location, sizes: Mapping[str, int], manifest: Manifest) -> None:
    missing = [shard.name for shard in manifest.shards if shard.name not in sizes]
    if missing:
        raise DataBrokenError(
            f"{location} lacks {first_of(missing)}, which {MANIFEST_FILE} names; copy or prepare them again"
        )
    altered = [shard.name for shard in manifest.shards if sizes[shard.name] != shard.bytes]
    if altered:
        raise DataBrokenError(
            f"{location}: {first_of(altered)}: not as long as {MANIFEST_FILE} says; copy or prepare again"
        )


def _read_ahead(location: Location, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Yield each file's name and content, reading the next ones meanwhile: a far away file takes its time."""
    with ThreadPoolExecutor(_AHEAD) as pool:
        started: deque[Future[bytes]] = deque()
        waiting = iter(names)
        for name in names:
            while len(started) <= _AHEAD and (upcoming := next(waiting, None)) is not None:
                started.append(pool.submit(location.read, upcoming))
            yield name, started.popleft().result()


def _unreadable(rows: Sequence[Row]) -> dict[int, str]:
    return find_unreadable(len(rows), lambda row: rows[row].content)


def _name(shard: str, rows: Sequence[Row], row: int) -> str:
    return f"{shard} row {row}" + (f" {rows[row].name}" if rows[row].name else "")
