"""PyTorch's SGD without the import of its compiler: a second of every process that trains without compiling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from typing_extensions import override


def _undecorated(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return the method below the decorator that keeps the compiler off it (importing it first), if it has one."""
    return getattr(method, "__wrapped__", method)


_step = _undecorated(torch.optim.SGD.step)


class EagerSGD(torch.optim.SGD):
    """``torch.optim.SGD``, to the bit and with the same state; only ``torch.compile`` must not reach into it."""

    add_param_group = _undecorated(torch.optim.SGD.add_param_group)
    zero_grad = _undecorated(torch.optim.SGD.zero_grad)
    state_dict = _undecorated(torch.optim.SGD.state_dict)
    load_state_dict = _undecorated(torch.optim.SGD.load_state_dict)

    @override
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        return _step(self, closure)
