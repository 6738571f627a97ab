"""RandomResizedCrop, and the evaluation's resize and centre crop, with torchvision's meaning (facts 3).

The random numbers are drawn for a whole batch beforehand and handed in, since which part of an image is cut out depends
on its size, which only its decoder knows. Resizing is bilinear with antialiasing on uint8 in channels-last order, where
torch is three times as fast as Pillow and differs from it by rounding only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

TRIES = 10
DRAWS = 2 * TRIES + 2  # uniform numbers an image: area and shape for each try, top and left
_SCALE = (0.08, 1.0)
_RATIO = (3 / 4, 4 / 3)

Pixels = npt.NDArray[np.uint8]  # [H, W, 3]


class Box(NamedTuple):
    """A part of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int


def random_box(height: int, width: int, draws: Sequence[float]) -> Box:
    """Return the part to cut out: area 8 to 100 % of the image's, shape 3:4 to 4:3, anywhere in it.

    The first of ten tries that fits is taken; if none does, the largest centred part of an allowed shape.

    Args:
        height: of the image.
        width: of the image.
        draws: DRAWS numbers from [0, 1): areas, shapes (on a logarithmic scale), top, left.
    """
    least, most = math.log(_RATIO[0]), math.log(_RATIO[1])
    for area_draw, shape_draw in zip(draws[:TRIES], draws[TRIES : 2 * TRIES], strict=True):
        area = height * width * (_SCALE[0] + (_SCALE[1] - _SCALE[0]) * area_draw)
        shape = math.exp(least + (most - least) * shape_draw)
        box_width, box_height = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
        if 0 < box_width <= width and 0 < box_height <= height:
            top, left = (
                int(draw * room)
                for draw, room in zip(draws[2 * TRIES :], (height - box_height + 1, width - box_width + 1), strict=True)
            )
            return Box(top, left, box_height, box_width)
    return _central_box(height, width)


def _central_box(height: int, width: int) -> Box:
    box_height, box_width = height, width
    if width / height < _RATIO[0]:
        box_height = round(width / _RATIO[0])
    elif width / height > _RATIO[1]:
        box_width = round(height * _RATIO[1])
    return Box((height - box_height) // 2, (width - box_width) // 2, box_height, box_width)


def cut_and_resize(pixels: Pixels, box: Box, size: int) -> Pixels:
    """Return that part of an image, resized to ``size`` x ``size``."""
    return _resize(pixels[box.top : box.top + box.height, box.left : box.left + box.width], size, size)


def evaluation_crop(pixels: Pixels, size: int) -> Pixels:
    """Return the central ``size`` x ``size`` pixels after the shorter side was resized to 256/224 of ``size``."""
    height, width = pixels.shape[:2]
    short = round(size * 256 / 224)
    if width <= height:
        resized = _resize(pixels, short * height // width, short)
    else:
        resized = _resize(pixels, short, short * width // height)
    top, left = (round((side - size) / 2) for side in resized.shape[:2])
    return resized[top : top + size, left : left + size]


def _resize(pixels: Pixels, height: int, width: int) -> Pixels:
    if pixels.shape[:2] == (height, width):
        return pixels
    image = torch.from_numpy(pixels)[None].permute(0, 3, 1, 2)  # NCHW by name; by its strides torch sees channels last
    resized = F.interpolate(image, (height, width), mode="bilinear", antialias=True)
    return resized[0].permute(1, 2, 0).numpy()
