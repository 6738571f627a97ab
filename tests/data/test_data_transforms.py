"""The transforms mean what torchvision's mean: given the same random numbers, its code cuts and colours the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from support.images import synthetic_images as synthetic

from dnw_core.data.streaming import color_jitter
from dnw_core.data.streaming.random_resized import DRAWS, TRIES, Box, cut_and_resize, evaluation_crop, random_box

SIZES = [(224, 224), (375, 500), (500, 333), (40, 37), (60, 400), (500, 90), (1, 1), (3, 200)]


class Dictated:
    """Stands in for torch in torchvision's module: hands out given numbers where it would draw."""

    def __init__(self, draws: list[float]) -> None:
        areas, shapes = draws[:TRIES], draws[TRIES : 2 * TRIES]
        self._uniform = iter([draw for pair in zip(areas, shapes, strict=True) for draw in pair])
        self._places = iter(draws[2 * TRIES :])

    def empty(self, _: int) -> Any:
        """What is to be filled with a uniform number."""

        def uniform_(low: float, high: float) -> torch.Tensor:
            return torch.tensor([float(low) + (float(high) - float(low)) * next(self._uniform)], dtype=torch.float64)

        return SimpleNamespace(uniform_=uniform_)

    def randint(self, low: int, high: int, size: tuple[int]) -> torch.Tensor:
        """A whole number below ``high``."""
        return torch.tensor([low + int(next(self._places) * (high - low))])

    def tensor(self, values: Any) -> torch.Tensor:
        """As torch, in double precision."""
        return torch.tensor(values, dtype=torch.float64)

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


def drawn(count: int, width: int, seed: int = 0) -> Iterator[list[float]]:
    """Lists of uniform numbers."""
    yield from np.random.default_rng(seed).random((count, width)).tolist()


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_random_part_is_torchvisions(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred parts of each size of image, the fallback of very long images among them."""
    from torchvision.transforms import transforms as theirs

    found: set[Box] = set()
    for draws in drawn(100, DRAWS):
        monkeypatch.setattr(theirs, "torch", Dictated(draws))
        image = torch.empty(3, *size, dtype=torch.uint8, device="meta")
        expected = theirs.RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3])
        box = random_box(*size, draws)
        assert tuple(box) == tuple(expected)
        found.add(box)
    assert len(found) > 50 or min(size) < 10


def test_the_random_parts_are_spread_as_they_should_be() -> None:
    """Areas reach from 8 % to all, shapes from 3:4 to 4:3, and every corner of the image is reached."""
    boxes = [random_box(300, 300, draws) for draws in drawn(4000, DRAWS, seed=1)]
    areas = np.array([box.height * box.width / 90_000 for box in boxes])
    shapes = np.log([box.width / box.height for box in boxes])
    assert 0.075 < areas.min() < 0.09
    assert areas.max() > 0.98
    assert 0.44 < np.median(areas) < 0.52  # below the middle: large parts are those that do not fit
    assert abs(shapes.mean()) < 0.01
    assert 0.27 < np.abs(shapes).max() < 0.3
    assert {(box.top == 0, box.top + box.height == 300) for box in boxes} == {
        (a, b) for a in (False, True) for b in (False, True)
    }


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_cutting_and_resizing_is_torchvisions(size: tuple[int, int]) -> None:
    """Against Pillow through torchvision: no pixel differs by more than one of 255."""
    from torchvision.transforms import functional as their_functions

    image = synthetic.picture(1, *size)
    for draws in drawn(10, DRAWS):
        box = random_box(*size, draws)
        expected = np.asarray(their_functions.resized_crop(image, *box, [96, 96]))
        found = cut_and_resize(np.asarray(image).copy(), box, 96)
        assert np.abs(found.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("size", SIZES[:-2], ids=str)
@pytest.mark.parametrize("wanted", [224, 160, 32])
def test_the_evaluations_crop_is_torchvisions(size: tuple[int, int], wanted: int) -> None:
    """Shorter side to 256/224, centre: the same window, and no pixel differs by more than one of 255."""
    from torchvision.transforms import functional as their_functions

    image = synthetic.picture(2, *size)
    resized = their_functions.resize(image, [round(wanted * 256 / 224)])
    expected = np.asarray(their_functions.center_crop(resized, [wanted, wanted]))
    found = evaluation_crop(np.asarray(image).copy(), wanted)
    assert found.shape == (wanted, wanted, 3)
    assert np.abs(found.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    ("ours", "their"),
    [
        (color_jitter.brighten, "adjust_brightness"),
        (color_jitter.change_contrast, "adjust_contrast"),
        (color_jitter.saturate, "adjust_saturation"),
    ],
    ids=["brightness", "contrast", "saturation"],
)
def test_each_change_of_colour_is_torchvisions(ours: Callable[..., Any], their: str) -> None:
    """On torchvision's tensors: no pixel differs by more than one of 255, and hardly any differs at all."""
    from torchvision.transforms import functional as their_functions

    image = np.array(synthetic.picture(3, 50, 60))
    for factor in (0.6, 0.83, 1.0, 1.21, 1.4):
        expected = (
            getattr(their_functions, their)(torch.from_numpy(image).permute(2, 0, 1), factor).permute(1, 2, 0).numpy()
        )
        difference = np.abs(ours(image, factor).astype(int) - expected)
        assert difference.max() <= 1
        assert (difference > 0).mean() < 0.01


def test_colours_change_in_every_order_and_by_every_factor() -> None:
    """The six orders, and factors from 0.6 to 1.4, come out of the four numbers; one half changes nothing."""
    image = np.array(synthetic.picture(4, 30, 30))
    orders = {color_jitter.jitter(image, 0.4, (0.1, 0.9, 0.95, place / 6 + 0.01)).tobytes() for place in range(6)}
    assert len(orders) == 6
    expected = color_jitter.saturate(color_jitter.change_contrast(color_jitter.brighten(image, 0.6), 1.4), 1.0)
    assert np.array_equal(color_jitter.jitter(image, 0.4, (0.0, 1.0, 0.5, 0.0)), expected)
    assert np.abs(color_jitter.jitter(image, 0.4, (0.5, 0.5, 0.5, 0.7)).astype(int) - image).max() <= 1


def test_an_image_of_the_right_size_stays_as_it_is() -> None:
    """No resize, no rounding."""
    image = np.array(synthetic.picture(5, 40, 50))
    found = cut_and_resize(image, Box(3, 4, 20, 20), 20)
    assert np.array_equal(found, image[3:23, 4:24])
