"""Masks are not quantities: what averages buffers leaves a sparse network sparse, with the right edges, or says so."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.networks.every_rule import RULES
from support.networks.sparse_rules import Loop, assert_layers_keep_the_promise, little, same_edges, sgd, trained
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dnw_core import Wiring
from dnw_core.config.rules import CompleteConfig, TopEdgesConfig
from dnw_core.errors import UserError
from dnw_core.wiring.attach import attached_rules, generator_for
from dnw_core.wiring.rules.top_edges import DiscoveringNeuralWirings
from dnw_core.wiring.slots import Slots

MOVING = ["rigl", "set", "sparse-momentum", "gradual-pruning", "l1-anneal", "snip", "ac-dc", "top-kast"]


class _Averaged:
    """An average of a network, brought up to date step by step."""

    def __init__(self, made: nn.Module, **settings: Any) -> None:
        self.average = AveragedModel(made, **settings)
        self.network = self.average.module

    def update(self, made: nn.Module) -> None:
        self.average.update_parameters(made)


class _OfTimm:
    """The average of timm's training script, over all values of the state_dict."""

    def __init__(self, made: nn.Module) -> None:
        from timm.utils import ModelEmaV2

        self.average = ModelEmaV2(made, decay=0.9)
        self.network = self.average.module

    def update(self, made: nn.Module) -> None:
        self.average.update(made)


def torchvisions(made: nn.Module) -> _Averaged:
    """The average of torchvision's reference scripts."""
    return _Averaged(made, avg_fn=lambda mean, new, number: 0.9 * mean + 0.1 * new, use_buffers=True)


AVERAGES: dict[str, Callable[[nn.Module], Any]] = {
    "torchvision": torchvisions,
    "AveragedModel, SWA": lambda made: _Averaged(made, use_buffers=True),
    "AveragedModel, EMA": lambda made: _Averaged(made, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True),
    "AveragedModel, parameters only": _Averaged,
    "timm": _OfTimm,
}


@pytest.mark.filterwarnings("ignore:the masks of a copied network were averaged")
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("average", AVERAGES)
def test_an_average_has_the_edges_of_the_network(average: str, rule: str) -> None:
    """At every step, looked at or not for a while: the same edges, where these are kept and not ranked by weights."""
    made = little(rule)
    loop, mean = Loop(made, sgd(made)), AVERAGES[average](made)
    for step in range(12):
        loop.step()
        mean.update(made)
        if step > 8 or step == 3:
            assert_layers_keep_the_promise(mean.network, step)
            if rule in MOVING:
                assert same_edges(made, mean.network), step
    assert_layers_keep_the_promise(made)


def test_a_mask_that_rounding_left_behind_is_noticed() -> None:
    """An equal-weights average of more than 255 networks rounds a byte back to what it was: the stamp tells."""
    made = little("rigl")
    loop, mean = Loop(made, sgd(made)), AveragedModel(made, use_buffers=True)
    mean.update_parameters(made)
    mean.n_averaged.fill_(400)
    before = Wiring(mean.module).edges()
    loop.train(6)
    now = Wiring(made).edges()
    assert any(not torch.equal(before[name], now[name]) for name in now)
    mean.update_parameters(made)
    with pytest.warns(UserWarning, match="the copy takes those of the network that it was copied from"):
        found = Wiring(mean.module).edges()
    assert all(torch.equal(found[name], now[name]) for name in now)


def test_an_average_that_is_no_copy_is_refused() -> None:
    """One sentence at the first use, in a forward pass or elsewhere, instead of more edges than promised."""
    made, other = trained("set", 6), little("set")
    with torch.no_grad():
        for mine, its in zip(other.buffers(), made.buffers(), strict=True):
            mine.copy_(mine | its)
    for use in (lambda: other(torch.ones(1, 10)), lambda: Wiring(other).edges()):
        with pytest.raises(
            UserError,
            match=r"^a mask of a SparseEvolutionaryTraining rule \(16x10; \d+ entries set, 40 promised\) was averaged",
        ):
            use()


def test_copies_of_values_are_taken_as_they_are() -> None:
    """What DistributedDataParallel does with buffers, and AveragedModel with its defaults, is no average."""
    made, twin = trained("rigl", 6), little("rigl")
    with torch.no_grad():
        for mine, its in zip(twin.buffers(), made.buffers(), strict=True):
            mine.copy_(its)
    assert same_edges(twin, made)


@pytest.mark.parametrize("rule", MOVING)
def test_state_dict_is_boolean_and_a_damaged_one_is_refused(rule: str) -> None:
    """Masks keep their type in files; loading one with another count names the key and both numbers."""
    made = trained(rule, 12)
    state = copy.deepcopy(made.state_dict())
    key = "0.parametrizations.weight.0." + ("forward_mask" if rule == "top-kast" else "present")
    assert state[key].dtype is torch.bool
    assert not any(value.dtype is torch.uint8 for value in state.values())
    fresh = little(rule)
    fresh.load_state_dict(state)
    assert_layers_keep_the_promise(fresh)
    state[key].fill_(True)
    with pytest.raises(RuntimeError, match=rf"{key} has 160 entries that are set; \d+ are promised"):
        fresh.load_state_dict(state)


@pytest.mark.parametrize("rule", RULES)
def test_other_types_and_assigned_states_keep_the_edges(rule: str) -> None:
    """``half``, ``double`` and ``load_state_dict(assign=True)`` change no edge."""
    made = little(rule)
    before = Wiring(made).edges()
    made.double()
    made.load_state_dict(copy.deepcopy(made.state_dict()), assign=True)
    after = Wiring(made).edges()
    if rule not in ("top-edges", "no-update", "edge-popup"):
        made.half()
        after = Wiring(made).edges()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert_layers_keep_the_promise(made)


def test_which_slots_are_usable_outlives_an_average() -> None:
    """A mask that never changes is set right without a word, also without the network that it was copied from."""
    usable = torch.ones(4, 6, dtype=torch.bool).tril()
    config = TopEdgesConfig(rule="top-edges", density=0.25, ranked_slots="corrected")
    rule = DiscoveringNeuralWirings(config, Slots((4, 6), usable=usable), generator_for(0, "w"))
    rule._buffers["usable"].fill_(1)  # type: ignore[union-attr]
    assert torch.equal(rule.usable, usable)  # type: ignore[arg-type]
    assert not rule.largest(torch.ones(4, 6))[~usable].any()
    assert CompleteConfig(rule="complete").budget is None


def test_a_copy_of_a_copy_asks_the_copy() -> None:
    """Each copy knows the one that it was made of, and copies stay independent."""
    made = little("rigl")
    loop = Loop(made, sgd(made))
    second = copy.deepcopy(made)
    third = copy.deepcopy(second)
    attached = [next(iter(attached_rules(one))).rule for one in (made, second, third)]
    assert attached[2]._copied_from is not None
    assert attached[2]._copied_from() is attached[1]
    assert attached[1]._copied_from() is attached[0]  # type: ignore[misc]
    before = Wiring(third).edges()
    loop.train(6)
    assert all(torch.equal(own, Wiring(third).edges()[name]) for name, own in before.items())


@pytest.mark.filterwarnings("ignore:the masks of a copied network were averaged")
@pytest.mark.parametrize("rule", MOVING)
def test_buffers_averaged_through_data_are_noticed(rule: str) -> None:
    """Such writes move no version: an average that was used before is looked at again when it is set to ``eval``."""
    made = little(rule)
    loop, mean = Loop(made, sgd(made)), copy.deepcopy(made)
    for step in range(12):
        loop.step()
        for one, new in zip(mean.parameters(), made.parameters(), strict=True):
            one.data.mul_(0.5).add_(new.data, alpha=0.5)
        for mine, its in zip(mean.buffers(), made.buffers(), strict=True):
            mine.data.copy_(0.5 * mine.data + 0.5 * its.data)
        mean.eval()
        assert same_edges(made, mean), step


@pytest.mark.filterwarnings("ignore:the masks of a copied network were averaged")
@pytest.mark.parametrize("rule", MOVING)
def test_an_average_can_be_saved_before_it_is_used(rule: str) -> None:
    """Saving is a use: the file of an average that nobody evaluated has the network's masks, and can be loaded."""
    made = little(rule)
    loop, mean = Loop(made, sgd(made)), AVERAGES["AveragedModel, EMA"](made)
    for _ in range(12):
        loop.step()
        mean.update(made)
    fresh = little(rule)
    fresh.load_state_dict(copy.deepcopy(mean.network.state_dict()))
    assert same_edges(made, fresh)
