"""Small image folders for ``prepare.py``, and looking at what it made of them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from pipelines.commands.prepare import main

CLASSES = ("cat", "dog", "emu")
QUICK = ["--processes", "1", "--images-per-shard", "4"]


def encoded(seed: int, size: tuple[int, int] = (40, 30), mode: str = "RGB", kind: str = "JPEG") -> bytes:
    """Return an image file of smooth random colours."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).convert(mode).save(buffer, kind)
    return buffer.getvalue()


def write_folder(root: Path, train: int = 3, val: int = 2) -> Path:
    """Write an image folder with ``train`` and ``val`` images a class; return it."""
    seed = 0
    for split, count in (("train", train), ("val", val)):
        for name in CLASSES:
            (root / split / name).mkdir(parents=True)
            for index in range(count):
                seed += 1
                (root / split / name / f"{index:03}.JPEG").write_bytes(encoded(seed))
    return root


def run(*words: str | Path) -> int:
    """Run the command in this process."""
    return main([*(str(word) for word in words)])


def contents(out: Path) -> dict[str, bytes]:
    """Return what a reader sees of a prepared folder."""
    return {path.name: path.read_bytes() for path in out.iterdir() if not path.name.startswith(".")}


def rows(out: Path, split: str) -> list[dict[str, Any]]:
    """Return a split's rows, all shards in order."""
    return [row for path in sorted(out.glob(f"{split}-*.parquet")) for row in pq.read_table(path).to_pylist()]
