"""A picture that Pillow has opened, as RGB of eight bits: what each of its modes means, and what cannot be trained on.

``convert("RGB")``, which torchvision's ImageFolder relies on, is right for samples of eight bits. Deeper ones it clips
at 255 without a word: a grey picture of 16 bits becomes white, one of floats black. Integers are therefore scaled by
their depth (the high byte is kept, as Pillow keeps it of RGB with 16 bits). A picture whose values do not tell what is
white is stretched, so that it can be looked at, and comes with an objection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL import Image

# Pillow's modes of at most eight bits a sample; transparency is left out, as ImageFolder leaves it out
_EIGHT_BITS = frozenset(
    {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"}
)  # fmt: skip
_DEEP = frozenset({"I", "I;16", "I;16L", "I;16B", "I;16N"})
_SCALED_TO_16 = frozenset({"PNG", "PPM", "JPEG2000"})  # formats whose deep grey Pillow hands out as 0 to 65,535
_DARKEST = 16  # a picture that stays below this part of its depth (twelve bits of sixteen, say) was not scaled to it
# tags of TIFF, and what they may say
_BITS, _WHITE_IS_ZERO, _SAMPLE_FORMAT = 258, 262, 339
_SIGNED = 2
_WRITE = "save it as grey or RGB of 8 or 16 bits"


class Rgb(NamedTuple):
    """Pixels, uint8 [H, W, 3], and why they may not be trained on (None: they may)."""

    pixels: npt.NDArray[np.uint8]
    objection: str | None = None


class _Depth(NamedTuple):
    """How integers are stored: bits a sample, of which one is the sign if ``signed``; whether 0 is white."""

    bits: int
    signed: bool = False
    white_is_zero: bool = False


def rgb_of(image: Image.Image) -> Rgb:
    """Return an opened picture's pixels; of an animation or a TIFF of many pages those of the first.

    Raises:
        ValueError: if Pillow cannot convert its mode.
        Exception: whatever a decoder raises on a damaged file.
    """
    import numpy as np

    if image.mode in _DEEP:
        return _of_integers(image)
    if image.mode == "F":
        return Rgb(_stretched(np.asarray(image)), f"its samples are floats, which do not say what is white: {_WRITE}")
    if image.mode not in _EIGHT_BITS:
        raise ValueError(f"its mode is {image.mode}, which is not known here: {_WRITE}")
    objection = None
    if image.mode == "L" and _tag(image, _SAMPLE_FORMAT) == _SIGNED:
        objection = f"its samples are signed, of 8 bits, which Pillow takes for unsigned ones: {_WRITE}"
    return Rgb(np.array(image.convert("RGB")), objection)


def _of_integers(image: Image.Image) -> Rgb:
    import numpy as np

    values: npt.NDArray[np.integer[Any]] = np.asarray(image)
    depth = _depth_of(image)
    if depth is None:
        return Rgb(_stretched(values), f"it has deep integers in a {image.format} file, without a depth: {_WRITE}")
    if depth.bits == 32 and not depth.signed:
        values = values.view(np.uint32)  # Pillow's mode I is signed
    bits = depth.bits - depth.signed
    white, least, most = (1 << bits) - 1, int(values.min()), int(values.max())
    if least < 0:
        return Rgb(_stretched(values), f"it has negative values (down to {least:,}): {_WRITE}")
    if 0 < most <= white // _DARKEST:
        reason = f"its values reach {most:,} only, and white is {white:,} in {bits} bits: scale them to all of it"
        return Rgb(_stretched(values), reason)
    if depth.white_is_zero:
        values = white - values
    return Rgb(_grey(values >> (bits - 8)))


def _depth_of(image: Image.Image) -> _Depth | None:
    if image.format in _SCALED_TO_16:
        return _Depth(16)
    if image.format != "TIFF":
        return None
    signed = _tag(image, _SAMPLE_FORMAT) == _SIGNED
    return _Depth(_tag(image, _BITS) or 1, signed, white_is_zero=_tag(image, _WHITE_IS_ZERO) == 0)


def _tag(image: Image.Image, tag: int) -> int | None:
    """Return what a TIFF says of its first sample, or None if it is none or says nothing."""
    value = getattr(image, "tag_v2", {}).get(tag) if image.format == "TIFF" else None
    return int(value[0] if isinstance(value, tuple) else value) if value is not None else None


def _stretched(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return values [H, W] in grey, from black for the least to white for the greatest; NaN is black."""
    import numpy as np

    finite = np.isfinite(values)
    floats = np.where(finite, values, 0).astype(np.float64)
    least, most = (float(end(floats[finite])) if finite.any() else 0.0 for end in (np.min, np.max))
    return _grey(np.where(finite, (floats - least) * (255 / (most - least) if most > least else 0.0), 0))


def _grey(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    import numpy as np

    return np.repeat(values.astype(np.uint8)[..., None], 3, axis=2)
