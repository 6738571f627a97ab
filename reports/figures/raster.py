"""From the edges of a graph to the pixels of its matrix, without a copy of the edges.

A small matrix gets whole pixels per slot, all in one of two colours. In a matrix larger than its picture a pixel
holds several slots: the fuller it is the darker, and its hue goes from live to dead with the share of its dead edges.
Both go by the square root, so that one edge among many stays visible without drowning them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from reports.reading.wiring_file import Graph

LIVE = "#0072B2"
DEAD = "#D55E00"
_CHUNK = 1 << 20  # edges per step: the memory needed does not grow with the graph
_PALEST = 0.3  # of a pixel with an edge


@dataclass(frozen=True)
class Raster:
    """The pixels of one matrix: ``zoom`` pixels a slot where it is small, else ``slots`` slots a pixel (each way)."""

    tall: int
    wide: int
    zoom: int = 1
    slots: int = 1


def raster_of(shape: tuple[int, int], most: int) -> Raster:
    """Return how a matrix is drawn on at most ``most`` by ``most`` pixels."""
    longest = max(shape)
    if longest <= most:
        zoom = most // longest
        return Raster(shape[0] * zoom, shape[1] * zoom, zoom=zoom)
    slots = -(-longest // most)
    return Raster(-(-shape[0] // slots), -(-shape[1] // slots), slots=slots)


def pixels_of(graph: Graph, raster: Raster) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return the graph's picture: rows down, columns across, then red, green and blue."""
    tall, wide = raster.tall // raster.zoom, raster.wide // raster.zoom
    kept, dead = np.zeros(tall * wide, np.int32), np.zeros(tall * wide, np.int32)
    for start in range(0, len(graph.live), _CHUNK):
        part = slice(start, start + _CHUNK)
        places = graph.rows[part].astype(np.int64) // raster.slots * wide
        places += graph.columns[part].astype(np.int64) // raster.slots
        kept += np.bincount(places, minlength=len(kept))
        dead += np.bincount(places[~graph.live[part]], minlength=len(dead))
    full = kept > 0
    share = dead[full] / kept[full]
    if raster.slots == 1:
        shade, hue = np.ones_like(share), np.ceil(share)
    else:
        shade, hue = _PALEST + (1 - _PALEST) * np.sqrt(kept[full] / kept.max(initial=1)), np.sqrt(share)
    image = np.full((tall * wide, 3), 255, dtype=np.uint8)
    for channel, (live, gone) in enumerate(zip(_rgb(LIVE), _rgb(DEAD), strict=True)):
        image[full, channel] = np.rint(255 + shade * (live + hue * (gone - live) - 255))
    return image.reshape(tall, wide, 3).repeat(raster.zoom, axis=0).repeat(raster.zoom, axis=1)


def _rgb(code: str) -> tuple[int, ...]:
    return tuple(int(code[i : i + 2], 16) for i in (1, 3, 5))
