"""The cache of decoded images: whole or not at all, shared by processes, rebuilt when damaged."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.images import synthetic_cifar as synthetic

from dnw_core.config.execution import Execution
from dnw_core.data import load_dataset
from dnw_core.data.sources import cache
from dnw_core.data.sources.base import Identity, Split
from dnw_core.data.sources.cache import cached_splits
from dnw_core.errors import UserError

KEY = "toy-v1"


class Decoder:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.calls = 0
        self.splits = synthetic.make_split(6, 1), synthetic.make_split(4, 2)
        self.identity = Identity(6, 4, self.splits[0].checksum(), self.splits[1].checksum())

    def __call__(self) -> tuple[Split, Split]:
        """Return the splits, and count."""
        self.calls += 1
        return self.splits

    def load(self, folder: Path) -> tuple[Split, Split]:
        """Load through the cache in ``folder``, and check what comes."""
        found = cached_splits(KEY, self.identity, self, Execution(cache_dir=folder))
        for split, expected in zip(found, self.splits, strict=True):
            assert np.array_equal(split.images, expected.images)
            assert np.array_equal(split.labels, expected.labels)
        return found


def test_decodes_once(tmp_path: Path) -> None:
    """The second load maps the file and decodes nothing."""
    decoder = Decoder()
    decoder.load(tmp_path / "cache")
    train, _ = decoder.load(tmp_path / "cache")
    assert decoder.calls == 1
    assert isinstance(train.images, np.memmap)
    assert not train.images.flags.writeable


def _truncate(content: bytes) -> bytes:
    return content[:-1]


def _lengthen(content: bytes) -> bytes:
    return content + b"\0"


def _flip_pixel(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


def _flip_label(content: bytes) -> bytes:
    return content[:4096] + bytes([content[4096] ^ 1]) + content[4097:]


def _swap_shapes(content: bytes) -> bytes:
    return content.replace(b"[6, 3, 32, 32]", b"[6, 3, 64, 16]", 1)


def _spoil_header(content: bytes) -> bytes:
    return content.replace(b'"train"', b'"tra1n"', 1)


def _empty(content: bytes) -> bytes:
    return b""


@pytest.mark.parametrize(
    "damage", [_truncate, _lengthen, _flip_pixel, _flip_label, _swap_shapes, _spoil_header, _empty]
)
def test_damaged_file_is_rebuilt(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    """A file of another size, content or header is not believed; it is replaced by a good one."""
    decoder = Decoder()
    decoder.load(tmp_path)
    path = tmp_path / f"{KEY}.images"
    good = path.read_bytes()
    assert damage(good) != good
    path.write_bytes(damage(good))
    decoder.load(tmp_path)
    assert decoder.calls == 2
    assert path.read_bytes() == good


def test_maps_survive_a_rebuild(tmp_path: Path) -> None:
    """A trial that has mapped the file goes on undisturbed when another process replaces it."""
    decoder = Decoder()
    train, _ = decoder.load(tmp_path)
    (tmp_path / f"{KEY}.images").unlink()
    decoder.load(tmp_path)
    assert decoder.calls == 2
    assert np.array_equal(train.images, decoder.splits[0].images)


def test_leftovers_of_killed_processes_go(tmp_path: Path) -> None:
    """A temporary file that a killed process left is neither used nor kept; others' files stay."""
    (tmp_path / f"{KEY}.abc.tmp").write_bytes(b"half")
    (tmp_path / "other-v1.abc.tmp").write_bytes(b"half")
    Decoder().load(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other-v1.abc.tmp", f"{KEY}.images", f"{KEY}.lock"]


def test_failed_decoding_leaves_nothing(tmp_path: Path) -> None:
    """An error while decoding passes through; no file is written and the lock is free again."""
    decoder = Decoder()

    def fail() -> tuple[Split, Split]:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match=r"^no$"):
        cached_splits(KEY, decoder.identity, fail, Execution(cache_dir=tmp_path))
    assert not list(tmp_path.glob("*.images"))
    decoder.load(tmp_path)


def test_cache_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """A cache folder below a file: one line that says what to do."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write decoded images to cache folder .*XDG_CACHE_HOME") as caught:
        Decoder().load(tmp_path / "file" / "cache")
    assert "\n" not in str(caught.value)


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that fails half-way is the user's error, and leaves no temporary file."""

    def no_room(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", no_room)
    with pytest.raises(UserError, match="No space left on device"):
        Decoder().load(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [f"{KEY}.lock"]


def test_default_folder_is_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without cache_dir, XDG_CACHE_HOME decides; a relative one is ignored as its specification says."""
    decoder = Decoder()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cached_splits(KEY, decoder.identity, decoder, Execution())
    assert (tmp_path / "dnw-reproduction" / f"{KEY}.images").is_file()
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache.default_cache_dir() == tmp_path / "home" / ".cache" / "dnw-reproduction"


RACER = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from data import test_data_cache as here
from dnw_core.data.sources import locks
folder, name, with_lock = Path(sys.argv[1]), sys.argv[3], sys.argv[4] == "lock"
if not with_lock:
    locks._acquire = lambda descriptor: False
class Slow(here.Decoder):
    def __call__(self):
        (folder / f"decoded-by-{name}").touch()
        while not with_lock and len(list(folder.glob("decoded-by-*"))) < 2:
            time.sleep(0.002)  # nobody has finished before both have begun
        time.sleep(0.3)
        return super().__call__()
decoder = Slow()
(folder / f"ready-{name}").touch()
while len(list(folder.glob("ready-*"))) < 2:
    time.sleep(0.002)
decoder.load(folder / "cache")
"""


@pytest.mark.parametrize(("lock", "decodings"), [("lock", 1), ("no lock", 2)])
def test_two_processes_at_once(tmp_path: Path, lock: str, decodings: int) -> None:
    """Both get the right images; with locks only one decodes, and without them nothing breaks."""
    here = str(Path(__file__).parents[1])
    arguments = [sys.executable, "-c", RACER, str(tmp_path), here]
    racers = [subprocess.Popen([*arguments, name, lock], stderr=subprocess.PIPE, text=True) for name in ("a", "b")]
    for racer in racers:
        _, errors = racer.communicate(timeout=60)
        assert racer.returncode == 0, errors
    assert len(list(tmp_path.glob("decoded-by-*"))) == decodings
    assert not list((tmp_path / "cache").glob("*.tmp"))


def test_cache_is_keyed_by_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sources of one data set do not share a file, and the same source finds its own again."""
    synthetic.pin(monkeypatch)
    synthetic.write_parquet(tmp_path / "png", "PNG")
    synthetic.write_parquet(tmp_path / "webp", "WEBP")
    for name, files in (("png", 1), ("webp", 2), ("png", 2)):
        load_dataset("cifar10", synthetic.execution(tmp_path, data_dir=tmp_path / name))
        assert len(list((tmp_path / "cache").glob("*.images"))) == files
