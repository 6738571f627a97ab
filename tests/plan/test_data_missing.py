"""What is not there is said before anything is trained; and the download, against a server on the loopback."""

from __future__ import annotations

import hashlib
import http.server
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from support.images import synthetic_cifar as synthetic

from dnw_core.config.execution import Execution
from dnw_core.data import DATASETS, check_dataset, load_dataset
from dnw_core.errors import DataBrokenError, DataMissingError, UserError


def test_unknown_name_gets_the_nearest() -> None:
    """A mistyped name is a user's error that names the nearest data set."""
    with pytest.raises(UserError, match="there is no data set 'cifar-10'; did you mean 'cifar10'"):
        load_dataset("cifar-10", Execution())


def test_every_name_of_a_recipe_is_registered() -> None:
    """What a recipe may name can be loaded, and the other way round."""
    from typing import get_args

    from dnw_core.config.recipe import DatasetName

    assert set(get_args(DatasetName)) == set(DATASETS)


@pytest.mark.parametrize("look", [check_dataset, load_dataset])
def test_nothing_there(tmp_path: Path, look: object) -> None:
    """An empty folder: the folders looked in and both remedies are named, in one line."""
    (tmp_path / "cifar10").mkdir()
    with pytest.raises(DataMissingError) as caught:
        look("cifar10", synthetic.execution(tmp_path))  # type: ignore[operator]
    message = str(caught.value)
    assert str(tmp_path / "cifar10") in message
    assert "--data-dir" in message
    assert "--download" in message
    assert "\n" not in message


def test_no_such_folder(tmp_path: Path) -> None:
    """A folder that does not exist is said to be that."""
    with pytest.raises(DataMissingError, match=r"nowhere \(no such folder\)"):
        check_dataset("cifar10", synthetic.execution(tmp_path, data_dir=tmp_path / "nowhere"))


def test_missing_shard_is_named(tmp_path: Path) -> None:
    """One of two shards is not there: its name is given, before anything is decoded."""
    synthetic.write_parquet(tmp_path / "cifar10")
    (tmp_path / "cifar10" / "train-00000-of-00002.parquet").unlink()
    with pytest.raises(DataMissingError, match=r"lacks train-00000-of-00002\.parquet;"):
        check_dataset("cifar10", synthetic.execution(tmp_path))


def test_missing_split_is_named(tmp_path: Path) -> None:
    """All shards of a split are missing: that split is named."""
    synthetic.write_parquet(tmp_path / "cifar10")
    (tmp_path / "cifar10" / "test-00000-of-00001.parquet").unlink()
    with pytest.raises(DataMissingError, match=r"lacks test-\*\.parquet;"):
        check_dataset("cifar10", synthetic.execution(tmp_path))


def test_shards_of_two_versions(tmp_path: Path) -> None:
    """Shards that contradict each other are not mixed."""
    synthetic.write_parquet(tmp_path / "cifar10")
    synthetic.write_shard(tmp_path / "cifar10" / "train-00000-of-00001.parquet", synthetic.make_split(3, 0))
    with pytest.raises(DataBrokenError, match="more than one version"):
        check_dataset("cifar10", synthetic.execution(tmp_path))


def test_missing_batch_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing file of torchvision's folder is named; complete Parquet files beside it are used instead."""
    synthetic.pin(monkeypatch)
    folder = synthetic.write_pickles(tmp_path / "cifar10", monkeypatch)
    (folder / "data_batch_4").unlink()
    with pytest.raises(DataMissingError, match="lacks data_batch_4;"):
        check_dataset("cifar10", synthetic.execution(tmp_path))
    synthetic.write_parquet(tmp_path / "cifar10")
    check_dataset("cifar10", synthetic.execution(tmp_path))
    assert len(load_dataset("cifar10", synthetic.execution(tmp_path)).train_labels) == synthetic.TRAIN


def test_check_accepts_what_is_there_or_will_be_fetched(tmp_path: Path) -> None:
    """Complete files pass the look; with download, missing ones do too."""
    check_dataset("digits", Execution())
    check_dataset("cifar10", synthetic.execution(tmp_path, download=True))
    synthetic.write_parquet(tmp_path / "cifar10")
    check_dataset("cifar10", synthetic.execution(tmp_path))


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A loopback server that hands out the synthetic archive as CIFAR-10's; yields the archive."""
    from torchvision.datasets import CIFAR10

    synthetic.pin(monkeypatch)
    folder = synthetic.write_pickles(tmp_path / "origin", monkeypatch)
    archive = tmp_path / "origin" / CIFAR10.filename
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, arcname=folder.name)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(archive.parent)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:{server.server_port}/{archive.name}")
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(archive.read_bytes(), usedforsecurity=False).hexdigest())
    yield archive
    server.shutdown()
    server.server_close()
    thread.join()


def test_download(served: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The archive is fetched, checked and unpacked where it is found again, and stdout stays clean."""
    data_dir = tmp_path / "fresh"
    dataset = load_dataset("cifar10", synthetic.execution(tmp_path, data_dir=data_dir, download=True))
    assert dataset.train_images.shape == (synthetic.TRAIN, 3, 32, 32)
    assert capsys.readouterr().out == ""
    assert sorted(path.name for path in (data_dir / "cifar10").iterdir()) == ["cifar-10-batches-py", "download.lock"]
    again = load_dataset("cifar10", synthetic.execution(tmp_path, data_dir=data_dir))
    assert np.array_equal(again.train_images, dataset.train_images)


def test_download_with_wrong_checksum_is_refused(served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other bytes than torchvision knows are not unpacked."""
    from torchvision.datasets import CIFAR10

    monkeypatch.setattr(CIFAR10, "tgz_md5", "0" * 32)
    with pytest.raises(DataMissingError, match="could not be downloaded"):
        load_dataset("cifar10", synthetic.execution(tmp_path, data_dir=tmp_path / "fresh", download=True))
    assert not list((tmp_path / "fresh").rglob("data_batch_1"))


def test_unreachable_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No server: one line with the reason and the way out, nothing else printed to stdout."""
    from torchvision.datasets import CIFAR10

    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(CIFAR10, "url", "https://127.0.0.1:9/nothing.tar.gz")
    with pytest.raises(DataMissingError) as caught:
        load_dataset("cifar10", synthetic.execution(tmp_path, data_dir=tmp_path / "fresh", download=True))
    message = str(caught.value)
    assert "refused" in message
    assert "--data-dir" in message
    assert "\n" not in message
    assert capsys.readouterr().out == ""
