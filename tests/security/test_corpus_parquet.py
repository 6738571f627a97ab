"""Damaged histories under hashes that fit: the curve is left out or the trial refused, whatever the file says.

A history that was merely damaged has another hash than its record says and is refused for that (test_corpus_trials);
here the record vouches for it, as in a folder of somebody who means to deceive or of a disk that lied from the start.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from support.corpus import parquet as corpus_parquet
from support.corpus.command import lay_out, spec_of
from support.corpus.damage import no_hang
from support.corpus.trials import keep_hash
from support.stubs.specs import report_row

from dnw_core.record import HISTORY_FILE
from pipelines.store.folder import Store
from reports import read_history, read_trials, summarise

CASES = corpus_parquet.cases()


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame, pd.DataFrame]:
    """A results folder with a trial for each case, and the frames of the same trials undamaged."""
    results = tmp_path_factory.mktemp("parquet") / "results"
    lay_out(results, range(len(CASES)))
    trials = read_trials(results, rows())
    history = read_history(results, trials)
    for seed, harm in enumerate(CASES.values()):
        folder = Store.open(results).folder(spec_of(results, seed))
        (folder / HISTORY_FILE).write_bytes(harm((folder / HISTORY_FILE).read_bytes()))
        keep_hash(folder, HISTORY_FILE)
    return results, trials, history


def rows() -> list[dict[str, object]]:
    """The row with all its seeds, as the report is given it."""
    return [report_row(spec_of(Path("results"), 0), tuple(range(len(CASES))))]


def test_the_corpus_is_large_enough() -> None:
    """With the bytes of whole files and footers, and with files that are well-formed."""
    assert len(CASES) >= 60
    assert set(corpus_parquet.harmless()) < set(CASES)


def test_no_history_says_what_is_not_so(damaged: tuple[Path, pd.DataFrame, pd.DataFrame]) -> None:
    """What is drawn of a trial is its own curve, and its figures are its own, or it is refused with a reason."""
    results, good_trials, good_history = damaged
    with no_hang():
        trials = read_trials(results, rows())
        history = read_history(results, trials)
        summary = summarise(rows(), trials, "smoke")
    numbers = ["epoch", "test_accuracy"]  # others stand in no other place: a changed one cannot be told
    for seed, name in enumerate(CASES):
        line, good = (frame[frame["seed"] == seed].iloc[0] for frame in (trials, good_trials))
        drawn, own = (frame[frame["seed"] == seed][numbers].reset_index(drop=True) for frame in (history, good_history))
        if line["status"] == "done":
            assert (line["accuracy"], line["best_accuracy"]) == (good["accuracy"], good["best_accuracy"]), name
            assert drawn.empty or drawn.equals(own), name
        else:
            assert (line["status"], drawn.empty) == ("unreadable", True), name
            assert line["reason"], name
        if name in corpus_parquet.harmless():
            assert drawn.equals(own), name
    assert summary.iloc[0]["n"] == (trials["status"] == "done").sum()


def test_the_log_has_a_line_for_each(
    damaged: tuple[Path, pd.DataFrame, pd.DataFrame], caplog: pytest.LogCaptureFixture
) -> None:
    """One line of text a trial whose curve is left out, and it names the file."""
    results, trials, _ = damaged
    history = read_history(results, trials)
    left_out = set(range(len(CASES))) - set(history["seed"])
    assert len(caplog.messages) == len(left_out) > 20
    assert all("history.parquet cannot be drawn: " in message for message in caplog.messages)
    assert all(len(message.splitlines()) == 1 for message in caplog.messages)
