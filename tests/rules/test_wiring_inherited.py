"""Lottery ticket and fine-tuning: edges from the parent's weight, fixed from then on."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import nn

from dnw_core.config import WiringConfig
from dnw_core.models.build import build_rule
from dnw_core.wiring.attach import attach, attached_rules
from dnw_core.wiring.rules.inherited import InheritedEdges
from dnw_core.wiring.slots import Slots

RULES = ["lottery-ticket", "fine-tune"]
WIRING: TypeAdapter[WiringConfig] = TypeAdapter(WiringConfig)


def rule_for(rule: str, slots: Slots, **settings: Any) -> InheritedEdges:
    """The rule with half of the slots kept."""
    built = build_rule(WIRING.validate_python({"rule": rule, "density": 0.5, **settings}), slots, 0, "w")
    assert isinstance(built, InheritedEdges)
    return built


@pytest.mark.parametrize("rule", RULES)
def test_edges_are_the_parents_largest_whatever_the_weight_does(rule: str) -> None:
    """Hand-computed: the parent ranks, the own weight carries, the gradient stays on the edges."""
    layer = nn.Linear(2, 2, bias=False)
    built = rule_for(rule, Slots((2, 2)))
    built.load_parent_weight(torch.tensor([[0.1, -4.0], [3.0, 0.2]]))
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[9.0, 1.0], [-0.5, -8.0]]))
    attach(layer, "weight", built)
    x = torch.tensor([[5.0, 7.0]])
    y = layer(x)
    assert y.tolist() == [[7.0, -2.5]]
    y.backward(torch.tensor([[1.0, 10.0]]))
    (attached,) = attached_rules(layer)
    assert attached.weight.grad is not None
    assert attached.weight.grad.tolist() == [[0.0, 7.0], [50.0, 0.0]]
    assert attached.edges().tolist() == [[False, True], [True, False]]
    with torch.no_grad():
        attached.weight.mul_(torch.tensor([[100.0, 0.01], [0.01, 100.0]]))
    assert attached.edges().tolist() == [[False, True], [True, False]]


@pytest.mark.parametrize("rule", RULES)
def test_the_mask_is_taken_over_the_ranked_slots(rule: str) -> None:
    """The reference ranks all slots, as the released code does; the corrected variant the usable ones."""
    usable = torch.tensor([[True, True], [False, False]])
    parent = torch.tensor([[1.0, -2.0], [3.0, 0.5]])
    for ranked, mask in (
        ("reference", [[False, True], [True, False]]),
        ("corrected", [[True, True], [False, False]]),
    ):
        built = rule_for(rule, Slots((2, 2), usable=usable), ranked_slots=ranked)
        built.load_parent_weight(parent)
        assert built.edges(torch.zeros(2, 2)).tolist() == mask


@pytest.mark.parametrize("rule", RULES)
def test_without_a_parent_there_are_no_edges(rule: str) -> None:
    """Asking before load_parent_weight() is an error that says what to do, also after loading a state without edges."""
    built = rule_for(rule, Slots((3, 4)))
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"has no edges yet: call load_parent_weight\(\)"):
            built.edges(torch.ones(3, 4))
        with pytest.raises(RuntimeError, match=r"has no edges yet: call load_parent_weight\(\)"):
            built(torch.ones(3, 4))
        built.load_state_dict(rule_for(rule, Slots((3, 4))).state_dict())


@pytest.mark.parametrize("rule", RULES)
def test_a_checkpoint_restores_the_edges(rule: str) -> None:
    """A resumed trial needs its parent no more."""
    built, resumed = (rule_for(rule, Slots((6, 5))) for _ in range(2))
    built.load_parent_weight(torch.randn(6, 5, generator=torch.Generator().manual_seed(0)))
    resumed.load_state_dict(built.state_dict())
    weight = torch.ones(6, 5)
    assert torch.equal(resumed(weight), built(weight))
    assert int(resumed.edges(weight).sum()) == 15 == resumed.promised_edges


def test_a_parent_of_another_shape_is_refused() -> None:
    """One clear sentence."""
    with pytest.raises(ValueError, match=r"the parent's weight has shape \(4, 3\); this one has \(3, 4\)"):
        rule_for("fine-tune", Slots((3, 4))).load_parent_weight(torch.ones(4, 3))


def test_which_weights_training_starts_from() -> None:
    """The two rules differ in this alone, and both need a parent; no other rule does."""
    starts = {
        rule: WIRING.validate_python({"rule": rule, "density": 0.5}).starts_from for rule in (*RULES, "top-edges")
    }
    assert starts == {"lottery-ticket": "seed", "fine-tune": "parent", "top-edges": "seed"}
    assert all(WIRING.validate_python({"rule": rule, "density": 0.5}).needs_parent for rule in RULES)
    assert not WIRING.validate_python({"rule": "top-edges", "density": 0.5}).needs_parent
