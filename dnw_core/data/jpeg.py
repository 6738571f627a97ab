"""Image files decoded to RGB: ordinary JPEGs by libjpeg-turbo, whatever else there is by Pillow.

The same bytes always give the same pixels, those that Pillow gives: of 1.3 million ImageNet files some 20 are CMYK and
one is a PNG that is called JPEG. Pillow shows a file whose end is missing as half grey when its last bytes say that
all is well; here such a file is refused, so that it is found before anything is trained on it.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Kind = Literal["rgb", "grey", "cmyk", "other"]

MOST_PIXELS = 1 << 28  # of one image; more is a mistake or an attack, and would take a gigabyte
_KINDS: dict[str, Kind] = {"YCbCr": "rgb", "RGB": "rgb", "Gray": "grey", "CMYK": "cmyk", "YCCK": "cmyk"}
# libjpeg's words for missing or altered picture data; what else it remarks (stray bytes between markers) costs no pixel
_DAMAGE = ("premature end", "bad huffman", "bad arithmetic", "instead of rst")


def kind_of(content: bytes) -> Kind:
    """Return how a file's colours are stored, from its header: a JPEG in colour, grey or CMYK, or no JPEG ("other")."""
    return _header(content)[2]


def decode_rgb(content: bytes) -> npt.NDArray[np.uint8]:
    """Return an image file's pixels, uint8 [H, W, 3]; grey and CMYK are converted.

    Raises:
        ValueError: if it is no image, or its picture data are truncated or altered; says which in a few words.
    """
    import simplejpeg

    height, width, kind = _header(content)
    if height * width > MOST_PIXELS:
        raise ValueError(f"it has {width}x{height} pixels")
    if kind == "other":
        return _decode_by_pillow(content)
    try:
        pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(content, "CMYK" if kind == "cmyk" else "RGB")
    except ValueError as error:
        if any(words in str(error).lower() for words in _DAMAGE):
            raise ValueError(f"truncated or altered ({error})") from None
        return _decode_by_pillow(content)
    return pixels if kind != "cmyk" else _decode_by_pillow(content)


def _header(content: bytes) -> tuple[int, int, Kind]:
    import simplejpeg

    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content, strict=False)
    except (ValueError, KeyError):  # KeyError: a header without a frame
        return 0, 0, "other"
    return height, width, _KINDS.get(colours, "other")


def _decode_by_pillow(content: bytes) -> npt.NDArray[np.uint8]:
    import numpy as np
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.width * image.height > MOST_PIXELS:
                raise ValueError(f"it has {image.width}x{image.height} pixels")
            return np.array(image.convert("RGB"))
    except UnidentifiedImageError:
        raise ValueError("no image" if content else "empty") from None
    except Exception as error:  # what an image decoder raises on broken input is no one family
        raise ValueError(str(error)) from None
