"""The state in which a trial's session begins: drawn from the seed, taken over from a parent, or from a checkpoint."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dnw_core.config import Recipe
from dnw_core.models.build import build_wired
from dnw_core.models.graph import Graph
from dnw_core.seeds import derive_seed
from dnw_core.training.checkpoints.parent import load_parent, start_from, state_digest
from dnw_core.training.engine.group import LONE, WorkerGroup
from dnw_core.training.engine.loop import make_optimiser
from dnw_core.training.engine.state import TrainingState
from dnw_core.wiring.hooks import Wiring
from dnw_core.wiring.rule import Run


def start_or_resume(
    recipe: Recipe,
    run: Run,
    seed: int,
    device: torch.device,
    threads: int,
    saved: dict[str, Any] | None,
    parent: Path | None,
    group: WorkerGroup = LONE,
) -> tuple[TrainingState, list[Graph]]:
    """Return the state to train on from, and the network's graphs.

    Args:
        recipe: what is trained.
        run: how long.
        seed: the trial's.
        device: where the network goes.
        threads: recorded in the state.
        saved: the trial's checkpoint; None starts it.
        parent: folder of the finished trial to start from; not looked at on resume.
        group: the workers; ``saved`` and ``parent`` are the first one's, and the others take over its state.

    Raises:
        TrialFailedError: if the parent cannot be used.
        ValueError: if a setting does not fit the network.
    """
    network, graphs = build_wired(recipe.network, recipe.wiring, seed)
    wiring = Wiring(network)
    wiring.announce(run)
    origin = digest = None
    if not group.first:
        saved = group.state_from_first(None)
        threads = saved["threads"]
        torch.set_num_threads(threads)
    if saved is None:  # on the CPU, so that what is found and hashed depends on no device
        if parent is not None:
            found = load_parent(recipe, seed, parent)
            start_from(recipe, network, found)
            origin = found.origin
        digest = state_digest(network)
    network = network.to(device)
    state = TrainingState(
        model=network,
        optimiser=make_optimiser(recipe, network),
        device=device,
        started_at=now(),
        threads=threads,
        initial_digest=digest,
        parent=origin,
        workers=group.workers,
    )
    if saved is not None:
        state.restore(saved)
    else:
        torch.manual_seed(derive_seed(seed, "training"))  # nothing that ran in this process before may show
        state.begin_epoch(kept_edges(wiring, graphs))
    if group.first and not group.alone:
        group.state_from_first(state.to_checkpoint())
    return state, graphs


def kept_edges(wiring: Wiring, graphs: list[Graph]) -> dict[str, Tensor]:
    """Kept edges by graph name; asserts the promised counts, those of several weights together too."""
    names = {(id(place.module), place.weight_name): place.name for place in wiring.attached}
    edges = wiring.edges()
    # copies: a rule may answer with the mask that it goes on to change
    return {graph.name: edges[names[id(graph.module), graph.weight_name]].clone() for graph in graphs}


def now() -> str:
    """The time in UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")
