"""Batches against a plain implementation that treats one image at a time with torchvision's own transforms."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from dnw_core.config.execution import Execution
from dnw_core.config.recipe import DataConfig
from dnw_core.data import load_dataset
from dnw_core.data.feeds.batches import (
    DeviceImages,
    ResidentFeed,
    draw_plan,
    evaluation_batches,
    steps_per_epoch,
    training_batches,
)
from dnw_core.data.feeds.feed import Batch
from dnw_core.data.feeds.share import WHOLE, WorkerShard
from dnw_core.data.sources.base import ImageDataset
from dnw_core.seeds import derive_seed

MEAN = (0.491, 0.482, 0.447)
STD = (0.247, 0.243, 0.262)
COUNT = 70


@pytest.fixture(scope="module")
def dataset() -> ImageDataset:
    """Random colour images: every channel, row and column differs, so that no mix-up goes unseen."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (COUNT, 3, 32, 32), dtype=np.uint8)
    labels = np.arange(COUNT, dtype=np.int64)
    return ImageDataset("toy", images, labels, images[:50], labels[:50], (), MEAN, STD, "")


def plain_image(pixels: np.ndarray, padding: int, top: int, left: int, flipped: int) -> Tensor:
    """Return the training image by torchvision's own transforms."""
    import torchvision.transforms.functional as tvf

    image = tvf.pad(torch.from_numpy(pixels), [padding] * 4)
    image = tvf.crop(image, top, left, 32, 32)
    if flipped:
        image = tvf.hflip(image)
    return tvf.normalize(tvf.convert_image_dtype(image, torch.float32), list(MEAN), list(STD))


def batches(dataset: ImageDataset, config: DataConfig, **settings: int) -> Iterator[Batch]:
    """Return the batches of seed 3, epoch 2, unless ``settings`` say otherwise."""
    images = DeviceImages.training(dataset, "cpu")
    return training_batches(images, config, **{"batch_size": 32, "seed": 3, "epoch": 2, **settings})


def config(crop_padding: int = 4, flip: bool = True) -> DataConfig:
    """Return augmentation settings."""
    return DataConfig(dataset="cifar10", crop_padding=crop_padding, flip=flip)


def assert_same(left: list[Batch], right: list[Batch]) -> None:
    """Check that two runs of batches agree to the bit."""
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)
        assert one.whole == other.whole


def on_cpu(batch: Batch) -> Batch:
    """Return a batch of a GPU on the CPU."""
    return Batch(batch.images.cpu(), batch.labels.cpu(), batch.whole)


def joined(parts: Sequence[Batch]) -> Batch:
    """Return the batch that these shares make up."""
    return Batch(torch.cat([p.images for p in parts]), torch.cat([p.labels for p in parts]), parts[0].whole)


@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("padding", [4, 2, 0])
def test_equals_plain_implementation(dataset: ImageDataset, padding: int, flip: bool) -> None:
    """Every pixel of every training image is exactly what torchvision's transforms give, one image at a time."""
    setting = config(padding, flip)
    seen: list[int] = []
    for step, batch in enumerate(batches(dataset, setting)):
        images, labels = batch.images, batch.labels
        plan = draw_plan(labels, setting, seed=3, epoch=2, step=step)  # here an image's label is its position
        assert images.dtype == torch.float32
        assert images.shape == (len(labels), 3, 32, 32)
        for image, (row, top, left, flipped) in zip(images, plan.T.tolist(), strict=True):
            assert torch.equal(image, plain_image(dataset.train_images[row], padding, top, left, flipped))
        seen += labels.tolist()
    assert sorted(seen) == list(range(COUNT))  # each image once, the short last batch included


def test_order_is_the_epochs_permutation(dataset: ImageDataset) -> None:
    """Images come in the order of a CPU generator seeded from (seed, epoch) alone."""
    generator = torch.Generator().manual_seed(derive_seed(3, "permutation", 2))
    expected = torch.randperm(COUNT, generator=generator)
    assert torch.equal(torch.cat([batch.labels for batch in batches(dataset, config())]), expected)


def test_same_again_whatever_ran_before(dataset: ImageDataset) -> None:
    """The same (seed, epoch) gives the same batches; the global random state plays no part and is left alone."""
    torch.manual_seed(1)
    first = list(batches(dataset, config()))
    torch.manual_seed(2)
    before = torch.get_rng_state()
    second = list(batches(dataset, config()))
    assert torch.equal(torch.get_rng_state(), before)
    assert_same(first, second)


@pytest.mark.parametrize("start", [0, 1, 2, 3])
def test_epoch_can_be_entered_anywhere(dataset: ImageDataset, start: int) -> None:
    """From ``start_step`` on, batches are those of the whole epoch."""
    whole = list(batches(dataset, config()))
    assert_same(list(batches(dataset, config(), start_step=start)), whole[start:])


def test_seed_epoch_and_step_all_matter(dataset: ImageDataset) -> None:
    """Another seed or epoch gives another order; crops differ between seeds, epochs and steps."""
    orders = {
        tuple(torch.cat([batch.labels for batch in batches(dataset, config(), seed=seed, epoch=epoch)]).tolist())
        for seed in (0, 1)
        for epoch in (0, 1)
    }
    assert len(orders) == 4
    rows = torch.arange(64)
    plans = {
        draw_plan(rows, config(), seed=seed, epoch=epoch, step=step).numpy().tobytes()
        for seed in (0, 1)
        for epoch in (0, 1)
        for step in (0, 1)
    }
    assert len(plans) == 8


def test_crop_and_flip_are_uniform() -> None:
    """All 81 windows and both orientations occur about equally often, and independently of each other."""
    count = 81_000
    _, top, left, flipped = draw_plan(torch.arange(count), config(), seed=0, epoch=0, step=0)
    windows = torch.bincount(top * 9 + left, minlength=81)
    assert len(windows) == 81
    assert (windows - 1000).abs().max() < 160  # five standard deviations
    assert abs(flipped.sum().item() - count / 2) < 5 * (count / 4) ** 0.5
    mirrored = torch.bincount((top * 9 + left)[flipped == 1], minlength=81)
    assert (mirrored - 500).abs().max() < 125


def test_switching_one_augmentation_off_leaves_the_other() -> None:
    """Crops are the same with and without flips, and flips with and without crops."""
    rows = torch.arange(100)
    both = draw_plan(rows, config(), seed=0, epoch=0, step=0)
    assert torch.equal(draw_plan(rows, config(flip=False), seed=0, epoch=0, step=0)[:3], both[:3])
    assert torch.equal(draw_plan(rows, config(crop_padding=0), seed=0, epoch=0, step=0)[3], both[3])


def test_random_numbers_are_pinned() -> None:
    """The draws of today are those of tomorrow: a change here orphans the results of every trained row."""
    plan = draw_plan(torch.arange(512), config(), seed=1, epoch=2, step=3)
    assert hashlib.sha256(plan.numpy().tobytes()).hexdigest()[:16] == "09063b2f3cbc6ba8"
    order = torch.randperm(1437, generator=torch.Generator().manual_seed(derive_seed(1, "permutation", 2)))
    assert hashlib.sha256(order.numpy().tobytes()).hexdigest()[:16] == "e5436d13caa6b428"


def test_evaluation_is_in_order_and_plain(dataset: ImageDataset) -> None:
    """Test images come in order, whole, normalised as torchvision does it and not augmented."""
    images = DeviceImages.test(dataset, "cpu")
    parts = list(evaluation_batches(images, 32))
    assert [len(batch.labels) for batch in parts] == [batch.whole for batch in parts] == [32, 18]
    assert torch.equal(torch.cat([batch.labels for batch in parts]), torch.arange(50))
    expected = torch.stack([plain_image(pixels, 0, 0, 0, 0) for pixels in dataset.test_images])
    assert torch.equal(torch.cat([batch.images for batch in parts]), expected)


@pytest.mark.parametrize(("workers", "groups"), [(2, 2), (2, 4), (4, 4), (8, 8)])
def test_shares_make_up_the_batch(dataset: ImageDataset, workers: int, groups: int) -> None:
    """Put together, the workers' shares are the lone worker's batches to the bit, an almost empty last one included."""
    images = DeviceImages.training(dataset, "cpu")  # 70 images: the last batch has 6, fewer than 8 groups
    feed = ResidentFeed(images, config())
    assert len(feed) == COUNT
    shares = [WorkerShard(rank, workers, groups) for rank in range(workers)]
    place = {"batch_size": 32, "seed": 3, "epoch": 2, "start_step": 1}
    parts = [list(feed.training(**place, share=share)) for share in shares]
    assert_same([joined(shared) for shared in zip(*parts, strict=True)], list(feed.training(**place, share=WHOLE)))
    assert_same(list(feed.training(**place, share=WHOLE)), list(batches(dataset, config(), start_step=1)))
    parts = [list(feed.evaluation(batch_size=32, share=share)) for share in shares]
    whole = list(feed.evaluation(batch_size=32, share=WHOLE))
    assert_same([joined(shared) for shared in zip(*parts, strict=True)], whole)
    assert [len(part[-1].labels) for part in parts] == [len(range(6)[share.rows(6)]) for share in shares]


def test_steps_per_epoch() -> None:
    """50,000 images at batch 512: 98 steps, the last with 336 images (facts 3)."""
    assert steps_per_epoch(50_000, 512) == 98
    assert steps_per_epoch(50_000, 128) == 391
    assert steps_per_epoch(512, 512) == 1
    assert steps_per_epoch(1_281_167, 256, drop_last=True) == 5_004
    assert steps_per_epoch(512, 512, drop_last=True) == 1


def test_an_incomplete_last_batch_can_be_left_out(dataset: ImageDataset) -> None:
    """The same batches but for the last one, whose images are not seen; a start after the last is none (70 images)."""
    images = DeviceImages.training(dataset, "cpu")
    feed = ResidentFeed(images, config())
    place = {"batch_size": 32, "seed": 3, "epoch": 2, "share": WHOLE}
    whole = list(feed.training(**place, start_step=0))
    assert [len(batch.labels) for batch in whole] == [32, 32, 6]
    assert_same(list(feed.training(**place, start_step=0, drop_last=True)), whole[:2])
    assert_same(list(feed.training(**place, start_step=1, drop_last=True)), whole[1:2])
    assert list(feed.training(**place, start_step=2, drop_last=True)) == []
    with pytest.raises(ValueError, match="steps 0 to 2"):
        feed.training(**place, start_step=3, drop_last=True)


@pytest.mark.parametrize("wrong", [{"start_step": -1}, {"start_step": 4}, {"batch_size": 0}])
def test_out_of_range_is_refused_at_once(dataset: ImageDataset, wrong: dict[str, int]) -> None:
    """A step outside the epoch is an error when asked for, not when iterated."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        batches(dataset, config(), **wrong)


@pytest.mark.filterwarnings("error")
def test_read_only_images_are_shared_not_copied() -> None:
    """On the CPU the tensor lies on the data set's own memory; torch's warning about it is not shown."""
    digits = load_dataset("digits", Execution())
    images = DeviceImages.training(digits, "cpu")
    assert images.pixels(slice(0, 1)).data_ptr() == digits.train_images.ctypes.data
    assert len(images) == 1437


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_makes_the_same_batches(dataset: ImageDataset) -> None:
    """A GPU's batches are the CPU's to the bit."""
    settings = {"batch_size": 32, "seed": 3, "epoch": 2}
    on_gpu = training_batches(DeviceImages.training(dataset, "cuda"), config(), **settings)
    assert_same([on_cpu(batch) for batch in on_gpu], list(batches(dataset, config())))
    test = evaluation_batches(DeviceImages.test(dataset, "cuda"), 32)
    plain = evaluation_batches(DeviceImages.test(dataset, "cpu"), 32)
    assert_same([on_cpu(batch) for batch in test], list(plain))
