"""Table ``tiny`` as it is shipped: against the paper's figures, row by row."""

from __future__ import annotations

import pytest

from dnw_core.config.recipe import Recipe
from dnw_core.errors import UserError
from pipelines.plan.rows import apply_overrides, parse_overrides
from tune_configs import SCALES, load_tables
from tune_configs.needs import locate
from tune_configs.validation import validate

TINY = load_tables()["tiny"]

PUBLISHED = {  # facts 8.1
    "static-random": (76.1, 0.5, "tiny-static", "fixed-random"),
    "static-dnw": (80.9, 0.6, "tiny-static", "top-edges"),
    "discrete-random": (77.3, 0.7, "tiny-discrete", "fixed-random"),
    "discrete-dnw": (82.3, 0.6, "tiny-discrete", "top-edges"),
    "continuous-random": (78.5, 1.2, "tiny-continuous", "fixed-random"),
    "continuous-dnw": (83.1, 0.3, "tiny-continuous", "top-edges"),
}
Q9 = {"network.ode_start", "network.ode_ends"}
CORRECTED: dict[str, list[set[str]]] = {  # the quirks that touch each row (facts 1.7), and the settings of each
    "static-random": [{"wiring.eligible_slots"}, {"network.readout_crop"}],
    "static-dnw": [{"wiring.ranked_slots"}, {"network.readout_crop"}],
    "discrete-random": [{"network.readout_crop"}],
    "discrete-dnw": [{"network.readout_crop"}],
    "continuous-random": [{"network.readout_crop"}, Q9],
    "continuous-dnw": [{"network.readout_crop"}, Q9],
}


def test_the_rows_are_the_papers_and_their_corrections() -> None:
    """Six published rows in the paper's order, then one corrected row for each; whatever follows is extra."""
    shipped = [*PUBLISHED, *(f"{name}-corrected" for name in PUBLISHED)]
    assert [name for name in TINY.rows if name in shipped] == shipped
    assert all(row.extra for name, row in TINY.rows.items() if name not in PUBLISHED)
    assert (TINY.default_seeds.smoke, TINY.default_seeds.short, TINY.default_seeds.paper) == (2, 2, 5)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_row_is_as_published(name: str) -> None:
    """Number, spread and recipe are those of the paper and of facts 3."""
    row, (mean, spread, kind, rule) = TINY.rows[name], PUBLISHED[name]
    assert row.published is not None
    assert (row.published.mean, row.published.spread, row.published.spread_is) == (mean, spread, "std")
    assert (row.published.n, row.published.n_is, row.extra) == (5, "assumed", False)
    paper = row.recipe_at("paper")
    assert (paper.network.kind, paper.wiring.rule, paper.wiring.density) == (kind, rule, 0.05)
    assert (paper.epochs, paper.batch_size, paper.precision) == (160, 512, "fp32")
    assert (paper.optimiser.learning_rate, paper.optimiser.momentum, paper.optimiser.weight_decay) == (0.1, 0.9, 1e-4)
    assert (paper.schedule.milestones, paper.schedule.factor) == ((80, 120), 0.1)
    assert (paper.data.dataset, paper.data.crop_padding, paper.data.flip) == ("cifar10", 4, True)
    short = row.recipe_at("short")
    assert (short.epochs, short.schedule.milestones, short.data) == (4, (2, 3), paper.data)
    assert row.recipe_at("smoke").data.dataset == "digits"
    assert row.recipe_at("smoke").data.flip is False
    assert {note.partition(":")[0] for note in row.notes} <= {"Q1", "Q2", "Q8", "Q9"}
    assert all(note.strip() for note in row.notes)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_corrected_row_differs_in_its_quirks_alone(name: str) -> None:
    """Beside the published row stands one that differs in exactly the variants of the quirks that touch it."""
    from dnw_core.config.base import flatten

    row = TINY.rows[f"{name}-corrected"]
    assert (row.extra, row.corrects, row.published) == (True, name, None)
    assert len(row.notes) == len(TINY.rows[name].notes) == len(CORRECTED[name])
    for scale in SCALES:
        ours, theirs = flatten(row.recipe_at(scale)), flatten(TINY.rows[name].recipe_at(scale))
        different = {key for key in ours if ours[key] != theirs[key]}
        assert different == set().union(*CORRECTED[name])
        assert {ours[key] for key in different} == {"corrected"}


@pytest.mark.parametrize("change", [{"ode_ends": "corrected"}, {"ode_start": "corrected"}])
def test_a_continuous_network_between_the_variants_is_not_trained(change: dict[str, str]) -> None:
    """Clamping the start alone, or the ends alone, is nobody's network: refused in rows and --set, read in records."""
    recipe = TINY.rows["continuous-dnw"].recipe_at("paper")
    values = recipe.model_dump(mode="json")
    values["network"] |= change
    assert Recipe.model_validate(values).network.kind == "tiny-continuous"
    with pytest.raises(UserError, match="neither the released network"):
        validate(Recipe, locate(values, "a row"))
    ((key, value),) = change.items()
    with pytest.raises(UserError, match=r"^--set .*give both alike$"):
        apply_overrides(recipe, parse_overrides([f"network.{key}={value}"]))
    both = ["network.ode_start=corrected", "network.ode_ends=corrected"]
    assert apply_overrides(recipe, parse_overrides(both)).network.ode_ends == "corrected"  # type: ignore[union-attr]


def test_no_two_rows_share_a_recipe() -> None:
    """Every row has its own fingerprint at every scale."""
    found = [row.fingerprint_at(scale) for row in TINY.rows.values() for scale in SCALES]
    assert len(set(found)) == len(found)
