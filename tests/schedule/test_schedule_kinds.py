"""Trials of all kinds beside each other: on CPUs only, on shares of GPUs, on machines that are still to be started."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.stubs.specs import spec
from support.stubs.tiny_trials import small_recipe

from dnw_core.config.execution import Execution
from dnw_core.errors import UserError
from dnw_core.training.memory_probe import peak_bytes
from pipelines.cluster.capacity import check_machines, room_to_come
from pipelines.cluster.fit import across_at_once, place_on_nodes
from pipelines.cluster.nodes import Node, future_nodes
from pipelines.cluster.visibility import VisibilityProbe
from pipelines.driver.display import PlainLines
from pipelines.driver.progress import Progress
from pipelines.plan.placement import Placement
from pipelines.schedule.gpu_memory import GPU_MEMORY_FILE, Gpu, _Place, pack, read_known, share_of
from pipelines.spec import NodeType, Resources, TrialSpec
from tune_configs import RowResources

HERE = Path("/results")
GIB = 2**30


def _asking(row: str, **asked: float) -> TrialSpec:
    return spec(HERE, row).model_copy(update={"resources": Resources(**asked)})


def test_a_row_without_gpus_is_trained_on_cpus_where_there_are_gpus() -> None:
    """``gpus: 0`` is a CPU trial of one worker, whatever the command says of GPUs; the rows beside it get theirs."""
    recipe = small_recipe()
    for placement in (
        Placement("cuda", gpus_here=8),
        Placement("cuda", trials_per_gpu=4),
        Placement("cuda", threads=2),
    ):
        none, one = RowResources(cpus=2, gpus=0), RowResources(cpus=2, gpus=1)
        assert placement.resources("t/r", none, recipe) == Resources(cpus=2, gpus=0)
        execution = placement.execution("t/r", none, recipe)
        assert (execution.device, execution.workers, execution.loader_workers) == ("cpu", 1, 0)
        assert placement.resources("t/r", one, recipe).gpus > 0
        assert placement.execution("t/r", one, recipe).device == "cuda"


def test_machines_to_be_started_count_for_what_fits() -> None:
    """A trial that only they take is no mistake, on one of them or over several; without them it is one."""
    small = [Node("0", "head", cpus=4.0, gpus=0.0, head=True)]
    wide = _asking("wide", cpus=16, gpus=4)
    with pytest.raises(UserError, match="stub/wide asks for 16 CPU and 4 GPU"):
        place_on_nodes([wide], small)
    large = future_nodes([NodeType(16, 4)])
    assert place_on_nodes([wide], [*small, *large]) == [wide]
    two = _asking("two", cpus=16, gpus=8, workers=8)
    assert place_on_nodes([two], [*small, *large, *large])[0].resources.across_nodes
    parting = two.model_copy(update={"resources": two.resources.model_copy(update={"across_nodes": True})})
    assert across_at_once([parting], [*small, *large * 4]) == 2
    with pytest.raises(UserError, match=r"there is a machine to be started \(16 CPU, 4 GPU\), head \(4 CPU, 0 GPU\)"):
        place_on_nodes([_asking("wider", cpus=16, gpus=5)], [*small, *large])


@pytest.mark.parametrize(
    ("cluster", "node_types", "hinted"),
    [
        ("10.0.0.1:6379", (), True),
        ("10.0.0.1:6379", (NodeType(2, 0),), False),
        ("10.0.0.1:6379", None, False),
        (None, (), False),
    ],
)
def test_a_cluster_may_have_machines_that_one_can_name(
    monkeypatch: pytest.MonkeyPatch, cluster: str | None, node_types: tuple[NodeType, ...] | None, hinted: bool
) -> None:
    """What fits nowhere is refused with the option that would help: where there is none yet, and the command has it."""
    node = {"NodeID": "a", "NodeManagerHostname": "head", "Alive": True, "Resources": {"CPU": 4.0}}
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(nodes=lambda: [node]))
    with pytest.raises(UserError, match="stub/wide asks for 16 CPU") as caught:
        check_machines([_asking("wide", cpus=16)], cluster, VisibilityProbe(HERE), PlainLines(Progress([])), node_types)
    assert ("--node-type" in str(caught.value)) is hinted


def test_an_autoscaler_sees_trials_that_wait() -> None:
    """Without node types there is the room that there is; with them more, so that placement groups wait and it acts."""
    assert room_to_come((8.0, 2.0), []) == (8.0, 2.0)
    assert room_to_come((0.0, 0.0), [NodeType(16, 4)]) == (16.0, 4.0)
    assert room_to_come((32.0, 8.0), [NodeType(16, 4), NodeType(8)]) == (88.0, 20.0)


def test_the_gpu_that_takes_the_fewest_decides() -> None:
    """A trial's share is the same everywhere; what could not be measured gets a whole GPU."""
    one = _asking("ok", cpus=2, gpus=1)
    node = Node("0", "n", cpus=64.0, gpus=8.0)
    places = {Gpu("large", 80 * GIB): _Place(node, 8.0), Gpu("small", 16 * GIB): _Place(node, 8.0)}
    known = {"large": {one.fingerprint: 4 * GIB}, "small": {one.fingerprint: 4 * GIB}}
    assert share_of(one, places, known) == 0.3333  # 14.4 GiB for 4 GiB and 600 MiB each; cores for four
    assert share_of(one, {Gpu("large", 80 * GIB): _Place(node, 8.0)}, known) == 1 / 4
    assert share_of(one, places, {"large": known["large"]}) == 1.0


def test_packing_needs_a_gpu_that_runs(tmp_path: Path) -> None:
    """Nobody to measure on is a mistake that says so; trials on CPUs or several GPUs are left alone."""
    with pytest.raises(UserError, match="--trials-per-gpu auto measures on a GPU, and no machine that runs now has"):
        pack([_asking("ok", gpus=1)], future_nodes([NodeType(16, 4)]), tmp_path, print)
    others = [_asking("cpu", gpus=0), _asking("several", cpus=2, gpus=2, workers=2)]
    assert pack(others, [], tmp_path, print) == others


def test_measurements_that_are_damaged_are_made_again(tmp_path: Path) -> None:
    """Whatever stands in the file of measurements, it is read as sizes or as nothing."""
    assert read_known(tmp_path) == {}
    for text in ("", "[]", "{", '{"a": 3}', '{"a": {"b": "x"}}', '{"a": {"b": [1]}}'):
        (tmp_path / GPU_MEMORY_FILE).write_text(text)
        assert read_known(tmp_path) == {}
    (tmp_path / GPU_MEMORY_FILE).write_text('{"a": {"b": 5, "c": -1}}')
    assert read_known(tmp_path) == {"a": {"b": 5}}


def test_the_probe_sees_what_a_larger_batch_takes() -> None:
    """Eight times the images need visibly more memory: the steps are really taken, at the recipe's batch size."""
    few, many = (
        peak_bytes(small_recipe("wide-resnet", "complete", batch_size=size), Execution()) for size in (16, 128)
    )
    assert many - few > 20 * 2**20
