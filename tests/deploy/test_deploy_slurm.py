"""The SLURM file, run for real but for SLURM: ``srun`` and ``scontrol`` are stubs that stay on this machine."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BATCH = ROOT / "deploy" / "slurm" / "reproduce.sbatch"
TEMPORARY = Path("/tmp")  # noqa: S108 - where the file puts what belongs to one node
JOB = str(700_000 + os.getpid() % 9_000)

SRUN = """#!/usr/bin/env bash
while [[ $1 == --* ]]; do [[ $1 == --nodelist=* ]] && node=${1#*=}; shift; done
export RAY_TMPDIR="$RAY_TMPDIR-$node"  # each node has a /tmp of its own
exec "$@"
"""
SCONTROL = """#!/usr/bin/env bash
if [[ $1 == show ]]; then printf '%s\\n' alpha beta; else echo "$*" >>scontrol.log; fi
"""


def batch(folder: Path, restarts: int) -> subprocess.Popen[str]:
    """The job's script, as SLURM starts it."""
    (folder / "bin").mkdir(exist_ok=True)
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (folder / "bin" / name).write_text(text)
        (folder / "bin" / name).chmod(0o755)
    words = ["--scale", "smoke", "--only", "tiny/static-dnw", "--seeds", "4", "--device", "cpu"]
    variables = {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "SLURM_SUBMIT_DIR": str(ROOT),
        "SLURM_JOB_ID": JOB,
        "SLURM_JOB_NODELIST": "[alpha-beta]",
        "SLURM_CPUS_PER_TASK": "1",
        "SLURM_RESTART_COUNT": str(restarts),
        "DNW_VENV": str(Path(sys.executable).parents[1]),
        "DNW_RESULTS": str(folder / "results"),
        "DNW_SECRETS": str(folder / "secrets"),
    }
    return subprocess.Popen(
        ["bash", str(BATCH), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        env={**os.environ, **variables},
        start_new_session=True,
    )


@pytest.mark.faults
def test_a_job_that_is_taken_away_queues_up_and_goes_on(tmp_path: Path) -> None:
    """Two real Ray nodes with a token. USR1 while trials run: checkpoints, requeued, nothing left behind; the job's
    second life trains what is missing, on what the first one has left."""
    job = batch(tmp_path, 0)
    trials = tmp_path / "results" / "trials" / "tiny" / "static-dnw"
    try:
        until = time.monotonic() + 200
        while time.monotonic() < until and not list(trials.glob("*/seed-*.work/progress.json")):
            assert job.poll() is None, job.communicate()
            time.sleep(0.1)
        assert (tmp_path / "secrets" / f"token-{JOB}").stat().st_mode & 0o777 == 0o600
        job.send_signal(signal.SIGUSR1)
        said, _ = job.communicate(timeout=120)
    finally:
        _end(job)
    assert job.returncode == 130, said
    assert "the trials have left their checkpoints (exit code 130); the job queues up again" in said
    assert (tmp_path / "scontrol.log").read_text() == f"requeue {JOB}\n"
    assert list((tmp_path / "secrets").iterdir()) == []
    assert list(TEMPORARY.glob(f"dnw-{JOB}-*-alpha")) == []
    left = {path.name for path in trials.glob("*/seed-*")}
    assert left

    job = batch(tmp_path, 1)
    try:
        said, _ = job.communicate(timeout=280)
    finally:
        _end(job)
    assert job.returncode == 0, said
    assert "4 of 4 trials done, 0 failed, 0 missing" in said
    assert "without token authentication" not in said


def _end(job: subprocess.Popen[str]) -> None:
    if job.poll() is None:
        os.killpg(job.pid, signal.SIGKILL)
        job.wait()
    for folder in TEMPORARY.glob(f"dnw-{JOB}-*"):
        shutil.rmtree(folder, ignore_errors=True)
