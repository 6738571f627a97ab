"""One Ray for all tests that need one in their own process: starting it takes longer than most of them."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from support.faults.processes import MARK, marked, wait_for

TESTS = Path(__file__).resolve().parents[2]
MACHINE = {"num_cpus": 4, "num_gpus": 2}  # whatever the machine has: Ray takes GPUs at one's word


@contextmanager
def shared_ray() -> Iterator[Mapping[str, str]]:
    """Start a Ray whose workers find the stubs; yield the environment that a test which uses it must set.

    The environment of this process stays as it was, so that other tests do not meet Ray's token and path. At its end
    this Ray must leave neither a process nor a folder behind.
    """
    from pipelines.cluster import connection
    from pipelines.cluster.environment import ray_environment

    before, options, mark = dict(os.environ), connection._local_options, uuid.uuid4().hex
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(TESTS))
        patch.setenv(MARK, mark)
        patch.delenv("CUDA_VISIBLE_DEVICES", raising=False)  # a trial that ran in this process leaves it empty
        patch.setattr(connection, "_local_options", lambda folder: options(folder) | MACHINE)
        with connection.connect(None) as folder:
            of_ray = {name: value for name, value in os.environ.items() if before.get(name) != value}
            put_back = {name: before[name] for name in of_ray if name in before}
            with ray_environment(put_back, without=tuple(set(of_ray) - set(put_back))):
                yield of_ray
    assert not folder.exists()
    wait_for("Ray's processes to end", lambda: not marked(mark), 30)


def use_ray(patch: pytest.MonkeyPatch, variables: Mapping[str, str], folder: Path) -> None:
    """Let ``run_schedule`` take the shared Ray, and the folder for Tune's files, in place of a Ray of its own."""
    for name, value in variables.items():
        patch.setenv(name, value)
    patch.setattr("pipelines.schedule.run.connect", lambda *_: nullcontext(folder))
