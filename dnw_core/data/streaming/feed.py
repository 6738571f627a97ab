"""The feed of images that are streamed: each batch is decoded when it is needed, a little ahead of the training.

What a batch looks like depends on (seed, epoch, step), the recipe and the files alone: all random numbers of a batch
are drawn here, for all of its images and in their order, from generators seeded by these, as ``batches`` does it.
Neither the number of workers and loader processes nor who decodes which image is seen in it.

Shapes: B batch, b a worker's share of it, S image size.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dnw_core.config import DataConfig
from dnw_core.data.feeds.feed import Batch, steps_per_epoch
from dnw_core.data.feeds.share import WorkerShard
from dnw_core.data.formats.encoded import EncodedSplit
from dnw_core.data.streaming import color_jitter, piece, random_resized
from dnw_core.data.streaming.loader import Loader
from dnw_core.data.streaming.piece import DecodeTask
from dnw_core.seeds import derive_seed

MEAN = (0.485, 0.456, 0.406)  # facts 3
STD = (0.229, 0.224, 0.225)
_PIECE = 16  # images that a loader process decodes at a time
_AHEAD = 2  # pieces asked of each process beyond the one it works on
_LEAST_AHEAD = 2  # batches


@dataclass(frozen=True, eq=False)
class _Request:
    """A worker's share of a batch."""

    rows: npt.NDArray[np.int64]  # in the split
    draws: npt.NDArray[np.float64] | None
    whole: int


@dataclass(eq=False)
class _Buffer:
    """Where a batch is put together, uint8 [b, S, S, 3]; ``copied`` is when a GPU no longer reads from it."""

    pixels: Tensor
    copied: torch.cuda.Event | None = None


class StreamedFeed:
    """One half of a data set, as a ``BatchSource``.

    Args:
        split: its files and labels.
        rows: which of them are used, int64 [n].
        config: how training batches are augmented, and how pixels are given.
        size: of the network's images.
        device: where batches are wanted.
        loader: who decodes; closed with the feed.
    """

    def __init__(
        self,
        split: EncodedSplit,
        rows: npt.NDArray[np.int64],
        config: DataConfig,
        size: int,
        device: torch.device,
        loader: Loader,
    ) -> None:
        self._split = split
        self._rows = rows
        self._config = config
        self._size = size
        self._device = device
        self._loader = loader
        # Tensors, not numbers: see DeviceImages. In units of a pixel: one pass over a large batch less.
        self._mean, self._std = (
            torch.tensor(values, dtype=torch.float64).mul(255).to(device, torch.float32).view(3, 1, 1)
            for values in (MEAN, STD)
        )

    def __len__(self) -> int:
        return len(self._rows)

    def training(
        self, *, batch_size: int, seed: int, epoch: int, start_step: int, share: WorkerShard, drop_last: bool = False
    ) -> Iterator[Batch]:
        """Return an epoch's batches from ``start_step`` on.

        Raises:
            ValueError: at once, if ``batch_size`` or ``start_step`` is out of range.
            DataBrokenError: while it is read, if a file has changed since it was checked.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
        steps = steps_per_epoch(len(self), batch_size, drop_last=drop_last)
        if not 0 <= start_step <= steps:
            raise ValueError(f"start_step is {start_step}; this epoch has steps 0 to {steps}")
        order = torch.randperm(len(self), generator=_generator(seed, "permutation", epoch)).numpy()

        def requests() -> Iterator[_Request]:
            for step in range(start_step, steps):
                rows = self._rows[order[step * batch_size : (step + 1) * batch_size]]
                draws = draw(len(rows), seed=seed, epoch=epoch, step=step)
                mine = share.rows(len(rows))
                yield _Request(rows[mine], draws[mine], len(rows))

        return self._stream(requests())

    def evaluation(self, *, batch_size: int, share: WorkerShard) -> Iterator[Batch]:
        """Return all images in order, their centres only."""

        def requests() -> Iterator[_Request]:
            for start in range(0, len(self), batch_size):
                rows = self._rows[start : start + batch_size]
                yield _Request(rows[share.rows(len(rows))], None, len(rows))

        return self._stream(requests())

    def close(self) -> None:
        """End the loader processes."""
        self._loader.close()

    def _stream(self, requests: Iterator[_Request]) -> Iterator[Batch]:
        """Yield the batches asked for, while the loader works on the next ones."""
        started: deque[tuple[_Request, _Buffer, list[Future[None]]]] = deque()
        free: list[_Buffer] = []
        try:
            while True:
                while len(started) < self._ahead(started[0][0] if started else None):
                    request = next(requests, None)
                    if request is None:
                        break
                    buffer = self._buffer(free, len(request.rows))
                    started.append((request, buffer, self._start(request, buffer)))
                if not started:
                    return
                request, buffer, parts = started.popleft()
                for part in parts:
                    part.result()
                yield self._batch(request, buffer)
                free.append(buffer)
        finally:
            left = [part for _, _, parts in started for part in parts]
            for part in left:
                part.cancel()
            wait(left)

    def _ahead(self, request: _Request | None) -> int:
        """Return how many batches to have under way, for batches as large as ``request``."""
        if not self._loader.processes:
            return 1
        wanted = self._loader.processes * (1 + _AHEAD) * _PIECE  # images
        return _LEAST_AHEAD if request is None else max(_LEAST_AHEAD, -(-wanted // max(1, len(request.rows))))

    def _buffer(self, free: list[_Buffer], count: int) -> _Buffer:
        buffer = free.pop() if free else None
        if buffer is not None and buffer.copied is not None:
            buffer.copied.synchronize()
        if buffer is None or len(buffer.pixels) < count:
            shape = (count, self._size, self._size, 3)
            buffer = _Buffer(torch.empty(shape, dtype=torch.uint8, pin_memory=self._device.type == "cuda"))
        return buffer

    def _start(self, request: _Request, buffer: _Buffer) -> list[Future[None]]:
        pixels = buffer.pixels.numpy()
        return [self._loader.start(self._piece(request, part), pixels[part]) for part in _parts(len(request.rows))]

    def _piece(self, request: _Request, part: slice) -> DecodeTask:
        return DecodeTask(
            files=self._split.files.select(request.rows[part].tolist()),
            size=self._size,
            draws=None if request.draws is None else request.draws[part],
            flip=self._config.flip,
            color_jitter=self._config.color_jitter,
        )

    def _batch(self, request: _Request, buffer: _Buffer) -> Batch:
        pixels = buffer.pixels[: len(request.rows)].to(self._device, non_blocking=True)
        if self._device.type == "cuda":
            buffer.copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            buffer.copied.record(torch.cuda.current_stream(self._device))
        labels = torch.from_numpy(self._split.labels[request.rows]).to(self._device, non_blocking=True)
        return Batch(self._to_floats(pixels.permute(0, 3, 1, 2)), labels, request.whole)

    def _to_floats(self, pixels: Tensor) -> Tensor:
        """Return uint8 pixels [b, 3, S, S] (RGB) as float32, as the recipe wants them."""
        if self._config.pixels == "bgr-255":
            return pixels.flip(1).to(torch.float32, memory_format=torch.contiguous_format)
        floats = pixels.to(torch.float32, memory_format=torch.contiguous_format)
        return floats.sub_(self._mean).div_(self._std)


def draw(count: int, *, seed: int, epoch: int, step: int) -> npt.NDArray[np.float64]:
    """Return what is random about a training batch: float64 [count, piece.DRAWS] from [0, 1).

    Crop, flip and colours have generators of their own: turning one off leaves the others as they were.
    """
    parts = (("crop", random_resized.DRAWS), ("flip", piece.FLIP_DRAWS), ("colours", color_jitter.DRAWS))
    drawn = [
        torch.rand(count, width, dtype=torch.float64, generator=_generator(seed, purpose, epoch, step))
        for purpose, width in parts
    ]
    return torch.cat(drawn, dim=1).numpy()


def _parts(count: int) -> Sequence[slice]:
    return [slice(start, min(start + _PIECE, count)) for start in range(0, count, _PIECE)]


def _generator(seed: int, *purpose: str | int) -> torch.Generator:
    return torch.Generator().manual_seed(derive_seed(seed, *purpose))
