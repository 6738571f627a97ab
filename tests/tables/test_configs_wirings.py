"""Table ``wirings`` as it is shipped: against the paper's figures, row by row."""

from __future__ import annotations

import pytest
from support.fingerprints import PAPER_FINGERPRINTS

from dnw_core.config.base import flatten
from tune_configs import SCALES, load_tables

WIRINGS = load_tables()["wirings"]
SHIPPED = {name: row for name, row in WIRINGS.rows.items() if f"wirings/{name}" in PAPER_FINGERPRINTS}

PUBLISHED = {  # facts 8.2; the rule that builds the row (facts 4.1)
    "mobilenet-x0.25": (86.3, 0.2, "complete"),
    "random-x0.225": (87.2, 0.1, "fixed-random"),
    "no-update": (86.7, 0.5, "no-update"),
    "l1-anneal": (84.3, 0.6, "l1-anneal"),
    "targeted-dropout": (89.2, 0.4, "targeted-dropout"),
    "lottery-one-shot": (87.9, 0.3, "lottery-ticket"),
    "dnw-x0.225": (89.7, 0.2, "top-edges"),
}
CORRECTED = {  # the quirk that each corrected row mends (facts 1.7: Q1, Q3, Q4)
    "no-update": {"wiring.ranked_slots"},
    "targeted-dropout": {"wiring.weight_sign"},
    "dnw-x0.225": {"wiring.ranked_slots"},
}
KEPT = {0.15: 70_643, 0.225: 158_944, 0.3: 282_565, 0.49: 753_816}  # facts 2.2


def test_the_published_rows_are_the_papers() -> None:
    """Seven published rows in the paper's order; everything after them is extra."""
    assert list(WIRINGS.rows)[: len(PUBLISHED)] == list(PUBLISHED)
    assert all(row.extra for name, row in WIRINGS.rows.items() if name not in PUBLISHED)
    assert (WIRINGS.default_seeds.smoke, WIRINGS.default_seeds.short, WIRINGS.default_seeds.paper) == (2, 2, 5)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_row_is_as_published(name: str) -> None:
    """Number, spread, network and rule are those of the paper and of facts 4.1."""
    row, (mean, spread, rule) = WIRINGS.rows[name], PUBLISHED[name]
    assert row.published is not None
    assert (row.published.mean, row.published.spread, row.published.spread_is) == (mean, spread, "std")
    assert (row.published.n, row.published.n_is, row.extra) == (5, "assumed", False)
    paper = row.recipe_at("paper")
    assert paper.wiring.rule == rule
    if name == "mobilenet-x0.25":
        assert (paper.network.kind, paper.network.width_multiplier) == ("mobilenet-v1", 0.25)
    else:
        assert (paper.network.kind, paper.network.classifier) == ("graph-mobilenet", "linear")
        assert (paper.wiring.width, paper.wiring.density) == (0.225, None)
    if name == "targeted-dropout":
        assert paper.wiring.drop_probability == 0.95


@pytest.mark.parametrize("name", SHIPPED)
def test_every_row_has_the_papers_recipe(name: str) -> None:
    """The medium-scale recipe of facts 3, at every row; a fine-tuned one starts at a tenth of the rate (facts 4.1)."""
    row = SHIPPED[name]
    paper = row.recipe_at("paper")
    rate = 0.01 if name == "fine-tune" else 0.1
    assert (paper.epochs, paper.batch_size, paper.precision, paper.schedule.kind) == (160, 128, "fp32", "cosine")
    assert (paper.optimiser.momentum, paper.optimiser.weight_decay) == (0.9, 1e-4)
    assert paper.optimiser.learning_rate == rate
    assert (paper.data.dataset, paper.data.crop_padding, paper.data.flip) == ("cifar10", 4, True)
    assert (paper.data.train_images, paper.data.test_images, paper.data.validation_images) == (None, None, 0)
    short, smoke = row.recipe_at("short"), row.recipe_at("smoke")
    assert (short.epochs, short.data, short.optimiser) == (4, paper.data, paper.optimiser)
    assert (smoke.data.dataset, smoke.data.flip, smoke.network) == ("digits", False, paper.network)
    assert all(note.strip() for note in row.notes)
    assert (row.published is None) == row.extra


def test_two_rows_start_from_the_complete_graph() -> None:
    """The lottery ticket and the fine-tuned row need the complete graph, with its own recipe at every scale."""
    assert {name: row.parent_row for name, row in SHIPPED.items() if row.parent_row} == {
        "lottery-one-shot": "wirings/complete",
        "fine-tune": "wirings/complete",
    }
    complete = WIRINGS.rows["complete"]
    for name in ("lottery-one-shot", "fine-tune"):
        for scale in SCALES:
            assert WIRINGS.rows[name].recipe_at(scale).parent == complete.recipe_at(scale)
    assert complete.recipe_at("paper").wiring.rule == "complete"


@pytest.mark.parametrize("name", CORRECTED)
def test_a_corrected_row_differs_in_its_quirk_alone(name: str) -> None:
    """Beside the published row stands one that differs in exactly the quirk that it mends."""
    row = WIRINGS.rows[f"{name}-corrected"]
    assert (row.corrects, row.published) == (name, None)
    for scale in SCALES:
        ours, theirs = flatten(row.recipe_at(scale)), flatten(WIRINGS.rows[name].recipe_at(scale))
        assert {key for key in ours if ours[key] != theirs[key]} == CORRECTED[name]
        assert {ours[key] for key in CORRECTED[name]} == {"corrected"}


def test_the_widths_keep_the_papers_edges() -> None:
    """Each width keeps as many edges as facts 2.2 counts; random and DNW rows come at the same ones."""
    found: dict[str, set[float]] = {"random": set(), "dnw": set()}
    for name, row in SHIPPED.items():
        kind = name.partition("-")[0]
        wiring = row.recipe_at("paper").wiring
        budget = wiring.budget
        if budget is None:
            continue
        graphs = row.recipe_at("paper").network.graph_sizes()
        edges = sum(budget.edges(graph.slots, graph.law) for graph in graphs)
        assert edges == KEPT[wiring.width]
        if kind in found and row.corrects is None:
            found[kind].add(wiring.width)
    assert found == {"random": set(KEPT), "dnw": set(KEPT)}


def test_no_two_rows_share_a_recipe() -> None:
    """Every row has its own fingerprint at every scale."""
    found = [row.fingerprint_at(scale) for row in WIRINGS.rows.values() for scale in SCALES]
    assert len(set(found)) == len(found)
