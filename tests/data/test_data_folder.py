"""A folder of images: found, listed as torchvision does, described for a plan, and refused where it is broken."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.images import synthetic_images as synthetic

from dnw_core.data import check_dataset
from dnw_core.data.datasets import image_folder, imagenet
from dnw_core.data.formats.folder_listing import list_folder
from dnw_core.data.formats.jpeg import decode_rgb, kind_of
from dnw_core.data.opening import open_feeds
from dnw_core.errors import DataBrokenError, DataMissingError, UserError

CPU = torch.device("cpu")


def test_the_order_is_imagefolders(tmp_path: Path) -> None:
    """Files, classes and labels stand as torchvision's ImageFolder lists them, folders in folders included."""
    from torchvision.datasets import ImageFolder

    root = synthetic.write_folder(tmp_path)
    for name in ("b/z.jpg", "b-c/y.JPG", "b/a/x.jpeg", "B.png"):
        path = root / "train" / "dog" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(synthetic.png(synthetic.picture(1, 8, 8)))
    (root / "train" / "dog" / ".hidden.JPEG").mkdir()
    (root / "train" / "dog" / "readme.txt").write_text("no image")
    listing = list_folder(root)
    for split in (listing.train, listing.test):
        theirs = ImageFolder(str(root / split.folder))
        assert [(str(Path(path).relative_to(root / split.folder)), label) for path, label in theirs.samples] == [
            *zip(split.paths, split.labels, strict=True)
        ]
        assert theirs.classes == list(listing.classes)
        assert [(root / split.folder / path).stat().st_size for path in split.paths] == list(split.sizes)


def test_val_may_be_called_validation(tmp_path: Path) -> None:
    """Both names of the second folder are known, and make no difference to the content."""
    root = synthetic.write_folder(tmp_path / "images")
    before = image_folder.describe(synthetic.execution(tmp_path))
    (root / "val").rename(root / "validation")
    assert image_folder.describe(synthetic.execution(tmp_path)) == before


def rename(root: Path) -> None:
    """Another class in val."""
    (root / "val" / "dog").rename(root / "val" / "fox")


def empty(root: Path) -> None:
    """A class without files."""
    (root / "train" / "emu").mkdir()
    (root / "val" / "emu").mkdir()


def no_classes(root: Path) -> None:
    """No folder in train."""
    (root / "train").rename(root / "elsewhere")
    (root / "train").mkdir()


def archive(root: Path) -> None:
    """A file that nobody knows."""
    (root / "train" / "cat" / "more.tar").write_bytes(b"")


def dangling(root: Path) -> None:
    """A link to nowhere."""
    (root / "train" / "cat" / "away.JPEG").symlink_to(root / "nowhere.JPEG")


def loops(root: Path) -> None:
    """Two links to a folder that they lie in: every path has two to the power of its length of them."""
    for name in ("one", "two"):
        (root / "train" / "cat" / name).symlink_to(root / "train" / "cat")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (loops, "cat/(one|two) cannot be read: it is a link to a folder that holds it"),
        (rename, r"train and val have different classes \(only in train: dog; only in val: fox\)"),
        (empty, "classes without an image: train/emu"),
        (no_classes, "train has no class folder"),
        (archive, "not images: train/cat/more.tar; remove them"),
        (dangling, "away.JPEG cannot be read"),
    ],
)
def test_a_folder_that_is_no_data_set(spoil: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    """What is wrong is named, when the run is planned as well as when the images are opened."""
    spoil(synthetic.write_folder(tmp_path / "images"))
    with pytest.raises(DataBrokenError, match=message):
        image_folder.describe(synthetic.execution(tmp_path))
    with pytest.raises(DataBrokenError, match=message):
        image_folder.open_images(synthetic.execution(tmp_path))


def test_nothing_there(tmp_path: Path) -> None:
    """Missing data are missing, not broken: the line says what was looked for, where, and which half is not there."""
    with pytest.raises(DataMissingError, match=r"found in .*images/image-folder and .*images: neither .* --data-dir"):
        check_dataset("image-folder", synthetic.execution(tmp_path))
    root = synthetic.write_folder(tmp_path / "images")
    (root / "val").rename(root / "later")
    with pytest.raises(DataMissingError, match=r"is incomplete: .*images lacks val/"):
        check_dataset("image-folder", synthetic.execution(tmp_path))


def test_the_data_sets_own_folder_comes_first(tmp_path: Path) -> None:
    """Of <data-dir>/image-folder and <data-dir>, the first is taken."""
    synthetic.write_folder(tmp_path / "images", ("a", "b"))
    outer = image_folder.describe(synthetic.execution(tmp_path))
    synthetic.write_folder(tmp_path / "images" / "image-folder")
    inner = image_folder.describe(synthetic.execution(tmp_path))
    assert (outer.classes, inner.classes) == (2, 3)


def test_the_digest_tells_what_changed(tmp_path: Path) -> None:
    """Another name, another length or another file: another digest; the same files elsewhere: the same."""
    root = synthetic.write_folder(tmp_path / "images")
    digests = {image_folder.describe(synthetic.execution(tmp_path)).digest}
    copy = synthetic.write_folder(tmp_path / "copy")
    digests.add(image_folder.describe(synthetic.execution(tmp_path, copy)).digest)
    assert len(digests) == 1
    file = root / "val" / "owl" / "owl_0.JPEG"
    file.write_bytes(file.read_bytes() + b" ")
    digests.add(image_folder.describe(synthetic.execution(tmp_path)).digest)
    file.rename(file.with_name("owl_9.JPEG"))
    digests.add(image_folder.describe(synthetic.execution(tmp_path)).digest)
    (root / "train" / "cat" / "cat_0.JPEG").unlink()
    digests.add(image_folder.describe(synthetic.execution(tmp_path)).digest)
    assert len(digests) == 4


def test_imagenet_has_its_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not 1,000 classes, or too few images: said with both numbers, before any image is read."""
    synthetic.write_folder(tmp_path / "images" / "imagenet")
    with pytest.raises(DataBrokenError, match="expected 1,000 classes, found 3"):
        check_dataset("imagenet", synthetic.execution(tmp_path))
    monkeypatch.setattr(imagenet, "CLASSES", 3)
    check_dataset("imagenet", synthetic.execution(tmp_path))
    with pytest.raises(DataBrokenError, match="expected 1,281,167 training images, found 21"):
        imagenet.open_images(synthetic.execution(tmp_path))
    monkeypatch.setattr(imagenet, "TRAIN_COUNT", 21)
    with pytest.raises(DataBrokenError, match="expected 50,000 validation images, found 9"):
        imagenet.open_images(synthetic.execution(tmp_path))
    assert not (tmp_path / "cache").exists()
    monkeypatch.setattr(imagenet, "TEST_COUNT", 9)
    assert len(imagenet.open_images(synthetic.execution(tmp_path)).train) == 21


def truncated(content: bytes) -> bytes:
    """Its second half is missing."""
    return content[: len(content) // 2]


def closed(content: bytes) -> bytes:
    """Its second half is missing, but it ends as an image does: Pillow shows the rest in grey."""
    return content[: len(content) // 2] + b"\xff\xd9"


@pytest.mark.parametrize(
    "spoil", [truncated, closed, lambda _: b"", lambda _: b"<html>"], ids=["truncated", "closed", "empty", "text"]
)
def test_an_unreadable_image_is_named_before_anything_is_trained(
    spoil: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    """The line has the first files, their number and the advice; after the repair everything goes on."""
    root = synthetic.write_folder(tmp_path / "images")
    files = [root / "train" / "dog" / f"dog_{number}.JPEG" for number in range(6)]
    contents = [file.read_bytes() for file in files]
    for file, content in zip(files, contents, strict=True):
        file.write_bytes(spoil(content))
    with pytest.raises(
        DataBrokenError, match=r"6 of 30 images .*train/dog/dog_0.JPEG \(.* and 1 more; .*prepare.py"
    ) as error:
        open_feeds(synthetic.recipe(), synthetic.execution(tmp_path), CPU)
    assert "\n" not in str(error.value)
    for file, content in zip(files, contents, strict=True):
        file.write_bytes(content)
    open_feeds(synthetic.recipe(), synthetic.execution(tmp_path), CPU).close()


def test_a_folder_is_checked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second trial believes the first one's check, until a file changes."""
    root = synthetic.write_folder(tmp_path / "images")
    asked: list[int] = []

    def spy(count: int, read: Callable[[int], bytes]) -> dict[int, str]:
        asked.append(count)
        return {}

    monkeypatch.setattr("dnw_core.data.sources.folder_source.find_unreadable", spy)
    for _ in range(2):
        image_folder.open_images(synthetic.execution(tmp_path))
    assert asked == [21, 9]
    (root / "train" / "cat" / "cat_0.JPEG").unlink()
    image_folder.open_images(synthetic.execution(tmp_path))
    assert asked == [21, 9, 20, 9]


def test_a_cache_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """The line names the folder and the way out."""
    synthetic.write_folder(tmp_path / "images")
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(UserError, match=r"cannot write what was checked to cache folder .*XDG_CACHE_HOME"):
        image_folder.open_images(synthetic.execution(tmp_path))


@pytest.mark.parametrize("settings", [{}, {"subsampling": 0}, {"progressive": True}, {"quality": 20}], ids=str)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_pixels_are_pillows(mode: str, settings: dict[str, int]) -> None:
    """Colour, grey and CMYK, whatever the encoding: the same pixels as Pillow's, and the kind is told."""
    content = synthetic.jpeg(synthetic.picture(1, 61, 77).convert(mode), **settings)
    expected = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    assert np.array_equal(decode_rgb(content), expected)
    assert kind_of(content) == {"RGB": "rgb", "L": "grey", "CMYK": "cmyk"}[mode]


def test_other_formats_are_pillows() -> None:
    """A PNG, whatever its name and mode."""
    for mode in ("RGB", "L", "P", "RGBA", "1"):
        image = synthetic.picture(2, 20, 30).convert(mode)
        assert np.array_equal(decode_rgb(synthetic.png(image)), np.asarray(image.convert("RGB")))
        assert kind_of(synthetic.png(image)) == "other"


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("part", [0.02, 0.3, 0.6, 0.9, 0.999])
@pytest.mark.parametrize("ending", [b"", b"\xff\xd9"], ids=["cut", "closed"])
def test_a_truncated_jpeg_is_refused(mode: str, part: float, ending: bytes) -> None:
    """Wherever it was cut, and even where it was given an end again: never half an image."""
    content = synthetic.jpeg(synthetic.picture(3, 90, 110).convert(mode), quality=95)
    with pytest.raises(ValueError, match=r"."):
        decode_rgb(content[: int(part * len(content))] + ending)


def test_stray_bytes_cost_no_pixel() -> None:
    """What libjpeg only remarks, and what follows the image, is no damage."""
    content = synthetic.jpeg(synthetic.picture(4, 40, 40))
    expected = decode_rgb(content)
    assert np.array_equal(decode_rgb(content[:-2] + b"\0\1" + content[-2:]), expected)
    assert np.array_equal(decode_rgb(content + b"junk"), expected)


def test_an_image_that_would_fill_the_memory_is_refused() -> None:
    """Its header alone says 65,000 x 65,000."""
    content = bytearray(synthetic.jpeg(synthetic.picture(5, 16, 16)))
    start = content.index(b"\xff\xc0")
    content[start + 5 : start + 9] = (65_000).to_bytes(2, "big") * 2
    with pytest.raises(ValueError, match="65000x65000 pixels"):
        decode_rgb(bytes(content))
