"""Trials for the scheduling and tracking tests: tiny recipes, trained by ``stub_training``."""

from __future__ import annotations

import socket
from pathlib import Path

from dnw_core.config import fingerprint
from dnw_core.execution import Execution
from dnw_core.models.config import TinyStaticConfig
from dnw_core.recipe import CosineConfig, DataConfig, Recipe
from dnw_core.wiring.config import TopEdgesConfig
from pipelines.spec import Resources, TrialSpec

TRAIN = "stub_training:run_trial"


def spec(
    results_dir: Path, row: str = "ok", seed: int = 0, *, epochs: int = 2, scale: str = "smoke", cpus: float = 1.0
) -> TrialSpec:
    """Return one trial."""
    recipe = Recipe(
        network=TinyStaticConfig(kind="tiny-static"),
        wiring=TopEdgesConfig(rule="top-edges", density=0.05),
        data=DataConfig(dataset="digits"),
        schedule=CosineConfig(kind="cosine"),
        epochs=epochs,
        batch_size=8,
    )
    return TrialSpec(
        table="stub",
        row=row,
        seed=seed,
        scale=scale,
        fingerprint=fingerprint(recipe),
        recipe=recipe,
        execution=Execution(),
        resources=Resources(cpus=cpus),
        results_dir=results_dir,
    )


def report_row(one: TrialSpec, seeds: tuple[int, ...] = (0, 1)) -> dict[str, object]:
    """Return the row of a trial as the planner gives it to the report."""
    return {
        "table": one.table,
        "table_title": "A table of stubs",
        "row": one.row,
        "label": one.row.capitalize(),
        "fingerprint": one.fingerprint,
        "seeds": list(seeds),
        "scale": one.scale,
        "epochs": one.recipe.epochs,
        "published_mean": 80.9,
        "published_std": 0.6,
    }


def closed_address() -> str:
    """The address of a port where nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"
