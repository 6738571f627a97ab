"""``effective_weights`` changes how often a weight is computed, and nothing else."""

from __future__ import annotations

import gc
import threading
import weakref
from contextlib import nullcontext

import pytest
import torch
from support.networks.every_rule import RULES
from support.networks.sparse_rules import little
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from dnw_core import effective_weights
from dnw_core.wiring.attach import attached_rules


def x() -> Tensor:
    """Four inputs."""
    return torch.randn(4, 10, generator=torch.Generator().manual_seed(1))


def losses(made: nn.Module, evaluate_beside: bool) -> list[float]:
    """Four steps of plain SGD; another network is evaluated in another thread at each."""
    other = little("top-edges")
    found = []

    def evaluate() -> None:
        with torch.no_grad(), effective_weights():
            started.set()
            for _ in range(3):
                other(x())
            stop.wait()

    for _ in range(4):
        started, stop = threading.Event(), threading.Event()
        thread = threading.Thread(target=evaluate)
        if evaluate_beside:
            thread.start()
            started.wait()
        with effective_weights():
            loss = made(x()).square().mean()
            loss.backward()
        if evaluate_beside:
            stop.set()
            thread.join()
        with torch.no_grad():
            for parameter in made.parameters():
                if parameter.grad is not None:
                    parameter -= 0.5 * parameter.grad
                    parameter.grad = None
        found.append(float(loss.detach()))
    return found


def test_another_thread_changes_nothing() -> None:
    """Somebody evaluates beside the training, within a context of his own that outlives ours."""
    alone, beside = losses(little("top-edges"), False), losses(little("top-edges"), True)
    assert alone == beside
    assert alone[3] < alone[0]


@pytest.mark.parametrize("rule", RULES)
def test_other_parameters_are_used(rule: str) -> None:
    """Those of ``functional_call``, of ``load_state_dict`` and of a step taken within the context."""
    made = little(rule).eval()
    other = {name: value.detach() + 1 for name, value in made.named_parameters()}
    expected = functional_call(made, other, x())
    with effective_weights(), torch.no_grad():
        first = made(x())
        assert torch.equal(functional_call(made, other, x()), expected)
        assert torch.equal(made(x()), first)
        made.load_state_dict(other, strict=False)
        assert torch.equal(made(x()), expected)
        assert not torch.equal(first, expected)


@pytest.mark.parametrize("reentrant", [False, True], ids=["", "reentrant"])
@pytest.mark.parametrize("where", ["within", "forward alone"])
@pytest.mark.parametrize("rule", RULES)
def test_activation_checkpointing(rule: str, where: str, reentrant: bool) -> None:
    """Gradients to the bit with and without, two segments sharing a layer, backward within the context or after it."""
    grads = []
    for checkpointed in (False, True):
        made = little(rule)
        shared = nn.Sequential(made[2], nn.Linear(4, 16), nn.Tanh())  # type: ignore[index]
        nn.init.constant_(shared[1].weight, 0.1)  # type: ignore[arg-type]
        nn.init.zeros_(shared[1].bias)  # type: ignore[arg-type]

        def run(part: nn.Module, given: Tensor, checkpointed: bool = checkpointed) -> Tensor:
            out: Tensor = checkpoint(part, given, use_reentrant=reentrant) if checkpointed else part(given)
            return out

        with effective_weights():
            loss = run(shared, run(shared, run(made[:2], x().requires_grad_()))).square().mean()  # type: ignore[index]
            if where == "within":
                loss.backward()
        if where != "within":
            loss.backward()
        grads.append([one.grad for one in made.parameters() if one.requires_grad])
    assert any(one is not None and one.any() for one in grads[0])
    for one, other in zip(*grads, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other)


def test_contexts_within_contexts_share() -> None:
    """The inner one ends without taking away what the outer one has."""
    made = little("top-edges")
    (first, _) = attached_rules(made)
    with effective_weights():
        weight = first.module.weight
        with effective_weights():
            assert first.module.weight is weight
        assert first.module.weight is weight
    assert first.module.weight is not weight


def test_modes_and_masks_are_told_apart() -> None:
    """Training and evaluation, with and without a gradient, in inference mode, and after a mask has moved."""
    made = little("targeted-dropout")
    rule = next(iter(attached_rules(made))).rule
    with effective_weights():
        trained = made[0].weight  # type: ignore[index, union-attr]
        with torch.inference_mode():
            assert made[0].weight.is_inference()  # type: ignore[index, union-attr, operator]
        with torch.no_grad():
            assert not made[0].weight.requires_grad  # type: ignore[index, union-attr]
            assert not made[0].weight.is_inference()  # type: ignore[index, union-attr, operator]
        evaluated = made.eval()[0].weight  # type: ignore[index, union-attr]
        assert not torch.equal(trained, evaluated)  # type: ignore[arg-type]
        made.train()
        assert made[0].weight is trained  # type: ignore[index, union-attr]
        rule.steps += 1  # type: ignore[operator]
        assert not torch.equal(made[0].weight, trained)  # type: ignore[index, union-attr, arg-type]


class _Older(torch.optim.Optimizer):
    """An optimiser of the old school, which writes through ``.data``."""

    def __init__(self, given: list[nn.Parameter]) -> None:
        super().__init__(given, {})

    def step(self, closure: object = None) -> None:  # type: ignore[override]
        """Halve everything."""
        for group in self.param_groups:
            for one in group["params"]:
                one.data.mul_(0.5)


def _replaced(made: nn.Module) -> None:
    """As averages are swapped in; twice, so that the second values may lie where the first ones lay."""
    for one in made.parameters():
        one.data = one.data * 2
        one.data = one.data * 3


def _from_vector(made: nn.Module) -> None:
    vector = nn.utils.parameters_to_vector(made.parameters())
    nn.utils.vector_to_parameters(vector * 2, made.parameters())


CHANGES = {
    "replaced": _replaced,
    "from a vector": _from_vector,
    "optimiser through .data": lambda made: _Older(list(made.parameters())).step(),
    "other type and back": lambda made: made.half().float(),
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("change", CHANGES)
def test_changes_without_a_version_are_noticed(change: str, rule: str) -> None:
    """What moves weights past autograd's count of writes is seen within the context."""
    made = little(rule).eval()
    with torch.no_grad():
        with effective_weights():
            first = made(x())
            CHANGES[change](made)
            found = made(x())
        assert torch.equal(found, made(x()))
        assert not torch.equal(found, first)


@pytest.mark.parametrize("rule", RULES)
def test_accumulated_batches_within_one_context(rule: str) -> None:
    """Several forward and backward passes give the gradients that they give without it, and fill no spent graph."""
    grads = []
    for context in (nullcontext, effective_weights):
        made = little(rule)
        with context():
            for scale in (1.0, 2.0, 3.0):
                made(scale * x()).square().mean().backward()
        grads.append([one.grad for one in made.parameters()])
    assert any(one is not None and one.any() for one in grads[0])
    for one, other in zip(*grads, strict=True):
        assert (one is None) == (other is None)
        assert one is None or torch.equal(one, other)


@pytest.mark.parametrize("rule", RULES)
def test_frozen_and_thawed_within_one_context(rule: str) -> None:
    """As a GAN's discriminator is: what was computed of a frozen weight does not train the thawed one."""
    made = little(rule)
    trained = [one for one in made.parameters() if one.requires_grad]
    with effective_weights():
        for one in trained:
            one.requires_grad_(False)
        made(x())
        for one in trained:
            one.requires_grad_(True)
        made(x()).square().mean().backward()
    assert all(one.grad is not None for one in trained)


def test_what_is_written_into_an_effective_weight_is_not_kept() -> None:
    """``nn.init`` on a sparse layer changes nothing, as without the context; above all it fills no mask."""
    made = little("rigl").eval()
    with torch.no_grad(), effective_weights():
        first = made(x())
        nn.init.ones_(made[0].weight)  # type: ignore[index, arg-type]
        assert torch.equal(made(x()), first)


def test_a_context_leaves_no_memory_behind() -> None:
    """Kept weights are freed with the context, without waiting for the garbage collector."""
    made = little("top-edges")
    gc.disable()
    try:
        with effective_weights():
            made(x()).sum().backward()
            kept = weakref.ref(made[0].weight)  # type: ignore[index, arg-type]
            assert kept() is not None
        assert kept() is None
    finally:
        gc.enable()
