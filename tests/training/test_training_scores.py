"""What an epoch's line and the record say: top-5, averages over the images that were seen, and files of before."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from pyarrow import parquet
from support.networks.worker_steps import feed_of, recipe_of
from support.stubs.tiny_trials import interrupt, small_recipe, train
from torch import Tensor, nn

from dnw_core.config.recipe import Recipe
from dnw_core.data.feeds.share import WHOLE
from dnw_core.data.fit import check_counts, check_fit
from dnw_core.data.formats.encoded import EncodedImages
from dnw_core.errors import UserError
from dnw_core.models.graph import Liveness
from dnw_core.record import (
    CHECKPOINT_FILE,
    HISTORY_FILE,
    RECORD_FILE,
    RECORD_VERSION,
    WIRING_FILE,
    EpochMetrics,
    read_record,
)
from dnw_core.training.checkpoints.results import LISTED_DENSITY, write_wiring
from dnw_core.training.engine.loop import evaluate
from dnw_core.training.engine.state import TrainingState
from reports.reading.wiring_file import read_wiring


class Guess(nn.Module):
    """Logits that have little to do with the image, and their places kept."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes, self.given = classes, list[Tensor]()

    def forward(self, images: Tensor) -> Tensor:
        """Return logits."""
        self.given.append(torch.randn(len(images), self.classes, generator=torch.Generator().manual_seed(len(images))))
        return self.given[-1]


def test_top5_counts_the_label_among_the_five_largest() -> None:
    """Against a plain sort, over batches of different sizes; with five classes nothing is said."""
    recipe = recipe_of("dropout")
    network, feed = Guess(10), feed_of(recipe)
    scores = evaluate(recipe, network, network, feed)
    labels = torch.cat([batch.labels for batch in feed.evaluation(batch_size=66, share=WHOLE)])
    places = torch.cat(network.given).argsort(dim=1, descending=True)
    among = [int(label) in row[:5].tolist() for label, row in zip(labels, places, strict=True)]
    assert scores.top5_accuracy == sum(among) / 66
    assert scores.accuracy == int((places[:, 0] == labels).sum()) / 66
    assert 0 < scores.accuracy < scores.top5_accuracy < 1
    few = recipe_of("dropout", network={"kind": "graph-mobilenet", "classes": 5})
    network = Guess(5)
    feed = feed_of(few)
    feed._images.labels %= 5
    assert evaluate(few, network, network, feed).top5_accuracy is None


def test_averages_are_over_the_images_that_were_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With drop_last 64 of 80; a sum of 96 over them is a loss of 1.5."""

    def epoch(recipe: Recipe, state: TrainingState, *_: Any) -> float:
        state.loss_sum, state.correct = torch.tensor(96.0, dtype=torch.float64), torch.tensor(32)
        return 0.1

    monkeypatch.setattr("dnw_core.training.session.train_epoch", epoch)
    data = {"dataset": "digits", "train_images": 80, "test_images": 10}
    for drop_last, seen in ((True, 64), (False, 80)):
        lines: list[EpochMetrics] = []
        recipe = small_recipe(batch_size=32, epochs=1, drop_last=drop_last, data=data)
        train(recipe, tmp_path / str(drop_last), on_epoch=lines.append)
        assert [(line.train_loss, line.train_accuracy) for line in lines] == [(96 / seen, 32 / seen)]


def test_too_few_images_for_one_batch_are_refused_before_training(tmp_path: Path) -> None:
    """Nothing would be trained; the line says what would do. Held-out images are not trained on."""
    data = {"dataset": "digits", "train_images": 60, "test_images": 10}
    message = "60 training images are less than one batch of 64; set batch_size to 60 at most, or drop_last to false"
    with pytest.raises(UserError, match=message):
        train(small_recipe(drop_last=True, data=data), tmp_path)
    assert not (tmp_path / CHECKPOINT_FILE).exists()
    with pytest.raises(UserError, match="63 training images are less than one batch"):
        check_counts(small_recipe(drop_last=True, data={"dataset": "digits", "validation_images": 37}), 100)
    check_counts(small_recipe(drop_last=True, data={"dataset": "digits", "validation_images": 36}), 100)
    check_counts(small_recipe(data=data), 60)
    streamed = {"dataset": "image-folder", "crop": "random-resized", "crop_padding": 0}
    images = cast(EncodedImages, SimpleNamespace(digest="", classes=range(10), train=range(60)))
    with pytest.raises(UserError, match=message):
        check_fit(small_recipe(drop_last=True, data=streamed), images)


def test_what_was_written_before_top5_still_counts(tmp_path: Path) -> None:
    """A trial goes on: its finished epochs have none, in checkpoint and history; the others have. A record is read."""
    interrupt(small_recipe(), tmp_path, 4)
    saved = torch.load(tmp_path / CHECKPOINT_FILE, weights_only=True)
    assert saved["history"][0].pop("test_top5_accuracy") >= saved["history"][0]["test_accuracy"]
    torch.save(saved, tmp_path / CHECKPOINT_FILE)
    record = train(small_recipe(), tmp_path)
    assert record.last is not None
    column = parquet.read_table(tmp_path / HISTORY_FILE)["test_top5_accuracy"]
    assert str(column.type) == "double"
    assert column.to_pylist() == [None, record.last.test_top5_accuracy]
    assert record.last.test_top5_accuracy is not None
    assert record.last.test_accuracy <= record.last.test_top5_accuracy <= 1
    values = json.loads((tmp_path / RECORD_FILE).read_text("utf-8"))
    assert values["version"] == RECORD_VERSION
    del values["digest"]  # not in older ones
    for scores in ("last", "best"):
        del values[scores]["test_top5_accuracy"]
    (tmp_path / RECORD_FILE).write_text(json.dumps(values | {"version": 2}), encoding="utf-8")
    expected = record.last.model_copy(update={"test_top5_accuracy": None})
    assert read_record(tmp_path / RECORD_FILE).last == expected


@pytest.mark.parametrize("shape", [(16, 32), (5, 7), (8, 4, 3, 3)])
@pytest.mark.parametrize("density", [0.0, LISTED_DENSITY, LISTED_DENSITY + 0.02, 0.5, 1.0])
def test_edges_are_listed_or_bits(shape: tuple[int, ...], density: float, tmp_path: Path) -> None:
    """Up to a sixteenth of the slots is listed, more is bits; either way the reader finds the same edges."""
    generator = torch.Generator().manual_seed(0)
    count = int(density * torch.Size(shape).numel())
    kept = torch.zeros(torch.Size(shape).numel(), dtype=torch.bool)
    kept[torch.randperm(len(kept), generator=generator)[:count]] = True
    kept = kept.view(shape)
    live = kept & (torch.rand(shape, generator=generator) < 0.8)
    write_wiring(tmp_path / WIRING_FILE, {"a.b": kept}, {"a.b": Liveness(live, torch.ones(0))})
    bits = count > LISTED_DENSITY * kept.numel()
    with np.load(tmp_path / WIRING_FILE) as arrays:
        parts = {"shape", "kept_bits", "live_bits"} if bits else {"shape", "rows", "columns", "live"}
        assert set(arrays) == {f"a.b.{part}" for part in parts}
        if bits:
            assert np.array_equal(np.unpackbits(arrays["a.b.kept_bits"], count=kept.numel()), kept.flatten().numpy())
            assert np.array_equal(np.unpackbits(arrays["a.b.live_bits"], count=count), live[kept].numpy())
    (graph,) = read_wiring(tmp_path / WIRING_FILE)
    rows, columns = kept.flatten(1).nonzero(as_tuple=True)
    assert graph.shape == tuple(kept.flatten(1).shape)
    assert (graph.rows.tolist(), graph.columns.tolist()) == (rows.tolist(), columns.tolist())
    assert graph.live.tolist() == live[kept].tolist()
