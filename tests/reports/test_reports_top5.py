"""Top-5 accuracies and numbers of other recipes in the report, the summary and the tracker; old trials without them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support.stubs.reports_store import row, write_trial

from dnw_core.record import HISTORY_COLUMNS, RECORD_FILE, Scores
from pipelines.tracking.content import row_content, trial_content
from reports import build_report, read_trials, summarise


def with_top5(folder: Path, top5: Any) -> None:
    """Give a trial's last epoch a top-5 accuracy."""
    record = json.loads((folder / RECORD_FILE).read_text("utf-8"))
    record["last"]["test_top5_accuracy"] = top5
    (folder / RECORD_FILE).write_text(json.dumps(record), "utf-8")


def rows_of(results: Path) -> list[dict[str, Any]]:
    """A row with top-5 of two seeds, an older one without, and an extra row with the number of another recipe."""
    given = {"seeds": [0, 1], "published_std": None, "epochs": 2}
    rows = [
        row("new", published_top5=92.0, **given),
        row("old", published_top5=93.5, **given),
        row("theirs", extra=True, published_recipe="other", published_origin="RigL", **given),
    ]
    for one in rows:
        for seed in (0, 1):
            folder = write_trial(results, one, seed, 0.81 + 0.001 * seed, graph=False)
            if one["row"] == "new":
                with_top5(folder, 0.915 + 0.01 * seed)
    return rows


def test_the_field_is_dnw_cores() -> None:
    """The report reads the name that the record and the history write, and both may be without it."""
    assert Scores.model_fields["test_top5_accuracy"].default is None
    assert list(HISTORY_COLUMNS)[-1] == "test_top5_accuracy"


@pytest.mark.usefixtures("no_figures")
def test_top5_stands_beside_the_verdict(tmp_path: Path) -> None:
    """Ours and the published one in a table that has one; a dash for what older trials did not compute."""
    rows = rows_of(tmp_path)
    paths = build_report(tmp_path, rows, scale="paper", generated_at="now")
    text = paths.markdown.read_text("utf-8")
    assert "| Difference | Verdict | Top-5, ours | Top-5, published | Best epoch |" in text
    assert "| **matches** | 92.0 ± 0.7 | 92.0 |" in text
    assert "| **matches** | – | 93.5 |" in text
    assert "(top-5 92.00 %)" in text
    results = pd.read_parquet(tmp_path / "results.parquet")
    assert results["top5_mean"].tolist()[0] == pytest.approx(92.0)
    assert results["top5_mean"].isna().tolist() == [False, True, True]
    assert results["published_top5"].tolist()[:2] == [92.0, 93.5]
    assert pd.read_parquet(tmp_path / "trials.parquet")["top5_accuracy"].tolist()[:2] == pytest.approx([91.5, 92.5])
    plain = build_report(tmp_path, [rows[2]], scale="paper", generated_at="now")
    assert "Top-5" not in plain.markdown.read_text("utf-8")


@pytest.mark.usefixtures("no_figures")
def test_a_number_of_another_recipe_is_shown_and_not_judged(tmp_path: Path) -> None:
    """It has no difference, no test and its own word; a variant of the row shows no number at all."""
    rows = rows_of(tmp_path)
    variant = row("theirs@a=1", variant=True, published_recipe="other", seeds=[0], epochs=2)
    write_trial(tmp_path, variant, 0, graph=False)
    text = build_report(tmp_path, [*rows, variant], scale="paper", generated_at="now").markdown.read_text("utf-8")
    assert "| 80.9<br>other recipe | – | **other recipe** |" in text
    assert "- **other recipe**: the published number was trained with another recipe" in text
    assert "from RigL (trained with another recipe, so not compared)" in text
    lines = summarise([*rows, variant], read_trials(tmp_path, [*rows, variant]), "paper")
    assert lines["verdict_kind"].tolist() == ["matches", "matches", "other recipe", "not comparable"]
    assert lines["difference"].isna().tolist() == [False, False, True, True]
    assert lines["published_mean"].isna().tolist() == [False, False, False, True]


@pytest.mark.parametrize("top5", [1.5, -0.1, "0.9"])
def test_a_top5_accuracy_beyond_its_range_is_not_believed(tmp_path: Path, top5: Any) -> None:
    """The trial is unreadable, and says why."""
    with_top5(write_trial(tmp_path, row(), 0), top5)
    trials = read_trials(tmp_path, [row()])
    assert trials["status"].tolist() == ["unreadable"]
    assert "test_top5_accuracy" in trials["reason"][0]


def test_the_tracker_has_both(tmp_path: Path) -> None:
    """The row's metrics and tag, and a trial's epochs, with or without the column in its history."""
    rows = rows_of(tmp_path)
    trials = read_trials(tmp_path, rows)
    lines = summarise(rows, trials, "paper").to_dict("records")
    metrics = {point.key: point.value for point in row_content(rows[0], lines[0], 0).metrics}
    assert metrics["test_top5_accuracy_percent_mean"] == pytest.approx(92.0)
    assert metrics["published_top5_accuracy_percent"] == 92.0
    assert row_content(rows[2], lines[2], 0).tags["published_recipe"] == "other"
    name = "test_top5_accuracy_percent"
    assert name not in {point.key for point in trial_content(tmp_path / trials["folder"][0]).metrics}
    given = row("fresh", epochs=2)
    folder = write_trial(tmp_path, given, 0, columns={"test_top5_accuracy": [0.5, 0.75]})
    assert [point.value for point in trial_content(folder).metrics if point.key == name] == [50.0, 75.0]
