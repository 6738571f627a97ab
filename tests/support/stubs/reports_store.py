"""Writes results folders for the report's tests: trials as the store commits them, without training anything."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

NODES = 800
KEPT = 32_000
NO_GRAPH = {"edges": 0, "live_edges": 0, "nodes": 0, "live_nodes": 0, "applications": 1.0}  # changes of a cost


def recipe(epochs: int) -> dict[str, Any]:
    """Return a recipe as ``trial.json`` holds it."""
    return {
        "network": {"kind": "tiny-static"},
        "wiring": {"rule": "top-edges", "density": 0.05},
        "data": {"dataset": "digits"},
        "schedule": {"kind": "cosine"},
        "epochs": epochs,
        "batch_size": 128,
    }


def row(name: str = "static-dnw", **changes: Any) -> dict[str, Any]:
    """Return a report row as the pipeline hands it over."""
    values = {
        "table": "tiny",
        "table_title": "Tiny classifiers (41k parameters) on CIFAR-10",
        "row": name,
        "label": name.replace("-", " ").capitalize(),
        "extra": False,
        "variant": False,
        "corrects": None,
        "published_mean": 80.9,
        "published_std": 0.6,
        "published_n": None,
        "published_origin": "the paper's poster",
        "published_spread_is": "the standard deviation over runs",
        "notes": [],
        "fingerprint": hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:8],
        "seeds": [0, 1, 2, 3, 4],
        "epochs": 60,
        "scale": "paper",
        "command": f"python pipelines/reproduce_all.py --scale paper --only 'tiny/{name}'",
        "data_missing": None,
    }
    return values | changes


def curve(final: float, epochs: int, rng: np.random.Generator) -> np.ndarray:
    """Return test accuracies that rise to ``final`` with three learning rates' steps."""
    t = np.arange(1, epochs + 1) / epochs
    accuracies = final - 0.45 * final * np.exp(-6 * t) - 0.04 * (t < 0.5) - 0.015 * (t < 0.75)
    accuracies += rng.normal(0, 0.006, epochs) * (1.15 - t)
    accuracies[-1] = final
    return accuracies


def write_trial(
    results: Path,
    given: dict[str, Any],
    seed: int,
    accuracy: float = 0.8,
    *,
    epochs: int | None = None,
    dead: int = 0,
    edges: tuple[np.ndarray, np.ndarray] | None = None,
    graph: bool = True,
    columns: Mapping[str, Any] | None = None,
    **changes: Any,
) -> Path:
    """Write one finished trial with history and wiring and return its folder.

    Args:
        results: the results folder.
        given: the trial's row.
        seed: its seed.
        accuracy: of the last epoch.
        epochs: the row's by default.
        dead: dead edges.
        edges: receiving and sending nodes; random ones by default.
        graph: whether the network has a graph at all; without one ``wiring.npz`` holds no array.
        columns: history columns to be written instead; None leaves one out.
        changes: fields of ``trial.json`` to be written instead.
    """
    epochs = given["epochs"] if epochs is None else epochs
    folder = results / "trials" / given["table"] / given["row"] / given["fingerprint"] / f"seed-{seed}"
    folder.mkdir(parents=True)
    rng = np.random.default_rng([seed, int(given["fingerprint"], 16)])
    accuracies = curve(accuracy, epochs, rng)
    counts = {"edges": KEPT, "edges_swapped": KEPT, "live_edges": KEPT - dead, "live_nodes": 795}
    _write_history(
        folder / "history.parquet", accuracies, (counts if graph else dict.fromkeys(counts, 0)), columns or {}
    )
    if graph:
        _write_wiring(folder / "wiring.npz", dead, rng, edges)
    else:
        np.savez(folder / "wiring.npz")
    best = int(np.argmax(accuracies))
    scores = {"test_loss": 0.6, "train_loss": 0.5}
    record = {
        **identity(given, seed),
        "recipe": recipe(epochs),
        "status": "done",
        "last": {"epoch": epochs - 1, "test_accuracy": accuracy, **scores},
        "best": {"epoch": best, "test_accuracy": float(accuracies[best]), **scores},
        "cost": cost(KEPT - dead) | ({} if graph else NO_GRAPH),
        "provenance": provenance(),
        "train_seconds": 4210.5 + seed,
        "peak_memory_bytes": 512 * 2**20,
        "files": {
            name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("history.parquet", "wiring.npz")
        },
    }
    (folder / "trial.json").write_text(json.dumps(record | changes), "utf-8")
    return folder


def write_failure(results: Path, given: dict[str, Any], seed: int, reason: str, log_tail: str = "") -> Path:
    """Write a failed trial's working folder."""
    folder = results / "trials" / given["table"] / given["row"] / given["fingerprint"] / f"seed-{seed}.work"
    folder.mkdir(parents=True)
    failure = {"recipe": recipe(given["epochs"]), "status": "failed", "reason": reason, "log_tail": log_tail}
    (folder / "trial.json").write_text(json.dumps(identity(given, seed) | failure), "utf-8")
    return folder


def write_running(results: Path, given: dict[str, Any], seed: int, epoch: int) -> Path:
    """Write the working folder of a trial that has not ended."""
    folder = results / "trials" / given["table"] / given["row"] / given["fingerprint"] / f"seed-{seed}.work"
    folder.mkdir(parents=True)
    progress = {"epoch": epoch, "epochs": given["epochs"], "metrics": {"test_accuracy": 0.5}, "seconds": 12.0}
    (folder / "progress.json").write_text(json.dumps(progress | {"host": "node7", "pid": 1}), "utf-8")
    return folder


def identity(given: dict[str, Any], seed: int) -> dict[str, Any]:
    """Return what names the trial in its record."""
    names = {name: given[name] for name in ("table", "row", "scale", "fingerprint")}
    return names | {"version": 1, "seed": seed}


def cost(live_edges: int) -> dict[str, float]:
    """Return the tiny network's cost with so many live edges."""
    return {
        "parameters": 41_458,
        "parameters_with_norm": 43_058,
        "parameters_allocated": 651_058,
        "live_parameters": 9_458 + live_edges,
        "edges": KEPT,
        "live_edges": live_edges,
        "nodes": NODES,
        "live_nodes": 795,
        "macs": 12_300_000,
        "live_macs": 12_300_000 - 64 * (KEPT - live_edges),
        "dense_macs": 51_000_000,
        "applications": 5.0,
    }


def provenance() -> dict[str, Any]:
    """Return a machine and a code state."""
    return {
        "commit": "ebb75f6d0c",
        "dirty": True,
        "packages": {"torch": "2.10.0", "numpy": "2.4.6"},
        "python": "3.11.9",
        "hostname": "node7",
        "processor": "AMD EPYC 9654",
        "accelerator": "NVIDIA H200",
        "device": "cuda",
        "threads": 1,
        "data_checksum": "sha256:6d958be074577803",
        "started_at": "2026-01-02T03:04:05+00:00",
        "finished_at": "2026-01-02T04:14:15+00:00",
        "resumed": 0,
    }


def wired(kind: str, rule: str, edges: int, **changes: Any) -> dict[str, Any]:
    """Return the fields of ``trial.json`` that say which network and rule a trial has, and how many edges."""
    made = recipe(1) | {"network": {"kind": kind}, "wiring": {"rule": rule}}
    return {"recipe": made, "cost": cost(KEPT) | {"edges": edges, "live_edges": edges} | changes}


def _write_history(path: Path, accuracies: np.ndarray, counts: dict[str, int], changes: Mapping[str, Any]) -> None:
    n = len(accuracies)
    losses = 2.3 * (1 - accuracies)
    columns = {
        "epoch": pa.array(range(n), pa.int64()),
        "learning_rate": pa.array([0.1] * n),
        "train_loss": pa.array(losses),
        "train_accuracy": pa.array(accuracies),
        "test_loss": pa.array(losses),
        "test_accuracy": pa.array(accuracies),
        **{name: pa.array([value] * n, pa.int64()) for name, value in counts.items()},
        "seconds": pa.array([70.0] * n),
    }
    columns |= {name: pa.array(values) for name, values in changes.items() if values is not None}
    pq.write_table(
        pa.table({name: values for name, values in columns.items() if changes.get(name, 1) is not None}), path
    )


def _write_wiring(path: Path, dead: int, rng: np.random.Generator, edges: tuple[np.ndarray, np.ndarray] | None) -> None:
    if edges is None:
        slots = rng.choice(NODES * NODES, size=KEPT, replace=False)
        edges = (slots // NODES).astype(np.int32), (slots % NODES).astype(np.int32)
    live = np.ones(len(edges[0]), dtype=bool)
    live[:dead] = False
    np.savez(
        path,
        **{"graph.rows": edges[0], "graph.columns": edges[1], "graph.live": live, "graph.shape": np.array([800, 800])},
    )
