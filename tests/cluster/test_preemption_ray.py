"""What befalls trials on a cluster, in one real session of Ray with GPUs that only Ray believes in."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.stubs.specs import spec
from support.stubs.tiny_trials import small_recipe, train

from dnw_core.config.base import fingerprint
from pipelines.cluster.preemption import TERMINATED
from pipelines.schedule import run as schedule
from pipelines.spec import Resources, TrialSpec
from pipelines.store.folder import Store

pytestmark = pytest.mark.slow
TRAIN = "support.stubs.faults:run_trial"
_THREE = {"full": 0.25, "whole": 1.0, "none": 0.0}


def _real(results_dir: Path, row: str) -> TrialSpec:
    """A trial that trains for real."""
    recipe = small_recipe(epochs=3)
    return spec(results_dir, row).model_copy(update={"recipe": recipe, "fingerprint": fingerprint(recipe)})


def _asking(results_dir: Path, row: str, gpus: float, epochs: int = 2) -> TrialSpec:
    one = spec(results_dir, row, epochs=epochs)
    return one.model_copy(update={"resources": Resources(cpus=1.0, gpus=gpus)})


@pytest.mark.usefixtures("ray_session")
def test_trials_of_all_kinds_come_to_their_end(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """All in one session, since it takes long to start.

    A process that gets SIGTERM in the middle of a real training leaves a checkpoint, and the trial goes on to the same
    bits as an undisturbed one, uncounted although nothing is forgiven here (``max_failures=0``); one that is killed
    fails at once then, with the reason and the end of its log in its record. A trial that runs out of memory on a share
    of a GPU gets twice the share. Trials on a share, on one GPU, on both, and on CPUs only run side by side where they
    fit, which those that wait for each other prove; the longest row starts first.
    """
    store = Store.open(tmp_path / "results", create=True)
    results = store.results_dir
    both, beside = _asking(results, "meets-2-a", 2.0, epochs=9), _asking(results, "meets-2-b", 0.0, epochs=8)
    full, whole, none = (_asking(results, f"meets-3-{row}", gpus) for row, gpus in _THREE.items())
    real, dies = _real(results, "sigterm"), _asking(results, "dies-once", 0.0)
    specs = [full, whole, none, dies, real, both, beside]
    outcome = schedule.run_schedule(specs, store=store, train=TRAIN, max_failures=0)
    out, err = capfd.readouterr()
    assert err == ""
    assert outcome == schedule.ScheduleOutcome(done=6, failed=1, left=0, interrupted=False), out

    assert f"stub/sigterm seed 0: {TERMINATED}; it goes on from its checkpoint" in out
    log = (store.folder(real) / "log.txt").read_text()
    assert "stopped on request at epoch 1, step 1" in log
    assert "resumed at epoch 1, step 1" in log
    train(real.recipe, tmp_path / "undisturbed")
    alone, disturbed = tmp_path / "undisturbed", store.folder(real)
    assert (alone / "wiring.npz").read_bytes() == (disturbed / "wiring.npz").read_bytes()
    ours, theirs = (torch.load(folder / "checkpoint.pt", weights_only=True)["model"] for folder in (disturbed, alone))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())

    died = store.state(dies)
    assert died.reason == "its process died (killed, crashed, or out of memory) (1 attempt)"
    assert "begins dies-once seed 0" in (store.work_folder(dies) / "trial.json").read_text()

    assert "stub/meets-3-full seed 0: 1/4 of a GPU has too little memory for it; it gets 1/2 of a GPU" in out
    begun = {one.row: _begun(store, one) for one in specs if one not in (real, dies)}
    assert min(begun, key=begun.__getitem__) in ("meets-2-a", "meets-2-b")


def _begun(store: Store, one: TrialSpec) -> str:
    record = store.state(one).record
    assert record is not None
    assert record.provenance is not None
    return record.provenance.started_at
