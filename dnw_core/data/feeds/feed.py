"""What the training loop reads: batches on the device, whether the images are in memory or streamed. Free of torch.

A batch depends on (seed, epoch, step), the recipe and the data alone; a worker's is its share of that batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from dnw_core.data.feeds.share import WorkerShard

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """A worker's share of a batch, normalised and on the device.

    Attributes:
        images: float32 [b, 3, H, W].
        labels: int64 [b].
        whole: images in the whole batch, of all workers.
    """

    images: Tensor
    labels: Tensor
    whole: int


class BatchSource(Protocol):
    """One half of a data set."""

    def __len__(self) -> int:
        """Number of images."""

    def training(
        self, *, batch_size: int, seed: int, epoch: int, start_step: int, share: WorkerShard, drop_last: bool = False
    ) -> Iterator[Batch]:
        """Return an epoch's batches from ``start_step`` on, shuffled and augmented.

        The last one may be smaller; ``drop_last`` leaves it out then, and its images with it.
        """

    def evaluation(self, *, batch_size: int, share: WorkerShard) -> Iterator[Batch]:
        """Return all images in order, not augmented; the last batch may be smaller. A share may be empty."""

    def close(self) -> None:
        """End whatever the feed keeps running."""


@dataclass(frozen=True)
class Feeds:
    """Both halves of the images that a recipe asks for, and the data set's checksum for the provenance."""

    train: BatchSource
    test: BatchSource
    checksum: str

    def close(self) -> None:
        """Close both."""
        self.train.close()
        self.test.close()


def steps_per_epoch(images: int, batch_size: int, *, drop_last: bool = False) -> int:
    """Return the number of batches an epoch; the last one may be smaller, or is left out then (``drop_last``)."""
    return images // batch_size if drop_last else -(-images // batch_size)
