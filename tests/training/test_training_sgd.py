"""The trials' optimiser is PyTorch's SGD, to the bit."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from dnw_core.training.engine.sgd import EagerSGD


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_steps_and_state_are_those_of_pytorchs(momentum: float) -> None:
    """Over steps with and without gradients, across a stored state, in two groups of different decay."""
    torch.manual_seed(0)
    drawn = [nn.Parameter(torch.randn(5, 3)), nn.Parameter(torch.randn(7)), nn.Parameter(torch.randn(2))]

    def made(kind: type[torch.optim.SGD], given: list[nn.Parameter]) -> torch.optim.SGD:
        groups = [{"params": given[:2], "weight_decay": 1e-2}, {"params": given[2:]}]
        return kind(groups, lr=0.1, momentum=momentum)

    ours, theirs = copy.deepcopy(drawn), copy.deepcopy(drawn)
    mine, library = made(EagerSGD, ours), made(torch.optim.SGD, theirs)
    for step in range(6):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = None if step == 2 else torch.randn(one.shape)
            other.grad = copy.deepcopy(one.grad)
        mine.step()
        library.step()
        assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))
        if step == 3:
            assert str(mine.state_dict()) == str(library.state_dict())
            mine = made(EagerSGD, ours)
            mine.load_state_dict(copy.deepcopy(library.state_dict()))
        mine.zero_grad()
        assert all(one.grad is None for one in ours)
    assert all(one.requires_grad and one.grad_fn is None for one in ours)
    assert isinstance(mine, torch.optim.SGD)
