"""The user's mistakes on the command line: one line on standard error, exit code 2, and nothing is trained."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.stubs.command import StubSchedule

from pipelines.commands.reproduce_all import main
from pipelines.plan import placement

MISTAKES = [
    (["--tabel", "tiny"], "unknown option --tabel; did you mean '--table'?"),
    (["--repor"], "unknown option --repor; did you mean '--report-only'?"),
    (["tiny"], "unexpected argument 'tiny'; name rows with --only"),
    (["--table", "tinny"], "there is no table 'tinny'; did you mean 'tiny'?"),
    (["--only", "tiny/static-dwn"], "--only 'tiny/static-dwn' matches no row; did you mean 'tiny/static-dnw'?"),
    (["--scale", "smok"], "argument --scale: there is no scale 'smok'; did you mean 'smoke'?"),
    (["--mode", "retri"], "argument --mode: there is no mode 'retri'; did you mean 'retry'?"),
    (["--device", "gpu"], "argument --device: there is no device 'gpu'"),
    (["--seeds", "-1"], "argument --seeds: '-1' is neither a number of seeds (5) nor a list of seeds (0,1,2)"),
    (["--seeds", "1,1"], "argument --seeds: '1,1' names a seed twice"),
    (["--threads", "0"], "argument --threads: '0' is not a whole number of 1 or more"),
    (["--checkpoint-minutes", "nan"], "argument --checkpoint-minutes: 'nan' is not a number of minutes"),
    (["--plan", "--list"], "argument --list: not allowed with argument --plan"),
    (["--set", "optimiser.learnig_rate=1"], "unknown key; did you mean 'optimiser.learning_rate'?"),
    (["--set", "network.image_size=64"], "the network takes 64-pixel images, digits has 32"),
    (["--set", "data.validation_images=2000"], "but digits has 1437 training images"),
    (
        ["--only", "wirings/dnw-x0.225", "--set", "wiring.width=0.001"],
        "would keep no edge of the 2,048 slots of block-0",
    ),
    (["--only", "wirings/fine-tune", "--set", "parent.epochs=3"], "--set parent.epochs: the parent row gets"),
    (["--set", "epochs=-3"], "--set epochs: input should be greater than 0, found -3"),
    (["--results-dir", ""], "argument --results-dir: the path is empty"),
    (["--results-dir", "/proc/nothing"], "results folder /proc/nothing cannot be written to"),
    (["--trials-per-gpu", "2"], "--trials-per-gpu needs a GPU and this machine has no usable one"),
    (["--device", "cuda"], "--device cuda needs a GPU and this machine has no usable one"),
    (["--device", "cpu", "--trials-per-gpu", "2"], "--trials-per-gpu does not apply to --device cpu"),
    (["--scale", "short", "--data-dir", "absent"], "cifar10 was not found in"),
    (["--tracking-uri", "ftp://x"], "--tracking-uri 'ftp://x' is of an unknown kind"),
    (["--tracking-uri", "http://127.0.0.1:9"], "the tracking server http://127.0.0.1:9 cannot be used"),
    (["--cluster", "127.0.0.1:9"], "no Ray cluster answers at 127.0.0.1:9"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES, ids=[" ".join(words) for words, _ in MISTAKES])
def test_a_mistake_is_one_line_and_exit_code_2(
    stub: StubSchedule,
    results: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    message: str,
) -> None:
    """Each mistake of the user's is answered before anything is trained."""
    monkeypatch.setattr(placement, "gpu_count", lambda: 0)
    assert main(words) == 2
    streams = capsys.readouterr()
    assert streams.err.startswith("error: ")
    assert streams.err.count("\n") == 1
    assert message in streams.err
    assert stub.ran == []


def test_a_store_of_a_newer_version_is_refused(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither planning nor training touches results that a newer version wrote."""
    results.mkdir()
    (results / "store.json").write_text('{"schema": 99}')
    for words in ([], ["--plan"]):
        assert main(words) == 2
        assert "was written by a newer version of this project" in capsys.readouterr().err
    assert [path.name for path in results.iterdir()] == ["store.json"]
