"""Measuring what trials take of a GPU, through Ray, on GPUs that only Ray believes in."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.stubs.specs import spec

from pipelines.cluster.nodes import living_nodes
from pipelines.schedule.gpu_memory import pack, read_known
from pipelines.spec import Resources

pytestmark = pytest.mark.slow


@pytest.mark.usefixtures("ray_session")
def test_each_recipe_is_measured_once(tmp_path: Path) -> None:
    """A row's trials get the share that its measurement allows; what fails to be measured gets a whole GPU.

    What was measured is not measured again, which a probe that cannot work any more proves.
    """
    import ray

    small, full, cpu = (
        spec(tmp_path, row, epochs=epochs).model_copy(update={"resources": Resources(cpus=0.5, gpus=gpus)})
        for row, epochs, gpus in (("small", 2, 1.0), ("full", 3, 1.0), ("cpu", 4, 0.0))
    )
    specs = [small, small.model_copy(update={"seed": 1}), full, cpu]
    said: list[str] = []
    nodes = living_nodes(ray.nodes())
    stubs = {"look": "support.stubs.faults:look_at_gpu", "probe": "support.stubs.faults:peak_bytes"}
    packed = pack(specs, nodes, tmp_path, said.append, **stubs)
    assert [one.resources.gpus for one in packed] == [0.25, 0.25, 1.0, 0.0]
    assert read_known(tmp_path) == {"A GPU": {small.fingerprint: 2 * 2**30}}
    again = pack(specs[:2], nodes, tmp_path, said.append, **stubs | {"probe": "support.stubs.faults:nothing"})
    assert again == packed[:2]
    assert any("stub/full: its memory on A GPU could not be measured" in line for line in said)
    assert "stub/small: 1/4 of a GPU for a trial" in said
