"""The embedded digits: real images, pinned pixels, a fixed split."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from torch import from_numpy
from torch.nn.functional import interpolate

from dnw_core.config.execution import Execution
from dnw_core.data import load_dataset
from dnw_core.data.datasets import digits
from dnw_core.errors import DataBrokenError, DataMissingError


def test_shapes_split_and_checksum() -> None:
    """1,437 and 360 images, 36 test images of each class, and the pinned checksum is that of the arrays."""
    dataset = load_dataset("digits", Execution())
    assert dataset.train_images.shape == (1437, 3, 32, 32)
    assert dataset.test_images.shape == (360, 3, 32, 32)
    assert dataset.train_images.dtype == dataset.test_images.dtype == np.uint8
    assert dataset.train_labels.dtype == dataset.test_labels.dtype == np.int64
    assert np.bincount(dataset.test_labels).tolist() == [36] * 10
    assert dataset.checksum == digits.IDENTITY.checksum
    assert len(dataset.classes) == 10
    for array in (dataset.train_images, dataset.train_labels, dataset.test_images, dataset.test_labels):
        assert not array.flags.writeable


def test_pixels_are_scikit_learns_enlarged_bilinearly() -> None:
    """Each image is scikit-learn's, enlarged as torch's bilinear interpolation does it, to half a grey level."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    expected = interpolate(from_numpy(bunch.images)[:, None], scale_factor=4, mode="bilinear") * 255 / 16
    tested = np.zeros(1797, dtype=bool)
    tested[digits._test_positions(bunch.target.tolist())] = True
    dataset = load_dataset("digits", Execution())
    for images, labels, half in (
        (dataset.train_images, dataset.train_labels, ~tested),
        (dataset.test_images, dataset.test_labels, tested),
    ):
        assert np.array_equal(labels, bunch.target[half])
        assert np.abs(images - expected.numpy()[half]).max() <= 0.5 + 1e-9
        assert (images[:, :1] == images).all()


def test_mean_and_std_are_those_of_the_training_images() -> None:
    """The pinned normalisation is the training images' own."""
    dataset = load_dataset("digits", Execution())
    pixels = dataset.train_images / 255
    assert np.allclose(pixels.mean((0, 2, 3)), dataset.mean, atol=5e-5)
    assert np.allclose(pixels.std((0, 2, 3)), dataset.std, atol=5e-5)


def test_falls_back_on_scikit_learns_loader(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Should the table move inside scikit-learn, its public loader gives the same data set."""
    monkeypatch.setattr(digits, "_package_folder", lambda: tmp_path)
    assert load_dataset("digits", Execution()).checksum == digits.IDENTITY.checksum


def test_altered_table_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One grey level changed, or a table that does not parse: DataBrokenError."""
    source = digits._package_folder() / "datasets" / "data" / "digits.csv.gz"
    target = tmp_path / "datasets" / "data" / "digits.csv.gz"
    target.parent.mkdir(parents=True)
    monkeypatch.setattr(digits, "_package_folder", lambda: tmp_path)
    with gzip.open(source, "rt") as file:
        text = file.read()
    with gzip.open(target, "wt") as file:
        file.write(text.replace("5.", "6.", 1) if "5." in text else text.replace("5,", "6,", 1))
    with pytest.raises(DataBrokenError, match="expected SHA-256"):
        load_dataset("digits", Execution())
    target.write_bytes(source.read_bytes()[:1000])
    with pytest.raises(DataBrokenError, match="cannot be read"):
        load_dataset("digits", Execution())


def test_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    """No scikit-learn: the line says what to install."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataMissingError, match="pip install scikit-learn"):
        load_dataset("digits", Execution())
