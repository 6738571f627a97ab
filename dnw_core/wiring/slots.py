"""The slots of a weight: which entries may become edges, as the network tells its wiring rule."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import BoolTensor, Tensor

from dnw_core.config import WidthLaw


@dataclass(frozen=True)
class Slots:
    """The entries of one weight, seen as places where an edge can be.

    Attributes:
        shape: the weight's shape; ``shape[0]`` counts receivers, ``shape[1]`` senders.
        usable: entries that the forward pass reads; None when it reads all.
        released_random: entries among which the authors' released random graph draws (facts 1.6, Q2);
            None when it draws among all.
        law: what a width multiplier means for this weight; None where it means nothing.
        kept: how many edges this weight keeps where that was settled over all weights (``layers``); None where the
            rule's budget says it.
    """

    shape: tuple[int, ...]
    usable: BoolTensor | Tensor | None = None
    released_random: BoolTensor | Tensor | None = None
    law: WidthLaw | None = None
    kept: int | None = None

    @property
    def numel(self) -> int:
        """Number of slots."""
        return math.prod(self.shape)

    @property
    def usable_count(self) -> int:
        """Number of slots that the forward pass reads."""
        return self.numel if self.usable is None else int(self.usable.count_nonzero())
