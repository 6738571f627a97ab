"""Held-out images: taken from the training images, never trained on; the test images are in neither half."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.stubs.tiny_trials import small_recipe, train

from dnw_core.config.execution import Execution
from dnw_core.data import ImageDataset, load_dataset
from dnw_core.errors import UserError
from dnw_core.record import EpochMetrics

DATA = {"dataset": "digits", "flip": False, "train_images": 192, "test_images": 64}


def digits() -> ImageDataset:
    """The embedded data set."""
    return load_dataset("digits", Execution())


def test_both_halves_are_training_images_without_overlap() -> None:
    """Together they are the training images in their order; images and labels stay together."""
    whole = digits()
    split = whole.held_out(300)
    assert (len(split.train_images), len(split.test_images)) == (1137, 300)
    assert np.array_equal(np.concatenate([split.train_images, split.test_images]), whole.train_images)
    assert np.array_equal(np.concatenate([split.train_labels, split.test_labels]), whole.train_labels)
    assert (split.checksum, split.mean, split.classes) == (whole.checksum, whole.mean, whole.classes)


def test_the_digits_that_are_held_out_are_of_every_class() -> None:
    """Of 200 held-out digits each class has about a tenth."""
    counts = np.bincount(digits().held_out(200).test_labels, minlength=10)
    assert counts.min() >= 15
    assert counts.max() <= 25


def test_nothing_held_out_is_the_data_set_itself() -> None:
    """The default changes nothing."""
    whole = digits()
    assert whole.held_out(0) is whole


@pytest.mark.parametrize("count", [1437, 5000])
def test_more_than_there_are_is_the_users_mistake(count: int) -> None:
    """One image at least must be left to train on; the line says how many can be held out."""
    with pytest.raises(UserError, match=f"validation_images is {count}.* hold out 1436 at most"):
        digits().held_out(count)
    assert len(digits().held_out(1436).train_images) == 1


def lines_of(folder: Path, monkeypatch: pytest.MonkeyPatch, dataset: ImageDataset, **data: Any) -> list[EpochMetrics]:
    """Train on this data set; return the epochs without their times."""
    monkeypatch.setattr("dnw_core.data.opening.open_dataset", lambda name, execution: dataset)
    lines: list[EpochMetrics] = []
    train(small_recipe(data={**DATA, **data}), folder, on_epoch=lines.append)
    return [line.model_copy(update={"seconds": 0.0}) for line in lines]


def test_a_trial_with_held_out_images_never_sees_the_test_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Poisoned test images change nothing then; without held-out images they change the scores."""
    clean = digits()
    poisoned = replace(clean, test_images=255 - clean.test_images, test_labels=(clean.test_labels + 1) % 10)
    found = [
        lines_of(tmp_path / f"{number}", monkeypatch, dataset, validation_images=count)
        for number, (dataset, count) in enumerate([(clean, 100), (poisoned, 100), (clean, 0), (poisoned, 0)])
    ]
    assert found[0] == found[1]
    assert found[2] != found[3]
    assert [line.train_loss for line in found[0]] == [line.train_loss for line in found[2]]  # the same first 192


def test_held_out_images_are_set_apart_before_the_rest_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """train_images limits what is left: poisoned images at the end of the training half are scored, not trained on."""
    clean = digits()
    labels = clean.train_labels.copy()
    labels[-100:] = (labels[-100:] + 1) % 10
    limits = {"train_images": 1437, "test_images": 100, "validation_images": 100}
    first, second = (
        lines_of(tmp_path / name, monkeypatch, dataset, **limits)
        for name, dataset in (("clean", clean), ("poisoned", replace(clean, train_labels=labels)))
    )
    assert [line.train_loss for line in first] == [line.train_loss for line in second]
    assert first[-1].test_loss != second[-1].test_loss
