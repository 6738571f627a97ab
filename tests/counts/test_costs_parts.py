"""What costs are compared by and counted with: a printed number against ours, and masks without dead edges."""

from __future__ import annotations

import pytest
import torch

from dnw_core.wiring.slots import Slots
from pipelines.counts.count import alive_mask
from pipelines.counts.table import compare_printed

PRINTED = [
    ("0.5M", 470_072, "agrees"),  # rounds to it
    ("0.5M", 449_999, "differs by −10.0 %"),
    ("41M", 41_042_816, "agrees"),
    ("41M", 40_476_448, "differs by −1.3 %"),
    ("41M", 41_409_999, "agrees"),  # within 1 %
    ("41M", 41_510_000, "differs by +1.2 % (cut off, not rounded)"),
    ("55.7M", 55_710_000, "agrees"),
    ("1.8M", 1_886_112, "differs by +4.8 % (cut off, not rounded)"),
    ("1.8M", 1_950_000, "differs by +8.3 %"),
    ("0.24M", 269_396, "differs by +12.2 %"),
    ("> 50M", 53_184_256, "agrees"),
    ("> 50M", 50_000_001, "agrees"),
    ("> 50M", 50_000_000, "differs by +0.0 %"),
    ("> 50M", 49_000_000, "differs by −2.0 %"),
]


@pytest.mark.parametrize(("printed", "ours", "text"), PRINTED)
def test_a_printed_number_against_ours(printed: str, ours: int, text: str) -> None:
    """Within 1 %, or by rounding; cutting digits off is no agreement and said; a bound is one."""
    assert str(compare_printed(printed, ours)) == text


USABLE = torch.tensor([[1, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 0], [0, 0, 0]], dtype=torch.bool)


@pytest.mark.parametrize("usable", [None, USABLE])
@pytest.mark.parametrize("edges", [0, 1, 3, 4, 5, 6])
def test_nothing_is_dead_in_an_alive_mask(usable: torch.Tensor | None, edges: int) -> None:
    """Exactly so many edges, usable ones only; senders come first, then receivers, last ones before others."""
    mask = alive_mask(Slots((5, 3), usable=usable), edges)
    there = torch.ones(5, 3, dtype=torch.bool) if usable is None else usable
    assert int(mask.sum()) == edges
    assert not (mask & ~there).any()
    senders = int(there.any(dim=0).sum())
    assert int(mask.any(dim=0).sum()) == min(edges, senders)
    if edges >= 5:
        assert bool((mask.any(dim=1) == there.any(dim=1)).all())
    if edges == senders and usable is None:
        assert mask.any(dim=1).tolist() == [False, False, True, True, True]


def test_an_alive_mask_of_a_convolution_has_its_shape() -> None:
    """A weight [out, in, 1, 1] gets a mask of that shape."""
    mask = alive_mask(Slots((4, 2, 1, 1)), 4)
    assert mask.shape == (4, 2, 1, 1)
    assert bool(mask.flatten(1).any(dim=1).all())
