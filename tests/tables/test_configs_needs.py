"""Rows that need other rows: the parent's recipe is in theirs, across tables and in chains; mistakes have a place."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_configs_loader import GOOD, write

from dnw_core.errors import UserError
from tune_configs import SCALES, load_tables
from tune_configs.loader import load_table

NEEDY = (
    GOOD.replace("rule: top-edges, density: 0.05", "rule: complete")
    + """\
  two:
    label: Two
    extra: true
    needs: one
    recipe:
      network: {kind: tiny-static}
      wiring: {rule: fine-tune, density: 0.1}
      optimiser: {learning_rate: 0.01}
    scales:
      smoke: {epochs: 2}
  two-corrected:
    label: Two, corrected
    extra: true
    corrects: two
    recipe:
      wiring: {ranked_slots: corrected}
  three:
    label: Three
    extra: true
    needs: small/two
    recipe:
      network: {kind: tiny-static}
      wiring: {rule: lottery-ticket, density: 0.1}
"""
)


def test_a_row_holds_its_parents_recipe(tmp_path: Path) -> None:
    """At each scale the parent's recipe is the needed row's own; corrected rows inherit it, and chains are laid up."""
    rows = load_table(write(tmp_path, NEEDY)).rows
    assert [row.parent_row for row in rows.values()] == [None, None, "small/one", "small/one", "small/two"]
    for scale in SCALES:
        assert rows["one"].recipe_at(scale).parent is None
        assert rows["two"].recipe_at(scale).parent == rows["one"].recipe_at(scale)
        assert rows["two-corrected"].recipe_at(scale).parent == rows["one"].recipe_at(scale)
        assert rows["three"].recipe_at(scale).parent == rows["two"].recipe_at(scale)
    smoke = rows["two"].recipe_at("smoke")
    assert smoke.parent is not None
    assert (smoke.epochs, smoke.parent.epochs, smoke.parent.schedule.milestones) == (2, 4, (2, 3))
    assert (smoke.optimiser.learning_rate, smoke.parent.optimiser.learning_rate) == (0.01, 0.1)
    other = load_table(write(tmp_path, NEEDY.replace("weight_decay: 1e-4", "weight_decay: 2e-4"))).rows
    assert other["two"].fingerprint_at("paper") != rows["two"].fingerprint_at("paper")


def test_a_parents_setting_is_in_the_childs_fingerprint(tmp_path: Path) -> None:
    """What changes the parent alone changes the identity of everything that starts from it."""
    old = load_table(write(tmp_path, NEEDY)).rows
    changed = NEEDY.replace("wiring: {rule: complete}", "wiring: {rule: complete}\n      batch_size: 64", 1)
    new = load_table(write(tmp_path, changed)).rows
    assert old["two"].recipe_at("paper").batch_size == new["two"].recipe_at("paper").batch_size
    for name in ("one", "two", "two-corrected", "three"):
        assert old[name].fingerprint_at("paper") != new[name].fingerprint_at("paper")


def test_a_parent_may_stand_in_another_table(tmp_path: Path) -> None:
    """Tables are laid together once all are read, whichever comes first."""
    write(tmp_path, NEEDY.replace("id: small", "id: zoo"), "zoo.yaml")
    write(tmp_path, NEEDY.replace("needs: one", "needs: zoo/two"))
    tables = load_tables(tmp_path)
    assert tables["small"].rows["two"].parent_row == "zoo/two"
    assert tables["small"].rows["two"].recipe_at("short").parent == tables["zoo"].rows["two"].recipe_at("short")
    write(tmp_path, NEEDY.replace("id: small", "id: zoo").replace("needs: one", "needs: small/three"), "zoo.yaml")
    with pytest.raises(
        UserError, match=r"small\.yaml:39: .* small/two needs zoo/two needs small/three needs small/two;"
    ):
        load_tables(tmp_path)


BAD_NEEDS = [
    ("needs: one", "needs: onne", "small.yaml:39: row two needs an unknown row 'onne'; did you mean 'one'?"),
    (
        "needs: one",
        "needs: smal/one",
        "small.yaml:39: row two needs an unknown row 'smal/one'; did you mean 'small/one'?",
    ),
    ("needs: one", "needs: two", "small.yaml:39: rows need each other in a circle: small/two needs small/two;"),
    ("needs: one", "needs: three", "a circle: small/two needs small/three needs small/two; break it at one place"),
    ("needs: one", "needs: two-corrected", "a circle: small/two-corrected needs small/two-corrected;"),
    ("needs: one", "needs: [one]", "small.yaml:39: needs: input should be a valid string"),
    (
        "    needs: one\n",
        "",
        "small.yaml:36: rule fine-tune starts from a finished trial; name its row with needs (row two, scale",
    ),
    (
        "rule: fine-tune",
        "rule: top-edges",
        "small.yaml:36: rule top-edges takes nothing from another trial; drop needs (row two, scale",
    ),
    (
        "      network: {kind: tiny-static}\n      wiring: {rule: fine",
        "      network: {kind: tiny-discrete}\n      wiring: {rule: fine",
        "small.yaml:36: the needed row has another network",
    ),
    (
        "optimiser: {learning_rate: 0.01}",
        "parent: {epochs: 3}",
        "small.yaml:43: a parent's recipe is not written out; say needs: <row> (row two",
    ),
]


@pytest.mark.parametrize(("old", "new", "message"), BAD_NEEDS, ids=range(len(BAD_NEEDS)))
def test_a_mistaken_need_is_named_with_its_place(tmp_path: Path, old: str, new: str, message: str) -> None:
    """An unknown parent, a circle, and a rule that fits no parent are one line that names the place."""
    assert old in NEEDY
    with pytest.raises(UserError) as caught:
        load_table(write(tmp_path, NEEDY.replace(old, new, 1)))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("small.yaml:")
