"""Trials with several workers, for real: on one machine through the command, and over the two nodes of a cluster.

Both are held to the bits of the same trial without Ray. With DNW_LONG_TESTS=1 the second worker on the cluster is
killed on its way, which takes half as long again.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from support.services.ray_session import TESTS
from support.stubs.command import quick_report
from torch import Tensor

from dnw_core.config.base import fingerprint
from dnw_core.config.execution import Execution
from dnw_core.config.recipe import Recipe
from dnw_core.record import CHECKPOINT_FILE, LOG_FILE, RECORD_FILE, TrialRecord, read_record
from dnw_core.task import TrialIdentity, TrialTask
from dnw_core.training import run_trial
from pipelines.commands import reproduce_all
from pipelines.plan.rows import apply_overrides, parse_overrides
from tune_configs import load_tables

pytestmark = pytest.mark.slow
LONG = os.environ.get("DNW_LONG_TESTS") == "1"
SETTINGS = ("batch_norm_images=32", "data.train_images=128", "data.test_images=64")


def shared_recipe() -> Recipe:
    """The smallest row, its batches of 64 in two groups."""
    return apply_overrides(load_tables()["tiny"].rows["static-dnw"].recipe_at("smoke"), parse_overrides(SETTINGS))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """What two workers come to without Ray."""
    folder = tmp_path_factory.mktemp("direct")
    recipe = shared_recipe()
    identity = TrialIdentity(table="tiny", row="static-dnw", scale="smoke", fingerprint=fingerprint(recipe))
    run_trial(TrialTask(recipe, 0, Execution(workers=2), folder, identity))
    return _weights(folder)


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose name leaves room for Ray's sockets."""
    folder = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.usefixtures("ray_session")
def test_the_command_trains_on_two_workers(
    tmp_path: Path,
    weights: dict[str, Tensor],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """``--workers 2``: the trial asks for a core for each, trains on two processes, and Ray changes no bit."""
    results = tmp_path / "results"
    words = ["--only", "tiny/static-dnw", "--device", "cpu", "--workers", "2", "--seeds", "1"]
    words += ["--results-dir", str(results), *(word for setting in SETTINGS for word in ("--set", setting))]
    quick_report(monkeypatch)
    assert reproduce_all.main(words) == 0
    assert ": 2 workers per trial, 1 CPU each\n" in capsys.readouterr().out
    folder, record = _finished(results)
    assert record.provenance is not None
    assert record.provenance.workers == 2
    _assert_equal(_weights(folder), weights)


_DRIVER = """
import sys
from pathlib import Path
from ray.cluster_utils import Cluster
from dnw_core.config.base import fingerprint
from dnw_core.config.execution import Execution
from pipelines.schedule import run as schedule
from pipelines.spec import Resources, TrialSpec
from pipelines.store.folder import Store
from support.stubs.dying_worker import TRAIN
from schedule.test_schedule_across import LONG, shared_recipe
results, recipe = Path(sys.argv[1]), shared_recipe()
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
cluster.add_node(num_cpus=1)
cluster.wait_for_nodes()
row = "dies-once" if LONG else "undisturbed"
spec = TrialSpec(table="tiny", row=row, seed=0, scale="smoke", fingerprint=fingerprint(recipe), recipe=recipe,
                 execution=Execution(workers=2, checkpoint_minutes=0), resources=Resources(cpus=2, workers=2),
                 results_dir=results)
store = Store.open(results, create=True)
print(schedule.run_schedule([spec], store=store, cluster=cluster.address, train=TRAIN))
cluster.shutdown()
"""


def test_workers_on_two_nodes(tmp_path: Path, short_folder: Path, weights: dict[str, Tensor]) -> None:
    """A trial that fits on neither node goes over both, and the result lies in the store to the bit as if one machine
    had trained it. A killed worker is replaced, and the trial goes on from its checkpoint to the same bits."""
    results = tmp_path / "results"
    variables = {
        "PYTHONPATH": f"{TESTS}{os.pathsep}{TESTS.parent}",
        "RAY_TMPDIR": str(short_folder),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
    }
    ran = subprocess.run(
        [sys.executable, "-c", _DRIVER, str(results)],
        capture_output=True,
        text=True,
        timeout=280,
        env={**os.environ, **variables},
    )
    assert "ScheduleOutcome(done=1, failed=0, left=0, interrupted=False)" in ran.stdout, ran.stdout + ran.stderr
    assert "2 workers per trial, 1 CPU each, over several machines" in ran.stdout
    folder, record = _finished(results)
    assert record.provenance is not None
    assert (record.provenance.workers, record.provenance.resumed) == (2, int(LONG))
    assert (folder.parent / "died").exists() is LONG
    assert ("worker 1 was lost" in (folder / LOG_FILE).read_text("utf-8")) is LONG
    _assert_equal(_weights(folder), weights)
    assert sorted(path.name for path in results.iterdir()) == ["store.json", "trials"]


def _finished(results: Path) -> tuple[Path, TrialRecord]:
    (path,) = results.glob(f"trials/tiny/*/*/seed-0/{RECORD_FILE}")
    return path.parent, read_record(path)


def _weights(folder: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = torch.load(folder / CHECKPOINT_FILE, weights_only=True)["model"]
    return found


def _assert_equal(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert torch.equal(found[name], value), name
