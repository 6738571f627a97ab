"""A network that has diverged is a failed trial, whatever it would score: finds what is not finite, and names it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch
from torch import Tensor, nn

from dnw_core.errors import NotFiniteError
from dnw_core.training.engine.batch_statistics import batch_norms


@contextmanager
def finite_epoch(network: nn.Module, epoch: int) -> Iterator[None]:
    """Check at the end of a part of an epoch that weights and running statistics are finite.

    A solver or a rule that meets a NaN raises any error (a step of no length, a count that is not kept); the weights
    tell whether that is why. Weights that reach no logit leave every loss finite and are checked all the same: another
    trial may start from them.

    Raises:
        NotFiniteError: naming what is not finite, and the epoch.
    """
    try:
        yield
    except NotFiniteError as error:
        raise NotFiniteError(_in_epoch(str(error), epoch)) from None
    except Exception as error:
        reason = None
        with suppress(Exception):  # nothing can be read from a broken device
            reason = _not_finite(network) or _no_solution(error)
        if reason is None:
            raise
        raise NotFiniteError(_in_epoch(reason, epoch)) from error
    reason = _not_finite(network)
    if reason is not None:
        raise NotFiniteError(_in_epoch(reason, epoch))


def _in_epoch(text: str, epoch: int) -> str:
    return text if "(epoch " in text else f"{text} (epoch {epoch})"


def _not_finite(network: nn.Module) -> str | None:
    """Name the first weight or running statistic that is not finite; waits for the device once."""
    held = dict(network.named_parameters())
    norms = batch_norms(network)
    for name, module in network.named_modules():
        if module in norms:
            held |= {f"{name}.{key}": value for key, value in module.named_buffers(recurse=False)}
    found: list[Tensor] = [value.detach().isfinite().all() for value in held.values()]
    if not found or bool(torch.stack(found).all()):
        return None
    return next(f"{name} is not finite" for name, fine in zip(held, found, strict=True) if not fine)


def _no_solution(error: Exception) -> str | None:
    """Say what torchdiffeq's failed assertions mean: the state grows beyond what numbers, or steps, can follow."""
    text = str(error)
    if isinstance(error, AssertionError) and text.startswith(("underflow in dt", "non-finite values in state")):
        return f"the network's equation has no finite solution: {text.splitlines()[0][:100]}"
    return None
