"""Reading ``wiring.npz``: the edges of each graph, or only how many they are. Nothing is ever unpickled.

A graph is stored in either of two forms (docs/architecture.md): few edges as lists, many as a bit for every slot and
a bit for every edge. Counting reads only the lists' headers, or the bits: the edges of a
network of 25 million weights are not unpacked for it.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Whole = np.ndarray[Any, np.dtype[np.integer[Any]]]
_Array = np.ndarray[Any, np.dtype[Any]]

MOST_PICTURED = 16  # of more graphs the densities are drawn instead of the edges
_LARGEST_ARCHIVE = 1 << 30  # bytes unpacked
_MOST_SLOTS = 1 << 27  # of one graph: a small file could claim any number


@dataclass(frozen=True)
class Graph:
    """The kept edges of one graph: receiving and sending node of each, and whether it is live."""

    name: str
    rows: Whole
    columns: Whole
    live: np.ndarray[Any, np.dtype[np.bool_]]
    shape: tuple[int, int]


@dataclass(frozen=True)
class LayerCount:
    """How many slots of one graph are kept; ``shape`` is receivers by slots of each."""

    name: str
    shape: tuple[int, int]
    kept: int

    @property
    def slots(self) -> int:
        """All slots of the graph."""
        return self.shape[0] * self.shape[1]


def read_wiring(path: Path) -> list[Graph]:
    """Read the edges of all graphs; an empty list for a network without a graph.

    Raises:
        ValueError: if it cannot be read, is damaged or too large, or does not fit the results folder's layout.
    """
    with _opened(path) as (arrays, names, _):
        return [graph_of(name, arrays) for name in names]


def read_counts(path: Path) -> list[LayerCount]:
    """Read how many edges each graph has, in the order of the file; an empty list for a network without a graph.

    Raises:
        ValueError: as ``read_wiring``.
    """
    with _opened(path) as (arrays, names, archive):
        return [_count(name, arrays, archive) for name in names]


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Mapping[str, _Array], list[str], zipfile.ZipFile]]:
    """Yield the arrays, the graphs' names and the archive; whatever is wrong with it becomes a ValueError."""
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _LARGEST_ARCHIVE:
                raise ValueError(f"larger than {_LARGEST_ARCHIVE >> 20} MiB unpacked")
            with np.load(path, allow_pickle=False) as arrays:
                names = [key.removesuffix(".shape") for key in arrays.files if key.endswith(".shape")]
                if arrays.files and not names:
                    raise ValueError("not a wiring file (no graph's shape in it)")
                yield arrays, names, archive
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from None
    except OSError as error:
        raise ValueError(f"{path.name}: cannot be read ({error.strerror or error})") from None
    except Exception as error:  # a damaged file makes zipfile, zlib and numpy's header parser raise almost anything
        raise ValueError(f"{path.name}: not a wiring file ({error})") from None


def graph_of(name: str, arrays: Mapping[str, _Array]) -> Graph:
    """Return the graph of this name; edges by receiver, then by sender, where they were bits.

    Raises:
        ValueError: if its arrays do not fit the results folder's layout; says which.
        KeyError: if one is missing.
    """
    size = _size(name, arrays)
    if f"{name}.kept_bits" in arrays:
        return _from_bits(name, arrays, size)
    rows, columns, live = (np.asarray(arrays[f"{name}.{part}"]) for part in ("rows", "columns", "live"))
    for ends, limit in ((rows, size[0]), (columns, size[1])):
        whole = ends.ndim == 1 and ends.dtype.kind in "iu" and ends.shape == live.shape
        if not whole or (len(ends) and not (int(ends.min()) >= 0 and int(ends.max()) < limit)):
            raise ValueError(f"the edges of graph {name!r} are outside its shape {size}")
    if live.dtype != np.bool_:
        raise ValueError(f"'{name}.live' is not true or false per edge")
    return Graph(name, rows, columns, live, size)


def _from_bits(name: str, arrays: Mapping[str, _Array], size: tuple[int, int]) -> Graph:
    slots = size[0] * size[1]
    if slots > _MOST_SLOTS:
        raise ValueError(f"graph {name!r} has {slots} slots; at most {_MOST_SLOTS} are read")
    places = np.flatnonzero(_bits(name, "kept_bits", arrays, slots)).astype(np.int32)
    rows, columns = places // np.int32(size[1]), places % np.int32(size[1])
    return Graph(name, rows, columns, _bits(name, "live_bits", arrays, len(rows)), size)


def _bits(name: str, part: str, arrays: Mapping[str, _Array], count: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return np.unpackbits(_packed(name, part, arrays, count), count=count).astype(np.bool_)


def _packed(name: str, part: str, arrays: Mapping[str, _Array], count: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    packed = np.asarray(arrays[f"{name}.{part}"])
    if packed.dtype != np.uint8 or packed.shape != (-(-count // 8),):
        raise ValueError(f"'{name}.{part}' is not a bit for each of {count}")
    return packed


def _count(name: str, arrays: Mapping[str, _Array], archive: zipfile.ZipFile) -> LayerCount:
    size = _size(name, arrays)
    slots = size[0] * size[1]
    if f"{name}.kept_bits" in arrays:
        kept = int(np.bitwise_count(_packed(name, "kept_bits", arrays, slots)).sum())
    else:
        kept = _length(f"{name}.live", archive)
    if kept > slots:
        raise ValueError(f"the edges of graph {name!r} are outside its shape {size}")
    return LayerCount(name, size, kept)


def _size(name: str, arrays: Mapping[str, _Array]) -> tuple[int, int]:
    shape = np.asarray(arrays[f"{name}.shape"])
    if shape.shape != (2,) or shape.dtype.kind not in "iu" or not (shape > 0).all():
        raise ValueError(f"the shape of graph {name!r} is not two positive whole numbers")
    return int(shape[0]), int(shape[1])


def _length(name: str, archive: zipfile.ZipFile) -> int:
    """Return a list's length from its header alone."""
    with archive.open(f"{name}.npy") as member:
        version = np.lib.format.read_magic(member)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape = read(member)[0]
    if len(shape) != 1:
        raise ValueError(f"'{name}' is not a list")
    return int(shape[0])
