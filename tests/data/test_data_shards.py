"""Parquet shards that disagree, or lack what they need: each is asked, and refused by name when the run is planned."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from support.images import synthetic_cifar
from support.images import synthetic_images as synthetic

from dnw_core.data import check_dataset, load_dataset
from dnw_core.data.datasets import image_folder
from dnw_core.data.opening import open_feeds
from dnw_core.data.sources.image_source import find_source
from dnw_core.errors import DataBrokenError

CLASSES = ("cat", "dog")
TRAIN = [f"train-{index:05}-of-00003.parquet" for index in range(3)]
VALIDATION = "validation-00000-of-00001.parquet"
EVERY = [*TRAIN[1:], VALIDATION]  # but the first one

Spoil = Callable[[pa.Table], pa.Table]


def table(seed: int) -> pa.Table:
    """Return a shard: two pictures, one of each class."""
    pictures = [synthetic.jpeg(synthetic.picture(2 * seed + label, 20, 24)) for label in range(2)]
    images = pa.array(
        [{"bytes": content, "path": f"{seed}_{label}.JPEG"} for label, content in enumerate(pictures)],
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    )
    return named(pa.table({"image": images, "label": pa.array([0, 1], pa.int64())}), CLASSES)


def named(shard: pa.Table, classes: tuple[str, ...]) -> pa.Table:
    """Return a shard with these class names in its metadata."""
    features = {"label": {"names": list(classes), "_type": "ClassLabel"}}
    return shard.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder of four good shards."""
    folder = tmp_path / "images"
    folder.mkdir()
    for seed, name in enumerate((*TRAIN, VALIDATION)):
        pq.write_table(table(seed), folder / name)
    return folder


def spoil(path: Path, change: Spoil) -> None:
    """Write a shard anew, changed."""
    pq.write_table(change(pq.read_table(path)), path)


def other_labels(values: pa.Array) -> Spoil:
    """Return what puts these labels in the place of a shard's."""
    return lambda shard: shard.set_column(1, "label", values)


def refused(place: Path, message: str, *, planned: bool = True) -> None:
    """Expect one line with ``message``; before any image is read if ``planned``."""
    execution = synthetic.execution(place.parent)
    if planned:
        with pytest.raises(DataBrokenError, match=message) as error:
            image_folder.describe(execution)
        assert "\n" not in str(error.value)
    with pytest.raises(DataBrokenError, match=message):
        image_folder.open_images(execution)
    assert not list((place.parent / "cache").glob("*.packed"))


def without_bytes(shard: pa.Table) -> pa.Table:
    """Return the shard as datasets writes images that were given by file name."""
    images = [{"bytes": None, "path": image["path"]} for image in shard["image"].to_pylist()]
    return shard.set_column(0, "image", pa.array(images, shard["image"].type))


LEFT: dict[str, tuple[Spoil, str]] = {
    "classes in another order": (
        lambda shard: named(shard, ("dog", "cat")),
        r"{first} and {name} have the same classes in another order \(label 0 is 'cat' in the one and 'dog' in",
    ),
    "another class": (
        lambda shard: named(shard, ("cat", "fox")),
        "{first} and {name} have different classes: 'dog' and 'fox'",
    ),
    "a class more": (
        lambda shard: named(shard, ("cat", "dog", "fox")),
        "{first} and {name} have different classes: None and 'fox'",
    ),
    "a class less": (
        lambda shard: named(shard, ("cat",)),
        "{first} and {name} have different classes: 'dog' and None",
    ),
    "no class names": (lambda shard: shard.replace_schema_metadata(None), "{name} does not tell the names of its"),
    "a class twice": (lambda shard: named(shard, ("cat", "cat")), "{name} has two classes of the name 'cat'"),
    "images elsewhere": (
        lambda shard: named(shard.rename_columns(["img", "label"]), CLASSES),
        "{first} has its images in column image, {name} in img; write all shards alike",
    ),
    "no images": (lambda shard: shard.rename_columns(["picture", "label"]), "{name}: expected columns img or image"),
    "images twice": (
        lambda shard: shard.append_column("img", shard["image"]),
        "{name} has more than one column of images",
    ),
    "images as bytes": (
        lambda shard: shard.set_column(0, "image", pa.array([b"x", b"y"])),
        "{name}: column image has no field 'bytes'; found binary; write a struct",
    ),
    "paths only": (without_bytes, r"{name}: each row has no image, only its path: .*embed_table_storage"),
    "labels elsewhere": (
        lambda shard: shard.rename_columns(["image", "target"]),
        "{name} has no column 'label'; its integer column is 'target': rename it to 'label'",
    ),
    "two kinds of labels": (
        lambda shard: shard.rename_columns(["image", "fine_label"]).append_column("coarse_label", pa.array([0, 0])),
        "{name} has no column 'label'; its integer columns are 'fine_label', 'coarse_label': rename the one with the",
    ),
    "no labels": (
        lambda shard: shard.select(["image"]),
        "{name} has no column 'label', and none of integers; found image",
    ),
    "labels twice": (lambda shard: shard.append_column("label", shard["label"]), "{name} has more than one column 'la"),
    "labels in words": (other_labels(pa.array(CLASSES)), "{name}: column 'label' holds string; labels are integers"),
    "labels with commas": (other_labels(pa.array([0.0, 1.0])), "{name}: column 'label' holds double; labels are inte"),
    "true and false": (other_labels(pa.array([False, True])), "{name}: column 'label' holds bool; labels are integers"),
}


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("case", LEFT)
def test_what_a_footer_tells_is_asked_of_every_shard(place: Path, case: str, name: str) -> None:
    """Training shards after the first one and validation: shard and difference are named at planning."""
    change, message = LEFT[case]
    spoil(place / name, change)
    refused(place, message.format(first=TRAIN[0], name=name))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_labels(pa.array([0, None])), "{name}: row 1 has label None; labels are 0 to 1"),
        (other_labels(pa.array([0, -1])), "{name}: row 1 has label -1; labels are 0 to 1"),
        (other_labels(pa.array([0, 2], pa.uint8())), "{name}: row 1 has label 2; labels are 0 to 1"),
        (lambda shard: pa.concat_tables([shard, without_bytes(shard)]), "{name}: row 2 has no image, only its path"),
    ],
    ids=["missing label", "negative label", "label beyond", "some paths"],
)
def test_what_a_row_tells_is_asked_of_every_row(place: Path, change: Spoil, message: str) -> None:
    """Shard and row are named before anything is trained."""
    spoil(place / TRAIN[2], change)
    refused(place, message.format(name=TRAIN[2]), planned=False)


def test_labels_of_another_width_are_read(place: Path, tmp_path: Path) -> None:
    """Integers are integers: a shard that has them in one byte is no other data set."""
    spoil(place / TRAIN[1], other_labels(pa.array([1, 0], pa.uint8())))
    images = find_source("image-folder", synthetic.execution(tmp_path)).open_images(
        "image-folder", synthetic.execution(tmp_path)
    )
    assert sorted(images.train.labels.tolist()) == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("name", TRAIN[1:])
def test_a_shard_that_lies_there_twice(place: Path, name: str) -> None:
    """Copied under the name of another one: half of the images twice, and the others never."""
    shutil.copyfile(place / TRAIN[0], place / name)
    refused(place, f"{name} is the same file as {TRAIN[0]}; copy the right one", planned=False)


def test_a_shard_beyond_their_number(place: Path) -> None:
    """00003 of 3, which begin at 0, belongs to another version."""
    pq.write_table(table(9), place / "train-00003-of-00003.parquet")
    refused(place, "holds shards of more than one version")


def test_both_names_of_the_second_split(place: Path, tmp_path: Path) -> None:
    """Which images are scored on is not chosen by the project: shards as well as folders."""
    pq.write_table(table(9), place / VALIDATION.replace("validation", "val"))
    refused(place, "has shards of both validation and val; keep those to be scored on")
    root = synthetic.write_folder(tmp_path / "folder")
    shutil.copytree(root / "val", root / "validation")
    with pytest.raises(DataBrokenError, match="has both val and validation; keep the one that is to be scored on"):
        image_folder.describe(synthetic.execution(tmp_path, root))


@pytest.mark.parametrize(("names", "half"), [(TRAIN, "training"), ([VALIDATION], "validation")])
def test_a_class_without_an_image(place: Path, names: list[str], half: str, tmp_path: Path) -> None:
    """As in a folder; told before anything is trained."""
    recipe = synthetic.recipe().model_copy(update={"batch_size": 2})
    network = recipe.network.model_copy(update={"classes": 2})
    for name in names:
        spoil(place / name, other_labels(pa.array([1, 1])))
    with pytest.raises(DataBrokenError, match=f"image-folder: there is no {half} image of class 'cat'; add the shards"):
        open_feeds(recipe.model_copy(update={"network": network}), synthetic.execution(tmp_path), torch.device("cpu"))


def test_good_shards_are_read(place: Path, tmp_path: Path) -> None:
    """What the others change is what is wrong with them."""
    execution = synthetic.execution(tmp_path)
    check_dataset("image-folder", execution)
    images = image_folder.open_images(execution)
    assert (images.classes, len(images.train), len(images.test)) == (CLASSES, 6, 2)


CIFAR_REST = ("frog", "horse", "ship", "truck")
CIFAR: dict[str, tuple[Spoil, str]] = {
    "labels elsewhere": (lambda shard: shard.rename_columns(["img", "labels"]), "its integer column is 'labels': ren"),
    "labels in words": (other_labels(pa.array(["3"] * 25)), "column 'label' holds string; labels are integers"),
    "paths only": (
        lambda shard: shard.set_column(
            0, "img", pa.array([{"bytes": None, "path": "x"}] * len(shard), shard["img"].type)
        ),
        "each row has no image, only its path",
    ),
    "classes in another order": (
        lambda shard: named(shard, ("dog", "cat", "airplane", "automobile", "bird", "deer", *CIFAR_REST)),
        "has its classes in another order: dog, cat, .*, not airplane, automobile",
    ),
}


@pytest.mark.parametrize("case", CIFAR)
def test_cifar10s_shards_are_asked_one_by_one(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second file, which nothing but its own columns describes, is named with what would be right."""
    synthetic_cifar.pin(monkeypatch)
    synthetic_cifar.write_parquet(tmp_path / "cifar10")
    change, message = CIFAR[case]
    spoil(tmp_path / "cifar10" / "train-00001-of-00002.parquet", change)
    with pytest.raises(DataBrokenError, match=r"train-00001-of-00002.parquet.*" + message):
        load_dataset("cifar10", synthetic_cifar.execution(tmp_path))


def test_cifar10s_shards_may_name_its_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the hub's do."""
    synthetic_cifar.pin(monkeypatch)
    synthetic_cifar.write_parquet(tmp_path / "cifar10")
    names = ("airplane", "automobile", "bird", "cat", "deer", "dog", *CIFAR_REST)
    for path in (tmp_path / "cifar10").iterdir():
        spoil(path, lambda shard: named(shard, names))
    assert len(load_dataset("cifar10", synthetic_cifar.execution(tmp_path)).train_labels) == synthetic_cifar.TRAIN
