"""Our image loading beside torchvision's, on one core: ``python benchmarks/image_loading.py --data-dir FOLDER``.

Theirs is ImageFolder with Pillow and the same transforms (RandomResizedCrop 224 and flip, or Resize 256 and CenterCrop
224; ToTensor, Normalize) in a DataLoader without processes. Ours is the feed that training reads, without loader
processes, from the same folder and from a packed file. Both end in normalised float32 batches of 128. Their rounds
alternate after one warm-up round (all files are in memory then). The medians of images per second of processor time
are compared, so other load on the machine changes little. A check comes first that both see the same images.
Exit code 1 if ours from the folder is not 1.5 times as fast.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dnw_core.config.recipe import DataConfig
from dnw_core.data.feeds.share import WHOLE
from dnw_core.data.formats.encoded import EncodedSplit, FolderFiles
from dnw_core.data.formats.folder_listing import FolderListing, SplitListing, list_folder
from dnw_core.data.formats.jpeg import decode_rgb
from dnw_core.data.formats.packed import SplitWriter, read_packed, write_packed
from dnw_core.data.streaming.feed import MEAN, STD, StreamedFeed
from dnw_core.data.streaming.loader import make_loader
from dnw_core.training.engine.numerics import tune_malloc

SIZE = 224
BATCH = 128
LIMIT = 1.5
CONFIG = DataConfig(dataset="image-folder", crop="random-resized", crop_padding=0)

Splits = tuple[EncodedSplit, EncodedSplit]


def their_loaders(listing: FolderListing) -> tuple[DataLoader[Any], DataLoader[Any]]:
    """ImageFolder for training and evaluation."""
    end = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    training = transforms.Compose([transforms.RandomResizedCrop(SIZE), transforms.RandomHorizontalFlip(), *end])
    evaluation = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(SIZE), *end])
    train, test = (str(listing.root / split.folder) for split in (listing.train, listing.test))
    return (
        DataLoader(ImageFolder(train, training), batch_size=BATCH, shuffle=True),
        DataLoader(ImageFolder(test, evaluation), batch_size=BATCH),
    )


def from_folder(listing: FolderListing) -> Splits:
    """Our images, read from the folder."""

    def encoded(split: SplitListing) -> EncodedSplit:
        return EncodedSplit(FolderFiles(listing.root / split.folder, split.paths), np.array(split.labels))

    return encoded(listing.train), encoded(listing.test)


def from_packed(splits: Splits, path: Path) -> Splits:
    """The same images in a packed file."""

    def fill(*writers: SplitWriter) -> None:
        for writer, split in zip(writers, splits, strict=True):
            for row in range(len(split)):
                writer.add(split.files.read(row), int(split.labels[row]), None)

    write_packed(path, fill, sort=False)
    packed = read_packed(path)
    assert packed is not None
    return packed


def our_epochs(splits: Splits, processes: int = 0) -> tuple[Callable[[], int], Callable[[], int], Callable[[], None]]:
    """One epoch of training and of evaluation, each returning its number of images; and how to end the loader."""
    loader = make_loader(processes)
    train, test = (
        StreamedFeed(split, np.arange(len(split)), CONFIG, SIZE, torch.device("cpu"), loader) for split in splits
    )
    return (
        lambda: count(
            batch.images for batch in train.training(batch_size=BATCH, seed=0, epoch=0, start_step=0, share=WHOLE)
        ),
        lambda: count(batch.images for batch in test.evaluation(batch_size=BATCH, share=WHOLE)),
        loader.close,
    )


def count(batches: Iterable[torch.Tensor]) -> int:
    """Use up the batches."""
    return sum(len(images) for images in batches)


def their_epoch(loader: DataLoader[Any]) -> int:
    """Use up ImageFolder's batches."""
    return count(images for images, _ in loader)


def decode_theirs(paths: Sequence[Path]) -> int:
    """Read and decode as ImageFolder does."""
    for path in paths:
        with path.open("rb") as file, Image.open(file) as image:
            image.convert("RGB")
    return len(paths)


def decode_ours(paths: Sequence[Path]) -> int:
    """Read and decode as we do."""
    for path in paths:
        decode_rgb(path.read_bytes())
    return len(paths)


def check_agreement(theirs: DataLoader[Any], splits: Splits) -> None:
    """Compare the evaluation's images: they may differ by rounding only."""
    feed = StreamedFeed(splits[1], np.arange(len(splits[1])), CONFIG, SIZE, torch.device("cpu"), make_loader(0))
    for batch, (images, labels) in zip(feed.evaluation(batch_size=BATCH, share=WHOLE), theirs, strict=True):
        apart = (batch.images - images).abs().max().item()
        if apart > 1.01 / 255 / min(STD) or not batch.labels.equal(labels):
            raise SystemExit(f"the two loaders disagree: pixels up to {apart:.3f} apart")


def measure(ways: dict[str, Callable[[], int]], rounds: int) -> dict[str, float]:
    """Return the median of each way's images per second of processor time, after one round to warm up."""
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            started = time.process_time()
            images = way()
            if number:
                speeds[name].append(images / (time.process_time() - started))
    return {name: statistics.median(found) for name, found in speeds.items()}


def show(what: str, speeds: dict[str, float]) -> list[float]:
    """Print a group of figures; return how much faster than the first each of the others is."""
    base = next(iter(speeds.values()))
    for name, speed in speeds.items():
        print(f"{what:<12}{name:<24}{speed:>10,.0f} images/s a core{speed / base:>8.2f}x")
    return [speed / base for speed in list(speeds.values())[1:]]


def main() -> int:
    """Measure, print, and compare with the limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True, help="folder with train/<class>/ and val/<class>/")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each (default: 5)")
    parser.add_argument("--processes", type=int, default=0, help="measure this many loader processes, too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    tune_malloc()  # as every trial does; it helps both
    listing = list_folder(options.data_dir)
    paths = [listing.root / "train" / path for path in listing.train.paths]
    folder = from_folder(listing)
    training, evaluation = their_loaders(listing)
    check_agreement(evaluation, folder)
    with tempfile.TemporaryDirectory() as place:
        packed = from_packed(folder, Path(place) / "images.packed")
        ours, ours_packed = our_epochs(folder), our_epochs(packed)
        show(
            "decoding",
            measure({"Pillow": lambda: decode_theirs(paths), "ours": lambda: decode_ours(paths)}, options.rounds),
        )
        ratios = []
        for what, theirs, index in (("training", training, 0), ("evaluation", evaluation, 1)):
            ways: dict[str, Callable[[], int]] = {
                "ImageFolder + Pillow": lambda loader=theirs: their_epoch(loader),  # type: ignore[misc]
                "ours, folder": ours[index],
                "ours, packed": ours_packed[index],
            }
            ratios += show(what, measure(ways, options.rounds))[:1]
        if options.processes:
            show_processes(folder, options.processes, options.rounds)
    good = min(ratios) >= LIMIT
    print(f"at least {LIMIT}x from the folder: {'yes' if good else 'NO'} ({min(ratios):.2f}x)")
    return 0 if good else 1


def show_processes(splits: Splits, processes: int, rounds: int) -> None:
    """Print the images per second of wall time that loader processes give."""
    train, _, close = our_epochs(splits, processes)
    train()
    speeds = []
    for _ in range(rounds):
        started = time.perf_counter()
        speeds.append(train() / (time.perf_counter() - started))
    close()
    print(f"training    {processes} loader processes{statistics.median(speeds):>16,.0f} images/s in all (wall time)")


if __name__ == "__main__":
    sys.exit(main())
