"""docs/how_to_add.md: the row that it prints breaks no test, and its wiring rule runs as printed, with its contract."""

from __future__ import annotations

import copy
import shutil
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from support.documents import python_blocks, run
from support.networks.sparsify_workers import batch, network
from tables import test_configs_tiny, test_rows
from torch import nn
from torch.nn.functional import cross_entropy

import tune_configs
from dnw_core import Run, Wiring, effective_weights, layer_table, sparsify

EPOCHS, STEPS = 3, 4


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """What the printed rule defines."""
    return run(python_blocks("how_to_add.md", "A wiring rule")[0])


def made(rule: Any, seed: int = 0) -> tuple[nn.Module, torch.optim.Optimizer, Wiring]:
    """A small network with the rule, its optimiser, and the hooks."""
    model = network()
    sparsify(model, rule, 0.2, memory=0.5, seed=seed)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    wiring = Wiring(model, optimiser)
    wiring.begin(Run(EPOCHS, STEPS))
    return model, optimiser, wiring


def step(model: nn.Module, optimiser: torch.optim.Optimizer, wiring: Wiring, number: int) -> None:
    """One training step, and an epoch's end where one is due."""
    images, labels = batch()
    optimiser.zero_grad()
    with effective_weights():
        cross_entropy(model(images * (1 + number)), labels).backward()
    wiring.before_step(number)
    for here in wiring.attached:
        assert here.gradient is not None
        assert here.gradient.any()
        assert not here.gradient[~here.edges()].any()
    optimiser.step()
    wiring.after_step(number)
    if number % STEPS == STEPS - 1:
        wiring.after_epoch(number // STEPS)


def test_the_printed_row_breaks_no_test_of_the_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Added to a copy of its table: the tests of the shipped rows pass, and the row's own test with them."""
    shutil.copytree(Path(tune_configs.__file__).parent, tmp_path / "copy", ignore=shutil.ignore_patterns("*.py"))
    [entry] = python_blocks("how_to_add.md", "A row", "yaml")
    with (tmp_path / "copy" / "tiny.yaml").open("a") as table:  # rows: is its last section
        table.write(textwrap.indent(entry, "  "))
    tables = tune_configs.load_tables(tmp_path / "copy")
    assert list(tables["tiny"].rows)[-1] == "static-dnw-sparser"
    rows = {f"{row.table}/{row.id}": row for row in tables["tiny"].rows.values()}
    monkeypatch.setattr(test_rows, "ROWS", test_rows.ROWS | rows)
    monkeypatch.setattr(test_configs_tiny, "TINY", tables["tiny"])
    test_rows.test_fingerprints_of_the_shipped_rows_stay()
    test_rows.test_row_builds_to_its_published_size("tiny/static-dnw-sparser")
    test_configs_tiny.test_the_rows_are_the_papers_and_their_corrections()
    test_configs_tiny.test_no_two_rows_share_a_recipe()


def test_both_blocks_run_as_printed_and_the_rule_is_short(capsys: pytest.CaptureFixture[str]) -> None:
    """Under 40 lines, imports included; the second block trains with it to the end."""
    rule, use = python_blocks("how_to_add.md", "A wiring rule")
    assert len(rule.splitlines()) < 40
    found = run(rule + use)
    assert capsys.readouterr().out.splitlines()[-2].split() == ["total", "660", "132", "20.00%"]
    assert layer_table(found["network"]).total.kept == 132


def test_the_rule_keeps_its_count_and_its_gradient_on_its_edges(names: dict[str, Any]) -> None:
    """Exactly k edges at every step and epoch's end, no gradient elsewhere, and edges that move."""
    model, optimiser, wiring = made(names["HardestPulled"])
    before, moves = copy.deepcopy(wiring.edges()), set()
    for number in range(EPOCHS * STEPS):
        step(model, optimiser, wiring, number)
        now = wiring.edges()
        assert [int(mask.sum()) for mask in now.values()] == [44, 231, 64]
        if any(not mask.equal(before[name]) for name, mask in now.items()):
            moves.add(number)
        before = copy.deepcopy(now)
    assert STEPS - 1 in moves
    assert all(number % STEPS == STEPS - 1 for number in moves)


def test_the_rules_edges_are_those_that_were_pulled_hardest(names: dict[str, Any]) -> None:
    """Worked out from the gradients alone: the running mean of their magnitudes, its k largest at the epoch's end."""
    layer = nn.Linear(6, 5, bias=False)
    sparsify(layer, names["HardestPulled"], 0.3, memory=0.5)
    wiring = Wiring(layer, None)
    mean = torch.zeros(5, 6, dtype=torch.float64)
    for number in range(3):
        layer.zero_grad()
        x = torch.randn(7, 6)
        layer(x).pow(3).sum().backward()
        gradient = (3 * (x.double() @ layer.weight.detach().double().T).square()).T @ x.double()
        mean = 0.5 * mean + 0.5 * gradient.abs()
        wiring.before_step(number)
    wiring.after_epoch(0)
    expected = torch.zeros(30, dtype=torch.bool)
    expected[mean.flatten().sort(descending=True).indices[:9]] = True
    assert wiring.edges()["weight"].flatten().equal(expected)


@pytest.mark.parametrize("stop", [STEPS, STEPS + 2])
def test_training_goes_on_to_the_bit(names: dict[str, Any], stop: int) -> None:
    """At an epoch's end and within one: state_dict into a fresh network with another seed, and on."""
    first = made(names["HardestPulled"])
    for number in range(stop):
        step(*first, number)
    second = made(names["HardestPulled"], seed=9)
    state = copy.deepcopy(first[0].state_dict())
    assert {name.rsplit(".", 1)[1] for name in state if ".0." in name and "parametrizations" in name} == {
        "mask",
        "pull",
    }
    second[0].load_state_dict(state)
    second[1].load_state_dict(copy.deepcopy(first[1].state_dict()))
    for number in range(stop, EPOCHS * STEPS):
        step(*first, number)
        step(*second, number)
    for name, value in first[0].state_dict().items():
        assert value.equal(second[0].state_dict()[name]), name
