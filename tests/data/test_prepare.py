"""``prepare.py``: every image checked, the shards right to the byte, and nothing lost when it is stopped or fails."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support.images.small_images import CLASSES, QUICK, contents, encoded, rows, run, write_folder

from dnw_core.data.formats.folder_listing import list_folder
from dnw_core.data.formats.jpeg import decode_rgb, kind_of
from dnw_core.data.formats.manifest import Settings, read_manifest
from dnw_core.data.prepare import workers as prepare_workers
from dnw_core.data.prepare.image import prepare_image, reduced_size
from dnw_core.data.prepare.plan import plan_shards
from dnw_core.data.prepare.shard import Preparation
from dnw_core.errors import UserError
from dnw_core.files import sha256_of
from pipelines.commands.prepare import LOCK_FILE

SCRIPT = str(Path(__file__).resolve().parents[2] / "pipelines" / "prepare.py")


def test_round_trip(tmp_path: Path) -> None:
    """Small JPEGs in colour and grey keep their bytes; order, labels, names and checksums are the folder's."""
    source = write_folder(tmp_path / "source")
    grey, cmyk, png = encoded(91, mode="L"), encoded(92, mode="CMYK"), encoded(93, kind="PNG")
    for name, content in (("g", grey), ("c", cmyk), ("p", png)):
        (source / "train" / "dog" / f"{name}.JPEG").write_bytes(content)
    out = tmp_path / "out"
    assert run(source, out, *QUICK) == 0

    listing = list_folder(source)
    for split, files in (("train", listing.train), ("validation", listing.test)):
        found = rows(out, split)
        assert [row["image"]["path"] for row in found] == list(files.paths)
        assert [row["label"] for row in found] == list(files.labels)
        for row in found:
            path = row["image"]["path"]
            original = (source / files.folder / path).read_bytes()
            if path in ("dog/c.JPEG", "dog/p.JPEG"):  # made RGB, with the loss of a JPEG
                assert kind_of(row["image"]["bytes"]) == "rgb"
                distance = decode_rgb(row["image"]["bytes"]).astype(int) - decode_rgb(original)
                assert np.abs(distance).mean() < 6
            else:
                assert row["image"]["bytes"] == original

    manifest = read_manifest(out / "manifest.json")
    assert manifest.classes == CLASSES
    assert (manifest.train.images, manifest.validation.images) == (12, 6)
    assert {shard.name for shard in manifest.shards} | {"manifest.json"} == set(contents(out))
    assert all(shard.sha256 == sha256_of(out / shard.name) for shard in manifest.shards)
    schema = pq.read_schema(out / manifest.shards[0].name)
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert features == {"image": {"_type": "Image"}, "label": {"names": list(CLASSES), "_type": "ClassLabel"}}
    assert not (out / ".prepare").exists()


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [(97, 64, (36, 24)), (64, 97, (24, 36)), (80, 80, (24, 24)), (301, 50, (144, 24)), (33, 31, (25, 24))],
)
def test_large_images_become_smaller(width: int, height: int, expected: tuple[int, int]) -> None:
    """The short side at 24, the long one rounded down as torchvision's Resize does; pixels but for the JPEG's loss."""
    content = encoded(width, size=(width, height))
    assert reduced_size(width, height, 24) == expected
    small = decode_rgb(prepare_image(content, 24, 95)).astype(int)
    resized = Image.fromarray(decode_rgb(content)).resize(expected, Image.Resampling.BILINEAR)
    assert np.abs(small - np.asarray(resized)).mean() < 4
    nearest = Image.fromarray(decode_rgb(content)).resize(expected, Image.Resampling.BOX).rotate(180)
    assert np.abs(small - np.asarray(nearest)).mean() > 8


def test_small_images_are_never_enlarged() -> None:
    """An image whose short side is the given one, or shorter, keeps its bytes."""
    content = encoded(1, size=(33, 31))
    for short_side in (31, 32, 1000, None):
        assert prepare_image(content, short_side, 50) == content


def test_large_grey_image_becomes_rgb() -> None:
    """What is encoded anew is RGB, whatever it was."""
    small = prepare_image(encoded(5, size=(64, 48), mode="L"), 24, 92)
    assert kind_of(small) == "rgb"
    assert decode_rgb(small).shape == (24, 32, 3)


def test_same_bytes_whatever_the_number_of_processes(tmp_path: Path) -> None:
    """One process and three write the same shards and the same manifest."""
    source = write_folder(tmp_path / "source")
    for processes in ("1", "3"):
        words = ("--short-side", "16", "--images-per-shard", "2", "--processes", processes)
        assert run(source, tmp_path / processes, *words) == 0
    assert len(contents(tmp_path / "1")) == 5 + 3 + 1
    assert contents(tmp_path / "1") == contents(tmp_path / "3")


def slow_folder(root: Path) -> Path:
    """Write an image folder whose preparation takes a while: 14 + 1 shards of three images."""
    write_folder(root, train=14, val=1)
    for path in root.glob("*/*/*.JPEG"):
        path.write_bytes(encoded(1, size=(1000, 750)))
    return root


def started(source: Path, out: Path, processes: int) -> subprocess.Popen[str]:
    """Start the command in a session of its own, and return when three of its shards are finished."""
    words = [str(source), str(out), "--images-per-shard", "3", "--processes", str(processes)]
    process = subprocess.Popen(
        [sys.executable, SCRIPT, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # a shell that starts the tests in the background has them ignore Ctrl-C, and what they start would, too
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while len(list((out / ".prepare").glob("*.parquet.json"))) < 3:
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)
    return process


def session_ends(session: int) -> bool:
    """Wait until no process of the session is left; False after some seconds. Linux only: elsewhere True."""
    for _ in range(1000):
        left = 0
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                state, _, _, of = path.read_text().rpartition(")")[2].split()[:4]
            except OSError:  # it ended meanwhile
                continue
            left += int(of) == session and state != "Z"
        if not left:
            return True
        time.sleep(0.01)
    return False


def test_goes_on_after_a_kill(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """After SIGKILL the workers end; the next run keeps what is whole, redoes a damaged shard and makes the rest."""
    source, out = slow_folder(tmp_path / "source"), tmp_path / "out"
    process = started(source, out, processes=2)
    process.kill()
    process.communicate(timeout=30)
    assert session_ends(process.pid)
    assert not (out / "manifest.json").exists()
    kept = sorted(path.stem for path in (out / ".prepare").glob("*.parquet.json"))
    assert 3 <= len(kept) < 15

    damaged = out / kept.pop()
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"!")
    times = {name: (out / name).stat().st_mtime_ns for name in kept}
    (out / f".{kept[0]}.{'0' * 32}.tmp").write_bytes(b"half")
    assert run(source, out, "--images-per-shard", "3", "--processes", "2") == 0
    assert f"in 15 shards ({15 - len(kept)} made, {len(kept)} kept)" in capsys.readouterr().out
    assert {name: (out / name).stat().st_mtime_ns for name in kept} == times
    assert sorted(path.name for path in out.iterdir() if path.name.startswith(".")) == [LOCK_FILE]

    assert run(source, tmp_path / "at-once", "--images-per-shard", "3", "--processes", "2") == 0
    assert contents(out) == contents(tmp_path / "at-once")


def test_ctrl_c(tmp_path: Path) -> None:
    """Ctrl-C at a terminal, which every process of the session gets: one line, exit code 130, nobody left."""
    process = started(slow_folder(tmp_path / "source"), tmp_path / "out", processes=2)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors.startswith("\nstopped; finished shards are kept. To resume: python pipelines/prepare.py ")
    assert errors.count("\n") == 2
    assert session_ends(process.pid)
    assert not list((tmp_path / "out").glob(".*.tmp"))


def test_damaged_shards_of_a_finished_folder_are_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A flipped byte, a lost end and a lost file are mended; the other shards stay, and the manifest is the same."""
    source, out = write_folder(tmp_path / "source"), tmp_path / "out"
    assert run(source, out, "--images-per-shard", "3", "--processes", "1") == 0
    before = contents(out)
    names = [shard.name for shard in read_manifest(out / "manifest.json").shards]
    content = before[names[0]]
    (out / names[0]).write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    (out / names[2]).write_bytes(before[names[2]][:-1])
    (out / names[3]).unlink()
    capsys.readouterr()
    assert run(source, out, "--images-per-shard", "3", "--processes", "1") == 0
    assert "in 5 shards (3 made, 2 kept)" in capsys.readouterr().out
    assert contents(out) == before


def test_bad_images_are_named_and_what_is_finished_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All of them are named, exit code 2 and no manifest; after a repair and a removal the same command goes on."""
    source, out = write_folder(tmp_path / "source", train=8), tmp_path / "out"
    cut, foreign, empty = (source / "train" / name for name in ("dog/004.JPEG", "emu/007.JPEG", "emu/002.JPEG"))
    whole = cut.read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])
    foreign.write_text("no image")
    empty.write_bytes(b"")
    assert run(source, out, *QUICK) == 2
    errors = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in errors[:-1]] == [
        "train/dog/004.JPEG",
        "train/emu/002.JPEG",
        "train/emu/007.JPEG",
    ]
    assert "truncated" in errors[0].lower()
    assert errors[-1].startswith("error: 3 of 30 images cannot be used; repair or remove them")
    assert not (out / "manifest.json").exists()

    cut.write_bytes(whole)
    empty.write_bytes(encoded(77))
    foreign.unlink()
    (source / "train" / "cat" / "000.JPEG").write_bytes(encoded(78, size=(50, 30)))  # in a shard that was finished
    assert run(source, out, *QUICK) == 0
    assert "in 8 shards (4 made, 4 kept)" in capsys.readouterr().out
    assert read_manifest(out / "manifest.json").train.images == 23


def test_shards_of_an_earlier_count_go(tmp_path: Path) -> None:
    """When so many images are removed that fewer shards are left, those with the old names do not stay beside them."""
    source, out = write_folder(tmp_path / "source"), tmp_path / "out"
    (source / "train" / "emu" / "002.JPEG").write_bytes(b"")
    assert run(source, out, *QUICK) == 2
    assert (out / "train-00000-of-00003.parquet").exists()
    for path in source.glob("train/*/00[12].JPEG"):
        path.unlink()
    assert run(source, out, *QUICK) == 0
    assert {shard.name for shard in read_manifest(out / "manifest.json").shards} | {"manifest.json"} == set(
        contents(out)
    )
    assert len(contents(out)) == 1 + 2 + 1


def test_many_bad_images_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Twenty are named, the others counted."""
    source = write_folder(tmp_path / "source", train=8)
    for path in source.glob("train/*/*"):
        path.write_bytes(b"\xff\xd8no")
    assert run(source, tmp_path / "out", *QUICK) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 22
    assert errors[20] == "... and 4 more"
    assert errors[21].startswith("error: 24 of 30 images cannot be used")


def test_killed_worker_is_told(tmp_path: Path) -> None:
    """A worker that the system ends (as it does when memory runs out) ends the preparation with one clear line."""
    source = write_folder(tmp_path / "source")
    (tmp_path / "out").mkdir()
    settings = Settings(short_side=None, quality=92, images_per_shard=1)
    listing = list_folder(source)
    tasks = [prepare_workers.Task(plan, None) for plan in plan_shards(listing, settings)]

    def kill(word: prepare_workers.Word) -> None:
        for process in multiprocessing.active_children():
            os.kill(process.pid or 0, signal.SIGKILL)

    preparation = Preparation(source, tmp_path / "out", listing.classes, settings)
    with pytest.raises(UserError, match=r"ended by signal 9 .*fewer --processes"):
        prepare_workers.run_tasks(preparation, tasks, 1, kill)
    assert not multiprocessing.active_children()
