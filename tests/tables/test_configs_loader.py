"""The table files: how rows are laid together, and that every mistake is named with file, line and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from dnw_core.errors import UserError
from tune_configs import load_tables
from tune_configs.loader import load_table

GOOD = """\
id: small
title: A small table
source: a test
default_seeds: {paper: 3}
recipe:
  data: {dataset: cifar10}
  optimiser: {learning_rate: 0.1, weight_decay: 1e-4}
  schedule: {kind: multi-step, milestones: [80, 120]}
  epochs: 160
  batch_size: 512
scales:
  smoke:
    recipe:
      data: {dataset: digits, flip: false}
    epochs: 4
    resources: {cpus: 2}
  short: {epochs_fraction: 0.025}
rows:
  one:
    label: One
    published: {mean: 76.1, spread: 0.5, spread_is: std, n: 5, n_is: assumed, origin: a test}
    recipe:
      network: {kind: tiny-static}
      wiring: {rule: top-edges, density: 0.05}
    scales:
      smoke: {recipe: {batch_size: 32}}
  one-corrected:
    label: One, corrected
    extra: true
    corrects: one
    recipe:
      network: {readout_crop: corrected}
      schedule: {kind: cosine}
    scales:
      smoke: {epochs: 3, resources: {cpus: 1, gpus: 0.5}}
"""


def write(folder: Path, text: str, name: str = "small.yaml") -> Path:
    """Write a table file."""
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def test_layers_are_laid_in_order(tmp_path: Path) -> None:
    """Scale lies over row, row over the row it corrects, that over the table; epochs take the milestones along."""
    table = load_table(write(tmp_path, GOOD))
    one, corrected = table.rows["one"], table.rows["one-corrected"]
    smoke = one.recipe_at("smoke")
    assert (smoke.data.dataset, smoke.data.flip, smoke.batch_size, smoke.epochs) == ("digits", False, 32, 4)
    assert smoke.schedule.milestones == (2, 3)
    assert one.recipe_at("short").epochs == 4
    assert one.recipe_at("short").data.dataset == "cifar10"
    assert one.recipe_at("paper").schedule.milestones == (80, 120)
    assert one.recipe_at("paper").optimiser.weight_decay == 1e-4  # YAML 1.1 would read 1e-4 as a word
    assert one.resources_at("smoke").cpus == 2
    assert corrected.recipe_at("smoke").batch_size == 32  # from the corrected row's own scale
    assert corrected.recipe_at("smoke").epochs == 3
    assert corrected.resources_at("smoke").gpus == 0.5
    assert corrected.recipe_at("paper").network.kind == "tiny-static"
    assert corrected.recipe_at("paper").network.readout_crop == "corrected"
    assert corrected.recipe_at("paper").schedule.kind == "cosine"  # another kind starts the section afresh
    assert (table.default_seeds.paper, table.default_seeds.smoke) == (3, 2)
    assert (one.published.mean, one.published.n_is, corrected.published) == (76.1, "assumed", None)


BAD = [
    ("epochs: 160", "epoch: 160", "small.yaml:9: unknown key 'epoch'; did you mean 'epochs'?"),
    ("learning_rate: 0.1", "learnig_rate: 0.1", "small.yaml:7: unknown key 'optimiser.learnig_rate'; did you mean"),
    ("density: 0.05", "densty: 0.05", "small.yaml:24: unknown key 'wiring.densty'; did you mean 'density'?"),
    ("title: A small", "titel: A small", "small.yaml:2: unknown key 'titel'; did you mean 'title'?"),
    ("    label: One\n", "    lable: One\n", "small.yaml:20: unknown key 'lable'; did you mean 'label'?"),
    ("  short:", "  shrot:", "small.yaml:17: unknown key 'scales.shrot'; did you mean 'short'?"),
    (
        "  batch_size: 512",
        "  batch_size: 512\n  epochs: 3",
        "small.yaml:11: duplicate key 'epochs'; it is already given",
    ),
    ("epochs: 160", "epochs: -3", "small.yaml:9: epochs: input should be greater than 0, found -3"),
    ("epochs: 160", "epochs: many", "small.yaml:9: epochs: input should be a valid integer, found 'many'"),
    ("epochs: 160", "epochs: 1.5", "small.yaml:9: epochs: input should be a valid integer"),
    ("flip: false", "flip: no", "small.yaml:14: data.flip: input should be a valid boolean, found 'no'"),
    ("learning_rate: 0.1", "learning_rate: .nan", "small.yaml:7: .nan is not a finite number"),
    (
        "{kind: tiny-static}",
        "{kind: tiny-sttic}",
        "small.yaml:23: network.kind is unknown: 'tiny-sttic'; did you mean",
    ),
    ("{kind: tiny-static}", "{nodes: 800}", "small.yaml:23: network needs the key 'kind'"),
    (
        "rule: top-edges, density: 0.05",
        "rule: top-edges",
        "small.yaml:24: wiring: a rule that keeps some of the edges takes either density or width",
    ),
    (
        "rule: top-edges, density: 0.05",
        "rule: top-edges, density: 5",
        "wiring.density: input should be",
    ),
    (
        "milestones: [80, 120]",
        "milestones: [120, 80]",
        "small.yaml:8: schedule: milestones are [120, 80]; they must",
    ),
    (
        "milestones: [80, 120]",
        "milestones: [80, x]",
        "schedule.milestones.1: input should be",
    ),
    (
        "corrects: one",
        "corrects: onne",
        "small.yaml:30: row one-corrected corrects an unknown row 'onne'; did",
    ),
    (
        "corrects: one",
        "corrects: one-corrected",
        "small.yaml:30: row one-corrected corrects one-corrected, which",
    ),
    ("    extra: true\n", "", "a row needs its published number, or extra: true"),
    ("spread_is: std, ", "", "spread and spread_is belong together"),
    ("    epochs: 4\n", "    epochs: 4\n    epochs_fraction: 0.1\n", "epochs and epochs_fraction exclude each other"),
    ("smoke: {recipe: {batch_size: 32}}", "smoke: {recipe: {epochs: 3}}", "give epochs beside recipe, not in it"),
    ("  one:", "  ../one:", "small.yaml:19: row id '../one' names a folder"),
    ("  one:", "  one..two:", "small.yaml:19: row id 'one..two' names a folder"),
    (
        "title: A small table",
        "title: !!python/object/apply:os.system [ls]",
        "small.yaml:2: the tag 'python/object",
    ),
    ("title: A small table", "title: {a: &x [1], b: *x}", "small.yaml:2: anchors and aliases"),
    ("title: A small table", "title: [", ": not valid YAML ("),
]


@pytest.mark.parametrize(("old", "new", "message"), BAD, ids=range(len(BAD)))
def test_a_mistake_is_named_with_its_place(tmp_path: Path, old: str, new: str, message: str) -> None:
    """Each mistake is one line: file, line, what is wrong, and the nearest known name."""
    assert old in GOOD
    with pytest.raises(UserError) as caught:
        load_table(write(tmp_path, GOOD.replace(old, new, 1)))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("small.yaml:")


def test_the_file_must_be_there_and_hold_a_table(tmp_path: Path) -> None:
    """Empty, missing, misnamed and undecodable files are the user's to mend."""
    with pytest.raises(UserError, match="is empty"):
        load_table(write(tmp_path, ""))
    with pytest.raises(UserError, match="cannot be read"):
        load_table(tmp_path / "absent.yaml")
    with pytest.raises(UserError, match=r"section|dictionary|mapping|valid"):
        load_table(write(tmp_path, "[1, 2]"))
    (tmp_path / "small.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="UTF-8"):
        load_tables(tmp_path)
    (tmp_path / "small.yaml").unlink()
    with pytest.raises(UserError, match="no table"):
        load_tables(tmp_path)
    write(tmp_path, GOOD, "other.yaml")
    with pytest.raises(UserError, match="it must be the file's name"):
        load_tables(tmp_path)


OTHER = "published: {mean: 76.1, top5: 90.5, recipe: other, origin: elsewhere}"


def test_an_extra_row_may_have_a_number_of_another_paper(tmp_path: Path) -> None:
    """With its recipe and top-5 accuracy, also beside a row that it corrects; a table may have no other rows."""
    table = load_table(write(tmp_path, GOOD.replace("    extra: true\n", f"    extra: true\n    {OTHER}\n")))
    one, corrected = table.rows["one"], table.rows["one-corrected"]
    assert (one.published.recipe, one.published.top5) == ("same", None)
    assert (corrected.extra, corrected.published.recipe, corrected.published.top5) == (True, "other", 90.5)
    assert one.fingerprint_at("paper") == load_table(write(tmp_path, GOOD)).rows["one"].fingerprint_at("paper")
    alone = load_table(write(tmp_path, GOOD.replace("    label: One\n", "    label: One\n    extra: true\n")))
    assert [row.extra for row in alone.rows.values()] == [True, True]
    assert alone.rows["one"].published.mean == 76.1


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("n: 5,", "n: 5, top5: 70,", "top5 is 70; it must be at least the top-1 accuracy, mean (76.1)"),
        ("n: 5,", "n: 5, top5: 101,", "published.top5: input should be less than or equal to 100"),
        ("n: 5,", "n: 5, recipe: other,", "published.recipe other is for extra rows; a row of the paper is judged by"),
        ("n: 5,", "n: 5, recipe: theirs,", "small.yaml:21: published.recipe: input should be 'same' or 'other'"),
        (
            "    extra: true\n",
            "    extra: true\n    published: {mean: 1, origin: x}\n",
            "a corrected row is not trained as the number of one was; drop published, or say published.recipe: other",
        ),
    ],
)
def test_a_number_that_cannot_stand_there_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    """What a published number may not be is one line with its place."""
    assert old in GOOD
    with pytest.raises(UserError) as caught:
        load_table(write(tmp_path, GOOD.replace(old, new, 1)))
    assert message in str(caught.value)
    assert str(caught.value).startswith("small.yaml:")
