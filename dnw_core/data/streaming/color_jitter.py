"""ColorJitter of brightness, contrast and saturation, with torchvision's meaning (the ShuffleNet recipe, facts 4.2).

Each change blends the image with another one: black, its mean grey, its grey version. Their order is random. The random
numbers are drawn for a whole batch beforehand and handed in.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]  # [H, W, 3]

DRAWS = 4  # uniform numbers an image: brightness, contrast, saturation, order
_GREY = np.array([0.2989, 0.587, 0.114], dtype=np.float32)  # ITU-R 601, as torchvision has it


def jitter(pixels: Pixels, strength: float, draws: Sequence[float]) -> Pixels:
    """Return the image with brightness, contrast and saturation changed by factors from 1 - strength to 1 + strength.

    Args:
        pixels: the image.
        strength: largest relative change.
        draws: DRAWS numbers from [0, 1): the three factors, and which of their six orders is taken.
    """
    order = tuple(itertools.permutations(range(3)))[int(draws[3] * 6)]
    for change in order:
        pixels = _CHANGES[change](pixels, 1 - strength + 2 * strength * draws[change])
    return pixels


def brighten(pixels: Pixels, factor: float) -> Pixels:
    """Blend with black."""
    return _blend_table(0.0, factor)[pixels]


def change_contrast(pixels: Pixels, factor: float) -> Pixels:
    """Blend with the mean of the grey image."""
    return _blend_table(float(_grey(pixels).mean(dtype=np.float64)), factor)[pixels]


def saturate(pixels: Pixels, factor: float) -> Pixels:
    """Blend each pixel with its grey."""
    grey = _grey(pixels).astype(np.float32)[:, :, None]
    return _to_pixels(np.float32(factor) * pixels + np.float32(1 - factor) * grey)


_CHANGES: tuple[Callable[[Pixels, float], Pixels], ...] = (brighten, change_contrast, saturate)


def _grey(pixels: Pixels) -> npt.NDArray[np.uint8]:
    return (pixels.astype(np.float32) @ _GREY).astype(np.uint8)


def _blend_table(other: float, factor: float) -> Pixels:
    """Return what each of the 256 values becomes when blended with the value ``other``."""
    values = np.arange(256, dtype=np.float32)
    return _to_pixels(np.float32(factor) * values + np.float32((1 - factor) * other))


def _to_pixels(values: npt.NDArray[np.float32]) -> Pixels:
    return np.clip(values, 0, 255).astype(np.uint8)
