"""Is a tensor a plain one that holds values, or does something else than eager PyTorch look at the code now?

The one place that asks PyTorch for what it does not tell in public; ``tests/wiring/test_wiring_transforms.py``
holds it to PyTorch's behaviour.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.autograd import forward_ad

P = ParamSpec("P")
R = TypeVar("R")


def never_compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Keep ``torch.compile`` out of a function, as ``torch.compiler.disable`` does.

    That imports the compiler as it decorates, which takes a second of every process; here only compiling brings it.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if torch.compiler.is_compiling():
            return torch.compiler.disable(function)(*args, **kwargs)  # type: ignore[no-untyped-call, no-any-return]
        return function(*args, **kwargs)

    return call


def differentiating_by_transform() -> bool:
    """Whether a ``torch.func`` transform (vmap, grad, jvp, ...) or forward-mode differentiation is at work."""
    if torch.compiler.is_compiling():
        return False
    return bool(torch._C._are_functorch_transforms_active()) or forward_ad._current_level >= 0


def in_backward_pass() -> bool:
    """Whether autograd calls this code from a backward pass, as activation checkpointing does."""
    return int(torch._C._current_graph_task_id()) != -1


def version_of(tensor: Tensor) -> int:
    """How often the tensor has been written to; -1 for one made in inference mode, which has no version."""
    return -1 if tensor.is_inference() else tensor._version


def address_of(tensor: Tensor) -> int:
    """Where the tensor's values begin in memory; 0 for one whose values may not be read here.

    ``tensor.data = other`` changes the address and no version.
    """
    return tensor.data_ptr() if is_concrete(tensor) else 0


def is_concrete(tensor: Tensor) -> bool:
    """Whether the tensor's values may be read here: not traced, transformed, on the meta device or a subclass."""
    return (
        not torch.compiler.is_compiling()
        and not torch._C._is_tracing()
        and type(tensor) in (Tensor, torch.nn.Parameter)
        and not tensor.is_meta
        and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    )
