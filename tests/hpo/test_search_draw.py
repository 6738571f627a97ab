"""Which configurations a search tries, in what order, and what it knows of its past. No Ray is started."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from support.stubs.search import TABLE, line, write_tables

from dnw_core.files import write_text
from pipelines.hpo.curve import Curve, read_curve
from pipelines.hpo.plan import Search, draw, draw_value, find_row, plan_search
from pipelines.hpo.tune import trained_so_far
from pipelines.plan.placement import Placement
from pipelines.store.folder import Store
from pipelines.store.layout import work_folder
from tune_configs import load_tables
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


def recipe(tmp_path: Path) -> object:
    """The recipe of the test's row."""
    return load_tables(write_tables(tmp_path))["toy"].rows["sought"].recipe_at("smoke")


def planned(tmp_path: Path, text: str = TABLE, trials: int | None = None) -> Search:
    """The search of the test's row."""
    row = find_row(load_tables(write_tables(tmp_path / "tables", text)), "toy/sought")
    place = tmp_path / "results"
    return plan_search(row, "smoke", seed=0, trials=trials, placement=Placement(), results_dir=place)


def test_draws_are_the_same_everywhere(tmp_path: Path) -> None:
    """The present values come first; then numbers pinned here, so that a library's change would show."""
    drawn = draw("toy/sought", recipe(tmp_path), SPACE, 0, 4)
    assert drawn == PINNED
    assert draw("toy/sought", recipe(tmp_path), SPACE, 0, 2) == drawn[:2], "more configurations move the first ones"
    assert draw("toy/sought", recipe(tmp_path), SPACE, 1, 4)[1:] != drawn[1:]
    assert draw("toy/other", recipe(tmp_path), SPACE, 0, 4)[1:] != drawn[1:]


def test_draws_fill_the_space(tmp_path: Path) -> None:
    """Values stay inside, both ends of whole numbers occur, and the logarithm is what is spread evenly."""
    drawn = draw("toy/sought", recipe(tmp_path), SPACE, 0, 400)[1:]
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
    assert len({each.spec.fingerprint for each in one.configurations}) == 6
    assert (one.images, one.epochs, one.first_rung) == (256, 9, 2)


def test_an_epoch_that_only_the_checkpoint_knows_is_found(tmp_path: Path) -> None:
    """Killed between checkpoint and curve: the checkpoint's history fills the gap; a cut off curve is no crash."""
    from dnw_core.task import TrialIdentity, TrialTask
    from dnw_core.training.checkpoints.checkpoint import CheckpointKey, save_checkpoint
    from dnw_core.training.checkpoints.trial_log import TrialLog
    from dnw_core.training.start import start_or_resume
    from dnw_core.wiring.rule import Run

    spec = planned(tmp_path).configurations[0].spec
    store = Store.open(spec.results_dir, create=True)
    work = store.work_folder(spec)
    Curve(5, (line(0, 0.1),)).write(work)
    run = Run(spec.recipe.epochs, 1)
    identity = TrialIdentity(table=spec.table, row=spec.row, scale=spec.scale, fingerprint=spec.fingerprint)
    task = TrialTask(spec.recipe, spec.seed, spec.execution, work, identity)
    state, _ = start_or_resume(task, run, TrialLog(None))
    state.epoch, state.history = 3, [line(epoch, 0.1 * (epoch + 1)) for epoch in range(3)]
    save_checkpoint(work, CheckpointKey.of(task), state.to_checkpoint())
    assert [one.epoch for one in trained_so_far(spec).epochs] == [0, 1, 2]
    assert [one.epoch for one in read_curve(store.folder(spec)).epochs] == [0, 1, 2], "and is written down"
    write_text(work_folder(store.folder(spec)) / "curve.json", '{"started": 5, "epo')
    assert read_curve(store.folder(spec)).epochs == ()
