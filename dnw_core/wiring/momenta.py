"""What optimisers keep of a weight: its momentum, by whatever name, and the decay that they add to its gradient."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dnw_core.errors import UserError

# by the names that torch's optimisers and the usual others give it: SGD, RMSprop and Muon; Adam's family and Lion
MOMENTUM_NAMES = ("momentum_buffer", "exp_avg")
# these add weight_decay times the weight to the gradient, unless a group says that decay is decoupled
L2_OPTIMISERS = (
    torch.optim.SGD,
    torch.optim.Adam,
    torch.optim.Adamax,
    torch.optim.NAdam,
    torch.optim.RAdam,
    torch.optim.RMSprop,
    torch.optim.Adagrad,
    torch.optim.Adadelta,
    torch.optim.ASGD,
)

# where optimisers that wrap others (Lookahead and the like) keep them
WRAPPED = ("base_optimizer", "_base_optimizer", "optimizer", "optim")


def innermost(optimiser: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Return the optimiser that moves the weights, out of others that wrap it."""
    for name in WRAPPED:
        inner = getattr(optimiser, name, None)
        if isinstance(inner, torch.optim.Optimizer) and inner is not optimiser:
            return innermost(inner)
    return optimiser


def momentum_of(optimiser: torch.optim.Optimizer, weight: nn.Parameter) -> Tensor | None:
    """Return the optimiser's running mean of the weight's gradient, which may be changed in place; None if none yet."""
    state = innermost(optimiser).state.get(weight, {})
    for name in MOMENTUM_NAMES:
        momentum = state.get(name)
        if isinstance(momentum, Tensor) and momentum.shape == weight.shape:
            return momentum
    return None


def l2_decay(optimiser: torch.optim.Optimizer, weight: nn.Parameter) -> float:
    """Return the factor of the weight that the optimiser adds to its gradient; 0 for decoupled decay, as AdamW's."""
    optimiser = innermost(optimiser)
    if not isinstance(optimiser, L2_OPTIMISERS):
        return 0.0
    for group in optimiser.param_groups:
        if any(parameter is weight for parameter in group["params"]):
            decoupled = group.get("decoupled_weight_decay", isinstance(optimiser, torch.optim.AdamW))
            return 0.0 if decoupled else float(group.get("weight_decay", 0.0))
    return 0.0


def keep_resting(optimiser: torch.optim.Optimizer, weight: nn.Parameter) -> None:
    """Let a weight rest beside others that move, where the optimiser's kernel wants all or none to have momentum.

    SGD's fused kernel takes either no momentum at all, at the first step, or that of every weight. A zero momentum
    gives a weight that rests in the first step the same first update later (without dampening).
    """
    optimiser = innermost(optimiser)
    if not isinstance(optimiser, torch.optim.SGD):
        return
    for group in optimiser.param_groups:
        if group.get("fused") and group["momentum"] and any(one is weight for one in group["params"]):
            state = optimiser.state[weight]
            if state.get("momentum_buffer") is None:
                state["momentum_buffer"] = torch.zeros_like(weight, memory_format=torch.preserve_format)


def refuse_without_momentum(optimiser: torch.optim.Optimizer, rule: str) -> None:
    """Refuse an optimiser that cannot serve a rule that reads momentum, as far as it can be told before the first step.

    Raises:
        UserError: naming the rule.
    """
    # its inner optimiser knows a share of the weights
    if "ZeroRedundancy" in type(optimiser).__name__:
        raise UserError(f"{rule} reads the momentum of all weights, and {type(optimiser).__name__} keeps a share of it")
    optimiser = innermost(optimiser)
    without = isinstance(optimiser, torch.optim.SGD | torch.optim.RMSprop) and any(
        not group["momentum"] for group in optimiser.param_groups
    )
    if without or isinstance(optimiser, torch.optim.Adagrad | torch.optim.Adadelta | torch.optim.LBFGS):
        raise UserError(no_momentum(rule))


def no_momentum(rule: str) -> str:
    """Return the sentence about an optimiser without momentum."""
    return f"{rule} needs an optimiser that keeps a momentum: SGD with momentum above 0, or one of Adam's family"
