"""Image files decoded to RGB: ordinary JPEGs by libjpeg-turbo, whatever else there is by Pillow.

The same bytes always give the same pixels, those that Pillow gives: of 1.3 million ImageNet files some 20 are CMYK and
one is a PNG that is called JPEG. Samples of more than eight bits are scaled (``pixels``). Pillow shows a file whose end
is missing as half grey when its last bytes say that all is well; here such a file is refused, so that it is found
before anything is trained on it.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Literal

from dnw_core.data.formats.pixels import Rgb, rgb_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Kind = Literal["rgb", "grey", "cmyk", "other"]

MOST_PIXELS = 1 << 28  # of one image; more is a mistake or an attack, and would take a gigabyte
_KINDS: dict[str, Kind] = {"YCbCr": "rgb", "RGB": "rgb", "Gray": "grey", "CMYK": "cmyk", "YCCK": "cmyk"}
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # how they begin
# libjpeg's words for missing or altered picture data; what else it remarks (stray bytes between markers) costs no pixel
_DAMAGE = ("premature end", "bad huffman", "bad arithmetic", "instead of rst")


def kind_of(content: bytes) -> Kind:
    """Return how a file's colours are stored, from its header: a JPEG in colour, grey or CMYK, or no JPEG ("other")."""
    return _header(content)[2]


def decode_checked(content: bytes) -> npt.NDArray[np.uint8]:
    """Return the pixels of an image file that is to be trained or evaluated on, uint8 [H, W, 3].

    Raises:
        ValueError: as ``decode_rgb``; also if the pixels' mode does not tell what is white, or none of it is used.
    """
    pixels, objection = _decode(content)
    if objection is not None:
        raise ValueError(objection)
    return pixels


def decode_rgb(content: bytes) -> npt.NDArray[np.uint8]:
    """Return an image file's pixels for looking at, uint8 [H, W, 3]; grey, CMYK and deep samples are converted.

    Where ``decode_checked`` refuses floats and the like, these are stretched from their least to their greatest value.

    Raises:
        ValueError: if it is not an image, or its picture data are truncated or altered; says which in a few words.
    """
    return _decode(content).pixels


def _decode(content: bytes) -> Rgb:
    height, width, kind = _header(content)
    if height * width > MOST_PIXELS:
        raise ValueError(f"it has {width}x{height} pixels")
    if kind in ("other", "cmyk"):
        if kind == "cmyk":
            _libjpeg(content, "CMYK")  # for its remarks: the colours are Pillow's
        return _decode_by_pillow(content)
    pixels = _libjpeg(content, "RGB")
    return Rgb(pixels) if pixels is not None else _decode_by_pillow(content)


def _header(content: bytes) -> tuple[int, int, Kind]:
    import simplejpeg

    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content, strict=False)
    except (ValueError, KeyError):  # KeyError: a header without a frame
        return 0, 0, "other"
    return height, width, _KINDS.get(colours, "other")


def _libjpeg(content: bytes, colours: str) -> npt.NDArray[np.uint8] | None:
    """Return a JPEG's pixels, or None if libjpeg-turbo does not take it for a reason other than damage."""
    import simplejpeg

    try:
        pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(content, colours)
    except ValueError as error:
        if any(words in str(error).lower() for words in _DAMAGE):
            raise ValueError(f"truncated or altered ({error})") from None
        return None
    return pixels


def _decode_by_pillow(content: bytes) -> Rgb:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.width * image.height > MOST_PIXELS:
                raise ValueError(f"it has {image.width}x{image.height} pixels")
            return rgb_of(image)
    except UnidentifiedImageError:
        tiff = "a damaged TIFF, or one of samples that Pillow does not read (floats in colour or of 64 bits, say)"
        raise ValueError(tiff if content[:4] in _TIFF else "not an image" if content else "empty") from None
    except Exception as error:  # what an image decoder raises on broken input has no common base
        raise ValueError(str(error)) from None
