"""The wiring pictures: pixels of small and large matrices, many graphs, none, and what it takes in time and memory."""

from __future__ import annotations

import gc
import resource
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from reports import wiring_picture
from reports.figures.raster import DEAD, LIVE, Raster, pixels_of, raster_of
from reports.figures.style import figure, save
from reports.reading.wiring_file import Graph, read_wiring

BLOCKS = [(256, 192), (512, 384), (1024, 768), (3072, 2816), (2048, 1024)]


def rgb(code: str) -> np.ndarray:
    """Return a colour's red, green and blue."""
    return np.array([int(code[i : i + 2], 16) for i in (1, 3, 5)], dtype=float)


def write(path: Path, shapes: dict[str, tuple[int, int]], density: float) -> int:
    """Write a wiring with so many of the slots kept and one in fifty edges dead, and return the number of edges."""
    rng, arrays, edges = np.random.default_rng(0), {}, 0
    for name, shape in shapes.items():
        rows, columns = (rng.random(shape) < density).nonzero()
        edges += len(rows)
        arrays |= {
            f"{name}.rows": rows.astype(np.int32),
            f"{name}.columns": columns.astype(np.int32),
            f"{name}.live": rng.random(len(rows)) > 0.02,
            f"{name}.shape": np.array(shape, dtype=np.int64),
        }
    np.savez_compressed(path, **arrays)
    return edges


def graph_of(rows: list[int], columns: list[int], live: list[bool], shape: tuple[int, int]) -> Graph:
    """Return a graph with these edges."""
    return Graph("g", np.array(rows, np.int32), np.array(columns, np.int32), np.array(live, np.bool_), shape)


def test_a_picture_written_holds_no_memory(tmp_path: Path) -> None:
    """Neither canvas nor pixels wait for the garbage collector, which may come dozens of pictures later."""
    write(tmp_path / "wiring.npz", {"g": (40, 40)}, 0.5)
    wiring_picture(tmp_path / "wiring.npz", tmp_path / "first.png")  # loads what stays: fonts
    gc.collect()
    gc.disable()
    try:
        before = resident()
        for number in range(10):
            wiring_picture(tmp_path / "wiring.npz", tmp_path / f"{number}.png")
        assert resident() - before < 60 << 20  # 23 MB each were left behind
    finally:
        gc.enable()


def resident() -> int:
    """Return the bytes that this process holds: canvases lie outside of what tracemalloc sees."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_a_picture_of_a_thousand_rows_is_coarse_but_one(tmp_path: Path) -> None:
    """Matplotlib refuses pictures of 65,536 pixels, which some 900 rows of the dot plot would take."""
    from matplotlib.image import imread

    with figure(1.0, 500.0) as drawn:
        picture = imread(save(drawn, tmp_path / "tall.png"))
    assert 30_000 < picture.shape[0] < 65_536


def test_small_matrices_have_whole_pixels() -> None:
    """Two pixels a slot, each way: live, dead and empty slots in their colours, nothing in between."""
    graph = graph_of([0, 1], [2, 0], [True, False], (2, 3))
    pixels = pixels_of(graph, raster_of((2, 3), 6))[:, :, :3]
    assert pixels.shape == (4, 6, 3)
    assert (pixels[:2, 4:] == rgb(LIVE)).all()
    assert (pixels[2:, :2] == rgb(DEAD)).all()
    assert (pixels == 255).all(axis=2).sum() == 16


def test_large_matrices_are_binned_by_hand() -> None:
    """2x2 slots a pixel: a full bin is the darkest, one edge of four half as strong, one dead of four half as red."""
    full = [(0, 0), (0, 1), (1, 0), (1, 1)]
    edges = [*full, (0, 2), *((y + 2, x) for y, x in full)]
    live = [True] * 5 + [False, True, True, True]
    graph = graph_of([y for y, _ in edges], [x for _, x in edges], live, (5, 4))
    raster = raster_of((5, 4), 3)
    assert raster == Raster(3, 2, zoom=1, slots=2)
    pixels = pixels_of(graph, raster)[:, :, :3].astype(float)
    assert pixels[0, 0] == pytest.approx(rgb(LIVE))
    assert pixels[0, 1] == pytest.approx(255 + (0.3 + 0.7 * 0.5) * (rgb(LIVE) - 255), abs=1)
    assert pixels[1, 0] == pytest.approx((rgb(LIVE) + rgb(DEAD)) / 2, abs=1)
    assert (pixels[2] == 255).all()
    assert (pixels[1, 1] == 255).all()


def test_few_dead_edges_do_not_drown_the_live_ones(tmp_path: Path) -> None:
    """In a complete graph with 2 % dead edges the bins stay nearer to the live colour than to the dead one."""
    write(tmp_path / "w.npz", {"block-2": BLOCKS[2]}, 1.0)
    (graph,) = read_wiring(tmp_path / "w.npz")
    pixels = pixels_of(graph, raster_of(graph.shape, 256))[:, :, :3].astype(float)
    to_live, to_dead = (np.linalg.norm(pixels - rgb(code), axis=2) for code in (LIVE, DEAD))
    assert (to_live < to_dead).mean() > 0.95
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 3  # and yet the dead ones show


def test_seven_million_edges_make_a_small_file_in_little_memory(tmp_path: Path) -> None:
    """Five blocks up to 3072 x 2816: a picture of less than 8 MiB, and no second copy of the edges (9 bytes each)."""
    shapes = {f"block-{index}": shape for index, shape in enumerate(BLOCKS)}
    assert write(tmp_path / "wiring.npz", shapes, 0.6) > 6_900_000
    tracemalloc.start()
    path = wiring_picture(tmp_path / "wiring.npz", tmp_path / "w.png", title="t")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert path.stat().st_size < 8 << 20
    assert peak >> 20 < 200


def test_names_with_dots_and_hyphens(tmp_path: Path) -> None:
    """A graph's name is all before the last dot; all thirteen layers are read and drawn, in their order."""
    from matplotlib.image import imread

    names = [f"features.{index}.point-wise.shape" for index in range(13)]
    write(tmp_path / "w.npz", dict.fromkeys(names, (64, 32)), 0.2)
    assert [graph.name for graph in read_wiring(tmp_path / "w.npz")] == names
    picture = imread(wiring_picture(tmp_path / "w.npz", tmp_path / "w.png"))
    # four lines of matrices of 512 pixels
    assert picture.shape[0] > 4 * 512
    coloured = (picture[:, :, :3] < 1).any(axis=2)
    last = coloured[-600:, : picture.shape[1] // 4]
    assert last.sum() > 0.1 * 512 * 256


def test_no_graph_is_no_error(tmp_path: Path) -> None:
    """An empty wiring file has no graphs; its picture says so, for the tracker takes one of every trial."""
    from matplotlib.image import imread

    np.savez(tmp_path / "w.npz")
    assert read_wiring(tmp_path / "w.npz") == []
    assert imread(wiring_picture(tmp_path / "w.npz", tmp_path / "w.png", title="t")).shape[1] == 1200


def test_damage_is_always_a_value_error(tmp_path: Path) -> None:
    """A file cut off, missing, or with bytes altered in its compressed part raises ValueError and nothing else."""
    source, target = tmp_path / "wiring.npz", tmp_path / "w.png"
    with pytest.raises(ValueError, match=r"wiring\.npz: cannot be read"):
        wiring_picture(source, target)
    write(source, {"g": (64, 64)}, 0.3)
    whole = source.read_bytes()
    refused = 0
    for place in range(30, len(whole), 37):
        for content in (whole[:place], whole[:place] + bytes([whole[place] ^ 0x5A]) + whole[place + 1 :]):
            source.write_bytes(content)
            try:
                read_wiring(source)
            except ValueError:
                refused += 1
    assert refused > len(whole) // 37
