"""Each effective weight once a step, however often its network is applied.

PyTorch's own way, ``parametrize.cached``, takes a deep copy for its original, a weight that was computed without a
gradient or for evaluation for one that has to train, and other parameters (``functional_call``) for those it knows.
Here what is kept belongs to one thread (or task), one rule in one mode, and the very tensors, in the very version, of
which it was computed, up to the first backward pass through it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.optim.optimizer import register_optimizer_step_post_hook

from dnw_core.wiring.transforms import address_of, differentiating_by_transform, in_backward_pass, version_of


class _Kept:
    """An effective weight, and what it was computed of."""

    def __init__(self, sources: tuple[Tensor, ...], effective: Tensor) -> None:
        self.effective = effective
        self._sources = sources
        # their memory stays taken, so that an address is not that of other values later
        self._memory = tuple(source.detach() for source in sources)
        self._states = _states(sources)
        self._version = version_of(effective)
        self._spent: list[bool] = []
        if effective.grad_fn is not None and all(effective is not source for source in sources):
            # the hook must not hold this object: the two would keep each other alive
            spent = self._spent
            effective.register_hook(lambda _: spent.append(True))  # type: ignore[no-untyped-call]

    def is_of(self, sources: tuple[Tensor, ...]) -> bool:
        """Whether it is still what these tensors give.

        So it is if they are the same, nobody has written to them or to it since, they are trained as they were, and no
        backward pass has gone through it, which spends its graph.
        """
        return (
            not self._spent
            and len(sources) == len(self._sources)
            and all(one is other for one, other in zip(sources, self._sources, strict=True))
            and _states(sources) == self._states
            and version_of(self.effective) == self._version
        )


_Mode = tuple[nn.Module, bool, bool, bool]
_kept: ContextVar[dict[_Mode, _Kept] | None] = ContextVar("effective_weights", default=None)


@contextmanager
def effective_weights() -> Iterator[None]:
    """Within this context each effective weight is computed at its first use and then kept.

    Wrap one training step's forward and backward passes, or one evaluation, in it. Other threads, other parameters
    (``functional_call``, ``load_state_dict``, ``.data = ...``, an optimiser's step), weights that are frozen or thawed,
    several backward passes, recomputation by activation checkpointing and ``torch.func`` see what they would see
    without it. Only a write into a weight's memory through ``.data`` goes unnoticed, unless an optimiser makes it.
    """
    if _kept.get() is not None:
        yield
        return
    kept: dict[_Mode, _Kept] = {}
    token = _kept.set(kept)
    # an optimiser that writes through ``.data`` moves no tensor's version
    moved = register_optimizer_step_post_hook(lambda *_: kept.clear())
    try:
        yield
    finally:
        moved.remove()
        _kept.reset(token)


def once(rule: nn.Module, compute: Callable[[Tensor], Tensor], weight: Tensor) -> Tensor:
    """Return ``compute(weight)``, the effective weight of ``rule``, or what is kept of it."""
    if torch.compiler.is_compiling() or differentiating_by_transform():
        return compute(weight)
    kept = _kept.get()
    if kept is None or in_backward_pass():
        # in a backward pass a graph that was kept may be spent already
        return _apart(compute, weight)
    mode = (rule, rule.training, torch.is_grad_enabled(), torch.is_inference_mode_enabled())
    sources = _sources(rule, weight)
    found = kept.get(mode)
    if found is None or not found.is_of(sources):
        effective = _apart(compute, weight)
        # what was computed of must be read after computing: a rule may write to its own buffers
        found = kept[mode] = _Kept(sources, effective)
    return found.effective


def _apart(compute: Callable[[Tensor], Tensor], weight: Tensor) -> Tensor:
    """Compute with what is saved for the backward pass out of sight of hooks around.

    Activation checkpointing counts what is saved, at first and when it recomputes; what is kept at one of the two times
    would make the numbers differ.
    """
    with saved_tensors_hooks(_same, _same) if torch.is_grad_enabled() else nullcontext():
        return compute(weight)


def _same(saved: Tensor) -> Tensor:
    return saved


def _sources(rule: nn.Module, weight: Tensor) -> tuple[Tensor, ...]:
    own = [*rule._parameters.values(), *rule._buffers.values()]
    return (weight, *(tensor for tensor in own if tensor is not None))


def _states(sources: tuple[Tensor, ...]) -> tuple[tuple[object, ...], ...]:
    return tuple((version_of(one), address_of(one), one.dtype, one.requires_grad) for one in sources)
