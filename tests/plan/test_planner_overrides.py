"""``--set``, ``--only`` and ``--seeds``: typed, and every mistake answered with what would be right."""

from __future__ import annotations

import pytest

from dnw_core.config.base import fingerprint
from dnw_core.errors import UserError
from pipelines.plan.rows import (
    apply_overrides,
    parent_overrides,
    parse_overrides,
    parse_seeds,
    seeds_text,
    select_rows,
    split_variant,
    variant_name,
)
from tune_configs import load_tables

TABLES = load_tables()
RECIPE = TABLES["tiny"].rows["static-dnw"].recipe_at("paper")


def test_settings_are_typed_by_the_recipe() -> None:
    """Numbers, words, truth values and lists arrive as the recipe types them; nothing else changes."""
    settings = ["optimiser.learning_rate=5e-2", "data.flip=false", "schedule.milestones=[1, 2]", "precision=bf16"]
    settings += ["wiring.density=1", "network.nodes=900"]
    changed = apply_overrides(RECIPE, parse_overrides(settings))
    assert (changed.optimiser.learning_rate, changed.data.flip, changed.precision) == (0.05, False, "bf16")
    assert changed.schedule.milestones == (1, 2)
    assert (changed.wiring.density, changed.network.nodes) == (1.0, 900)
    assert apply_overrides(RECIPE, parse_overrides(["batch_size=512"])) == RECIPE


def test_epochs_take_the_schedule_along() -> None:
    """Fewer epochs compress the schedule, as a scale does, unless the schedule is set as well."""
    assert apply_overrides(RECIPE, parse_overrides(["epochs=16"])) == RECIPE.with_epochs(16)
    both = apply_overrides(RECIPE, parse_overrides(["epochs=16", "schedule.milestones=[3]"]))
    assert (both.epochs, both.schedule.milestones) == (16, (3,))


def test_another_kind_starts_a_section_afresh() -> None:
    """Another schedule or rule brings its own settings."""
    assert apply_overrides(RECIPE, parse_overrides(["schedule.kind=cosine"])).schedule.kind == "cosine"
    changed = apply_overrides(RECIPE, parse_overrides(["wiring.density=0.1", "wiring.rule=fixed-random"]))
    assert (changed.wiring.rule, changed.wiring.density) == ("fixed-random", 0.1)


def test_a_variants_name_is_sorted_exact_and_readable_again() -> None:
    """One name for one variant, however it was typed, and the name alone gives the recipe back."""
    one = parse_overrides(["optimiser.learning_rate=0.050", "schedule.milestones=[80,100]", "data.flip=false"])
    two = parse_overrides(["data.flip=FALSE", "schedule.milestones=[80, 100]", "optimiser.learning_rate=5e-2"])
    recipe = apply_overrides(RECIPE, one)
    name = variant_name("static-dnw", recipe, one)
    assert name == "static-dnw@data.flip=false,optimiser.learning_rate=0.05,schedule.milestones=[80,100]"
    assert variant_name("static-dnw", apply_overrides(RECIPE, two), two) == name
    base, settings = split_variant(name)
    assert (base, len(settings)) == ("static-dnw", 3)
    assert fingerprint(apply_overrides(RECIPE, parse_overrides(settings))) == fingerprint(recipe)
    assert split_variant("static-dnw") == ("static-dnw", [])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "optimiser.learnig_rate=0.05",
            "--set optimiser.learnig_rate: unknown key; did you mean",
        ),
        ("learning_rate=0.05", "did you mean 'optimiser.learning_rate'?"),
        ("optimiser=0.05", "--set optimiser names a section; set one of optimiser.learning_rate"),
        ("optimiser.learning_rate.x=0.05", "unknown key; did you mean 'optimiser.learning_rate'?"),
        (
            "optimiser.learning_rate=fast",
            "--set optimiser.learning_rate: input should be a valid number",
        ),
        ("optimiser.learning_rate=-1", "input should be greater than 0, found -1"),
        ("optimiser.learning_rate=", "--set optimiser.learning_rate: the value is empty"),
        ("optimiser.learning_rate", "is not key=value"),
        ("=3", "is not key=value"),
        ("../x=3", "is not key=value"),
        ("epochs=-3", "--set epochs: input should be greater than 0, found -3"),
        ("epochs=2.5", "--set epochs: input should be a valid integer"),
        (
            "data.dataset=cifar100",
            "--set data.dataset: input should be 'cifar10', 'digits', 'imagenet' or 'image-folder', found",
        ),
        ("schedule.kind=cosin", "--set schedule.kind: schedule.kind is unknown: 'cosin'; did you mean 'cosine'?"),
        ("wiring.rule=fixed-random", "--set wiring.rule: wiring: a rule that keeps some of the edges takes either"),
        ("parent.epochs=3", "--set parent.epochs: the parent row gets the same settings, except for"),
        ("parent=3", "--set parent: the parent row gets the same settings"),
        ("wiring.rule=lottery-ticket", "takes either density or width"),
        ("data.flip={a: 1}", "--set data.flip: input should be a valid boolean"),
        ("data.flip=!!python/name:os.system", "the tag 'python/name:os.system' is not allowed here"),
    ],
)
def test_a_mistyped_setting_is_answered(setting: str, message: str) -> None:
    """Each mistake is one line that names the option, what is wrong, and the nearest known key."""
    with pytest.raises(UserError) as caught:
        apply_overrides(RECIPE, parse_overrides([setting]))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


LOTTERY = TABLES["wirings"].rows["lottery-one-shot"].recipe_at("paper")


def test_settings_reach_the_parent_but_for_its_wiring() -> None:
    """A parent changes along, exactly as it would under its own name; its wiring does not."""
    overrides = parse_overrides(["epochs=16", "precision=bf16", "wiring.width=0.3", "network.classifier=edges"])
    changed = apply_overrides(LOTTERY, overrides)
    complete = TABLES["wirings"].rows["complete"].recipe_at("paper")
    assert (changed.epochs, changed.wiring.width) == (16, 0.3)
    assert changed.parent == apply_overrides(complete, parent_overrides(overrides))
    assert changed.parent.epochs == 16
    assert apply_overrides(LOTTERY, parse_overrides(["wiring.width=0.3"])).parent == complete


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("parent.optimiser.learning_rate=0.1", "--set parent.optimiser.learning_rate: the parent row gets"),
        ("epochs=-3", "--set epochs: input should be greater than 0, found -3"),
        ("epoch=3", "--set epoch: unknown key; did you mean 'epochs'?"),
        ("wiring.rule=complete", "--set: rule complete takes nothing from another trial"),
    ],
)
def test_a_mistake_in_a_row_with_a_parent(setting: str, message: str) -> None:
    """Settings of the parent alone are refused, and other mistakes are told as ever."""
    with pytest.raises(UserError) as caught:
        apply_overrides(LOTTERY, parse_overrides([setting]))
    assert str(caught.value).startswith(message)


def test_a_setting_is_given_once() -> None:
    """The same key twice is a mistake."""
    with pytest.raises(UserError, match="--set epochs is given twice"):
        parse_overrides(["epochs=2", "epochs=3"])


def test_rows_are_selected_by_pattern() -> None:
    """Patterns match table/row; several are united in the table's order."""

    def names(*only: str, **more: object) -> list[str]:
        return [row.id for row in select_rows(TABLES, only=only, **more)]

    assert len(names()) == sum(len(names(table_ids=[table])) for table in TABLES)
    assert len(names(extra=False, table_ids=["tiny"])) == 6
    assert names("tiny/static-*", extra=False) == ["static-random", "static-dnw"]
    assert names("tiny/discrete-dnw", "tiny/static-dnw") == ["static-dnw", "discrete-dnw"]
    assert len(names(table_ids=["tiny"])) == 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"only": ["tiny/static-dwn"]}, "--only 'tiny/static-dwn' matches no row; did you mean 'tiny/static-dnw'?"),
        ({"only": ["tiny/static-*", "tny/discrete-dnw"]}, "matches no row; did you mean 'tiny/discrete-dnw'?"),
        ({"only": ["tiny/*-corrected"], "extra": False}, "matches only rows that --table or --no-extra leave out"),
        (
            {"table_ids": ["sparse-cifar"], "extra": False},
            "--no-extra leaves nothing: all rows of sparse-cifar are extra",
        ),
        ({"only": ["tiny/static-dnw@epochs=3"]}, "is a variant; name its row and give the settings with --set"),
        ({"table_ids": ["tinny"]}, "there is no table 'tinny'; did you mean 'tiny'?"),
    ],
)
def test_a_mistyped_row_is_answered(arguments: dict[str, object], message: str) -> None:
    """An unknown row or table is an error that names the nearest one."""
    with pytest.raises(UserError) as caught:
        select_rows(TABLES, **arguments)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "seeds"), [("3", (0, 1, 2)), ("0,2,1", (0, 1, 2)), ("7,", (7,)), (" 4, 9 ", (4, 9)), ("1", (0,))]
)
def test_seeds_are_a_number_or_a_list(text: str, seeds: tuple[int, ...]) -> None:
    """``--seeds`` reads a count or a list, and prints back as what means the same."""
    assert parse_seeds(text) == seeds
    assert parse_seeds(seeds_text(seeds)) == seeds


@pytest.mark.parametrize("text", ["", "0", "-1", "1,1", "a", "1,,2", "1.5", "99999", ",", "²"])
def test_odd_seeds_are_refused(text: str) -> None:
    """Anything else is one line that names the option."""
    with pytest.raises(UserError, match="--seeds"):
        parse_seeds(text)
