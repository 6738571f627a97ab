"""A small data set in both of CIFAR-10's layouts, made on the spot, with its own pins (for test_data_*.py)."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from dnw_core.config.execution import Execution
from dnw_core.data.datasets import cifar10, cifar10_source
from dnw_core.data.sources.base import Identity, Split

TRAIN = 50
TEST = 10


def make_split(count: int, seed: int) -> Split:
    """Return random images with labels."""
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)
    return Split(images, generator.integers(0, 10, count, dtype=np.int64))


def make_splits() -> tuple[Split, Split]:
    """Return the synthetic train and test split, in the order in which the files hold them."""
    return make_split(TRAIN, 1), make_split(TEST, 2)


def pin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the synthetic splits count as CIFAR-10."""
    train, test = (cifar10.canonical_order(split) for split in make_splits())
    monkeypatch.setattr(cifar10, "IDENTITY", Identity(TRAIN, TEST, train.checksum(), test.checksum()))


def execution(tmp_path: Path, **settings: object) -> Execution:
    """Return an Execution whose folders all lie under ``tmp_path``."""
    return Execution.model_validate(
        {"data_dir": tmp_path / "cifar10", "cache_dir": tmp_path / "cache", **settings}, strict=False
    )


def encode(image: np.ndarray, form: str) -> bytes:
    """Return a [3, H, W] image as a lossless file of this format."""
    buffer = io.BytesIO()
    options = {"lossless": True, "exact": True} if form == "WEBP" else {}
    Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).save(buffer, form, **options)
    return buffer.getvalue()


def write_shard(path: Path, split: Split, form: str = "PNG", column: str = "img") -> None:
    """Write a Parquet file in the Hugging Face layout."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"bytes": encode(image, form), "path": None} for image in split.images]
    images = pa.array(rows, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    pq.write_table(pa.table({column: images, "label": pa.array(split.labels)}), path, row_group_size=16)


def write_parquet(folder: Path, form: str = "PNG", column: str = "img", order: Sequence[int] | None = None) -> None:
    """Write the synthetic data set as two train shards and a test shard; ``order`` shuffles train."""
    train, test = make_splits()
    if order is not None:
        train = Split(train.images[list(order)], train.labels[list(order)])
    half = TRAIN // 2
    for index, part in enumerate((slice(0, half), slice(half, TRAIN))):
        shard = Split(train.images[part], train.labels[part])
        write_shard(folder / f"train-{index:05}-of-00002.parquet", shard, form, column)
    write_shard(folder / "test-00000-of-00001.parquet", test, form, column)


def python2_batch(split: Split) -> bytes:
    """Return the split pickled as Python 2 did it for the original files (protocol 2, byte strings)."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    pixels = split.images.tobytes()
    count = b"M" + len(split.labels).to_bytes(2, "little")
    dtype = b"cnumpy\ndtype\n(" + text(b"u1") + b"K\x00K\x01tR"
    dtype += b"(K\x03" + text(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t" + text(b"b") + b"tR"
    array += b"(K\x01(" + count + b"M\x00\x0ct" + dtype + b"\x89"
    array += b"T" + len(pixels).to_bytes(4, "little") + pixels + b"tb"
    labels = b"](" + b"".join(b"K" + bytes([label]) for label in split.labels.tolist()) + b"e"
    return b"\x80\x02}(" + text(b"data") + array + text(b"labels") + labels + b"u."


def write_pickles(parent: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the synthetic data set in torchvision's layout and pin its MD5s; returns its folder."""
    folder = parent / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    train, test = make_splits()
    tenth = TRAIN // 5
    contents = {
        f"data_batch_{index + 1}": python2_batch(Split(train.images[part], train.labels[part]))
        for index, part in enumerate(slice(start, start + tenth) for start in range(0, TRAIN, tenth))
    }
    contents["test_batch"] = python2_batch(test)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    md5 = {name: hashlib.md5(content, usedforsecurity=False).hexdigest() for name, content in contents.items()}
    monkeypatch.setattr(cifar10_source, "TEST_FILES", {"test_batch": md5.pop("test_batch")})
    monkeypatch.setattr(cifar10_source, "TRAIN_FILES", md5)
    return folder
