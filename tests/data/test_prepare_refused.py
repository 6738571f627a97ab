"""``prepare.py`` and its manifest: what is refused, in one line, and what is left untouched then."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.images.small_images import QUICK, contents, run, write_folder

from dnw_core.data.formats import manifest
from dnw_core.data.formats.manifest import (
    Manifest,
    PreparedSplit,
    Settings,
    Shard,
    manifest_text,
    parse_manifest,
    read_manifest,
)
from dnw_core.data.prepare import run as prepare
from dnw_core.errors import DataBrokenError, DataMissingError
from pipelines.commands.prepare import LOCK_FILE
from pipelines.driver.lock import driver_lock

MANIFEST = Manifest(
    version=1,
    classes=("cat", "dog", "emu"),
    settings=Settings(short_side=256, quality=92, images_per_shard=4),
    source="5" * 64,
    train=PreparedSplit(
        images=5,
        shards=(
            Shard(name="train-00000-of-00002.parquet", sha256="a" * 64, images=4, bytes=1000),
            Shard(name="train-00001-of-00002.parquet", sha256="b" * 64, images=1, bytes=300),
        ),
    ),
    validation=PreparedSplit(
        images=4, shards=(Shard(name="validation-00000-of-00001.parquet", sha256="c" * 64, images=4, bytes=1000),)
    ),
)


def test_second_command_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """While one prepares, another one on the same folder is told who does."""
    source, out = write_folder(tmp_path / "source"), tmp_path / "out"
    out.mkdir()
    with driver_lock(out, lock_file=LOCK_FILE):
        assert run(source, out, *QUICK) == 2
    error = capsys.readouterr().err
    assert f"out is in use by process {os.getpid()} on " in error
    assert error.rstrip().endswith("give another OUT")
    assert run(source, out, *QUICK) == 0


@pytest.mark.parametrize("state", ["finished", "unfinished"])
def test_another_preparation_is_refused(state: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Other settings or other images: one line, nothing touched; --overwrite replaces all of it."""
    source, other = write_folder(tmp_path / "source"), write_folder(tmp_path / "other", train=4)
    out = tmp_path / "out"
    bad = source / "train" / "emu" / "002.JPEG"
    if state == "unfinished":
        bad.write_bytes(b"")
    assert run(source, out, *QUICK) == (2 if state == "unfinished" else 0)
    before = contents(out)
    capsys.readouterr()
    for words, reason in (
        ([source, "--short-side", "20"], "(short side 256, not 20)"),
        ([source, "--keep-size"], "(short side 256, not as it is)"),
        ([source, "--quality", "50"], "(quality 92, not 50)"),
        ([other], "(other images)"),
    ):
        assert run(*words, out, *QUICK) == 2
        error = capsys.readouterr().err
        assert f"holds another preparation {reason}; give a new folder, or --overwrite" in error
        assert error.count("\n") == 1
    assert contents(out) == before
    assert run(other, out, *QUICK, "--overwrite", "--quality", "50") == 0
    assert "(5 made, 0 kept)" in capsys.readouterr().out
    found = read_manifest(out / "manifest.json")
    assert (found.settings.quality, found.train.images) == (50, 12)
    assert {shard.name for shard in found.shards} | {"manifest.json"} == set(contents(out))


def test_moved_source_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same images under another name are the same source, also before the manifest is there."""
    source, out = write_folder(tmp_path / "source"), tmp_path / "out"
    assert run(source, out, *QUICK) == 0
    source.rename(tmp_path / "moved")
    assert run(tmp_path / "moved", out, *QUICK) == 0
    assert "(0 made, 5 kept)" in capsys.readouterr().out


def _rename_class(text: str) -> str:
    return text.replace('"dog"', '"fox"')


def _change_count(text: str) -> str:
    return text.replace('"images": 4', '"images": 5', 1)


def _change_hash(text: str) -> str:
    place = text.index('"sha256": "') + len('"sha256": "')
    return text[:place] + ("1" if text[place] == "0" else "0") + text[place + 1 :]


def _cut_off(text: str) -> str:
    return text[:-20]


def _other_version(text: str) -> str:
    return text.replace('"version": 1', '"version": 2')


def _other_file(text: str) -> str:
    return "[]"


@pytest.mark.parametrize("change", [_rename_class, _change_count, _change_hash, _cut_off, _other_version, _other_file])
def test_altered_manifest_is_refused(change: Callable[[str], str], tmp_path: Path) -> None:
    """Whatever is changed in a manifest, its reader notices."""
    path, text = tmp_path / "manifest.json", manifest_text(MANIFEST)
    assert parse_manifest(text.encode(), "manifest.json") == MANIFEST
    assert change(text) != text
    path.write_text(change(text))
    with pytest.raises(DataBrokenError, match=r"manifest\.json .*python pipelines/prepare\.py") as caught:
        read_manifest(path)
    assert "\n" not in str(caught.value)


def test_command_refuses_an_altered_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command does not go by a manifest that was altered; --overwrite makes all anew."""
    source, out = write_folder(tmp_path / "source"), tmp_path / "out"
    out.mkdir()
    (out / "manifest.json").write_text(_rename_class(manifest_text(MANIFEST)))
    assert run(source, out, *QUICK) == 2
    assert "python pipelines/prepare.py, with --overwrite" in capsys.readouterr().err
    assert run(source, out, *QUICK, "--overwrite") == 0


def test_contradictory_manifest_is_refused(tmp_path: Path) -> None:
    """A checksum that fits does not help a manifest whose shards have gaps or whose sums are wrong."""
    values = MANIFEST.model_dump(mode="json")
    gap = json.loads(json.dumps(values))
    gap["train"]["shards"].pop(0)
    wrong = json.loads(json.dumps(values))
    wrong["validation"]["images"] += 1
    unknown = {**values, "colour": "blue"}
    twice = {**values, "classes": ["cat", "cat", "emu"]}
    for changed, reason in (
        (gap, "the shards of train are not train-00000-of-00001"),
        (wrong, "validation has 5 images, its shards 4"),
        (unknown, "colour: Extra inputs"),
        (twice, "a class is named twice"),
    ):
        text = json.dumps({**changed, "checksum": manifest._checksum(changed)})
        with pytest.raises(DataBrokenError, match=reason):
            parse_manifest(text.encode(), "manifest.json")
    with pytest.raises(DataMissingError, match=r"is not there"):
        read_manifest(tmp_path / "manifest.json")


def _no_source(root: Path) -> list[Path]:
    return [root / "nowhere", root / "out"]


def _no_train(root: Path) -> list[Path]:
    shutil.rmtree(root / "source" / "train")
    return [root / "source", root / "out"]


def _no_val(root: Path) -> list[Path]:
    shutil.rmtree(root / "source" / "val")
    return [root / "source", root / "out"]


def _class_in_train_only(root: Path) -> list[Path]:
    shutil.rmtree(root / "source" / "val" / "dog")
    return [root / "source", root / "out"]


def _empty_class(root: Path) -> list[Path]:
    for path in (root / "source" / "val" / "dog").iterdir():
        path.unlink()
    return [root / "source", root / "out"]


def _out_in_source(root: Path) -> list[Path]:
    return [root / "source", root / "source" / "train" / "out"]


def _out_is_source(root: Path) -> list[Path]:
    return [root / "source", root / "source"]


def _out_below_a_file(root: Path) -> list[Path]:
    (root / "file").write_text("")
    return [root / "source", root / "file" / "out"]


def _out_with_other_files(root: Path) -> list[Path]:
    (root / "out").mkdir()
    (root / "out" / "thesis.tex").write_text("")
    return [root / "source", root / "out"]


def _out_with_foreign_shards(root: Path) -> list[Path]:
    (root / "out").mkdir()
    (root / "out" / "train-00000-of-00001.parquet").write_text("")
    return [root / "source", root / "out"]


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (_no_source, "there is no folder"),
        (_no_train, "is not an image folder"),
        (_no_val, "has no folder val"),
        (_class_in_train_only, r"different classes \(only in train: dog\)"),
        (_empty_class, "classes without an image: val/dog"),
        (_out_in_source, "is inside .*source; give a folder outside"),
        (_out_is_source, "is inside .*source; give a folder outside"),
        (_out_below_a_file, "cannot be made: Not a directory"),
        (_out_with_other_files, r"other files than a preparation's \(thesis\.tex\)"),
        (_out_with_foreign_shards, "shards of unknown origin"),
    ],
)
def test_mistakes_are_one_line(
    make: Callable[[Path], list[Path]], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Folders that cannot be meant: one line on standard error, exit code 2, and nothing of the user's is touched."""
    write_folder(tmp_path / "source", train=1, val=1)
    words = make(tmp_path)
    before = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert run(*words, *QUICK) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert re.search(expected, error), error
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file() and path.name != LOCK_FILE) == before


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "the following arguments are required: SOURCE, OUT"),
        (["a"], "the following arguments are required: OUT"),
        (["a", "b", "c"], "unexpected argument 'c'"),
        (["a", "s3://bucket/b"], "argument OUT: s3://bucket/b is not a folder"),
        (["a", "b", "--keep-sise"], "unknown option --keep-sise; did you mean '--keep-size'?"),
        (["a", "b", "--keep-size", "--short-side", "9"], "--keep-size and --short-side contradict each other"),
        (["a", "b", "--short-side", "0"], "'0' is not a whole number of 8 or more"),
        (["a", "b", "--quality", "101"], "'101' is not a whole number from 1 to 100"),
        (["a", "b", "--processes", "two"], "'two' is not a whole number of 1 or more"),
        (["a", ""], "the path is empty"),
    ],
)
def test_mistyped_options_are_one_line(words: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be meant is answered with what could be."""
    assert run(*words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert expected in error


def test_too_little_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Room is looked for before a shard is written; shards that are there already need none."""
    source, out = write_folder(tmp_path / "source"), tmp_path / "out"
    monkeypatch.setattr(prepare.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6, 1000))
    assert run(source, out, *QUICK) == 2
    assert "out has 0.0 GB free, and the shards will take about 0.0 GB" in capsys.readouterr().err
    assert not list(out.glob("*.parquet"))
    monkeypatch.undo()
    assert run(source, out, *QUICK) == 0
    monkeypatch.setattr(prepare.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6, 0))
    assert run(source, out, *QUICK) == 0
