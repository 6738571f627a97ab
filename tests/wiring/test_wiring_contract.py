"""The contract every registered wiring rule keeps, on all weights of a network, called as a training loop calls it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dnw_core import config as settings
from dnw_core.models.build import build_rule
from dnw_core.wiring.attach import attach, attached_rules
from dnw_core.wiring.hooks import Wiring
from dnw_core.wiring.rule import AttachedRule, Run, effective_weights
from dnw_core.wiring.slots import Slots

# one entry a registered rule: settings for the trials below
SETTINGS: dict[str, dict[str, Any]] = {
    "complete": {},
    "top-edges": {"density": 0.25},
    "fixed-random": {"density": 0.25},
    "constant-fan": {"factor": 2},
    "no-update": {"density": 0.25},
    "targeted-dropout": {"density": 0.25, "drop_probability": 0.5},
    "l1-anneal": {"density": 0.25, "l1_weight": 1e-3},
    "lottery-ticket": {"density": 0.25},
    "fine-tune": {"density": 0.25},
    "sparse-momentum": {"density": 0.25},
    "set": {"density": 0.25, "updates": 3},
    "rigl": {"density": 0.25, "updates": 3},
    "gradual-pruning": {"density": 0.25},
    "snip": {"density": 0.25},
    "soft-threshold": {"initial_threshold": -3.0},
    "ac-dc": {"density": 0.25, "phase_share": 0.2},
    "edge-popup": {"density": 0.25},
    "top-kast": {"density": 0.25, "backward_density": 0.5},
}
KEPT_PARTS = {"complete": 1, "constant-fan": 2}  # a quarter is kept by all others that promise a count
UNCOUNTED = {"soft-threshold"}  # the count comes out of training
DRAWN = {"fixed-random", "constant-fan", "sparse-momentum", "set", "rigl", "edge-popup"}  # edges before training

# which slots of the dense weight have a gradient when the optimiser steps: the edges alone, all, none, or all edges
# and some others, which the rule's own tests name
GRADIENT = {
    "top-edges": "all",
    "sparse-momentum": "all",
    "edge-popup": "none",
    "targeted-dropout": "more",
    "top-kast": "more",
}  # of all other rules: "edges"

# what an edge makes of its weight, where that is not the weight itself
VALUES: dict[str, Callable[[AttachedRule, Tensor], Tensor]] = {
    "targeted-dropout": lambda here, weight: weight.abs(),  # Q4: as the reference
    "soft-threshold": lambda here, weight: weight.sign() * (weight.abs() - here.rule.s.sigmoid()),  # type: ignore[operator,union-attr]
}
SCHEDULED = ["l1-anneal", "sparse-momentum", "set", "rigl", "gradual-pruning", "ac-dc"]  # by the length of the run
NEW_AT_ZERO = {"sparse-momentum", "set", "rigl"}  # an edge that has just grown is zero until the next step

RULES = sorted(settings.RULES)
RUN = Run(epochs=4, steps_per_epoch=3)


class Net(nn.Module):
    """Two convolutions and a linear layer: weights of 72, 432 and 48 slots; the norm has no rule."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 12, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(12)
        self.last = nn.Linear(12, 4)

    def forward(self, images_bchw: Tensor) -> Tensor:
        """Logits, [batch, 4]."""
        hidden = F.relu(self.norm(self.second(F.relu(self.first(images_bchw)))))
        logits: Tensor = self.last(hidden.mean(dim=(2, 3)))
        return logits


def config_of(rule: str) -> Any:
    """The settings object of a registered rule."""
    return settings.RULES[rule](rule=rule, **SETTINGS[rule])


class Trial:
    """A network with a rule on each of its weights, and what trains it."""

    def __init__(self, rule: str, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.network = Net()
        for name in ("first", "second", "last"):
            module = self.network.get_submodule(name)
            shape = tuple(module.weight.shape)  # type: ignore[union-attr]
            built = build_rule(config_of(rule), Slots(shape), seed, name)
            built.load_parent_weight(torch.randn(shape, generator=torch.Generator().manual_seed(3)))
            attach(module, "weight", built)
        self.follow(self.network)

    def follow(self, network: nn.Module) -> None:
        """Train this network from here on, with a new optimiser."""
        self.network = network
        self.optimiser = torch.optim.SGD(network.parameters(), lr=0.2, momentum=0.9, weight_decay=1e-2)
        self.wiring = Wiring(network, self.optimiser)
        self.wiring.begin(RUN)

    def gradients(self, step: int) -> None:
        """Let the gradients of a step come about, up to what the optimiser sees."""
        generator = torch.Generator().manual_seed(step)
        images = torch.randn(4, 2, 4, 4, generator=generator)
        labels = torch.randint(4, (4,), generator=generator)
        self.network.train()
        self.optimiser.zero_grad()
        with effective_weights():
            F.cross_entropy(self.network(images), labels).backward()
        self.wiring.before_step(step)

    def train(self, first: int, until: int) -> None:
        """Take these steps of the run; what is due at the ends of epochs happens."""
        for step in range(first, until):
            self.gradients(step)
            self.optimiser.step()
            self.wiring.after_step(step)
            if (step + 1) % RUN.steps_per_epoch == 0:
                self.wiring.after_epoch(step // RUN.steps_per_epoch)

    def outputs(self) -> Tensor:
        """Logits of fixed images in evaluation."""
        with torch.no_grad():
            images = torch.randn(3, 2, 5, 5, generator=torch.Generator().manual_seed(100))
            logits: Tensor = self.network.eval()(images)
        return logits


def test_every_registered_rule_is_tested_here() -> None:
    """A rule that is registered but not listed would escape the contract."""
    assert set(SETTINGS) == set(settings.RULES)
    union = get_args(get_args(settings.WiringConfig)[0])
    assert [settings.name_of(member, "rule") for member in union] == list(settings.RULES)


@pytest.mark.parametrize("rule", RULES)
def test_exactly_the_promised_edges_at_every_epochs_end(rule: str) -> None:
    """Each weight and all together have the promised edges, and evaluation uses their weights and no others."""
    trial = Trial(rule)
    for epoch in range(RUN.epochs):
        trial.train(epoch * RUN.steps_per_epoch, (epoch + 1) * RUN.steps_per_epoch)
        edges = trial.wiring.edges()
        trial.network.eval()
        for here in trial.wiring.attached:
            own = edges[here.name]
            assert here.rule.promised_edges == (None if rule in UNCOUNTED else int(own.sum()))
            with torch.no_grad():
                effective = getattr(here.module, here.weight_name)
                if rule not in NEW_AT_ZERO:
                    assert torch.equal(effective != 0, own)
                values = VALUES.get(rule, lambda here, weight: weight)(here, here.weight)
                assert torch.equal(effective, torch.where(own, values, torch.zeros(())))
    if rule not in UNCOUNTED:
        slots = sum(here.weight.numel() for here in trial.wiring.attached)
        assert sum(int(own.sum()) for own in edges.values()) == slots // KEPT_PARTS.get(rule, 4)


@pytest.mark.parametrize("rule", RULES)
def test_the_gradient_reaches_the_slots_it_should(rule: str) -> None:
    """When the optimiser steps, with a loss that reaches every slot, in the middle of a run."""
    trial = Trial(rule)
    trial.train(0, 7)
    edges = trial.wiring.edges()
    trial.optimiser.zero_grad()
    with effective_weights():
        weights = [getattr(here.module, here.weight_name) for here in trial.wiring.attached]
        torch.stack([(torch.randn(weight.shape) * weight).sum() for weight in weights]).sum().backward()
    trial.wiring.before_step(7)
    reach = GRADIENT.get(rule, "edges")
    for here in trial.wiring.attached:
        if reach == "none":
            assert here.gradient is None
            continue
        assert here.gradient is not None
        touched, own = here.gradient != 0, edges[here.name]
        if reach == "more":
            assert not (own & ~touched).any()
            assert own.sum() < touched.sum() < touched.numel()
        else:
            assert torch.equal(touched, own if reach == "edges" else torch.ones_like(own))


@pytest.mark.parametrize("rule", RULES)
def test_training_changes_the_network(rule: str) -> None:
    """A rule that quietly keeps its network from learning would pass everything else."""
    trial = Trial(rule)
    before = {name: value.clone() for name, value in trial.network.state_dict().items()}
    trial.train(0, 3)
    for here in trial.wiring.attached:
        owned = [name for name in before if name.startswith(f"{here.name.removesuffix('.weight')}.parametrizations")]
        assert owned
        assert any(not torch.equal(trial.network.state_dict()[name], before[name]) for name in owned)


@pytest.mark.parametrize("steps", [4, 6], ids=["within an epoch", "at its end"])
@pytest.mark.parametrize("rule", RULES)
def test_a_resumed_run_goes_on_to_the_bit(rule: str, steps: int) -> None:
    """A fresh network of another seed, with the first one's state and its optimiser's, ends where the first does."""
    first = Trial(rule)
    first.train(0, steps)
    second = Trial(rule, seed=7)
    second.network.load_state_dict(copy.deepcopy(first.network.state_dict()))
    second.optimiser.load_state_dict(copy.deepcopy(first.optimiser.state_dict()))
    assert torch.equal(first.outputs(), second.outputs())
    for trial in (first, second):
        trial.train(steps, RUN.steps)
    a, b = first.network.state_dict(), second.network.state_dict()
    assert list(a) == list(b)
    for name in a:
        assert torch.equal(a[name], b[name]), name
    assert torch.equal(first.outputs(), second.outputs())


@pytest.mark.parametrize("rule", RULES)
def test_deepcopy_is_independent(rule: str) -> None:
    """Training a copy leaves the original alone, and the copy does move."""
    trial = Trial(rule)
    trial.train(0, 2)
    before, original = trial.outputs(), trial.network
    edges = {name: own.clone() for name, own in trial.wiring.edges().items()}
    trial.follow(copy.deepcopy(original))
    assert torch.equal(trial.outputs(), before)
    trial.train(2, 5)
    assert not torch.equal(trial.outputs(), before)
    trial.follow(original)
    assert torch.equal(trial.outputs(), before)
    assert all(torch.equal(own, edges[name]) for name, own in trial.wiring.edges().items())


@pytest.mark.parametrize("rule", RULES)
def test_same_seed_same_edges_other_seed_other_edges(rule: str) -> None:
    """What a rule draws depends on the seed alone."""
    masks = []
    for seed in (0, 0, 1):
        torch.manual_seed(5)
        module = nn.Linear(12, 9)
        built = build_rule(config_of(rule), Slots((9, 12)), seed, "weight")
        built.load_parent_weight(torch.randn(9, 12, generator=torch.Generator().manual_seed(3)))
        attach(module, "weight", built)
        (here,) = attached_rules(module)
        masks.append(here.edges())
    assert torch.equal(masks[0], masks[1])
    assert torch.equal(masks[0], masks[2]) == (rule not in DRAWN)


@pytest.mark.parametrize("rule", RULES)
def test_effective_weight_is_computed_once_a_step(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often a graph is applied within ``effective_weights``, the rule runs once."""
    trial = Trial(rule)
    kind = type(trial.wiring.attached[0].rule)
    calls = []
    original = kind.forward
    monkeypatch.setattr(kind, "forward", lambda self, weight: (calls.append(1), original(self, weight))[1])
    for count in (3, 6):
        with effective_weights():
            for _ in range(4):
                trial.network(torch.zeros(2, 2, 5, 5))
        assert len(calls) == count


@pytest.mark.parametrize("rule", SCHEDULED)
def test_without_begin_the_schedule_is_unknown(rule: str) -> None:
    """A clear sentence within the first epoch, not a guess."""
    trial = Trial(rule)
    for here in trial.wiring.attached:
        here.rule.run = None
    with pytest.raises(RuntimeError, match=r"^\w+ does not know how long the run is: call begin\(run\) first$"):
        trial.train(0, RUN.steps_per_epoch)


@pytest.mark.parametrize("rule", RULES)
def test_a_weight_that_learned_nothing_is_no_error(rule: str) -> None:
    """A part of the network that the loss does not reach has neither gradient nor momentum; its count stays exact."""
    trial = Trial(rule)
    for step in range(RUN.steps):
        trial.optimiser.zero_grad()
        with effective_weights():
            trial.network.get_submodule("first")(torch.ones(1, 2, 5, 5)).square().sum().mul(1e-3).backward()
        trial.wiring.before_step(step)
        trial.optimiser.step()
        trial.wiring.after_step(step)
        if (step + 1) % RUN.steps_per_epoch == 0:
            trial.wiring.after_epoch(step // RUN.steps_per_epoch)
            trial.wiring.edges()
