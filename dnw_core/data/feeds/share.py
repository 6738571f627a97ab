"""Which images of each batch are a worker's, and in which groups they are normalised (facts Q19)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class WorkerShard:
    """One worker's part of every batch.

    A batch is cut into ``groups`` parts of consecutive images, as equal as they can be, the longer ones first: the
    published recipes' GPUs, each of which had batch statistics of its own. Workers take whole groups, so who computes
    a group changes nothing.

    Attributes:
        rank: the worker, from 0.
        workers: how many there are; divides ``groups``.
        groups: parts of a batch.
    """

    rank: int = 0
    workers: int = 1
    groups: int = 1

    def __post_init__(self) -> None:
        if self.groups % self.workers or not 0 <= self.rank < self.workers:
            raise ValueError(
                f"{self.workers} workers cannot share the {self.groups} groups of a batch evenly (rank {self.rank})"
            )

    def sizes(self, images: int) -> list[int]:
        """Return the sizes of the worker's groups in a batch of ``images``; those of an incomplete batch may be 0."""
        per_worker = self.groups // self.workers
        return self._all_sizes(images)[self.rank * per_worker : (self.rank + 1) * per_worker]

    def rows(self, images: int) -> slice:
        """Return the worker's images in a batch of ``images``."""
        before = self.rank * (self.groups // self.workers)
        start = sum(self._all_sizes(images)[:before])
        return slice(start, start + sum(self.sizes(images)))

    def _all_sizes(self, images: int) -> list[int]:
        least, larger = divmod(images, self.groups)
        return [least + (group < larger) for group in range(self.groups)]


WHOLE = WorkerShard()
