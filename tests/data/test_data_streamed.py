"""Streamed batches: a function of seed, epoch, step and files alone, whoever decodes them and from whatever source."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.images import synthetic_images as synthetic
from support.images.synthetic_images import CLASSES, batches_of, same

from dnw_core.data.datasets import image_folder
from dnw_core.data.feeds.feed import Feeds
from dnw_core.data.feeds.share import WHOLE, WorkerShard
from dnw_core.data.formats.jpeg import decode_rgb
from dnw_core.data.opening import open_feeds as open_recipe
from dnw_core.data.streaming.feed import MEAN, STD
from dnw_core.data.streaming.loader import LoaderPool
from dnw_core.data.streaming.random_resized import evaluation_crop
from dnw_core.errors import DataBrokenError, TrialFailedError, UserError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the images in ``images``."""
    root = tmp_path_factory.mktemp("streamed")
    synthetic.write_folder(root / "images")
    return root


@pytest.fixture(scope="module")
def two_loaders(place: Path) -> Iterator[Feeds]:
    """The feeds with two loader processes, started once for all tests."""
    feeds = open_feeds(place, loader_workers=2)
    yield feeds
    feeds.close()


@pytest.fixture(scope="module")
def one_loader(place: Path) -> Iterator[Feeds]:
    """The feeds with one loader process."""
    feeds = open_feeds(place, loader_workers=1)
    yield feeds
    feeds.close()


def open_feeds(root: Path, data_dir: Path | None = None, loader_workers: int = 0, **data: Any) -> Feeds:
    """Open the images under ``root``."""
    execution = synthetic.execution(root, data_dir, loader_workers=loader_workers)
    return open_recipe(synthetic.recipe(**data), execution, CPU)


def give_loader(feeds: Feeds, other: Feeds) -> None:
    """Let the processes of another data set decode this one's images: starting them takes seconds."""
    for feed in (feeds.train, feeds.test):
        feed._loader = other.train._loader  # type: ignore[attr-defined]


def scored(feeds: Feeds, share: WorkerShard = WHOLE) -> list[Any]:
    """All test batches of 4."""
    return list(feeds.test.evaluation(batch_size=4, share=share))


def test_an_epoch_holds_every_image_once(place: Path) -> None:
    """21 training images in batches of 8: 8, 8, 5; every label as often as there are images of it; float32 RGB."""
    batches = batches_of(open_feeds(place).train)
    assert [len(batch.labels) for batch in batches] == [8, 8, 5]
    assert torch.cat([batch.labels for batch in batches]).bincount().tolist() == [synthetic.TRAIN] * len(CLASSES)
    assert {(batch.images.shape[1:], batch.images.dtype, batch.images.is_contiguous()) for batch in batches} == {
        ((3, 32, 32), torch.float32, True)
    }


def test_other_seeds_epochs_and_steps_give_other_batches(place: Path) -> None:
    """Order and crops change with the epoch; the same epoch comes out the same."""
    feed = open_feeds(place).train
    assert same(batches_of(feed), batches_of(feed))
    assert not same(batches_of(feed), batches_of(feed, epoch=1))
    other = list(feed.training(batch_size=8, seed=4, epoch=0, start_step=0, share=WHOLE))
    assert not same(batches_of(feed), other)


@pytest.mark.parametrize("loaders", [0, 2])
def test_an_epoch_can_be_entered_anywhere(place: Path, two_loaders: Feeds, loaders: int) -> None:
    """A resumed trial gets the same batches from its step on; the end gives none, beyond it is an error."""
    feed = two_loaders.train if loaders else open_feeds(place).train
    whole = batches_of(feed, epoch=2)
    for step in range(4):
        assert same(whole[step:], batches_of(feed, epoch=2, start_step=step))
    with pytest.raises(ValueError, match="start_step is 4; this epoch has steps 0 to 3"):
        batches_of(feed, start_step=4)


def test_loader_processes_change_nothing(place: Path, one_loader: Feeds, two_loaders: Feeds) -> None:
    """0, 1 and 2 processes: the same bits in training and evaluation, epoch after epoch with the same processes."""
    own = open_feeds(place)
    for epoch in range(2):
        expected = batches_of(own.train, epoch=epoch)
        assert same(expected, batches_of(one_loader.train, epoch=epoch))
        assert same(expected, batches_of(two_loaders.train, epoch=epoch))
    assert same(scored(own), scored(one_loader))
    assert same(scored(own), scored(two_loaders))


def test_pieces_and_buffers_change_nothing(two_loaders: Feeds, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches put together from pieces of three images, many of them under way in buffers used again and again."""
    expected = batches_of(open_feeds(place).train)
    monkeypatch.setattr("dnw_core.data.streaming.feed._PIECE", 3)
    kept = []
    for batch in two_loaders.train.training(batch_size=8, seed=3, epoch=0, start_step=0, share=WHOLE):
        kept.append(batch)
        time.sleep(0.02)  # lets the loader run ahead
    assert same(expected, kept)


def test_an_epoch_may_be_left_early(two_loaders: Feeds, place: Path) -> None:
    """A trial that is stopped leaves batches under way; the next epoch is none the worse."""
    for _ in range(3):
        batches = two_loaders.train.training(batch_size=2, seed=3, epoch=0, start_step=0, share=WHOLE)
        next(iter(batches))
        batches.close()  # type: ignore[attr-defined]
    assert same(batches_of(two_loaders.train), batches_of(open_feeds(place).train))


@pytest.mark.parametrize("loaders", [0, 2])
def test_workers_share_each_batch(place: Path, two_loaders: Feeds, loaders: int) -> None:
    """Two workers' parts put together are the batch of one, in training and in evaluation; a part may be empty."""
    feeds = two_loaders if loaders else open_feeds(place)
    for whole, parts in (
        (batches_of(feeds.train), [batches_of(feeds.train, share=WorkerShard(rank, 2, 4)) for rank in range(2)]),
        (scored(feeds), [scored(feeds, WorkerShard(rank, 2, 4)) for rank in range(2)]),
    ):
        assert len(whole) == len(parts[0]) == len(parts[1])
        for batch, first, second in zip(whole, *parts, strict=True):
            assert torch.cat([first.images, second.images]).equal(batch.images)
            assert torch.cat([first.labels, second.labels]).equal(batch.labels)
            assert first.whole == second.whole == batch.whole == len(batch.labels)
    assert len(parts[1][-1].labels) == 0  # of one image


def test_a_worker_decodes_its_own_images_only(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 21 images a worker of two reads half."""
    feed = open_feeds(place).train
    read: list[int] = []

    def spy(content: bytes) -> Any:
        read.append(len(content))
        return decode_rgb(content)

    monkeypatch.setattr("dnw_core.data.streaming.piece.decode_checked", spy)
    assert sum(len(batch.labels) for batch in batches_of(feed, share=WorkerShard(1, 2, 2))) == len(read) == 10


def test_every_source_gives_the_same_batches(place: Path, two_loaders: Feeds) -> None:
    """A folder, and the packed copy that shards become: the same bits, decoded here and by loader processes."""
    synthetic.write_shards(place / "images", place / "shards", shuffle=True)
    folder, shards = open_feeds(place), open_feeds(place, place / "shards")
    for _ in range(2):
        assert same(batches_of(folder.train), batches_of(shards.train))
        assert same(scored(folder), scored(shards))
        give_loader(shards, two_loaders)


def test_evaluation_goes_through_the_images_in_order(place: Path) -> None:
    """Centre of each image, normalised as ImageNet is."""
    images = image_folder.open_images(synthetic.execution(place))
    expected = torch.stack(
        [
            torch.from_numpy(evaluation_crop(decode_rgb(images.test.files.read(row)), 32).copy()).permute(2, 0, 1)
            for row in range(9)
        ]
    )
    batches = scored(open_feeds(place))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    found = torch.cat([batch.images for batch in batches])
    torch.testing.assert_close(found, (expected / 255 - mean) / std, atol=1e-6, rtol=1e-6)
    assert torch.cat([batch.labels for batch in batches]).tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    blue_first = torch.cat([batch.images for batch in scored(open_feeds(place, pixels="bgr-255"))])
    assert blue_first.equal(expected.flip(1).float())


def test_flip_and_colours_leave_the_rest_as_it_was(place: Path) -> None:
    """Half of the images are mirrored; turning flip off leaves the others' pixels; jitter changes nearly all."""
    plain, flipped, coloured = (
        torch.cat([batch.images for batch in batches_of(open_feeds(place, **data).train)])
        for data in ({"flip": False}, {"flip": True}, {"flip": False, "color_jitter": 0.4})
    )
    mirrored = [bool(image.equal(other.flip(2))) for image, other in zip(flipped, plain, strict=True)]
    kept = [bool(image.equal(other)) for image, other in zip(flipped, plain, strict=True)]
    assert all(a != b for a, b in zip(mirrored, kept, strict=True))
    assert 4 < sum(mirrored) < 17
    changed = [not image.equal(other) for image, other in zip(coloured, plain, strict=True)]
    assert sum(changed) >= 19


def label_counts(feed: Any) -> list[int]:
    """How many images of each class."""
    labels = torch.cat([batch.labels for batch in feed.evaluation(batch_size=8, share=WHOLE)])
    return np.bincount(labels.numpy(), minlength=3).tolist()


def images_of(feed: Any) -> list[bytes]:
    """Each image's pixels."""
    batches = feed.evaluation(batch_size=8, share=WHOLE)
    return [image.numpy().tobytes() for batch in batches for image in batch.images]


def test_limits_and_held_out_images_are_of_every_class(place: Path) -> None:
    """A third of the images is no class left out; more images include fewer; held-out ones are trained on by nobody."""
    some, more = (open_feeds(place, train_images=count, test_images=6) for count in (9, 15))
    assert min(label_counts(some.train)) > 0
    assert set(images_of(some.train)) < set(images_of(more.train))
    assert len(images_of(some.test)) == 6
    everything = open_feeds(place)
    held = open_feeds(place, validation_images=6)
    assert len(set(images_of(held.train)) | set(images_of(held.test))) == len(set(images_of(everything.train))) == 21
    assert (len(held.train), len(held.test)) == (15, 6)
    assert len([count for count in label_counts(held.test) if count]) > 1
    cut = open_feeds(place, validation_images=6, train_images=9, test_images=2)
    assert set(images_of(cut.train)) < set(images_of(held.train))
    assert set(images_of(cut.test)) < set(images_of(held.test))
    with pytest.raises(UserError, match=r"validation_images is 21.* hold out 20 at most"):
        open_feeds(place, validation_images=21)


def test_the_planned_content_is_the_one_that_is_trained_on(place: Path, tmp_path: Path) -> None:
    """A digest that no longer fits, or another number of classes, is refused before anything is trained."""
    content = image_folder.describe(synthetic.execution(place))
    feeds = open_feeds(place, content=content.digest)
    assert feeds.checksum == content.digest
    with pytest.raises(DataBrokenError, match=f"content {content.digest[:8]}, planned 12345678"):
        open_feeds(place, content="12345678" * 8)
    synthetic.write_folder(tmp_path / "images", ("a", "b"))
    with pytest.raises(UserError, match="the network has 3 classes, image-folder has 2 classes"):
        open_feeds(tmp_path)


@pytest.mark.parametrize("loaders", [0, 2])
def test_a_file_that_is_spoilt_later_is_named(tmp_path: Path, two_loaders: Feeds, loaders: int) -> None:
    """It was good when it was checked: the error comes out of the epoch with its name, and nothing hangs."""
    root = synthetic.write_folder(tmp_path / "images")
    feeds = open_feeds(tmp_path)
    if loaders:
        give_loader(feeds, two_loaders)
    file = root / "train" / "owl" / "owl_3.JPEG"
    content = file.read_bytes()
    file.write_bytes(content[:200])
    with pytest.raises(DataBrokenError, match=r"owl_3.JPEG is unreadable: .*; it has changed since"):
        batches_of(feeds.train)
    file.unlink()
    with pytest.raises(DataBrokenError, match=r"owl_3.JPEG cannot be read: No such file"):
        batches_of(feeds.train)
    file.write_bytes(content)
    assert len(batches_of(feeds.train)) == 3


def test_a_killed_loader_process_is_replaced_once(one_loader: Feeds) -> None:
    """Its images are decoded again, to the same bits; one that dies over the same images again fails the trial."""
    feeds = one_loader
    pool: LoaderPool = feeds.train._loader  # type: ignore[attr-defined]
    expected = batches_of(feeds.train)
    os.kill(pool._all[0]._process.pid, signal.SIGKILL)
    assert same(expected, batches_of(feeds.train))

    def launch_dead(process: Any) -> None:
        launch(process)
        process._process.kill()

    launch = type(pool._all[0])._launch
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(pool._all[0]), "_launch", launch_dead)
        pool._all[0]._process.kill()
        with pytest.raises(TrialFailedError, match=r"ended twice over the same images \(signal 9\)"):
            batches_of(feeds.train)
    feeds.close()  # once more by the fixture, which does no harm
