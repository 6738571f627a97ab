"""Which configurations a search tries, in what order, and what each of them trains. No Ray is started."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from support.stubs.search import TABLE, planned

from pipelines.hpo.draw import draw, draw_value
from tune_configs.search_space import Dimension

SPACE = {
    "optimiser.learning_rate": Dimension(log_uniform=(1e-4, 1.0)),
    "optimiser.momentum": Dimension(uniform=(0.0, 0.5)),
    "batch_size": Dimension(integers=(8, 10)),
    "precision": Dimension(choice=("fp32", "tf32")),
}

PINNED = [
    {"batch_size": 64, "optimiser.learning_rate": 0.001, "optimiser.momentum": 0.9, "precision": "fp32"},
    {"batch_size": 10, "optimiser.learning_rate": 0.01321, "optimiser.momentum": 0.1741, "precision": "fp32"},
    {"batch_size": 9, "optimiser.learning_rate": 0.01651, "optimiser.momentum": 0.3819, "precision": "tf32"},
    {"batch_size": 10, "optimiser.learning_rate": 0.04239, "optimiser.momentum": 0.1926, "precision": "tf32"},
]


def test_draws_are_the_same_everywhere(tmp_path: Path) -> None:
    """The present values come first; then numbers pinned here, so that a library's change would show."""
    recipe = planned(tmp_path).row.recipe_at("smoke")
    drawn = draw("toy/sought", recipe, SPACE, 0, 4)
    assert drawn == PINNED
    assert draw("toy/sought", recipe, SPACE, 0, 2) == drawn[:2], "more configurations move the first ones"
    assert draw("toy/sought", recipe, SPACE, 1, 4)[1:] != drawn[1:]
    assert draw("toy/other", recipe, SPACE, 0, 4)[1:] != drawn[1:]


def test_draws_fill_the_space(tmp_path: Path) -> None:
    """Values stay inside, both ends of whole numbers occur, and the logarithm is what is spread evenly."""
    drawn = draw("toy/sought", planned(tmp_path).row.recipe_at("smoke"), SPACE, 0, 400)[1:]
    rates = [one["optimiser.learning_rate"] for one in drawn]
    assert all(1e-4 <= rate <= 1 for rate in rates)
    assert sum(math.log10(rate) for rate in rates) / len(rates) == pytest.approx(-2, abs=0.15)
    assert {one["batch_size"] for one in drawn} == {8, 9, 10}
    assert {one["precision"] for one in drawn} == {"fp32", "tf32"}
    assert all(0 <= one["optimiser.momentum"] <= 0.5 for one in drawn)
    assert draw_value(Dimension(uniform=(0.99991, 0.99995)), 0.5) == pytest.approx(0.99993), "rounding left the range"


def test_a_small_space_is_used_up_and_no_more(tmp_path: Path) -> None:
    """Configurations are different; asked for more than there are, the search takes all there are."""
    names = [one.spec.row for one in planned(tmp_path, trials=50).configurations]
    assert len(names) == len(set(names)) == 6
    assert names[0] == "sought@optimiser.learning_rate=0.001"


def test_combinations_that_the_recipe_refuses_are_drawn_again(tmp_path: Path) -> None:
    """Two settings that exclude each other never meet in a configuration."""
    text = TABLE.replace(
        "{rule: top-edges, density: 0.05}", "{rule: l1-anneal, density: 0.05, anneal_start: 0.3, anneal_end: 0.6}"
    )
    space = "        wiring.anneal_start: {uniform: [0, 0.6]}\n        wiring.anneal_end: {uniform: [0.3, 1]}\n"
    head, _, tail = text.partition("        optimiser.learning_rate: {choice")
    one = planned(tmp_path, head + space + tail.partition("\n")[2], trials=60)
    assert len(one.configurations) == 60
    assert all(each.values["wiring.anneal_start"] <= each.values["wiring.anneal_end"] for each in one.configurations)


def test_configurations_are_trials_on_held_out_images(tmp_path: Path) -> None:
    """Each is the row's recipe with its values, scored on held-out training images, in the search's own store."""
    one = planned(tmp_path)
    assert one.results_dir == tmp_path / "results" / "search" / "toy" / "sought"
    for each in one.configurations:
        assert each.spec.recipe.data.validation_images == 64
        assert each.spec.recipe.optimiser.learning_rate == each.values["optimiser.learning_rate"]
        assert each.spec.results_dir == one.results_dir
        assert each.spec.last_epoch == 9
    assert len({each.spec.fingerprint for each in one.configurations}) == 6
    assert (one.images, one.epochs, one.rungs) == (256, 9, (2, 6, 9))


@pytest.mark.parametrize(
    ("fraction", "factor", "rungs"),
    [(0.2, 3, (2, 6, 9)), (1, 3, (9,)), (0.1, 2.5, (1, 3, 7, 9)), (0.5, 1.2, (4, 5, 6, 7, 9)), (0.9, 3, (8, 9))],
)
def test_rungs(tmp_path: Path, fraction: float, factor: float, rungs: tuple[int, ...]) -> None:
    """Each rung has the factor's multiple of the epochs of the one before, the last one all of them."""
    text = TABLE.replace(
        "first_rung_fraction: 0.2", f"first_rung_fraction: {fraction}\n      reduction_factor: {factor}"
    )
    assert planned(tmp_path, text).rungs == rungs
