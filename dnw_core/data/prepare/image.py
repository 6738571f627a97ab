"""One image on its way into a shard: decoded in full, made smaller if it is too large, else left byte for byte.

Smaller means: the short side at the given size and the long one in proportion, with torchvision's rounding and Pillow's
antialiased bilinear filter. That is the first step of the usual evaluation (short side 256, then the central 224),
which therefore sees what it would see of the original, but for one more JPEG compression.

JPEGs that are encoded anew have colours at half resolution (4:2:0), as most photographs' JPEGs have: on imagenette 16 %
fewer bytes than 4:4:4 and a fifth less time to decode, which is paid again in every epoch. EXIF turns are ignored, as
torchvision's ImageFolder ignores them.
"""

from __future__ import annotations

from dnw_core.data.formats.jpeg import decode_checked, kind_of


def prepare_image(content: bytes, short_side: int | None, quality: int) -> bytes:
    """Return the JPEG file that the shard holds for an image file.

    Args:
        content: the image file.
        short_side: in pixels; an image whose shorter side is longer is made smaller. None: no image is.
        quality: of an image that is encoded anew, 1 to 100.

    Returns:
        ``content`` itself if it is a JPEG in colour or grey that is small enough; else a new file, in RGB.

    Raises:
        ValueError: if the image is unreadable or truncated; says which in a few words.
    """
    pixels = decode_checked(content)
    height, width = pixels.shape[:2]
    too_large = short_side is not None and min(height, width) > short_side
    if not too_large and kind_of(content) in ("rgb", "grey"):
        return content

    import numpy as np
    import simplejpeg

    if short_side is not None and too_large:
        from PIL import Image

        size = reduced_size(width, height, short_side)
        pixels = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))
    encoded: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(pixels), quality=quality, colorspace="RGB", colorsubsampling="420", fastdct=False
    )
    return encoded


def reduced_size(width: int, height: int, short_side: int) -> tuple[int, int]:
    """Return (width, height) in pixels, the shorter one ``short_side``, rounded as torchvision's Resize does."""
    long_side = int(short_side * max(width, height) / min(width, height))
    return (short_side, long_side) if width <= height else (long_side, short_side)
