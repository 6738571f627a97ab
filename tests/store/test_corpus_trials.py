"""Damaged trials' folders: refused in a line, or trained again; no figure of one gets into the report.

All cases stand in one results folder, each under a seed of its own, so that the command looks, reports and repairs
once for all of them. Each by itself, with figures drawn: tests/faults/test_corpus_each.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from support.corpus import trials as corpus_trials
from support.corpus.command import Command, lay_out, quicken, spec_of
from support.corpus.damage import no_hang
from support.corpus.trials import Damage

from pipelines.store.folder import Store

_SAYS = "record, sealed again, says "
NOT_HELD = tuple(
    _SAYS + name
    for name in (
        "an unknown",
        "another density",
        "other epochs",
        "an older version",
        "no files",
        "a list of files",
        "a file",
        "endless seconds",
    )
)
NOT_REPORTED = ("checkpoint.pt", "log.txt")  # what of a trial the report shows nothing of


@pytest.fixture
def command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command over an empty results folder."""
    command = Command(tmp_path / "results", capsys)
    quicken(monkeypatch, command)
    return command


def check(command: Command, cases: dict[str, Damage], *, finished: bool, may_show: tuple[str, ...] = ()) -> None:
    """Damage the trial of a seed for each case; look, report, give the command, and hold all of it to the undamaged.

    Args:
        command: over an empty folder.
        cases: the damage, by name.
        finished: whether there is a finished trial to be damaged.
        may_show: beginnings of the cases in which the report may show the trial, with its own figures.
    """
    named = dict(enumerate(cases, start=1))
    command.seeds = range(len(named) + 1)
    lay_out(command.results, command.seeds if finished else [0])
    store = Store.open(command.results)
    for seed, name in named.items():
        cases[name](store.folder(spec_of(command.results, seed)))
    with no_hang():
        states = store.states([spec_of(command.results, seed) for seed in command.seeds])
        believed = [named[seed] for seed, state in enumerate(states) if seed and state.kind == "done"]
        assert believed == []
        assert [command(look).code for look in ("--status", "--plan", "--report-only")] == [0, 0, 0]
        shown = {seed for seed, status in command.statuses().items() if status == "done"}
        wrong = [named[seed] for seed in sorted(shown - {0}) if not named[seed].startswith(may_show)]
        assert wrong == []
        told = command.figures()
        assert command().code == 0
    repaired = (command.results / "results.parquet").read_bytes()
    assert sorted(command.trained) == list(named)

    good = Command(command.results.with_name("good"), command.capsys)
    for seeds in (sorted(shown), command.seeds):
        good.seeds = command.seeds
        lay_out(good.results, [seed for seed in seeds if not store_has(good.results, seed)])
        assert good("--report-only").code == 0
        if seeds is not command.seeds:
            assert good.figures() == told
    assert (good.results / "results.parquet").read_bytes() == repaired


def store_has(results: Path, seed: int) -> bool:
    """Whether a seed's folder is there."""
    return Store.open(results).folder(spec_of(results, seed)).exists()


def test_the_corpus_is_large_enough() -> None:
    """Some of it damages one trial's record so that everything fits but what it says."""
    found = (corpus_trials.cases(), corpus_trials.telling_cases(), corpus_trials.work_cases())
    assert sum(map(len, found)) >= 80


def test_damaged_trials_are_refused_and_trained_again(command: Command) -> None:
    """Bytes, files and figures: none is believed, none gets into the report, each is trained again exactly once.

    Where only what the report does not use is damaged (checkpoint, log), the report goes on showing the trial.
    """
    check(command, corpus_trials.cases(), finished=True, may_show=NOT_REPORTED)


def test_figures_that_cannot_be_are_refused(command: Command) -> None:
    """A record that vouches for itself (or an old one that has no digest) is not believed what cannot be.

    The report holds a record against less than the store does: that a recipe has its fingerprint, that files are
    listed and keys known. What it shows of such a trial are still its own figures.
    """
    check(command, corpus_trials.telling_cases(), finished=True, may_show=NOT_HELD)


def test_what_stands_in_a_trials_way_is_moved(command: Command) -> None:
    """A working folder that is none, or holds odd things under a trial's names, costs no more than itself."""
    check(command, corpus_trials.work_cases(), finished=False)


def test_an_altered_digit_is_found_by_the_digest(command: Command) -> None:
    """One digit of the accuracy changed on the disk, every file's hash as it was: said, and not shown."""
    command.seeds = (0, 1)
    lay_out(command.results, command.seeds)
    assert "digest" not in command("--status").out
    record = Store.open(command.results).folder(spec_of(command.results, 1)) / "trial.json"
    text = record.read_text()
    assert "0.371" in text
    record.write_text(text.replace("0.371", "0.391"))
    assert "its content does not fit its own digest" in command("--status").out
    assert command("--report-only").code == 0
    assert command.statuses() == {0: "done", 1: "unreadable"}
