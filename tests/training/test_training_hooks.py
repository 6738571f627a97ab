"""The training step and the loop call the wiring rules at their moments, with what they may look at and change."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from support.stubs.tiny_trials import interrupt, small_recipe, train
from torch import Tensor, nn

from dnw_core.data.feeds.feed import Batch
from dnw_core.training.engine.gradient_sum import GradientSum
from dnw_core.training.engine.group import CPU, WorkerGroup
from dnw_core.training.engine.optimiser import make_optimiser
from dnw_core.training.engine.step import TrainingStep
from dnw_core.wiring.attach import attach
from dnw_core.wiring.rule import AttachedRule, Run, WiringRule
from dnw_core.wiring.rules.top_edges import DiscoveringNeuralWirings
from dnw_core.wiring.slots import Slots

Seen = list[tuple[Any, ...]]


class Recorder(WiringRule):
    """Keeps every edge, and notes what it is called with; at ``rests`` the weight is to be passed over."""

    seen: ClassVar[Seen] = []
    rests: ClassVar[int | None] = None

    def forward(self, weight: Tensor) -> Tensor:
        """The weight."""
        return weight * 1.0

    def edges(self, weight: Tensor) -> Tensor:
        """All."""
        return torch.ones_like(weight, dtype=torch.bool)

    def before_step(self, here: AttachedRule, step: int) -> None:
        """Note gradient and momentum; take the gradient away where the weight is to rest."""
        gradient, momentum = (None if value is None else value.clone() for value in (here.gradient, here.momentum))
        Recorder.seen.append(("before", step, here.name, here.weight.clone(), gradient, momentum))
        if step == Recorder.rests:
            here.weight.grad = None

    def after_step(self, here: AttachedRule, step: int) -> None:
        """Note the weight."""
        Recorder.seen.append(("after", step, here.name, here.weight.clone()))

    @classmethod
    def pool_before_step(cls, attached: Sequence[AttachedRule], step: int) -> None:
        """Note who is there."""
        Recorder.seen.append(("together", step, [here.name for here in attached]))


@pytest.fixture
def network() -> nn.Module:
    """Two layers with a rule each."""
    torch.manual_seed(0)
    Recorder.seen, Recorder.rests = [], None
    layers = nn.Sequential(nn.Flatten(), nn.Linear(12, 6, bias=False), nn.Linear(6, 10, bias=False))
    for index in (1, 2):
        weight = layers[index].weight
        assert isinstance(weight, Tensor)
        attach(layers[index], "weight", Recorder(Slots(tuple(weight.shape)), None))
    return layers


def batch() -> Batch:
    """Four images of 2 x 2 pixels."""
    return Batch(torch.randn(4, 3, 2, 2), torch.tensor([1, 2, 3, 4]), 4)


def test_rules_act_between_the_gradients_and_the_optimiser(network: nn.Module) -> None:
    """They see the gradient before the weight moves and the momentum of the step before; steps count over the run."""
    recipe = small_recipe(optimiser={"learning_rate": 0.1, "weight_decay": 0.0})
    step = TrainingStep(recipe, network, make_optimiser(recipe, network), run=Run(5, 7))
    step(batch(), 2, 3)
    step(batch(), 2, 4)
    kinds = [(entry[0], entry[1]) for entry in Recorder.seen]
    one = [("before", 17), ("before", 17), ("together", 17), ("after", 17), ("after", 17)]
    assert kinds == one + [(kind, 18) for kind, _ in one]
    names = ["1.weight", "2.weight"]
    assert [entry[2] for entry in Recorder.seen[:5]] == [*names, names, *names]
    first, then, later = Recorder.seen[0], Recorder.seen[3], Recorder.seen[5]
    assert first[5] is None
    assert torch.allclose(then[3], first[3] - 0.1 * first[4])
    assert torch.equal(later[3], then[3])
    assert torch.equal(later[5], first[4])


def test_a_weight_whose_gradient_is_taken_away_rests(network: nn.Module) -> None:
    """Neither decay nor momentum moves it in that step, and they go on afterwards."""
    recipe = small_recipe(optimiser={"learning_rate": 0.1, "weight_decay": 0.5})
    step = TrainingStep(recipe, network, make_optimiser(recipe, network), run=Run(1, 3))
    Recorder.rests = 1
    for index in range(3):
        step(batch(), 0, index)
    before = [entry[3] for entry in Recorder.seen if entry[:3:2] == ("before", "1.weight")]
    after = [entry[3] for entry in Recorder.seen if entry[:3:2] == ("after", "1.weight")]
    moved = [not torch.equal(left, right) for left, right in zip(before, after, strict=True)]
    assert moved == [True, False, True]
    momenta = [entry[5] for entry in Recorder.seen if entry[:3:2] == ("before", "1.weight")]
    assert torch.equal(momenta[1], momenta[2])


def test_over_a_resume_rules_see_the_same_steps_and_momentum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped in the middle of an epoch: begin is told the same run again, the restored momentum is there at once."""
    begun: list[Run] = []
    steps: list[int] = []
    momenta: list[bool] = []

    def before(_: DiscoveringNeuralWirings, here: AttachedRule, step: int) -> None:
        steps.append(step)
        momenta.append(here.momentum is not None and bool(here.momentum.any()))

    monkeypatch.setattr(DiscoveringNeuralWirings, "begin", lambda _, run: begun.append(run))
    monkeypatch.setattr(DiscoveringNeuralWirings, "before_step", before)
    interrupt(small_recipe(), tmp_path, 3)
    train(small_recipe(), tmp_path)
    assert begun == [Run(2, 3)] * 2
    assert steps == [0, 1, 2, 3, 4, 5]
    assert momenta == [False, True, True, True, True, True]


def test_a_promise_of_all_rules_together_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trial whose rules keep one edge too few in all does not go on."""
    monkeypatch.setattr(
        DiscoveringNeuralWirings, "pool_promised_edges", classmethod(lambda _, rules: rules[0].kept_edges + 1)
    )
    with pytest.raises(AssertionError, match="291 edges in all, 292 promised by DiscoveringNeuralWirings"):
        train(small_recipe(), tmp_path)


def test_frozen_weights_take_no_part_in_the_sum_over_workers(network: nn.Module) -> None:
    """They have no gradient on any worker; the optimiser passes them over, decay included."""
    frozen = next(network.parameters()).requires_grad_(False)
    before = frozen.clone()
    recipe = small_recipe(batch_norm_images=32)
    step = TrainingStep(recipe, network, make_optimiser(recipe, network), group=Silent(0, 2, CPU))
    assert isinstance(step.sum, GradientSum)
    assert len(step.sum.flat) == 60 + 1 + 3
    step(Batch(*(part[:2] for part in (batch().images, batch().labels)), whole=4))
    assert torch.equal(frozen, before)
    assert [entry[4] is None for entry in Recorder.seen if entry[0] == "before"] == [True, False]


class Silent(WorkerGroup):
    """One of two workers, of whom the other has nothing to add."""

    def all_reduce(self, values: Tensor) -> None:
        """The sum is this worker's part."""
