"""What this project takes from Ray without a promise (``pipelines.cluster.ray_internals``) is as it was measured.

A failure here after an upgrade of Ray says what to mend in that one file. Then run ``pytest -m faults``, which meets
what one machine cannot show: nodes that die or drain. Then raise ``CHECKED_WITH``.
"""

from __future__ import annotations

import importlib.metadata
import os
import signal
from pathlib import Path

import pytest

from pipelines.cluster import ray_internals
from pipelines.cluster.nodes import living_nodes
from pipelines.schedule.failures import end_of_process

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_session")]


def test_the_version_is_the_one_that_was_checked() -> None:
    """All of it was measured with this version."""
    assert importlib.metadata.version("ray") == ray_internals.CHECKED_WITH


def test_ray_reads_the_variables() -> None:
    """The settings have these names."""
    import ray

    settings = (Path(ray.__file__).parent / "_raylet.so").read_bytes()
    for variable in (
        ray_internals.NICENESS_VARIABLE,
        ray_internals.START_WAIT_VARIABLE,
        ray_internals.RECONNECT_VARIABLE,
    ):
        assert variable.removeprefix("RAY_").encode() in settings, variable
    constants = Path(ray.__file__).with_name("_private") / "ray_constants.py"
    assert ray_internals.CLUSTERS_VARIABLE in constants.read_text("utf-8")


def test_the_head_and_draining_can_be_asked_for() -> None:
    """The only node is the head and does not drain; a node that does not exist may be drained."""
    import ray

    (node,) = living_nodes(ray.nodes())
    assert node.head
    assert node.id not in ray_internals.draining_nodes()
    agreed, why = ray_internals.drain_node(str(ray.get_runtime_context().gcs_address), "f" * 56, 60)
    assert agreed, why


def test_deaths_are_told_apart() -> None:
    """A process that is killed, that exits or raises, that gets Ray's SIGTERM, and one that Ray itself ends."""
    import ray

    class Process:
        def __init__(self, way: str) -> None:
            if way == "constructor":
                raise ValueError("it could not be made")

        def end(self, way: str) -> None:
            if way.startswith("SIG"):
                os.kill(os.getpid(), getattr(signal, way))
            raise SystemExit(4) if way == "exit" else OSError("No space left on device")

    make = ray.remote(num_cpus=0, max_restarts=0)(Process)
    ended = {}
    for way in ("SIGKILL", "SIGTERM", "exit", "raise", "ray.kill", "constructor"):
        actor = make.remote(way)
        if way == "ray.kill":
            ray.kill(actor)
        ended[way] = actor.end.remote(way)
    found = {}
    for way, answer in ended.items():
        with pytest.raises(Exception) as caught:  # noqa: PT011 - they have no common base
            ray.get(answer, timeout=60)
        found[way] = ray_internals.death_of_actor(caught.value), end_of_process(caught.value).kind
    assert found == {
        "SIGKILL": ("process died", "died"),
        "SIGTERM": ("sigterm", "preempted"),
        "exit": ("process died", "died"),
        "raise": (None, "raised"),
        "ray.kill": ("other", "lost"),
        "constructor": (None, "raised"),
    }


def test_tune_keeps_the_error_of_a_trial() -> None:
    """Where ``error_of_trial`` reads it; ``test_preemption_ray.py`` reads a real one."""
    from ray.tune.experiment import Trial

    assert isinstance(Trial.pickled_error_file, property)
