"""A piece of a batch: a few images to be decoded and cut, wherever that is done.

The piece holds everything random; its pixels are a function of it and the files.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from dnw_core.data.formats.encoded import EncodedFiles
from dnw_core.data.formats.jpeg import decode_checked
from dnw_core.data.streaming import color_jitter, random_resized

FLIP_DRAWS = 1
DRAWS = random_resized.DRAWS + FLIP_DRAWS + color_jitter.DRAWS


@dataclass(frozen=True, eq=False)
class DecodeTask:
    """Images to decode.

    Attributes:
        files: theirs.
        size: height and width wanted, in pixels.
        draws: float64 [n, DRAWS], what is random about each; None in evaluation.
        flip: whether images may be mirrored.
        color_jitter: strength of the colours' change; 0: none.
    """

    files: EncodedFiles
    size: int
    draws: npt.NDArray[np.float64] | None = None
    flip: bool = False
    color_jitter: float = 0.0

    def __len__(self) -> int:
        return len(self.files)


def decode_piece(piece: DecodeTask, pixels: npt.NDArray[np.uint8]) -> None:
    """Write the piece's images into ``pixels``, uint8 [n, size, size, 3].

    Raises:
        DataBrokenError: if a file is no longer there or no longer decodes; names it.
    """
    for row in range(len(piece)):
        content = piece.files.read(row)
        try:
            image = decode_checked(content)
        except ValueError as error:
            raise piece.files.broken(row, str(error)) from None
        if piece.draws is None:
            pixels[row] = random_resized.evaluation_crop(image, piece.size)
        else:
            pixels[row] = _augment(image, piece, piece.draws[row].tolist())


def _augment(image: npt.NDArray[np.uint8], piece: DecodeTask, draws: list[float]) -> npt.NDArray[np.uint8]:
    """Cut, mirror and colour an image; the recipe's order, though mirroring and colouring could be exchanged."""
    crop, flip, colours = draws[: random_resized.DRAWS], draws[random_resized.DRAWS], draws[-color_jitter.DRAWS :]
    box = random_resized.random_box(image.shape[0], image.shape[1], crop)
    image = random_resized.cut_and_resize(image, box, piece.size)
    if piece.color_jitter:
        image = color_jitter.jitter(image, piece.color_jitter, colours)
    if piece.flip and flip < 0.5:
        return torch.flip(torch.from_numpy(image), (1,)).numpy()  # ten times as fast as numpy's
    return image
