"""What a run must have come to, whatever was done to it: the undisturbed run's results, nothing lost, nothing twice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import torch
from pyarrow import parquet

from support.faults.command import EPOCHS, TRIALS, complete


def finished(results: Path) -> dict[str, Path]:
    """Return the finished trials' folders by their place in the results folder."""
    folders = (results / "trials").glob("*/*/*/seed-*")
    return {str(path.relative_to(results)): path for path in folders if path.suffix != ".work"}


def place_of(work: Path, results: Path) -> str:
    """Return the place that a working folder's trial will have."""
    return str(work.with_suffix("").relative_to(results))


def records(results: Path) -> dict[str, bytes]:
    """Return the records of the finished trials, to see later that they were left alone."""
    return {place: (folder / "trial.json").read_bytes() for place, folder in finished(results).items()}


def check_results(results: Path, reference: Path, interruptions: dict[str, int] | int) -> int:
    """Check a completed run against the undisturbed one; return how many epochs were trained again.

    Args:
        results: of the run that was harmed.
        reference: of the one that was not.
        interruptions: how often each trial was interrupted at most, by its place; one number means all of them.
    """
    assert (results / "results.parquet").read_bytes() == (reference / "results.parquet").read_bytes()
    trials, whole = finished(results), finished(reference)
    assert sorted(trials) == sorted(whole)
    assert len(trials) == TRIALS
    left_over = [path.name for path in (results / "trials").glob("*/*/*/*") if path not in trials.values()]
    assert left_over == []
    assert not (results / "set-aside").exists(), "a trial was damaged"
    return sum(
        _check_trial(folder, whole[place], interruptions if isinstance(interruptions, int) else interruptions[place])
        for place, folder in trials.items()
    )


def check_nothing_is_left_to_do(results: Path, *words: str, variables: dict[str, str] | None = None) -> None:
    """The same command again finds everything done and touches no trial."""
    before = records(results)
    assert f"{TRIALS} done, 0 to be trained" in complete(results, *words, variables=variables)
    assert records(results) == before


def _check_trial(folder: Path, whole: Path, interruptions: int) -> int:
    assert (folder / "wiring.npz").read_bytes() == (whole / "wiring.npz").read_bytes(), folder
    histories = [parquet.read_table(path / "history.parquet").drop_columns(["seconds"]) for path in (folder, whole)]
    assert histories[0].equals(histories[1]), folder
    ours, theirs = (torch.load(path / "checkpoint.pt", weights_only=True)["model"] for path in (folder, whole))
    assert all(torch.equal(value, ours[name]) for name, value in theirs.items()), folder
    return _check_log((folder / "log.txt").read_text(), interruptions)


def _check_log(log: str, interruptions: int) -> int:
    """Each epoch was trained once, and again at most once for every interruption, with a checkpoint after every one."""
    words = [line.split(" ", 1)[1].split(":")[0] for line in log.splitlines()]
    epochs = Counter(word for word in words if word.startswith("epoch "))
    assert len(epochs) == EPOCHS, log
    again = sum(epochs.values()) - EPOCHS
    assert again <= interruptions, f"{again} epochs were trained again after {interruptions} interruptions:\n{log}"
    starts = sum(word.startswith(("tiny/", "resumed")) for word in words)
    # one that was asked to leave, as by a test beside this one that takes the machine away, has lost nothing
    asked = sum(word.startswith("stopped on request") for word in words)
    assert starts <= 1 + interruptions + asked, f"begun {starts} times with {interruptions} interruptions:\n{log}"
    assert words[-1] == "done", log
    return again
