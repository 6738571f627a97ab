"""The state in which a trial's session begins: drawn from the seed, from a parent, or from a checkpoint."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dnw_core.models.build import build_wired
from dnw_core.models.graph import Graph
from dnw_core.seeds import derive_seed
from dnw_core.task import TrialTask
from dnw_core.training.checkpoints.parent import load_parent, start_from, state_digest
from dnw_core.training.checkpoints.resume import load_resumable
from dnw_core.training.checkpoints.trial_log import TrialLog, now
from dnw_core.training.engine.group import SINGLE, WorkerGroup
from dnw_core.training.engine.optimiser import make_optimiser
from dnw_core.training.engine.state import TrainingState
from dnw_core.wiring.hooks import Wiring
from dnw_core.wiring.rule import Run


def start_or_resume(
    task: TrialTask, run: Run, log: TrialLog, group: WorkerGroup = SINGLE
) -> tuple[TrainingState, list[Graph]]:
    """Return the state to train on from, and the network's graphs.

    Args:
        task: the trial. The main worker reads its checkpoint or else its parent; the others take over its state.
        run: how long.
        log: the trial's; gets a line about where training starts.
        group: the workers.

    Raises:
        TrialFailedError: if the parent cannot be used.
        ValueError: if a setting does not fit the network.
    """
    recipe, device = task.recipe, torch.device(task.execution.device)
    network, graphs = build_wired(recipe.network, recipe.wiring, task.seed)
    wiring = Wiring(network)
    wiring.announce(run)
    saved = load_resumable(task, (network, graphs), log) if group.is_main else group.broadcast_state(None)
    threads = saved["threads"] if saved else task.execution.threads
    torch.set_num_threads(threads)
    origin = digest = None
    if saved is None:  # on the CPU, so that what is found and hashed depends on no device
        if task.parent is not None:
            parent = load_parent(recipe, task.seed, task.parent)
            start_from(recipe, network, parent)
            origin = parent.origin
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
        torch.manual_seed(derive_seed(task.seed, "training"))  # nothing that ran in this process before may show
        state.begin_epoch(kept_edges(wiring, graphs))
    if group.is_main and not group.is_single:
        group.broadcast_state(state.to_checkpoint())
    _log_start(task, state, saved, log)
    return state, graphs


def kept_edges(wiring: Wiring, graphs: list[Graph]) -> dict[str, Tensor]:
    """Kept edges by graph name; asserts the promised counts, those of several weights together too."""
    names = {(id(place.module), place.weight_name): place.name for place in wiring.attached}
    edges = wiring.edges()
    # copies: a rule may answer with the mask that it goes on to change
    return {graph.name: edges[names[id(graph.module), graph.weight_name]].clone() for graph in graphs}


def _log_start(task: TrialTask, state: TrainingState, saved: dict[str, Any] | None, log: TrialLog) -> None:
    if saved is None:
        identity = task.identity
        where = str(state.device) if state.workers == 1 else f"{state.device}, {state.workers} workers"
        log.write(f"{identity.table}/{identity.row} {identity.fingerprint} seed {task.seed} on {where}")
        if state.parent is not None:
            log.write(f"starts from {state.parent}")
        return
    log.write(f"resumed at epoch {state.epoch}, step {state.step} ({state.threads} threads)")
    if (before := saved.get("workers", 1)) != state.workers:
        log.write(
            f"it ran on {before} workers before and goes on with {state.workers}: "
            "the recipe's groups are the same, only the order of sums changes"
        )
