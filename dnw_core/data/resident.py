"""The feed of a data set that lies in memory: every batch is made on the device (``batches``)."""

from __future__ import annotations

from collections.abc import Iterator

from dnw_core.data.batches import DeviceImages, evaluation_batches, training_batches
from dnw_core.data.feed import Batch
from dnw_core.data.share import Share
from dnw_core.recipe import DataConfig


class ResidentFeed:
    """One half of a data set on a device, as a ``Feed``.

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
        self, *, batch_size: int, seed: int, epoch: int, start_step: int, share: Share, drop_last: bool = False
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

    def evaluation(self, *, batch_size: int, share: Share) -> Iterator[Batch]:
        """Return all images in order."""
        return evaluation_batches(self._images, batch_size, share)

    def close(self) -> None:
        """Nothing runs."""
