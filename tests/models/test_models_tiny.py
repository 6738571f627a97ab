"""The three tiny networks against facts 1.2 to 1.5 and against a plain float64 computation of the same function."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
import torch
from support.references import tiny as reference
from torch import Tensor, nn

from dnw_core.config.networks import TinyContinuousConfig, TinyDiscreteConfig, TinyStaticConfig
from dnw_core.config.rules import TopEdgesConfig
from dnw_core.models.build import build_wired
from dnw_core.wiring.attach import attached_rules
from dnw_core.wiring.rule import effective_weights

CONFIGS: dict[str, Any] = {
    "tiny-static": TinyStaticConfig,
    "tiny-discrete": TinyDiscreteConfig,
    "tiny-continuous": TinyContinuousConfig,
}
SMALL = {"nodes": 44, "input_nodes": 8, "output_nodes": 6}
OWN_SETTINGS: dict[str, dict[str, Any]] = {
    "tiny-static": {"block_nodes": 12},
    "tiny-continuous": {"ode_ends": "reference"},
}
IMAGES = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(3))
LABELS = torch.tensor([1, 0, 7])


def small(kind: str, density: float = 0.3, **settings: Any) -> nn.Module:
    """A small network of this kind with every parameter moved off its initial value (norms would hide mistakes)."""
    settings = {**SMALL, **OWN_SETTINGS.get(kind, {}), **settings}
    config = CONFIGS[kind](kind=kind, **settings)
    network, _ = build_wired(config, TopEdgesConfig(rule="top-edges", density=density), seed=0)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return network


def parameters_of(network: nn.Module) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Float64 leaves for the reference, the dense weight among them, and the mask of kept edges."""
    (attached,) = attached_rules(network)
    p = {name: value.detach().double().requires_grad_() for name, value in network.named_parameters()}
    dense = p["edges.parametrizations.weight.original"]
    return p, dense, attached.edges()


def straight_through(dense: Tensor, mask: Tensor) -> Tensor:
    """Masked value, full gradient, written without a custom function."""
    return dense + (dense * mask - dense).detach()


def reference_logits(network: Any, p: dict[str, Tensor], edges: Tensor, images: Tensor) -> Tensor:
    """The plain float64 computation for this network."""
    config = network.config
    row = 2 if config.readout_crop == "reference" else 3
    common = {"outputs": config.output_nodes, "row": row}
    if isinstance(config, TinyStaticConfig):
        bounds = [0, *range(config.input_nodes, config.nodes + 1, config.block_nodes)]
        return reference.static(p, edges, images, bounds=bounds, **common)
    if isinstance(config, TinyDiscreteConfig):
        return reference.discrete(p, edges, images, steps=config.steps, **common)
    return reference.continuous(p, edges, images, **common)


@pytest.mark.parametrize("variant", ["reference", "corrected"])
@pytest.mark.parametrize("kind", ["tiny-static", "tiny-discrete"])
@pytest.mark.parametrize("density", [0.1, 0.3])
def test_logits_and_every_gradient_agree_with_float64(kind: str, variant: str, density: float) -> None:
    """Loss, and its gradient for every parameter, as the plain float64 computation has them (sparse and dense)."""
    network = small(kind, density, readout_crop=variant)
    p, dense, mask = parameters_of(network)
    logits = reference_logits(network, p, straight_through(dense, mask), IMAGES.double())
    loss = nn.functional.cross_entropy(logits, LABELS)
    loss.backward()

    with effective_weights():
        ours = nn.functional.cross_entropy(network(IMAGES), LABELS)
        ours.backward()
    assert ours.item() == pytest.approx(loss.item(), rel=2e-5)
    largest = max(float(value.grad.norm()) for value in p.values() if value.grad is not None)
    for name, parameter in network.named_parameters():
        expected = p[name].grad
        assert expected is not None
        assert parameter.grad is not None
        # a bias before a norm has a true gradient of zero: compare against the largest gradient
        assert float((parameter.grad.double() - expected).norm()) < 2e-5 * largest, name


@pytest.mark.parametrize("readout_crop", ["reference", "corrected"])
def test_continuous_agrees_with_a_fine_fixed_grid(readout_crop: str) -> None:
    """At a tight tolerance: the logits of 400 classical Runge-Kutta steps in float64 (Q8 both ways; Q9 corrected)."""
    network = small(
        "tiny-continuous", rtol=1e-6, atol=1e-6, readout_crop=readout_crop, ode_start="corrected", ode_ends="corrected"
    )
    p, dense, mask = parameters_of(network)
    with torch.no_grad():
        expected = reference_logits(network, p, dense * mask, IMAGES.double())
        assert torch.allclose(network(IMAGES).double(), expected, atol=2e-4)


def gentle(network: Any) -> None:
    """The network as it is."""


def steep(network: Any) -> None:
    """Slopes eight times as large: twice as many steps."""
    network.norm_weight *= 8


def kinked(network: Any) -> None:
    """Input nodes that start high and fall fast: in the kink at zero the solver rejects steps."""
    network.stem[5].bias += 10
    network.norm_bias[: SMALL["input_nodes"]] -= 20


@pytest.mark.parametrize("variant", ["reference", "corrected"])
@pytest.mark.parametrize(("change", "steps", "rejects"), [(gentle, 4, False), (steep, 8, False), (kinked, 5, True)])
def test_continuous_is_the_solver_with_the_released_relu(
    variant: str, change: Any, steps: int, rejects: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logits and every gradient are those of torchdiffeq around a ReLU in place (reference) or on a copy (corrected).

    Everything in float64. That torchdiffeq lets the gradient flow through the first step's size, which ours does not
    (docs/deviations.md), is taken away, so that what is left is rounding.
    """
    from torchdiffeq._impl import rk_common

    select: Any = rk_common._select_initial_step
    monkeypatch.setattr(rk_common, "_select_initial_step", lambda *a, **k: select(*a, **k).detach())
    network: Any = small("tiny-continuous", ode_start=variant, ode_ends=variant).double()
    with torch.no_grad():
        change(network)
    p, dense, mask = parameters_of(network)
    solver = reference.Solver(p, straight_through(dense, mask), in_place=variant == "reference")
    outputs, rtol, atol = network.config.output_nodes, network.config.rtol, network.config.atol
    expected = solver.logits(IMAGES.double(), rtol=rtol, atol=atol, outputs=outputs, row=2)
    nn.functional.cross_entropy(expected, LABELS).backward()
    with effective_weights():
        logits = network(IMAGES.double())
        nn.functional.cross_entropy(logits, LABELS).backward()

    assert (len(solver.accepted), bool(solver.rejected)) == (steps, rejects)  # the case is the one that it is called
    assert sum(solver.accepted[-1]) > 1.005  # the last step overshoots: Z(1) is interpolated
    assert float((logits - expected).detach().abs().max()) < 1e-12
    for name, parameter in network.named_parameters():
        gradient = p[name].grad
        assert gradient is not None
        scale = float(gradient.norm())
        # a bias before a norm has a true gradient of zero, and either side rounding
        assert float((parameter.grad - gradient).norm()) < (1e-11 * scale if scale > 1e-12 else 1e-12), name


def test_the_states_variants_differ() -> None:
    """Q9 matters: the start's clamp and the ends' each change the logits by far more than any tolerance above."""
    images = IMAGES.double()
    logits = []
    with torch.no_grad():
        for start, ends in (("reference", "reference"), ("reference", "corrected"), ("corrected", "corrected")):
            logits.append(small("tiny-continuous", ode_start=start, ode_ends=ends).double()(images))
    for a, b in combinations(logits, 2):
        assert float((a - b).abs().max()) > 0.02


@pytest.mark.parametrize("kind", sorted(CONFIGS))
def test_pooling_reads_the_patch_of_its_variant(kind: str) -> None:
    """Q8, by gradient: rows and columns 2-3 of the 8x8 map (reference) or 3-4 (corrected), each with weight 1/4."""
    for variant, rows in (("reference", [2, 3]), ("corrected", [3, 4])):
        network: Any = small(kind, readout_crop=variant)
        maps = torch.zeros(1, 1, 8, 8, requires_grad=True)
        network.pool(maps).sum().backward()
        assert maps.grad is not None
        expected = torch.zeros(8, 8)
        expected[rows[0] : rows[1] + 1, rows[0] : rows[1] + 1] = 0.25
        assert torch.equal(maps.grad[0, 0], expected)


@pytest.mark.parametrize("kind", sorted(CONFIGS))
def test_sizes_at_the_published_settings(kind: str) -> None:
    """Facts 1.2: 41,458 parameters without the node norm's affine ones, 43,058 with, 651,058 allocated."""
    network: Any
    network, graphs = build_wired(CONFIGS[kind](kind=kind), TopEdgesConfig(rule="top-edges", density=0.05), 0)
    (attached,) = attached_rules(network)
    cost = network.cost({graphs[0].name: attached.edges()})
    assert cost.edges == 32_000
    assert cost.parameters == 41_458
    assert cost.parameters_with_norm == 43_058
    assert cost.parameters_allocated == 651_058 == sum(value.numel() for value in network.parameters())
    assert sum(value.numel() for value in network.stem.parameters()) == 1_248
    assert network.node_op.weight.numel() == 7_200
    bound = 800**-0.5
    assert 0.99 * bound < float(attached.weight.detach().abs().max()) <= bound


@pytest.mark.parametrize("kind", sorted(CONFIGS))
def test_pieces_change_nothing_but_the_order_of_sums(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch worked through in pieces of one image gives the whole batch's logits and gradients."""
    network = small(kind)
    found = []
    for floats in (10**9, 1):
        monkeypatch.setattr("dnw_core.models.layers.kernels.CPU_PIECE_FLOATS", floats)
        network.zero_grad()
        with effective_weights():
            logits = network(IMAGES)
            nn.functional.cross_entropy(logits, LABELS).backward()
        found.append((logits.detach(), [value.grad.clone() for value in network.parameters()]))  # type: ignore[union-attr]
    (logits_a, grads_a), (logits_b, grads_b) = found
    assert torch.allclose(logits_a, logits_b, atol=1e-5)
    for a, b in zip(grads_a, grads_b, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("kind", sorted(CONFIGS))
def test_bf16_stays_near_fp32(kind: str) -> None:
    """Rounded operands move the logits by some percent, not more, and gradients stay finite."""
    network = small(kind)
    exact = network(IMAGES).detach()
    with torch.autocast("cpu", dtype=torch.bfloat16), effective_weights():
        rounded = network(IMAGES).float()
    nn.functional.cross_entropy(rounded, LABELS).backward()
    assert not torch.equal(exact, rounded)
    assert float((exact - rounded.detach()).norm() / exact.norm()) < 0.1
    assert all(bool(value.grad.isfinite().all()) for value in network.parameters() if value.grad is not None)


def test_settings_that_do_not_fit_are_refused() -> None:
    """Blocks that do not add up; more inputs and outputs than nodes; an image size the stem cannot halve twice."""
    with pytest.raises(ValueError, match="block_nodes \\(100\\) does not divide"):
        build_wired(
            TinyStaticConfig(kind="tiny-static", block_nodes=100), TopEdgesConfig(rule="top-edges", density=0.05), 0
        )
    with pytest.raises(ValueError, match="more than nodes"):
        TinyDiscreteConfig(kind="tiny-discrete", nodes=50)
    with pytest.raises(ValueError, match="multiple of 4 and at least 32"):
        TinyDiscreteConfig(kind="tiny-discrete", image_size=30)


def test_building_leaves_the_random_state_alone() -> None:
    """Initialisation depends on the seed alone and moves no random state outside."""
    torch.manual_seed(11)
    before = torch.get_rng_state()
    first = small("tiny-static")
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(12)
    for a, b in zip(first.parameters(), small("tiny-static").parameters(), strict=True):
        assert torch.equal(a, b)
