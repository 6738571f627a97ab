"""Whatever moves the weights, the layers keep the promise: optimisers, scalers, closures, long runs, odd requests."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from support.networks.every_rule import RULES, sparse
from support.networks.sparse_rules import Loop, assert_layers_keep_the_promise, little
from torch import nn

from dnw_core import Run, Wiring, layer_table
from dnw_core.errors import UserError
from dnw_core.wiring.attach import attached_rules
from dnw_core.wiring.momenta import innermost, l2_decay, momentum_of

Parameters = Iterable[nn.Parameter]


def lookahead(inner: torch.optim.Optimizer, k: int = 6) -> Any:
    """A library's optimiser around another one."""
    from timm.optim import Lookahead

    return Lookahead(inner, k=k)


OPTIMISERS: dict[str, Callable[[Parameters], torch.optim.Optimizer]] = {
    "SGD": lambda given: torch.optim.SGD(given, lr=0.2, momentum=0.9, weight_decay=1e-2),
    "SGD, fused": lambda given: torch.optim.SGD(given, lr=0.2, momentum=0.9, weight_decay=1e-2, fused=True),
    "Adam": lambda given: torch.optim.Adam(given, lr=0.05, weight_decay=1e-2),
    "AdamW": lambda given: torch.optim.AdamW(given, lr=0.05),
    "NAdam": lambda given: torch.optim.NAdam(given, lr=0.05),
    "RAdam": lambda given: torch.optim.RAdam(given, lr=0.05),
    "Adamax": lambda given: torch.optim.Adamax(given, lr=0.05),
    "RMSprop": lambda given: torch.optim.RMSprop(given, lr=0.01, momentum=0.9),
    "Adagrad": lambda given: torch.optim.Adagrad(given, lr=0.1),
    "Adadelta": lambda given: torch.optim.Adadelta(given, lr=1.0),
    "LBFGS": lambda given: torch.optim.LBFGS([one for one in given if one.requires_grad], max_iter=3),
    "Lookahead": lambda given: lookahead(torch.optim.AdamW(given, lr=0.05), k=2),
}
KEEP_NO_MOMENTUM = {"Adagrad", "Adadelta", "LBFGS"}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_the_promise_is_kept_between_any_two_hooks(optimiser: str, rule: str) -> None:
    """After every hook and every step of three epochs; and one step without hooks, as a user's own code may take."""
    made = little(rule)
    moves = OPTIMISERS[optimiser](made.parameters())
    if rule == "sparse-momentum" and optimiser in KEEP_NO_MOMENTUM:
        with pytest.raises(UserError, match="SparseMomentum needs an optimiser that keeps a momentum: SGD with"):
            Loop(made, moves)
        return
    loop = Loop(made, moves)
    before = [parameter.detach().clone() for parameter in made.parameters()]
    for step in range(12):
        loop.step()
        assert_layers_keep_the_promise(made, step)
        if optimiser not in ("LBFGS", "Lookahead") or not step % 3:
            made.zero_grad()
            loop.loss().backward()  # type: ignore[no-untyped-call]
            moves.step(loop.loss if optimiser == "LBFGS" else None)  # type: ignore[arg-type]
            assert_layers_keep_the_promise(made, step)
    assert any(not torch.equal(old, new) for old, new in zip(before, made.parameters(), strict=True))


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "NAdam", "RAdam", "Adamax", "RMSprop", "Lookahead"])
def test_momentum_is_found_by_any_name(name: str) -> None:
    """The running mean of the gradient itself: constant gradients of 1 give it one sign and size everywhere."""
    weight = nn.Parameter(torch.zeros(3, 2))
    moves = OPTIMISERS[name]([weight])
    assert momentum_of(moves, weight) is None
    for _ in range(3):
        weight.grad = torch.tensor([[1.0, 2.0], [4.0, -1.0], [0.0, 1.0]])
        moves.step()
    momentum = momentum_of(moves, weight)
    assert momentum is not None
    if name != "RMSprop":  # whose momentum is of scaled gradients
        assert momentum[1, 0] > momentum[0, 1] > momentum[0, 0] > 0
    assert momentum[1, 1] < 0


def test_decay_is_told_apart() -> None:
    """SGD and Adam add theirs to the gradient, AdamW does not; a group's own counts; others have none."""
    one, other = (nn.Parameter(torch.zeros(2)) for _ in range(2))
    for kind, expected in ((torch.optim.SGD, 0.5), (torch.optim.Adam, 0.5), (torch.optim.AdamW, 0.0)):
        moves = kind([{"params": [other]}, {"params": [one], "weight_decay": 0.5}], lr=0.1, weight_decay=0.25)
        assert l2_decay(moves, one) == expected
        assert l2_decay(moves, other) == expected / 2
        assert l2_decay(moves, nn.Parameter(torch.zeros(2))) == 0
    assert l2_decay(torch.optim.Rprop([one]), one) == 0
    inner = torch.optim.SGD([one], lr=0.1, weight_decay=0.5)
    assert innermost(lookahead(inner)) is inner
    assert l2_decay(lookahead(inner), one) == 0.5


@pytest.mark.parametrize("rule", RULES)
def test_a_run_that_outlasts_its_plan_goes_on(rule: str) -> None:
    """Twice as many steps and epochs as announced: no error, the promise kept, as many edges as at the plan's end."""
    made = little(rule)
    loop = Loop(made, OPTIMISERS["SGD"](made.parameters()), epochs=3, steps=4)
    loop.train(12)
    kept = layer_table(made).total.kept
    for _ in range(12):
        loop.step()
        assert_layers_keep_the_promise(made)
        if rule != "soft-threshold":
            assert layer_table(made).total.kept == kept


@pytest.mark.parametrize("real", [7, 5, 4, 3], ids=lambda steps: f"{steps} steps an epoch")
def test_ac_dc_ends_sparse_with_other_epochs_than_planned(real: int) -> None:
    """The phases go by the ends of epochs that were told, not by a count of steps that was wrong."""
    made = little("ac-dc")
    loop = Loop(made, OPTIMISERS["SGD"](made.parameters()), epochs=20, steps=5)
    loop.steps = real
    phases = []
    for _ in range(20 * real):
        loop.step()
        if not loop.done % real:
            phases.append(layer_table(made).total.kept < 200)
    planned = next(iter(attached_rules(made))).rule.phases  # type: ignore[union-attr]
    pruned = [sparse or epoch + 1 == 20 or planned[epoch + 1] for epoch, sparse in enumerate(planned)]  # type: ignore[arg-type, index]
    assert phases == pruned
    assert phases[-1]


DECIDING = ["snip", "rigl", "set"]


@pytest.mark.parametrize("where", ["0.bias", "2.parametrizations.weight.original"])
@pytest.mark.parametrize("rule", DECIDING)
def test_a_step_that_overflows_decides_nothing(rule: str, where: str) -> None:
    """A GradScaler passes the step over; edges, weights and momenta stay, and the next finite step decides."""
    made = little(rule)
    moves = OPTIMISERS["SGD"](made.parameters())
    loop = Loop(made, moves, epochs=1, steps=60)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    moments = [0] if rule == "snip" else [step for step in range(60) if _rule(made).is_update(step)][:1]
    changed = []
    for step in range(60):
        loop.done = step
        moves.zero_grad()
        scaler.scale(loop.loss()).backward()
        if step in moments:
            made.get_parameter(where).grad.view(-1)[0] = torch.inf  # type: ignore[union-attr]
        before = {name: value.clone() for name, value in made.state_dict().items()}
        scaler.unscale_(moves)
        loop.wiring.before_step(step)
        scaler.step(moves)
        scaler.update()
        loop.wiring.after_step(step)
        same = all(torch.equal(value, made.state_dict()[name]) for name, value in before.items())
        assert same == (step in moments), step
        changed.append(not torch.equal(before[MASK], made.state_dict()[MASK]))
        assert_layers_keep_the_promise(made)
    assert changed.index(True) == (1 if rule == "snip" else [s for s in range(60) if _rule(made).is_update(s)][1])


MASK = "0.parametrizations.weight.0.present"


def _rule(made: nn.Module) -> Any:
    return next(iter(attached_rules(made))).rule


NEED_IT = ["rigl", "set", "sparse-momentum", "ac-dc", "top-kast"]


@pytest.mark.parametrize("rule", NEED_IT)
def test_a_rule_that_needs_the_optimiser_says_so_at_once(rule: str) -> None:
    """At ``begin``, and at the first step where that was left out; looking at edges needs none."""
    wiring = Wiring(little(rule))
    wiring.edges()
    for call in (lambda: wiring.begin(Run(2, 2)), lambda: wiring.before_step(0)):
        with pytest.raises(
            UserError, match=r"acts on what the optimiser keeps of the weights; give it: Wiring\(network, optimiser\)"
        ):
            call()


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule not in NEED_IT])
def test_other_rules_need_none(rule: str) -> None:
    """They act on weights and gradients alone."""
    made = little(rule)
    wiring = Wiring(made)
    wiring.begin(Run(1, 1))
    made(torch.ones(2, 10)).square().mean().backward()
    wiring.before_step(0)
    wiring.after_step(0)
    wiring.after_epoch(0)


def test_what_the_optimiser_should_train_but_does_not_is_told() -> None:
    """Scores that were made after the optimiser, thresholds that nothing draws, and a shared-out momentum."""
    made = nn.Sequential(nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, 4))
    early = torch.optim.SGD(made.parameters(), lr=0.1, momentum=0.9)
    sparse("edge-popup", made=made)
    with pytest.warns(
        UserWarning, match=r"the optimiser does not train 0\.weight's scores, by which EdgePopup decides"
    ):
        Wiring(made, early).begin(Run(1, 1))
    thresholds = little("soft-threshold")
    free = torch.optim.SGD(thresholds.parameters(), lr=0.1)
    with pytest.warns(
        UserWarning,
        match=r"0\.weight's s has no weight decay, which alone makes SoftThresholdReparameterization sparse",
    ):
        Wiring(thresholds, free).begin(Run(1, 1))

    class ZeroRedundancyOptimizer(torch.optim.SGD):
        """Called as PyTorch's, which needs a process group."""

    moving = little("sparse-momentum")
    shared = ZeroRedundancyOptimizer(moving.parameters(), lr=0.1, momentum=0.9)
    with pytest.raises(
        UserError, match="SparseMomentum reads the momentum of all weights, and ZeroRedundancyOptimizer"
    ):
        Wiring(moving, shared).begin(Run(1, 1))


def test_an_optimiser_whose_state_has_no_momentum_is_told_after_its_first_step() -> None:
    """An optimiser that nobody knows is asked when it has something to show."""

    class Own(torch.optim.Optimizer):
        """Keeps something, but no momentum."""

        def __init__(self, given: Parameters) -> None:
            super().__init__(given, {"lr": 0.1})

        def step(self, closure: Any = None) -> None:
            for one in self.param_groups[0]["params"]:
                self.state[one]["steps"] = 1

    made = little("sparse-momentum")
    loop = Loop(made, Own(made.parameters()))
    with pytest.raises(UserError, match="SparseMomentum needs an optimiser that keeps a momentum"):
        loop.step()


def test_edges_are_a_snapshot() -> None:
    """What ``edges`` returned does not change with the network."""
    made = little("rigl")
    loop = Loop(made, OPTIMISERS["SGD"](made.parameters()))
    first = loop.wiring.edges()
    kept = {name: own.clone() for name, own in first.items()}
    loop.train(6)
    assert all(torch.equal(first[name], kept[name]) for name in kept)
    assert any(not torch.equal(first[name], own) for name, own in loop.wiring.edges().items())


@pytest.mark.parametrize("decay_all", [True, False])
def test_soft_threshold_prunes_with_the_usual_parameter_groups(decay_all: bool) -> None:
    """No decay on biases and norms is what everybody does; the threshold is not among them, and old files load."""
    made = little("soft-threshold")
    flat = [one for one in made.parameters() if one.ndim <= 1 and not decay_all]
    rest = [one for one in made.parameters() if one.ndim > 1 or decay_all]
    moves = torch.optim.SGD([{"params": rest, "weight_decay": 0.1}, {"params": flat}], lr=0.5, momentum=0.9)
    loop = Loop(made, moves)
    for _ in range(200):
        loop.backward()
        moves.step()
    assert layer_table(made).total.kept < 100
    state = {name: value.view(()) if name.endswith(".s") else value for name, value in made.state_dict().items()}
    fresh = little("soft-threshold")
    fresh.load_state_dict(state)
    assert layer_table(fresh) == layer_table(made)
