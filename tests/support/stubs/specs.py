"""Trials for the scheduling and tracking tests: tiny recipes, trained by ``stub_training``."""

from __future__ import annotations

from pathlib import Path

from dnw_core.config.base import fingerprint
from dnw_core.config.execution import Execution
from dnw_core.config.networks import TinyStaticConfig
from dnw_core.config.recipe import CosineConfig, DataConfig, Recipe
from dnw_core.config.rules import FineTuneConfig, TopEdgesConfig
from pipelines.spec import ParentTrial, Resources, TrialSpec
from support.services.free_ports import free_port

TRAIN = "support.stubs.training:run_trial"


def spec(
    results_dir: Path,
    row: str = "ok",
    seed: int = 0,
    *,
    epochs: int = 2,
    scale: str = "smoke",
    cpus: float = 1.0,
    parent: TrialSpec | None = None,
) -> TrialSpec:
    """Return one trial, which starts from ``parent`` where there is one (of the same seed then)."""
    recipe = Recipe(
        network=TinyStaticConfig(kind="tiny-static"),
        wiring=FineTuneConfig(rule="fine-tune", density=0.05)
        if parent
        else TopEdgesConfig(rule="top-edges", density=0.05),
        data=DataConfig(dataset="digits"),
        schedule=CosineConfig(kind="cosine"),
        epochs=epochs,
        batch_size=8,
        parent=parent.recipe if parent else None,
    )
    return TrialSpec(
        table="stub",
        row=row,
        seed=parent.seed if parent else seed,
        scale=scale,
        fingerprint=fingerprint(recipe),
        recipe=recipe,
        execution=Execution(),
        resources=Resources(cpus=cpus),
        results_dir=results_dir,
        parent=ParentTrial(table=parent.table, row=parent.row, fingerprint=parent.fingerprint) if parent else None,
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
    return f"http://127.0.0.1:{free_port()}"
