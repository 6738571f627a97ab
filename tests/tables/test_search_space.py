"""The `search:` and `include:` entries of a row: every mistake is named with file, line and remedy before training."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from support.stubs.search import TABLE, write_tables

from dnw_core.errors import UserError
from tune_configs import SCALES, load_tables

RATE = "optimiser.learning_rate: {choice: [1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6]}"
RATE_LINE = 21


def test_space_and_budget_are_read(tmp_path: Path) -> None:
    """Kinds and bounds as written; a scale's own budget lies over the search's; rows without a search have none."""
    text = TABLE.replace(
        RATE,
        "optimiser.learning_rate: {log_uniform: [1e-3, 1]}\n"
        "        optimiser.momentum: {uniform: [0, 0.5]}\n"
        "        batch_size: {integers: [8, 32]}\n"
        "        precision: {choice: [fp32, tf32]}",
    ).replace("trials: 6", "trials: 6\n      scales: {paper: {trials: 40, validation_images: 100}}")
    search = load_tables(write_tables(tmp_path, text))["toy"].rows["sought"].search
    assert search is not None
    assert [(one.kind, one.values) for one in search.space.values()] == [
        ("log_uniform", (1e-3, 1.0)),
        ("uniform", (0.0, 0.5)),
        ("integers", (8, 32)),
        ("choice", ("fp32", "tf32")),
    ]
    budgets = [search.budgets[scale] for scale in SCALES]
    assert [(one.trials, one.validation_images) for one in budgets] == [(6, 64), (6, 64), (40, 100)]
    assert {(one.first_rung_fraction, one.reduction_factor) for one in budgets} == {(0.2, 3.0)}


BAD = [
    ("optimiser.learning_rat: {uniform: [0.1, 1]}", "no setting 'optimiser.learning_rat'; did you mean 'optimiser.l"),
    ("optimiser.learning_rate: {uniform: [1, 0.1]}", "uniform is [1.0, 0.1]; give [low, high] with low below high"),
    ("optimiser.learning_rate: {uniform: [1, 1]}", "give [low, high] with low below high"),
    ("optimiser.learning_rate: {uniform: [1]}", "give [low, high] with low below high"),
    ("batch_size: {integers: [8, 4]}", "integers is [8, 4]; give [low, high] with low below high"),
    ("optimiser.learning_rate: {choice: []}", "choice is []; give at least two values, each once"),
    ("optimiser.learning_rate: {choice: [0.1, 0.1]}", "give at least two values, each once"),
    ("optimiser.learning_rate: {log_uniform: [0, 1]}", "both bounds must be above 0"),
    ("optimiser.learning_rate: {log_uniform: [-1, 1]}", "both bounds must be above 0"),
    ("optimiser.learning_rate: {lognormal: [1, 2]}", "unknown key 'lognormal'; did you mean 'log_uniform'?"),
    ("optimiser.learning_rate: {uniform: [a, 1]}", "should be a valid number"),
    ("optimiser.learning_rate: {}", "takes exactly one of uniform, log_uniform, integers, choice"),
    ("optimiser.learning_rate: {uniform: [0.1, 1], choice: [1, 2]}", "takes exactly one of"),
    ("optimiser.learning_rate: 0.1", "give one of uniform, log_uniform, integers, choice, for example"),
    ("optimiser.momentum: {uniform: [0.5, 1.5]}", "the recipe refuses optimiser.momentum = 1.5: input should be less"),
    ("optimiser.momentum: {uniform: [-0.5, 0.5]}", "the recipe refuses optimiser.momentum = -0.5"),
    ("batch_size: {uniform: [8, 32]}", "the recipe refuses batch_size = 8.0"),
    ("precision: {choice: [fp32, fp8]}", 'the recipe refuses precision = "fp8"'),
    ("wiring.rule: {choice: [complete, top-edges]}", "wiring.rule cannot be searched: another kind has other settings"),
    ("epochs: {integers: [1, 4]}", "epochs cannot be searched: the scale gives the epochs"),
    ("data.validation_images: {integers: [1, 4]}", "cannot be searched: give validation_images beside space"),
    ("parent: {choice: [1, 2]}", "parent cannot be searched: it belongs to another row"),
]


@pytest.mark.parametrize(("line", "message"), BAD)
def test_a_bad_space_is_named_with_its_place(tmp_path: Path, line: str, message: str) -> None:
    """One line: the file, the line of the setting, what is wrong and what would be right."""
    with pytest.raises(UserError) as caught:
        load_tables(write_tables(tmp_path, TABLE.replace(RATE, line)))
    text = str(caught.value)
    assert text.startswith(f"toy.yaml:{RATE_LINE}: ")
    assert message in text
    assert "row sought" in text
    assert "\n" not in text


BAD_BUDGETS = [
    ("trials: 6", "trials: 0", "greater than or equal to 1"),
    ("trials: 6", "trial: 6", "unknown key 'trial'; did you mean 'trials'?"),
    ("validation_images: 64", "validation_images: 256", "validation_images is 256 at scale smoke, which has 256 train"),
    ("validation_images: 64", "scales: {smoke: {validation_images: 9999}}", "is 9999 at scale smoke"),
    ("validation_images: 64", "validation_images: 129", "where data.test_images lets only 128 be scored on"),
    ("first_rung_fraction: 0.2", "first_rung_fraction: 2", "less than or equal to 1"),
    ("first_rung_fraction: 0.2", "reduction_factor: 1", "greater than 1"),
    ("first_rung_fraction: 0.2", "scales: {smokey: {trials: 2}}", "unknown key 'scales.smokey'; did you mean 'smoke'?"),
]


@pytest.mark.parametrize(("old", "new", "message"), BAD_BUDGETS)
def test_a_bad_budget_is_named_with_its_place(tmp_path: Path, old: str, new: str, message: str) -> None:
    """Likewise for the budget; images that are held out must leave some to train on."""
    with pytest.raises(UserError, match=r"^toy\.yaml:\d+: ") as caught:
        load_tables(write_tables(tmp_path, TABLE.replace(old, new)))
    assert message in str(caught.value)


def test_images_left_at_every_scale(tmp_path: Path) -> None:
    """A scale that trains on fewer images needs its own number; the error names the scale and the key."""
    text = TABLE.replace("train_images: 256, ", "").replace(
        "resources: {cpus: 1}", "recipe: {data: {train_images: 60}}"
    )
    with pytest.raises(UserError, match=r"64 at scale smoke, which has 60 .* search\.scales\.smoke\.validation_images"):
        load_tables(write_tables(tmp_path, text))


FOUND = {
    "recipe": {"optimiser": {"learning_rate": 0.25}},
    "provenance": {
        "command": "python pipelines/search.py",
        "date": "2026-01-01T00:00:00+00:00",
        "scale": "short",
        "seed": 0,
        "space": {},
        "configurations": {"tried": 1, "finished": 1, "stopped": 0, "failed": 0},
        "winner": {"configuration": "a", "validation_accuracy": 0.5},
        "epochs": 4,
        "training_images": 45000,
        "validation_images": 5000,
        "data_checksum": "0",
        "commit": "0",
        "dirty": False,
        "packages": {},
    },
}


def including(folder: Path, text: str | None, *, table: str = TABLE) -> Path:
    """Write a table whose row includes a file of this text (None: no file)."""
    label = "    label: Sought\n"
    write_tables(folder, table.replace(label, label + "    include: found/toy.sought.yaml\n"))
    if text is not None:
        (folder / "found").mkdir(exist_ok=True)
        (folder / "found" / "toy.sought.yaml").write_text(text, "utf-8")
    return folder


def test_layers_of_an_include(tmp_path: Path) -> None:
    """Included values lie over the table's and under the row's own, also for a section that the row starts afresh."""
    included = load_tables(including(tmp_path, yaml.safe_dump(FOUND)))["toy"].rows
    for row in included.values():
        assert row.recipe_at("paper").optimiser.learning_rate == 0.25
        assert row.recipe_at("paper").optimiser.weight_decay == 1e-4
        assert row.notes[-1].startswith("Values from a search at short scale: optimiser.learning_rate 0.25 (found/")
    own = TABLE.replace("wiring: {rule", "optimiser: {learning_rate: 0.5}\n      wiring: {rule")
    row = load_tables(including(tmp_path, yaml.safe_dump(FOUND), table=own))["toy"].rows["sought"]
    assert row.recipe_at("paper").optimiser.learning_rate == 0.5
    assert row.notes[-1].startswith("Values from a search at short scale: none (")

    density = {"recipe": {"wiring": {"density": 0.1}}, "provenance": FOUND["provenance"]}
    space = TABLE.replace(RATE, "wiring.density: {uniform: [0.05, 0.2]}").replace(", density: 0.05}", "}")
    space = space.replace("  optimiser: {", "  wiring: {rule: fixed-random, density: 0.3}\n  optimiser: {")
    row = load_tables(including(tmp_path, yaml.safe_dump(density), table=space))["toy"].rows["sought"]
    assert (row.recipe_at("paper").wiring.rule, row.recipe_at("paper").wiring.density) == ("top-edges", 0.1)


BAD_FILES = [
    (None, "toy.yaml:16: include 'found/toy.sought.yaml' cannot be read (No such file"),
    ("", "the file is empty; it needs recipe and provenance"),
    ("recipe: {optimiser: {learning_rate: 0.1}}", "the key 'provenance' is missing"),
    (
        "recipe:\n  optimiser: {momentum: 0.5}",
        "'optimiser.momentum' is not in the row's search space",
    ),
    (
        "recipe:\n  optimiser: {learning_rat: 0.5}",
        "'optimiser.learning_rat' is not in the row's search space; did you mean 'optimiser.learning_rate'?",
    ),
    ("recipe:\n  optimiser: {learning_rate: -1}", "optimiser.learning_rate: input should be greater than 0"),
    ("recipe: {", "not valid YAML"),
]


@pytest.mark.parametrize(("text", "message"), BAD_FILES)
def test_a_bad_file_is_named_with_its_place(tmp_path: Path, text: str | None, message: str) -> None:
    """A missing file is the row's mistake; what stands in it is named with its own line."""
    if text is not None and text.startswith("recipe:\n"):
        text += "\n" + yaml.safe_dump({"provenance": FOUND["provenance"]})
        message = "found/toy.sought.yaml:2: " + message
    with pytest.raises(UserError) as caught:
        load_tables(including(tmp_path, text))
    assert message in str(caught.value)


def test_include_needs_a_search(tmp_path: Path) -> None:
    """A file may only hold what the row's search varies; without a search it may hold nothing."""
    text = TABLE.partition("    search:")[0]
    with pytest.raises(UserError, match="row sought includes values of a search but has no search section"):
        load_tables(including(tmp_path, yaml.safe_dump(FOUND), table=text))


def test_a_row_that_needs_another_cannot_be_searched(tmp_path: Path) -> None:
    """The search's store holds no finished trial of the other row, so this is said at once."""
    text = TABLE.replace("wiring: {rule: top-edges, density: 0.05}", "wiring: {rule: fine-tune, density: 0.05}")
    text = text.replace("    label: Sought\n", "    label: Sought\n    needs: start\n")
    text += "  start:\n    label: Start\n    extra: true\n    recipe: {wiring: {rule: complete}}\n"
    with pytest.raises(UserError, match=r"^toy\.yaml:\d+: a row that starts from another one cannot be searched"):
        load_tables(write_tables(tmp_path, text))
