"""CIFAR-10 from both layouts: the same data set to the bit, and what is missing or broken is named."""

from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from support.images import synthetic_cifar as synthetic

from dnw_core.config.execution import Execution
from dnw_core.data import load_dataset
from dnw_core.data.datasets import cifar10, cifar10_pickles, cifar10_source
from dnw_core.data.sources.base import ImageDataset, Split
from dnw_core.errors import DataBrokenError, DataMissingError


@pytest.fixture(autouse=True)
def _pinned(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "real_cifar10" not in request.fixturenames:
        synthetic.pin(monkeypatch)


def assert_is_synthetic(dataset: ImageDataset) -> None:
    """Check that the data set is the synthetic one, in canonical order."""
    train, test = (cifar10.canonical_order(split) for split in synthetic.make_splits())
    assert np.array_equal(dataset.train_images, train.images)
    assert np.array_equal(dataset.train_labels, train.labels)
    assert np.array_equal(dataset.test_images, test.images)
    assert np.array_equal(dataset.test_labels, test.labels)


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
@pytest.mark.parametrize(("below", "column"), [("", "img"), ("data", "image"), ("plain_text", "img")])
def test_parquet_layouts(tmp_path: Path, form: str, below: str, column: str) -> None:
    """PNG and WebP shards under either column name, in the folder or its usual subfolders, give the pixels."""
    synthetic.write_parquet(tmp_path / "cifar10" / below, form, column)
    assert_is_synthetic(load_dataset("cifar10", synthetic.execution(tmp_path)))


def test_data_dir_may_be_the_parent(tmp_path: Path) -> None:
    """A data_dir that holds cifar10/ works as the folder itself does."""
    synthetic.write_parquet(tmp_path / "cifar10")
    assert_is_synthetic(load_dataset("cifar10", synthetic.execution(tmp_path, data_dir=tmp_path)))


def test_default_data_dir_follows_xdg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without data_dir and cache_dir the user's data and cache folders are used."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    synthetic.write_parquet(tmp_path / "share" / "dnw-reproduction" / "cifar10")
    assert_is_synthetic(load_dataset("cifar10", Execution()))
    assert list((tmp_path / "cache" / "dnw-reproduction").glob("cifar10-*.images"))


@pytest.mark.filterwarnings("error")
def test_pickles_as_python_2_wrote_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision's folder, in the byte-level form of the original files, gives the pixels; without warnings."""
    folder = synthetic.write_pickles(tmp_path / "cifar10", monkeypatch)
    assert_is_synthetic(load_dataset("cifar10", synthetic.execution(tmp_path)))
    assert_is_synthetic(load_dataset("cifar10", synthetic.execution(tmp_path, data_dir=folder)))


def test_order_of_the_source_does_not_matter(tmp_path: Path) -> None:
    """Shuffled shards are the same data set in the same order: training is the same to the bit."""
    order = np.random.default_rng(0).permutation(synthetic.TRAIN).tolist()
    synthetic.write_parquet(tmp_path / "cifar10", order=order)
    assert_is_synthetic(load_dataset("cifar10", synthetic.execution(tmp_path)))


def test_canonical_order_keeps_images_with_their_labels() -> None:
    """Sorting moves an image and its label together and loses none."""
    split = synthetic.make_split(20, 3)
    ordered = cifar10.canonical_order(split)

    def pairs(of: Split) -> set[tuple[bytes, int]]:
        return {(image.tobytes(), label) for image, label in zip(of.images, of.labels.tolist(), strict=True)}

    assert pairs(ordered) == pairs(split)
    assert not np.array_equal(ordered.images, split.images)


def test_arrays_are_read_only(tmp_path: Path) -> None:
    """No trial can change the images that others share."""
    synthetic.write_parquet(tmp_path / "cifar10")
    dataset = load_dataset("cifar10", synthetic.execution(tmp_path))
    for array in (dataset.train_images, dataset.train_labels, dataset.test_images, dataset.test_labels):
        assert isinstance(array, np.memmap)
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def broken(tmp_path: Path) -> str:
    """Load, expect DataBrokenError, and return its one line."""
    with pytest.raises(DataBrokenError) as caught:
        load_dataset("cifar10", synthetic.execution(tmp_path))
    message = str(caught.value)
    assert "\n" not in message
    assert not list((tmp_path / "cache").glob("*.images"))
    return message


def test_truncated_parquet_is_named(tmp_path: Path) -> None:
    """A shard that was cut short is named, with pyarrow's reason."""
    synthetic.write_parquet(tmp_path / "cifar10")
    path = tmp_path / "cifar10" / "train-00001-of-00002.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    message = broken(tmp_path)
    assert "train-00001-of-00002.parquet" in message
    assert "Parquet magic bytes not found" in message


def test_altered_pixel_is_found(tmp_path: Path) -> None:
    """One pixel off by one: split, expected and found checksum are named."""
    _, test = synthetic.make_splits()
    synthetic.write_parquet(tmp_path / "cifar10")
    images = test.images.copy()
    images[3, 1, 5, 5] ^= 1
    altered = Split(images, test.labels)
    synthetic.write_shard(tmp_path / "cifar10" / "test-00000-of-00001.parquet", altered)
    message = broken(tmp_path)
    assert "test images or labels are not CIFAR-10's" in message
    assert cifar10.IDENTITY.test_checksum in message
    assert cifar10.canonical_order(altered).checksum() in message


def test_altered_label_is_found(tmp_path: Path) -> None:
    """A changed label breaks the checksum as a pixel does."""
    _, test = synthetic.make_splits()
    synthetic.write_parquet(tmp_path / "cifar10")
    altered = Split(test.images, (test.labels + 1) % 10)
    synthetic.write_shard(tmp_path / "cifar10" / "test-00000-of-00001.parquet", altered)
    assert cifar10.IDENTITY.test_checksum in broken(tmp_path)


def test_source_altered_after_caching_is_found(tmp_path: Path) -> None:
    """A filled cache does not hide that the files were altered since."""
    synthetic.write_parquet(tmp_path / "cifar10")
    load_dataset("cifar10", synthetic.execution(tmp_path))
    path = tmp_path / "cifar10" / "test-00000-of-00001.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataBrokenError, match="test-00000-of-00001"):
        load_dataset("cifar10", synthetic.execution(tmp_path))


def test_wrong_count_is_named(tmp_path: Path) -> None:
    """Too few images: expected and found number."""
    synthetic.write_parquet(tmp_path / "cifar10")
    _, test = synthetic.make_splits()
    shard = Split(test.images[:-1], test.labels[:-1])
    synthetic.write_shard(tmp_path / "cifar10" / "test-00000-of-00001.parquet", shard)
    assert "expected 10 test images, found 9" in broken(tmp_path)


def test_wrong_size_and_non_image_are_named(tmp_path: Path) -> None:
    """A row that is no 32x32 image is named by file and row."""
    synthetic.write_parquet(tmp_path / "cifar10")
    path = tmp_path / "cifar10" / "test-00000-of-00001.parquet"
    synthetic.write_shard(path, Split(np.zeros((2, 3, 64, 32), np.uint8), np.zeros(2, np.int64)))
    assert "row 0 is not an image of 32x32 pixels: it has 32x64" in broken(tmp_path)


@pytest.mark.parametrize(("column", "found"), [("picture", "picture, label")])
def test_wrong_columns_are_named(tmp_path: Path, column: str, found: str) -> None:
    """A Parquet file of something else says what it holds."""
    synthetic.write_parquet(tmp_path / "cifar10", column=column)
    assert f"expected columns img or image, and label; found {found}" in broken(tmp_path)


def test_label_out_of_range_is_named(tmp_path: Path) -> None:
    """CIFAR-100's labels, say, are not taken for CIFAR-10's."""
    synthetic.write_parquet(tmp_path / "cifar10")
    _, test = synthetic.make_splits()
    path = tmp_path / "cifar10" / "test-00000-of-00001.parquet"
    synthetic.write_shard(path, Split(test.images, test.labels + 40))
    assert "is not in 0..9" in broken(tmp_path)


def test_wrong_md5_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An altered batch: file, expected and found MD5."""
    folder = synthetic.write_pickles(tmp_path / "cifar10", monkeypatch)
    path = folder / "data_batch_3"
    path.write_bytes(path.read_bytes()[:-1])
    message = broken(tmp_path)
    assert str(path) in message
    assert f"expected MD5 {cifar10_source.TRAIN_FILES['data_batch_3']}, found " in message


class _Attack:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("md5_known", [False, True])
def test_malicious_pickle_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, md5_known: bool) -> None:
    """A pickle that would run a command is refused by its MD5, and by the unpickler even if the MD5 were right."""
    folder = synthetic.write_pickles(tmp_path / "cifar10", monkeypatch)
    target = tmp_path / "executed"
    content = pickle.dumps({"data": _Attack(target), "labels": []})
    (folder / "data_batch_1").write_bytes(content)
    if md5_known:
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        monkeypatch.setitem(cifar10_source.TRAIN_FILES, "data_batch_1", md5)
    message = broken(tmp_path)
    assert ("it asks for posix.system" if md5_known else "expected MD5") in message
    assert not target.exists()
    pickle.loads(content)
    assert target.exists()  # so the attack was a real one


def test_md5s_are_torchvisions() -> None:
    """The pinned MD5s and names are the ones torchvision's class publishes."""
    from torchvision.datasets import CIFAR10

    assert list(cifar10_pickles.TRAIN_FILES.items()) == [tuple(pair) for pair in CIFAR10.train_list]
    assert list(cifar10_pickles.TEST_FILES.items()) == [tuple(pair) for pair in CIFAR10.test_list]
    assert CIFAR10.base_folder == cifar10_pickles.FOLDER


@pytest.fixture
def real_cifar10() -> Path:
    """The folder with the real images, where this machine has them."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "data" / "cifar10"
    folder = Path(os.environ.get("DNW_TEST_CIFAR10", beside))
    try:
        cifar10_source.find_source(Execution(data_dir=folder))
    except DataMissingError:
        pytest.skip("no CIFAR-10 here; set DNW_TEST_CIFAR10 to its folder")
    return folder


@pytest.mark.slow
def test_real_cifar10(real_cifar10: Path, tmp_path: Path) -> None:
    """The real files pass the pinned checksum, and their well-known statistics come out."""
    execution = Execution(data_dir=real_cifar10, cache_dir=tmp_path)
    dataset = load_dataset("cifar10", execution)
    assert dataset.checksum == cifar10.IDENTITY.checksum
    assert dataset.train_images.shape == (50_000, 3, 32, 32)
    assert dataset.test_images.shape == (10_000, 3, 32, 32)
    assert np.bincount(dataset.train_labels).tolist() == [5_000] * 10
    assert np.bincount(dataset.test_labels).tolist() == [1_000] * 10
    pixels = dataset.train_images.astype(np.float32) / 255
    # the values printed everywhere for CIFAR-10's training images
    assert np.allclose(pixels.mean((0, 2, 3), dtype=np.float64), [0.49139968, 0.48215841, 0.44653091], atol=1e-6)
    assert np.allclose(pixels.std((0, 2, 3), dtype=np.float64), [0.24703223, 0.24348513, 0.26158784], atol=1e-6)
    # the first training image of the original files is a frog (6) whose first row of red starts 59, 43, 50
    frog = (dataset.train_images[:, 0, 0, :3] == [59, 43, 50]).all(1)
    assert 6 in dataset.train_labels[frog]
