"""Batches made on the device: crop, flip and normalise in a few operations a batch.

What a training batch looks like depends on (seed, epoch, step) and the settings alone: all random numbers are
drawn on the CPU from generators seeded by these, and the arithmetic on pixels is the same to the bit on every
device. Nothing is carried from step to step, so an epoch can be entered anywhere.

A worker makes its own rows of a batch only (``share``); which random numbers belong to an image does not depend on it.

Shapes: B batch, b a worker's share of it, H = W image size, P crop padding.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from dnw_core.config import DataConfig
from dnw_core.data.feeds.feed import Batch, steps_per_epoch
from dnw_core.data.feeds.share import WHOLE, WorkerShard
from dnw_core.seeds import derive_seed

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from dnw_core.config import DataConfig
    from dnw_core.data.sources.base import Channels, ImageDataset


class DeviceImages:
    """One half of a data set on a device: uint8 pixels [N, 3, H, W] and labels [N], moved there once.

    On the CPU nothing is copied: all trials of a machine share the pages of the mapped cache file.
    """

    def __init__(
        self,
        images: npt.NDArray[np.uint8],
        labels: npt.NDArray[np.int64],
        mean: Channels,
        std: Channels,
        device: torch.device | str,
    ) -> None:
        with warnings.catch_warnings():  # the arrays are read-only, and nothing here writes to them
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            self._images = torch.from_numpy(images).to(device)
            self.labels = torch.from_numpy(labels).to(device)
        # Tensors, not numbers: on a GPU a division by a number is a multiplication by its rounded inverse.
        self._full = torch.full((3, 1, 1), 255.0, device=device)
        self._mean = torch.tensor(mean, device=device).view(3, 1, 1)
        self._std = torch.tensor(std, device=device).view(3, 1, 1)

    @classmethod
    def training(cls, dataset: ImageDataset, device: torch.device | str) -> DeviceImages:
        """Return the training half of ``dataset`` on ``device``."""
        return cls(dataset.train_images, dataset.train_labels, dataset.mean, dataset.std, device)

    @classmethod
    def test(cls, dataset: ImageDataset, device: torch.device | str) -> DeviceImages:
        """Return the test half of ``dataset`` on ``device``."""
        return cls(dataset.test_images, dataset.test_labels, dataset.mean, dataset.std, device)

    def __len__(self) -> int:
        return len(self._images)

    @property
    def device(self) -> torch.device:
        """Where the images are."""
        return self._images.device

    def pixels(self, rows: Tensor | slice) -> Tensor:
        """Return the uint8 pixels of these images."""
        return self._images[rows] if isinstance(rows, slice) else self._images.index_select(0, rows)

    def normalise(self, pixels: Tensor) -> Tensor:
        """Return uint8 pixels as float32, scaled to [0, 1], minus the mean, over the standard deviation."""
        return pixels.to(torch.float32).div_(self._full).sub_(self._mean).div_(self._std)


def training_batches(
    images: DeviceImages,
    config: DataConfig,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    start_step: int = 0,
    share: WorkerShard = WHOLE,
    drop_last: bool = False,
) -> Iterator[Batch]:
    """Return the batches of one epoch from ``start_step`` on: float32 [b, 3, H, W] and labels [b], shuffled.

    Args:
        images: the training images, on the device where the batches are wanted.
        config: only ``crop_padding`` and ``flip`` are read.
        batch_size: images a batch; the last one holds what is left.
        seed: the trial's seed.
        epoch: counted from 0.
        start_step: first batch to make, counted from 0; the number of batches gives an empty iterator.
        share: the worker's part of each batch.
        drop_last: leave out the last batch if it is smaller.

    Raises:
        ValueError: at once, if ``batch_size`` or ``start_step`` is out of range.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
    steps = steps_per_epoch(len(images), batch_size, drop_last=drop_last)
    if not 0 <= start_step <= steps:
        raise ValueError(f"start_step is {start_step}; this epoch has steps 0 to {steps}")
    order = torch.randperm(len(images), generator=_generator(seed, "permutation", epoch))

    def batches() -> Iterator[Batch]:
        for step in range(start_step, steps):
            rows = order[step * batch_size : (step + 1) * batch_size]
            plan = draw_plan(rows, config, seed=seed, epoch=epoch, step=step)[:, share.rows(len(rows))]
            plan = plan.to(images.device, non_blocking=True)
            pixels = crop_and_flip(images.pixels(plan[0]), config.crop_padding, plan[1], plan[2], plan[3])
            yield Batch(images.normalise(pixels), images.labels.index_select(0, plan[0]), len(rows))

    return batches()


def evaluation_batches(images: DeviceImages, batch_size: int, share: WorkerShard = WHOLE) -> Iterator[Batch]:
    """Return all images in order, normalised and not augmented; the last batch may be smaller."""
    for start in range(0, len(images), batch_size):
        whole = min(batch_size, len(images) - start)
        part = share.rows(whole)
        rows = slice(start + part.start, start + part.stop)
        yield Batch(images.normalise(images.pixels(rows)), images.labels[rows], whole)


def draw_plan(rows: Tensor, config: DataConfig, *, seed: int, epoch: int, step: int) -> Tensor:
    """Return what a batch is made of, int64 [4, B] on the CPU: image, crop's top, crop's left, flipped (0 or 1).

    One tensor, so that it goes to the device in one transfer. Crop and flip have generators of their own:
    turning one off leaves the other as it was.
    """
    plan = torch.zeros(4, len(rows), dtype=torch.int64)
    plan[0] = rows
    if config.crop_padding:
        generator = _generator(seed, "crop", epoch, step)
        plan[1:3].random_(0, 2 * config.crop_padding + 1, generator=generator)
    if config.flip:
        plan[3].random_(0, 2, generator=_generator(seed, "flip", epoch, step))
    return plan


def crop_and_flip(pixels: Tensor, padding: int, top: Tensor, left: Tensor, flipped: Tensor) -> Tensor:
    """Cut a window of the images' size out of each zero-padded image, and mirror some: one gather for the batch.

    Args:
        pixels: [B, 3, H, W].
        padding: zeros put around each image, in pixels (black: they come before normalisation).
        top: of the window in the padded image, [B], 0 to 2 * padding.
        left: likewise.
        flipped: [B], 0 or 1; the window is mirrored left to right.
    """
    count, channels, height, width = pixels.shape
    if padding:
        pixels = F.pad(pixels, (padding, padding, padding, padding))
    row = top[:, None] + torch.arange(height, device=pixels.device)  # [B, H]
    column = torch.arange(width, device=pixels.device)
    column = left[:, None] + torch.where(flipped[:, None] != 0, width - 1 - column, column)  # [B, W]
    source = row[:, :, None] * pixels.shape[3] + column[:, None, :]  # [B, H, W]
    source = source.view(count, 1, height * width).expand(-1, channels, -1)
    return pixels.flatten(2).gather(2, source).view(count, channels, height, width)


def _generator(seed: int, *purpose: str | int) -> torch.Generator:
    return torch.Generator().manual_seed(derive_seed(seed, *purpose))


class ResidentFeed:
    """One half of a data set on a device, as a ``BatchSource``.

    Args:
        images: the half's images.
        config: how training batches are augmented.
    """

    def __init__(self, images: DeviceImages, config: DataConfig) -> None:
        self._images = images
        self._config = config

    def __len__(self) -> int:
        return len(self._images)

    def training(
        self, *, batch_size: int, seed: int, epoch: int, start_step: int, share: WorkerShard, drop_last: bool = False
    ) -> Iterator[Batch]:
        """Return an epoch's batches from ``start_step`` on."""
        return training_batches(
            self._images,
            self._config,
            batch_size=batch_size,
            seed=seed,
            epoch=epoch,
            start_step=start_step,
            share=share,
            drop_last=drop_last,
        )

    def evaluation(self, *, batch_size: int, share: WorkerShard) -> Iterator[Batch]:
        """Return all images in order."""
        return evaluation_batches(self._images, batch_size, share)

    def close(self) -> None:
        """Nothing runs."""
