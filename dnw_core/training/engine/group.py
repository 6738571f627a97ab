"""The workers of a trial, and all that they exchange.

A worker computes its share of every batch (``WorkerShard``), and does every optimiser step itself, on the sum of all
workers' gradients: the weights stay equal without ever being sent, and a checksum at each epoch's end proves it. All
exchange goes through the default process group of ``torch.distributed``, which must be initialised. A process without
peers is ``SINGLE``: it exchanges nothing and never waits.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from dnw_core.config import Recipe
from dnw_core.data.feeds.share import WorkerShard
from dnw_core.errors import PeerLostError, UserError

CPU = torch.device("cpu")


@dataclass(frozen=True)
class WorkerGroup:
    """This process among its trial's workers.

    Attributes:
        rank: the worker, from 0. The main one, 0, alone writes into the trial's folder.
        workers: how many there are.
        device: where tensors are exchanged: the worker's own GPU with nccl, else the CPU.
    """

    rank: int = 0
    workers: int = 1
    device: torch.device = CPU

    @classmethod
    def joined(cls, device: torch.device) -> WorkerGroup:
        """Return the group of the initialised ``torch.distributed`` for a process that trains on ``device``."""
        exchanged_on = device if dist.get_backend() == "nccl" else CPU
        return cls(dist.get_rank(), dist.get_world_size(), exchanged_on)

    @property
    def is_single(self) -> bool:
        """Whether there is no other worker."""
        return self.workers == 1

    @property
    def is_main(self) -> bool:
        """Whether this worker writes the trial's files."""
        return self.rank == 0

    def share(self, groups: int) -> WorkerShard:
        """Return this worker's share of a batch that is cut into ``groups`` parts."""
        return WorkerShard(self.rank, self.workers, groups)

    def all_reduce(self, values: Tensor) -> None:
        """Replace ``values``, on any device, by their sum over all workers."""
        self._exchange(values, dist.all_reduce)

    def broadcast(self, values: Tensor) -> None:
        """Replace ``values``, on any device, by the main worker's."""
        self._exchange(values, partial(dist.broadcast, src=0))

    def broadcast_state(self, state: dict[str, Any] | None) -> dict[str, Any]:
        """Return the main worker's ``state``, tensors and plain values only, its tensors on the CPU.

        Args:
            state: on the main worker; not read on the others.
        """
        if self.is_single:
            assert state is not None
            return state
        buffer = io.BytesIO()
        if self.is_main:
            torch.save(state, buffer)
        size = torch.tensor(buffer.tell())
        self.broadcast(size)
        content = torch.frombuffer(bytearray(buffer.getvalue()) or bytearray(int(size)), dtype=torch.uint8)
        self.broadcast(content)
        received = io.BytesIO(content.numpy().tobytes())
        values: dict[str, Any] = torch.load(received, map_location="cpu", weights_only=True)
        return values

    def all_equal(self, tensors: Iterable[Tensor]) -> bool:
        """Whether these tensors are equal to the bit on all workers; the answer is the same everywhere."""
        if self.is_single:
            return True
        digest = hashlib.sha256()
        for tensor in tensors:
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        digests = torch.zeros(self.workers, dtype=torch.int64)
        digests[self.rank] = int.from_bytes(digest.digest()[:8], "big") >> 1
        self.all_reduce(digests)
        return bool((digests == digests[0]).all())

    def _exchange(self, values: Tensor, collective: Callable[[Tensor], object]) -> None:
        if self.is_single:
            return
        there = values.to(self.device)  # itself, but for gloo and a GPU, or nccl and the CPU
        with peer_errors():
            collective(there)
        if there is not values:
            values.copy_(there)


SINGLE = WorkerGroup()


def check_workers(recipe: Recipe, workers: int) -> None:
    """Check that this many workers can share the recipe's batches.

    Raises:
        UserError: if not; says what would do.
    """
    groups = recipe.batch_groups
    if workers > 1 and groups == 1:
        raise UserError(
            f"workers is {workers}, but the recipe takes batch statistics over the whole batch of {recipe.batch_size}, "
            "which one worker must hold; set batch_norm_images to a part of it, or workers to 1"
        )
    if workers not in recipe.worker_counts:
        raise UserError(
            f"workers is {workers}, but the recipe's batch has {groups} groups of {recipe.batch_norm_images} images, "
            f"which {workers} workers cannot share evenly; choose {', '.join(map(str, recipe.worker_counts))}"
        )


@contextmanager
def peer_errors() -> Iterator[None]:
    """Turn what gloo and nccl raise when a peer is gone into ``PeerLostError``."""
    try:
        yield
    except RuntimeError as error:
        raise PeerLostError(str(error).strip().splitlines()[0][:300] or type(error).__name__) from error
