"""Each effective weight once a step, however often its network is applied.

PyTorch's own way, ``parametrize.cached``, takes a deep copy for its original, and a weight that was computed without a
gradient or for evaluation for one that has to train. Here what is kept belongs to one rule in one mode.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

_depth = 0
_kept: dict[tuple[int, bool, bool], Tensor] = {}


@contextmanager
def effective_weights() -> Iterator[None]:
    """Within this context each effective weight is computed at its first use and then kept.

    Wrap one training step's forward pass, or one evaluation, in it; never an optimiser step.
    """
    global _depth
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
        if not _depth:
            _kept.clear()


def once(rule: nn.Module, compute: Callable[[Tensor], Tensor], weight: Tensor) -> Tensor:
    """Return ``compute(weight)``, the effective weight of ``rule``, or what is kept of it."""
    if not _depth:
        return compute(weight)
    key = (id(rule), rule.training, torch.is_grad_enabled())
    effective = _kept.get(key)
    if effective is None:
        effective = _kept[key] = compute(weight)
    return effective
