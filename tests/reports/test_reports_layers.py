"""Networks of many layers in the report: weights kept by layer as table, files and figure, in both forms on disk."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.stubs.reports_store import row, write_trial

from dnw_core.record import RECORD_FILE, WIRING_FILE
from reports import build_report, wiring_picture
from reports.figures.style import row_colours
from reports.pictures import draw_layers
from reports.reading.wiring_file import MOST_PICTURED, read_counts, read_wiring
from reports.rows import parse_rows
from reports.sections.layers import LAYER_COLUMNS, layer_section, mean_layers, read_layers
from reports.trials import frame, read_trials

NAMES = [f"layer{index}.conv" for index in range(MOST_PICTURED + 4)]
SHAPE = (9, 11)  # 99 slots: the last byte of a bit for each is not full


def arrays_of(kept: dict[str, int], packed: bool) -> dict[str, np.ndarray]:
    """The arrays of ``wiring.npz`` with so many edges of each layer, every third of them dead."""
    arrays: dict[str, np.ndarray] = {}
    for name, count in kept.items():
        mask = np.zeros(SHAPE, bool)
        mask.flat[np.random.default_rng(count).permutation(mask.size)[:count]] = True
        live = np.arange(count) % 3 > 0
        arrays[f"{name}.shape"] = np.array(SHAPE, np.int64)
        if packed:
            arrays[f"{name}.kept_bits"], arrays[f"{name}.live_bits"] = np.packbits(mask), np.packbits(live)
        else:
            rows, columns = (ends.astype(np.int32) for ends in mask.nonzero())
            arrays |= {f"{name}.rows": rows, f"{name}.columns": columns, f"{name}.live": live}
    return arrays


def write_layers(folder: Path, kept: dict[str, int], *, packed: bool = False) -> None:
    """Give a trial a wiring of many layers, and the record its hash."""
    np.savez_compressed(folder / WIRING_FILE, **arrays_of(kept, packed))
    record = json.loads((folder / RECORD_FILE).read_text("utf-8"))
    record["files"][WIRING_FILE] = hashlib.sha256((folder / WIRING_FILE).read_bytes()).hexdigest()
    (folder / RECORD_FILE).write_text(json.dumps(record), "utf-8")


def test_both_forms_hold_the_same_edges(tmp_path: Path) -> None:
    """Lists and bits are read as the same edges, live ones and counts, none and all of them included."""
    kept = dict(zip(NAMES, [0, 1, 7, 98, 99], strict=False))
    np.savez(tmp_path / "lists.npz", **arrays_of(kept, packed=False))
    np.savez(tmp_path / "bits.npz", **arrays_of(kept, packed=True))
    for one, two in zip(read_wiring(tmp_path / "lists.npz"), read_wiring(tmp_path / "bits.npz"), strict=True):
        assert (one.name, one.shape) == (two.name, two.shape)
        for name in ("rows", "columns", "live"):
            assert np.array_equal(getattr(one, name), getattr(two, name)), name
    for name in ("lists.npz", "bits.npz"):
        counts = read_counts(tmp_path / name)
        assert {layer.name: (layer.shape, layer.kept) for layer in counts} == {n: (SHAPE, k) for n, k in kept.items()}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"g.shape": np.array([2, 2])}, "'g.kept_bits' is not a bit for each of 4"),
        ({"g.shape": np.array([1 << 20, 1 << 20])}, "is not a bit for each of|at most"),
        ({"g.kept_bits": np.zeros(13, np.int64)}, "'g.kept_bits' is not a bit for each of 99"),
        ({"g.live_bits": np.zeros(1, np.uint8)}, "'g.live_bits' is not a bit for each of 50"),
    ],
)
def test_bits_that_do_not_fit_are_refused(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    """Wrong sizes and types are a ValueError that names the file and the array."""
    np.savez(tmp_path / "w.npz", **(arrays_of({"g": 50}, packed=True) | change))
    with pytest.raises(ValueError, match=rf"w\.npz: .*({reason})"):
        read_wiring(tmp_path / "w.npz")


def two_rows(results: Path) -> list[dict[str, Any]]:
    """A row of even layers (10 of 99), and one of the same total whose layers are uneven, each with two seeds."""
    rows = [row("even", seeds=[0, 1], epochs=2), row("uneven", seeds=[0, 1], epochs=2)]
    for seed in (0, 1):
        write_layers(write_trial(results, rows[0], seed), dict.fromkeys(NAMES, 10), packed=True)
        uneven = {name: 10 + (3 + seed if index % 2 else -3 - seed) for index, name in enumerate(NAMES)}
        write_layers(write_trial(results, rows[1], seed), uneven)
    return rows


def test_the_report_tells_every_layer(tmp_path: Path) -> None:
    """Means over seeds in the details, each seed in layers.*, one figure of densities and none of single edges.

    Of layers that all keep as much one sentence says it.
    """
    rows = two_rows(tmp_path)
    paths = build_report(tmp_path, rows, scale="paper", generated_at="now")
    text = paths.markdown.read_text("utf-8")
    assert f"<summary>{len(NAMES)} layers with a wiring rule, mean of 2 seeds; other layers are dense</summary>" in text
    assert "| `layer0.conv` | 9 x 11 | 6.5 | 6.57 |" in text
    assert "| `layer1.conv` | 9 x 11 | 13.5 | 13.64 |" in text
    assert text.count("| **all** | 1,980 | **200** | **10.10** |") == 1
    alike = "mean of 2 seeds: each keeps 10.10 % of its weights, 200 in total; other layers are dense."
    assert f"{len(NAMES)} layers with a wiring rule, {alike}" in text
    assert "figures/tiny-density-per-layer.png" in text
    assert "### Wirings found" not in text
    assert "`layers.csv` and `layers.parquet`" in text
    found = pd.read_parquet(tmp_path / "layers.parquet")
    assert list(found.columns) == list(LAYER_COLUMNS) == list(pd.read_csv(tmp_path / "layers.csv").columns)
    assert len(found) == 4 * len(NAMES)
    line = found[(found["row"] == "uneven") & (found["seed"] == 1) & (found["layer"] == "layer1.conv")].iloc[0]
    assert (line["place"], line["slots"], line["kept"], line["density"]) == (1, 99, 14, 14 / 99)


def test_one_uneven_layer_brings_the_table(tmp_path: Path) -> None:
    """Layers are said to keep alike only if all do: two that differ among many equal ones are told one by one."""
    given = row("one-differs", seeds=[0], epochs=2)
    folder = write_trial(tmp_path, given, 0)
    write_layers(folder, dict.fromkeys(NAMES, 20) | {NAMES[3]: 18, NAMES[4]: 22})
    one = parse_rows([given], "paper")[0]
    text = "\n".join(layer_section(one, read_layers(tmp_path, [one], read_trials(tmp_path, [given]))))
    assert f"| `{NAMES[3]}` | 9 x 11 | 18 | 18.18 |" in text


def test_few_graphs_are_no_layers(tmp_path: Path) -> None:
    """A network with no more graphs than a picture holds has neither layer table nor files: its edges are drawn."""
    given = row("few", seeds=[0], epochs=2)
    folder = write_trial(tmp_path, given, 0)
    for count in (MOST_PICTURED, MOST_PICTURED + 1):
        write_layers(folder, dict.fromkeys(NAMES[:count], 10))
        layers = read_layers(tmp_path, parse_rows([given], "paper"), read_trials(tmp_path, [given]))
        assert len(layers) == (0 if count == MOST_PICTURED else count)


def test_what_cannot_be_read_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One damaged wiring costs its own lines only, and the log says so."""
    rows = two_rows(tmp_path)
    trials = read_trials(tmp_path, rows)
    (tmp_path / trials["folder"][0] / WIRING_FILE).write_bytes(b"PK")
    (tmp_path / trials["folder"][2] / WIRING_FILE).unlink()
    layers = read_layers(tmp_path, parse_rows(rows, "paper"), trials)
    assert sorted(set(zip(layers["row"], layers["seed"], strict=True))) == [("even", 1), ("uneven", 1)]
    assert "the layers of" in caplog.text


def lines_of(name: str, densities: dict[str, float]) -> list[dict[str, Any]]:
    """The lines of one trial with layers of a thousand weights."""
    identity = {"table": "tiny", "row": name, "fingerprint": row(name)["fingerprint"], "seed": 0}
    sizes = {"receivers": 10, "slots_each": 100, "slots": 1000}
    return [
        identity | sizes | {"place": place, "layer": layer, "kept": round(1000 * density), "density": density}
        for place, (layer, density) in enumerate(densities.items())
    ]


def test_the_figure_has_a_panel_where_rows_differ(tmp_path: Path) -> None:
    """Panels by overall density; even rows alone have none; a row with fewer layers joins, another network does not."""
    from matplotlib.image import imread

    names = NAMES[:4]
    uneven = dict(zip(names, [0.4, 0.0, 0.2, 0.2], strict=True))
    shapes = {
        "even-5": dict.fromkeys(names, 0.05),
        "even-20": dict.fromkeys(names, 0.2),
        "uneven-20": uneven,
        "fewer": dict.fromkeys(names[1:], 0.21),
        "dense": dict.fromkeys(names, 1.0),
        "other": {"x": 0.1, "y": 0.3},
    }
    layers = frame([line for name, found in shapes.items() for line in lines_of(name, found)], LAYER_COLUMNS)
    rows = parse_rows([row(name) for name in shapes], "paper")
    drawn = draw_layers("Title", rows, layers, row_colours(rows), tmp_path, "density")
    assert [path.name for path in drawn] == ["density.png", "density-2.png"]
    one, two = (imread(path).shape for path in drawn)
    assert one == two  # one panel each: of 20 %, and of the other network
    even = [one for one in rows if one.row.startswith(("even", "dense"))]
    assert draw_layers("Title", even, layers, row_colours(even), tmp_path, "none") == []
    assert mean_layers(rows[3], layers).index.tolist() == names[1:]


def test_the_trackers_picture_of_many_layers(tmp_path: Path) -> None:
    """A trial of many layers gets one picture of their densities, not sixteen of its edges."""
    from matplotlib.image import imread

    np.savez(tmp_path / "w.npz", **arrays_of(dict.fromkeys(NAMES, 10), packed=True))
    tall, wide, _ = imread(wiring_picture(tmp_path / "w.npz", tmp_path / "w.png", title="t")).shape
    assert (wide, tall < 700) == (1500, True)
