"""What rules, densities and skipped layers may be called."""

from __future__ import annotations

import copy
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from support.documents import table_rows
from support.networks.every_rule import RULES, arguments
from support.networks.sparsify_workers import network
from torch import nn

from dnw_core import remove_rules, sparsify
from dnw_core.config import RULES as REGISTERED
from dnw_core.errors import UserError
from dnw_core.library.names import ALIASES
from dnw_core.wiring.attach import attached_rules


def attached(rule: str, given: dict[str, Any]) -> list[type]:
    """The classes of the rules that this name attaches."""
    made = network()
    sparsify(made, **given | {"rule": rule})
    return [type(here.rule) for here in attached_rules(made)]


@pytest.mark.parametrize("alias", ALIASES)
def test_an_alias_is_a_rule_under_its_own_name(alias: str) -> None:
    """It attaches what the rule's name does, also spelled otherwise, and messages say the rule's name."""
    rule, known = ALIASES[alias], REGISTERED
    assert alias not in known
    for spelled in (alias, alias.upper(), f" {alias}"):
        assert attached(spelled, arguments(rule)) == attached(rule, arguments(rule))
    with pytest.raises(UserError, match=rf"^rule '{rule}' has no setting 'pace'"):
        sparsify(network(), alias, pace=3)


@pytest.mark.parametrize("rule", RULES)
def test_case_and_separators_make_no_difference(rule: str) -> None:
    """Top_Edges, TOP-EDGES, top edges, AC/DC."""
    expected = attached(rule, arguments(rule))
    for spelled in (rule.upper(), rule.replace("-", "_").title(), rule.replace("-", " "), rule.replace("-", "/")):
        assert attached(spelled, arguments(rule)) == expected


def test_the_nearest_name_may_be_an_alias() -> None:
    """And lottery-ticket, which cannot be attached, is no alias of one that can."""
    with pytest.raises(UserError, match=r"^there is no wiring rule 'snsf'; did you mean 'snfs'\? \(known: "):
        sparsify(network(), "snsf", 0.5)


def test_the_documents_list_of_aliases_is_the_codes() -> None:
    """docs/sparsify.md, section The call."""
    written = {alias: rule for rule, aliases in table_rows("sparsify.md", "name") for alias in aliases.split(", ")}
    assert written == ALIASES


@pytest.mark.parametrize(
    ("sparsity", "sentence"),
    [
        (0.9, "density is 1 - sparsity: 0.1"),
        (0.75, "density is 1 - sparsity: 0.25"),
        (np.float32(0.95), "density is 1 - sparsity: 0.05"),
        (0, "density is 1 - sparsity: 1"),
        (90, "give density, which is 1 - sparsity"),
        ("0.9", "give density, which is 1 - sparsity"),
        (float("nan"), "give density, which is 1 - sparsity"),
    ],
)
def test_who_gives_a_sparsity_is_told_the_density(sparsity: Any, sentence: str) -> None:
    """Computed, where it can be."""
    with pytest.raises(UserError) as caught:
        sparsify(network(), "dnw", sparsity=sparsity)
    assert str(caught.value) == f"rule 'top-edges' has no setting 'sparsity'; {sentence}"
    with pytest.raises(UserError, match=r"^rule 'soft-threshold' has no setting 'sparsity' \(its settings: initial"):
        sparsify(network(), "str", sparsity=sparsity)


@pytest.mark.parametrize(
    ("density", "kept"),
    [
        (np.float32(0.1), 1000),  # which holds 0.10000000149
        (np.float16(0.3), 3000),
        (np.float64(0.3), 3000),
        (np.longdouble("0.3"), 3000),
        (np.float64(1) - np.float64(0.7), 3000),
        (Fraction(3, 10), 3000),
        (np.int64(1), 10_000),
        (1 - 0.7, 3000),
        (1 - 0.98, 200),
    ],
)
def test_any_plain_or_numpy_number_is_the_density_that_was_meant(density: Any, kept: int) -> None:
    """A number of less precision is the one that it was written as; a computed one means what was to be computed."""
    table = sparsify(nn.Linear(1000, 10), "top-kast", density, backward_density=np.float32(1))
    assert table.total.kept == kept


@pytest.mark.parametrize("density", [np.float32("nan"), np.bool_(True), np.array([0.1]), 0.1j, np.float32(1.5)])
def test_numbers_that_are_no_density(density: Any) -> None:
    """The sentence says what one is; a tensor is told apart, since it prints like a number."""
    with pytest.raises(UserError, match=r"it is the fraction of the weights that is kept, above 0 and at most 1$"):
        sparsify(network(), "dnw", density)
    with pytest.raises(UserError, match=r"^density is a Tensor; give a plain number \(its item\(\)\): the fraction of"):
        sparsify(network(), "dnw", torch.tensor(0.1))


def nested() -> nn.Module:
    """Two stages, a norm, and a head."""
    return nn.ModuleDict(
        {
            "stage1": nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4)),
            "stage2": nn.Sequential(nn.Linear(4, 4)),
            "head": nn.Linear(4, 4),
        }
    )


def test_modules_are_skipped_with_all_inside() -> None:
    """A layer, a stage, several, mixed with patterns, in any collection; a Sequential is one module and no list."""
    for choose, left in [
        (lambda made: made["head"], ["stage1.0.weight", "stage1.2.weight", "stage2.0.weight"]),
        (lambda made: [made["head"]], ["stage1.0.weight", "stage1.2.weight", "stage2.0.weight"]),
        (lambda made: made["stage1"], ["stage2.0.weight", "head.weight"]),
        (lambda made: {made["stage1"], "head"}, ["stage2.0.weight"]),
        (lambda made: (made["stage1"][0], made["stage1"][0], "*2"), ["head.weight"]),
        (lambda made: iter([made["stage1"][0], made["stage1"][2]]), ["stage2.0.weight", "head.weight"]),
        (lambda made: [], ["stage1.0.weight", "stage1.2.weight", "stage2.0.weight", "head.weight"]),
    ]:
        made = nested()
        assert [row.name for row in sparsify(made, "rigl", 0.5, skip=choose(made)).rows] == left
        remove_rules(made)


def test_a_layer_of_two_names_is_skipped_as_itself() -> None:
    """By identity, under whatever name it stands."""
    layer = nn.Linear(4, 4)
    made = nn.ModuleDict({"first": layer, "again": layer, "other": nn.Linear(4, 4)})
    assert [row.name for row in sparsify(made, "set", 0.5, skip=layer).rows] == ["other.weight"]


def test_anything_else_in_skip_is_one_sentence() -> None:
    """Indices, tensors, None, strangers, a copy's layer, modules without weights, and the whole network."""
    made = nested()
    neither = "which is neither a pattern of names (such as 'head' or 'layer1.*') nor a module"
    for skip, sentence in [
        ([0], f"skip holds 0, {neither}"),
        (0, f"skip holds 0, {neither}"),
        (None, f"skip holds None, {neither}"),
        ([b"head"], f"skip holds b'head', {neither}"),
        (made["head"].weight, f"skip holds Parameter, {neither}"),  # type: ignore[index, union-attr]
        ([made["head"].weight], f"skip holds Parameter, {neither}"),  # type: ignore[index, union-attr]
        ([["head"]], f"skip holds ['head'], {neither}"),
        (nn.Linear, f"skip holds {nn.Linear!r}, {neither}"),
        (
            copy.deepcopy(made)["head"],
            "skip holds a Linear that is not part of the network (of a copy of it, perhaps?)",
        ),  # type: ignore[index]
        ([made["stage1"][1]], "skip holds 'stage1.1' (BatchNorm1d), in which there is no prunable weight"),  # type: ignore[index]
        (made, "skip leaves no prunable weight of ModuleDict: all 4 are skipped"),
    ]:
        with pytest.raises(UserError) as caught:
            sparsify(made, "rigl", 0.5, skip=skip)  # type: ignore[arg-type]
        assert str(caught.value) == sentence
        assert not list(attached_rules(made))


def test_a_network_is_a_module() -> None:
    """A state dict, a class, nothing: one sentence."""
    for wrong, kind in [(network().state_dict(), "OrderedDict"), (nn.Linear, "type"), (None, "NoneType")]:
        with pytest.raises(UserError, match=rf"^a {kind} cannot be made sparse; give the network, an nn\.Module$"):
            sparsify(wrong, "rigl", 0.5)  # type: ignore[arg-type]
