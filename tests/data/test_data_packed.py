"""Shards of images, near and far: copied once into a packed file, in canonical order; refused where they are broken."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.images import synthetic_images as synthetic
from support.images.synthetic_images import CLASSES
from support.services import s3_server

from dnw_core.data.datasets import image_folder
from dnw_core.data.formats.encoded import EncodedImages, EncodedSplit
from dnw_core.data.formats.folder_listing import list_folder
from dnw_core.data.formats.manifest import MANIFEST_FILE, Manifest, PreparedSplit, Settings, Shard, manifest_text
from dnw_core.data.sources import shard_source
from dnw_core.errors import DataBrokenError, DataMissingError, UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The images as a folder."""
    return synthetic.write_folder(tmp_path / "folder")


def open_images(tmp_path: Path, place: Path | str | None = None) -> EncodedImages:
    """Open the shards in ``tmp_path/images``, or elsewhere."""
    return image_folder.open_images(synthetic.execution(tmp_path, place))


def contents(split: EncodedSplit) -> list[tuple[bytes, int]]:
    """All files and labels."""
    return [(split.files.read(row), int(split.labels[row])) for row in range(len(split))]


def prepared(source: Path, place: Path) -> Path:
    """Shards with a manifest, as ``prepare`` leaves them."""
    synthetic.write_shards(source, place)
    listing = list_folder(source)
    splits = {}
    for name, split in (("train", listing.train), ("validation", listing.test)):
        files = sorted(place.glob(f"{name}-*.parquet"))
        counts = [7] * len(files) if name == "train" else [len(split)]
        shards = tuple(
            Shard(
                name=file.name,
                sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
                images=count,
                bytes=file.stat().st_size,
            )
            for file, count in zip(files, counts, strict=True)
        )
        splits[name] = PreparedSplit(images=len(split), shards=shards)
    settings = Settings(short_side=None, quality=92, images_per_shard=7)
    manifest = Manifest(version=1, classes=listing.classes, settings=settings, source=listing.digest(), **splits)
    (place / MANIFEST_FILE).write_text(manifest_text(manifest))
    return place


@pytest.mark.parametrize("shuffle", [False, True])
def test_shards_hold_the_folders_images_in_its_order(folder: Path, tmp_path: Path, shuffle: bool) -> None:
    """Shards in any order, with other images' files between them: the same files and labels as from the folder."""
    synthetic.write_shards(folder, tmp_path / "images" / "data", shuffle=shuffle)
    found, expected = open_images(tmp_path), open_images(tmp_path, folder)
    assert found.classes == expected.classes == CLASSES
    assert contents(found.train) == contents(expected.train)
    assert contents(found.test) == contents(expected.test)


def test_names_of_the_hub_are_ordered_as_imagenets(tmp_path: Path) -> None:
    """The hub's copy of ImageNet appends the class to each name, which must not change the order."""
    names = ["n01_1.JPEG", "n01_10.JPEG", "n01_100.JPEG", "n01_2.JPEG"]
    rows = [({"bytes": synthetic.jpeg(synthetic.picture(n, 9, 9)), "path": name}, 0) for n, name in enumerate(names)]
    longer = [({**image, "path": image["path"].replace(".", "_n01440764.")}, label) for image, label in rows]
    for place, train in (("plain", rows), ("hub", longer[::-1])):
        synthetic.write_shard(tmp_path / place / "train-00000-of-00001.parquet", train)
        synthetic.write_shard(tmp_path / place / "validation-00000-of-00001.parquet", rows)
    plain, hub = (open_images(tmp_path, tmp_path / place) for place in ("plain", "hub"))
    assert contents(hub.train) == contents(plain.train) == [(image["bytes"], 0) for image, _ in rows]


def test_a_uri_is_read_through_pyarrow(folder: Path, tmp_path: Path) -> None:
    """A file:// URI goes the way of s3://: the same images, and its own name in messages."""
    place = prepared(folder, tmp_path / "images")
    found, expected = open_images(tmp_path, place.as_uri()), open_images(tmp_path, folder)
    assert contents(found.train) == contents(expected.train)
    with pytest.raises(DataMissingError, match=r"not found in file://.*away/image-folder and file://.*away: no train-"):
        open_images(tmp_path, (tmp_path / "away").as_uri())
    with pytest.raises(UserError, match="--data-dir cannot be opened: "):
        open_images(tmp_path, "gopher://somewhere/images")


def test_a_bucket_is_read_through_pyarrows_client(folder: Path, tmp_path: Path, s3: s3_server.S3) -> None:
    """s3:// against a server on the loopback: the same images; a missing bucket's folder is missing data."""
    for file in prepared(folder, tmp_path / "images").iterdir():
        s3.bucket("some/image-folder").upload(file.name, file)
    options = f"scheme=http&endpoint_override={s3.direct.removeprefix('http://')}&region=us-east-1"
    found = open_images(tmp_path, f"s3://user:secret@results/some?{options}")
    assert contents(found.train) == contents(open_images(tmp_path, folder).train)
    with pytest.raises(DataMissingError, match=r"not found in s3://results/image-folder and s3://results: no train-"):
        open_images(tmp_path, f"s3://user:secret@results?{options}")


def test_a_copy_is_made_once(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second trial reads the packed file; other shards make another."""
    place = prepared(folder, tmp_path / "images")
    first = open_images(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(shard_source, "write_packed", None)
        assert contents(open_images(tmp_path).train) == contents(first.train)
    shutil.rmtree(place)
    (folder / "train" / "owl" / "owl_6.JPEG").unlink()
    synthetic.write_shards(folder, place)
    assert len(open_images(tmp_path).train) == 20
    assert len(list((tmp_path / "cache").glob("*.packed"))) == 2


@pytest.mark.parametrize("place", [0, 20, 5000, -1])
def test_a_damaged_copy_is_not_believed(folder: Path, tmp_path: Path, place: int) -> None:
    """Another byte in header or index, or the end missing: copied again. A byte of an image is for its decoder."""
    prepared(folder, tmp_path / "images")
    expected = contents(open_images(tmp_path).train)
    [path] = (tmp_path / "cache").glob("*.packed")
    content = bytearray(path.read_bytes())
    content[place] ^= 255
    path.write_bytes(content)
    found = contents(open_images(tmp_path).train)
    assert (found == expected) == (place != 5000)
    path.write_bytes(content[:-9])
    assert contents(open_images(tmp_path).train) == expected


def test_a_copy_that_was_cut_while_it_is_read(folder: Path, tmp_path: Path) -> None:
    """The error names the file and what to do; nothing is killed, as a map of the file would be."""
    prepared(folder, tmp_path / "images")
    train = open_images(tmp_path).train
    [path] = (tmp_path / "cache").glob("*.packed")
    with path.open("r+b") as file:
        file.truncate(6000)
    with pytest.raises(DataBrokenError, match=r"\.packed was altered .* its end is missing\); delete it"):
        train.files.read(20)


def drop_middle(place: Path) -> None:
    """A shard from the middle is missing."""
    (place / "train-00001-of-00003.parquet").unlink()


def alter(place: Path) -> None:
    """A byte of an image differs; the length does not."""
    path = place / "train-00001-of-00003.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


def cut(place: Path) -> None:
    """A shard's end is missing."""
    path = place / "train-00002-of-00003.parquet"
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("spoil", "with_manifest", "when_planned", "message"),
    [
        (drop_middle, True, True, r"lacks train-00001-of-00003.parquet, which manifest.json names"),
        (drop_middle, False, True, r"lacks train-00001-of-00003.parquet; copy or prepare them again"),
        (cut, True, True, "train-00002-of-00003.parquet: not as long as manifest.json says"),
        (cut, False, False, "train-00002-of-00003.parquet is truncated or altered, or no Parquet file"),
        (alter, True, False, "train-00001-of-00003.parquet has another checksum than manifest.json says"),
    ],
)
def test_broken_shards(
    folder: Path, tmp_path: Path, spoil: Callable[[Path], None], with_manifest: bool, when_planned: bool, message: str
) -> None:
    """What names and lengths tell is said when the run is planned, the rest before anything is trained."""
    place = tmp_path / "images"
    (prepared if with_manifest else synthetic.write_shards)(folder, place)
    spoil(place)
    if when_planned:
        with pytest.raises(DataBrokenError, match=message):
            image_folder.check(synthetic.execution(tmp_path))
    with pytest.raises(DataBrokenError, match=message):
        open_images(tmp_path)
    assert not list((tmp_path / "cache").glob("*.packed"))
    assert not list((tmp_path / "cache").glob("*.tmp"))


def test_one_half_alone_is_missing_data(folder: Path, tmp_path: Path) -> None:
    """Training shards without the others: said by name."""
    synthetic.write_shards(folder, tmp_path / "images")
    (tmp_path / "images" / "validation-00000-of-00001.parquet").unlink()
    with pytest.raises(DataMissingError, match=r"is incomplete: .*images lacks validation-\*.parquet"):
        image_folder.check(synthetic.execution(tmp_path))


def validation(tmp_path: Path, rows: Any, classes: Any = CLASSES) -> None:
    """Replace the validation shard."""
    synthetic.write_shard(tmp_path / "images" / "validation-00000-of-00001.parquet", rows, classes)


def test_shards_that_contradict_the_rules(folder: Path, tmp_path: Path) -> None:
    """Other classes in validation, no class names at all, a label out of range, a row without an image."""
    synthetic.write_shards(folder, tmp_path / "images")
    good = {"bytes": synthetic.jpeg(synthetic.picture(1, 20, 20)), "path": "x.JPEG"}
    validation(tmp_path, [(good, 0)], ("cat", "dog", "fox"))
    with pytest.raises(DataBrokenError, match="different classes: 'owl' and 'fox'"):
        image_folder.describe(synthetic.execution(tmp_path))
    validation(tmp_path, [(good, 0)], None)
    with pytest.raises(DataBrokenError, match=r"does not tell the names of its classes .*prepare.py"):
        image_folder.describe(synthetic.execution(tmp_path))
    validation(tmp_path, [(good, 0), (good, 3)])
    with pytest.raises(DataBrokenError, match="row 1 has label 3; labels are 0 to 2"):
        open_images(tmp_path)
    validation(tmp_path, [(good, 0), ({"bytes": None, "path": "x"}, 1)])
    with pytest.raises(DataBrokenError, match="row 1 has no image"):
        open_images(tmp_path)


def test_unreadable_images_in_shards_are_named(folder: Path, tmp_path: Path) -> None:
    """Without a manifest nobody has decoded them yet: shard, row and name are told, and nothing is kept."""
    file = folder / "train" / "dog" / "dog_2.JPEG"
    file.write_bytes(file.read_bytes()[:300])
    synthetic.write_shards(folder, tmp_path / "images")
    with pytest.raises(DataBrokenError, match=r"1 of 30 images .*train-00001-of-00003.parquet row 2 dog/dog_2.JPEG \("):
        open_images(tmp_path)
    assert not list((tmp_path / "cache").glob("*.packed"))


def test_a_disk_without_room(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both figures and the way out, before anything is copied."""
    synthetic.write_shards(folder, tmp_path / "images")
    monkeypatch.setattr(shard_source.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match=r"takes 0.0 GB, and cache folder .* 0.0 GB left; give one with room"):
        open_images(tmp_path)


def test_a_plan_knows_the_content(folder: Path, tmp_path: Path) -> None:
    """Classes and digest; the digest is the manifest's where there is one, and changes with the shards."""
    place = prepared(folder, tmp_path / "images")
    content = image_folder.describe(synthetic.execution(tmp_path))
    assert content == (3, hashlib.sha256((place / MANIFEST_FILE).read_bytes()).hexdigest())
    assert open_images(tmp_path).digest == content.digest
    (place / MANIFEST_FILE).unlink()
    bare = image_folder.describe(synthetic.execution(tmp_path))
    validation(tmp_path, [({"bytes": synthetic.jpeg(synthetic.picture(1, 20, 20)), "path": "x.JPEG"}, 0)])
    assert len({content.digest, bare.digest, image_folder.describe(synthetic.execution(tmp_path)).digest}) == 3
