"""A small data set of JPEG files in ImageFolder's layout and in shards, made on the spot (for test_data_*.py)."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from dnw_core.config.execution import Execution
from dnw_core.config.recipe import Recipe
from dnw_core.data.feeds.share import WHOLE, WorkerShard
from dnw_core.data.formats.folder_listing import SplitListing, list_folder

CLASSES = ("cat", "dog", "owl")
TRAIN = 7  # a class
TEST = 3
SIZE = 32  # of the network's images

Row = tuple[dict[str, Any], int]  # of a shard: image and label


def picture(seed: int, height: int, width: int) -> Image.Image:
    """Return a smooth random image: what a camera sees rather than noise, which every resize blurs differently."""
    values = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    return Image.fromarray(values).resize((width, height), Image.Resampling.BICUBIC)


def jpeg(image: Image.Image, **settings: Any) -> bytes:
    """Return the image as a JPEG file."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **settings)
    return buffer.getvalue()


def png(image: Image.Image) -> bytes:
    """Return the image as a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def write_folder(root: Path, classes: Sequence[str] = CLASSES, train: int = TRAIN, test: int = TEST) -> Path:
    """Write images of many sizes; one is grey, one CMYK, and one a PNG that is called JPEG."""
    for split, count in (("train", train), ("val", test)):
        for label, name in enumerate(classes):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                seed = 1000 * label + 10 * number + (split == "val")
                image = picture(seed, 40 + seed % 23, 36 + seed % 31)
                (folder / f"{name}_{number}.JPEG").write_bytes(jpeg(image, quality=90))
    image = picture(5, 50, 45)
    folder = root / "train" / classes[0]
    (folder / f"{classes[0]}_1.JPEG").write_bytes(jpeg(image.convert("L")))
    (folder / f"{classes[0]}_2.JPEG").write_bytes(jpeg(image.convert("CMYK")))
    (folder / f"{classes[0]}_3.JPEG").write_bytes(png(image))
    return root


def rows_of(root: Path, split: SplitListing) -> list[Row]:
    """Return a split's images and labels as a shard holds them, in canonical order."""
    return [
        ({"bytes": (root / split.folder / path).read_bytes(), "path": path}, label)
        for path, label in zip(split.paths, split.labels, strict=True)
    ]


def write_shard(path: Path, rows: Sequence[Row], classes: Sequence[str] | None = CLASSES) -> None:
    """Write a Parquet file in the Hugging Face layout; ``classes`` go into its metadata."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images = pa.array([image for image, _ in rows], pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    table = pa.table({"image": images, "label": pa.array([label for _, label in rows], pa.int64())})
    if classes is not None:
        features = {"info": {"features": {"label": {"names": list(classes), "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    pq.write_table(table, path, row_group_size=4)


def write_shards(source: Path, folder: Path, *, shuffle: bool = False) -> Path:
    """Write the images of ``source`` as three training shards and a validation shard, without a manifest."""
    listing = list_folder(source)
    rows = rows_of(source, listing.train)
    if shuffle:
        rows = [rows[place] for place in np.random.default_rng(0).permutation(len(rows))]
    third = -(-len(rows) // 3)
    for index in range(3):
        part = rows[index * third : (index + 1) * third]
        write_shard(folder / f"train-{index:05}-of-00003.parquet", part, listing.classes)
    write_shard(folder / "validation-00000-of-00001.parquet", rows_of(source, listing.test), listing.classes)
    return folder


def execution(tmp_path: Path, data_dir: Path | str | None = None, **settings: object) -> Execution:
    """Return an Execution that looks in ``data_dir`` (default: ``tmp_path/images``), its cache under ``tmp_path``."""
    values = {"data_dir": data_dir or tmp_path / "images", "cache_dir": tmp_path / "cache", **settings}
    return Execution.model_validate(values, strict=False)


def recipe(**data: Any) -> Recipe:
    """Return a recipe for these images."""
    values: dict[str, Any] = {
        "network": {"kind": "shufflenet-v2", "width": "x0.5", "classes": len(CLASSES), "image_size": SIZE},
        "wiring": {"rule": "complete"},
        "data": {"dataset": "image-folder", "crop": "random-resized", "crop_padding": 0, **data},
        "schedule": {"kind": "cosine"},
        "epochs": 1,
        "batch_size": 8,
    }
    return Recipe.model_validate(values)


def batches_of(feed: Any, *, epoch: int = 0, start_step: int = 0, share: WorkerShard = WHOLE) -> list[Any]:
    """Return an epoch's batches of 8."""
    return list(feed.training(batch_size=8, seed=3, epoch=epoch, start_step=start_step, share=share))


def same(first: Sequence[Any], second: Sequence[Any]) -> bool:
    """Tell whether two lists of batches agree to the bit."""
    pairs: Iterator[tuple[Any, Any]] = zip(first, second, strict=False)
    return len(first) == len(second) and all(
        a.images.equal(b.images) and a.labels.equal(b.labels) and a.whole == b.whole for a, b in pairs
    )
