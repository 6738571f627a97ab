"""Whether a weight can take a rule: plain numbers in memory of its own, in a precision that layers train in."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from dnw_core.errors import UserError
from dnw_core.wiring.rule import WiringRule
from dnw_core.wiring.sharded import is_sharded

PRECISIONS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def refuse_wrapped(network: nn.Module) -> None:
    """Refuse a network that is spread over workers already: they would not exchange what a rule trains itself.

    Raises:
        UserError: naming the wrapper.
    """
    for module in network.modules():
        kinds = {kind.__name__ for kind in type(module).__mro__}
        if isinstance(module, DistributedDataParallel | DataParallel) or "FullyShardedDataParallel" in kinds:
            kind = type(module).__name__
            raise UserError(f"the network is wrapped in {kind} already; call sparsify first, then wrap it")


def checked_weight(name: str, layer: nn.Module) -> nn.Parameter:
    """Return the weight of ``layer``, one that a rule can be attached to; it may have no entries.

    Raises:
        UserError: saying what is in the way, and how to go round it.
    """
    _refuse_parametrised(name, layer)
    weight = layer._parameters.get("weight")
    if weight is None:
        raise UserError(f"{name} is not a parameter (computed from others, as by weight_norm?); undo that or skip it")
    if is_lazy(weight):
        raise UserError(f"{name} has no shape before the network has seen a batch; show it one first")
    _refuse_unusual(name, layer, weight)
    return weight


def memory_of(weight: Tensor) -> object:
    """Return what is equal for two weights exactly if they begin at the same place in memory."""
    plain = weight.layout is torch.strided and not weight.is_meta and not is_traceable_wrapper_subclass(weight)
    if is_lazy(weight) or not plain or not weight.numel():
        return id(weight)
    try:
        return weight.device, weight.data_ptr()
    except RuntimeError:  # a tensor that only pretends to have values
        return id(weight)


def _refuse_parametrised(name: str, layer: nn.Module) -> None:
    if not parametrize.is_parametrized(layer, "weight"):
        return
    chains = layer.parametrizations
    assert isinstance(chains, nn.ModuleDict)
    kinds = [type(child) for child in chains["weight"].children()]
    names = ", ".join(kind.__name__ for kind in kinds)
    if any(issubclass(kind, WiringRule) for kind in kinds):
        raise UserError(f"{name} has a wiring rule already ({names}); take it off (remove_rules) or skip it")
    raise UserError(
        f"{name} is parametrised already ({names}); undo that or skip it (spectral_norm can be laid over a rule)"
    )


def _refuse_unusual(name: str, layer: nn.Module, weight: nn.Parameter) -> None:
    if is_sharded(weight):
        raise UserError(f"{name} is sharded already (a DTensor); call sparsify first, then fully_shard or the like")
    if is_traceable_wrapper_subclass(weight):
        raise UserError(f"{name} is a {type(weight).__name__} and no plain tensor; sparsify before that, or skip it")
    if weight.layout is not torch.strided:
        raise UserError(f"{name} is stored as {weight.layout}; make it dense (to_dense) or skip it")
    if weight.dtype not in PRECISIONS:
        raise UserError(f"{name} is of {weight.dtype}; rules are for float16, bfloat16, float32 and float64: skip it")
    dimensions = _dimensions(layer)
    if weight.ndim != dimensions:
        raise UserError(
            f"{name} has shape {tuple(weight.shape)}; that of a {type(layer).__name__} has {dimensions} dimensions "
            "(was it flattened or sharded?)"
        )
    if weight.is_meta:
        raise UserError(f"{name} has no values (it is on the meta device); load it onto a real device first")
    if weight.is_inference():
        raise UserError(f"{name} was made in inference mode and cannot be trained; make the network outside of it")
    if any(size > 1 and stride == 0 for size, stride in zip(weight.shape, weight.stride(), strict=True)):
        raise UserError(f"{name} is expanded: several entries are one number in memory; give it a clone")


def _dimensions(layer: nn.Module) -> int:
    size = getattr(layer, "kernel_size", ())
    return 2 + len(size)
