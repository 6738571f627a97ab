"""Data sets: found, verified, and handed out as uint8 arrays or, where they are too large, as image files to decode.

What the rest of the project needs of them. Importing this package loads neither torch nor numpy nor pyarrow; training
opens a recipe's images as batches with ``dnw_core.data.opening``.
"""

from dnw_core.data.fit import check_fit
from dnw_core.data.formats.encoded import EncodedImages
from dnw_core.data.registry import (
    DATASETS,
    RESIDENT_DATASETS,
    STREAMED_DATASETS,
    check_dataset,
    load_dataset,
    open_dataset,
)
from dnw_core.data.sources.base import Content, ImageDataset
