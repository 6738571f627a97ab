"""How many workers share a trial, what they ask of which machines, and what is refused. No Ray is started here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.stubs.specs import spec
from support.stubs.store import write_finished

from dnw_core.config.recipe import Recipe
from dnw_core.errors import UserError
from pipelines.cluster.fit import across_at_once, place_on_nodes
from pipelines.cluster.nodes import living_nodes
from pipelines.cluster.ray_internals import HEAD
from pipelines.commands.options import parse_options
from pipelines.plan import placement as placing
from pipelines.plan.estimate import Estimator
from pipelines.plan.placement import Placement, gpus_of, worker_lines
from pipelines.schedule.queue import TrialQueue
from pipelines.spec import Resources, TrialSpec
from tune_configs import RowResources, load_tables

HERE = Path("/results")
FOUR_GPUS = RowResources(cpus=32, gpus=4)
SHARE_OF_ONE = RowResources(cpus=2, gpus=0.25)


def recipe(groups: int) -> Recipe:
    """A recipe whose batches have so many groups."""
    base = spec(HERE).recipe
    return base.model_copy(update={"batch_size": 8 * groups, "batch_norm_images": 8 if groups > 1 else None})


def workers_spec(row: str, workers: int, cpus: float, gpus: float = 0.0, groups: int = 4) -> TrialSpec:
    """A trial that asks for so much altogether."""
    asked = Resources(cpus=cpus, gpus=gpus, workers=workers)
    return spec(HERE, row).model_copy(update={"resources": asked, "recipe": recipe(groups)})


def nodes(*sizes: tuple[float, float]) -> list[Any]:
    """Living nodes with so many CPUs and GPUs; the first one is the head."""
    return living_nodes(
        [
            {
                "NodeID": str(index),
                "NodeManagerHostname": f"node{index}",
                "Alive": True,
                "Resources": {"CPU": cpus, "GPU": gpus} | ({HEAD: 1.0} if index == 0 else {}),
            }
            for index, (cpus, gpus) in enumerate(sizes)
        ]
    )


@pytest.mark.parametrize(
    ("wishes", "asked", "groups", "cpus", "gpus", "workers", "threads", "loaders"),
    [
        ({"device": "cuda"}, FOUR_GPUS, 4, 32, 4, 4, 8, 8),  # the row's own GPUs, its cores in equal parts
        ({"device": "cuda"}, FOUR_GPUS, 8, 32, 4, 4, 8, 8),
        ({"device": "cuda", "workers": 2}, FOUR_GPUS, 4, 16, 2, 2, 8, 8),
        ({"device": "cuda", "workers": 1}, FOUR_GPUS, 4, 8, 1, 1, 8, 8),
        ({"device": "cuda", "threads": 3}, FOUR_GPUS, 4, 12, 4, 4, 3, 3),
        ({"device": "cuda", "trials_per_gpu": 2}, FOUR_GPUS, 4, 8, 0.5, 1, 8, 8),
        ({"device": "cuda"}, SHARE_OF_ONE, 1, 2, 0.25, 1, 2, 2),
        ({"device": "cuda", "workers": 2}, SHARE_OF_ONE, 2, 4, 2, 2, 2, 2),
        ({"device": "cuda", "gpus_here": 3}, FOUR_GPUS, 4, 16, 2, 2, 8, 8),  # 3 cannot share 4 groups
        ({"device": "cuda", "gpus_here": 1}, FOUR_GPUS, 4, 8, 1, 1, 8, 8),
        ({"device": "cpu"}, FOUR_GPUS, 4, 32, 0, 1, 32, 0),
        ({"device": "cpu", "workers": 2}, SHARE_OF_ONE, 4, 4, 0, 2, 2, 0),  # each has the row's threads
        ({"device": "cpu", "workers": 4, "threads": 1}, SHARE_OF_ONE, 4, 4, 0, 4, 1, 0),
        ({"device": "cpu", "workers": 2}, SHARE_OF_ONE, 1, 2, 0, 1, 2, 0),  # one group, one worker
    ],
)
def test_what_a_trial_asks_for(
    wishes: dict[str, Any],
    asked: RowResources,
    groups: int,
    cpus: float,
    gpus: float,
    workers: int,
    threads: int,
    loaders: int,
) -> None:
    """Workers, their cores and GPUs follow from the row, the device and the options; never from elsewhere."""
    place, shared = Placement(**wishes), recipe(groups)
    resources, execution = place.resources("a/row", asked, shared), place.execution("a/row", asked, shared)
    assert (resources.cpus, resources.gpus, resources.workers) == (cpus, gpus, workers)
    assert (execution.workers, execution.threads, execution.loader_workers) == (workers, threads, loaders)


@pytest.mark.parametrize(
    ("wishes", "asked", "groups", "message"),
    [
        ({"workers": 3}, SHARE_OF_ONE, 4, "a/row with --workers 3: 3 workers cannot share the 4 groups of a batch"),
        ({"workers": 3}, SHARE_OF_ONE, 4, "--workers 1 or 2 or 4 would do"),
        ({"device": "cuda"}, FOUR_GPUS, 1, "a/row asks for 4 GPUs: 4 workers cannot share the 1 group of a batch"),
        ({"device": "cuda"}, RowResources(gpus=3), 4, "a/row asks for 3 GPUs"),
        ({"device": "cuda", "workers": 4, "gpus_here": 3}, FOUR_GPUS, 4, "this machine has 3; give --workers 2 for a/"),
    ],
)
def test_workers_that_cannot_share_are_refused(
    wishes: dict[str, Any], asked: RowResources, groups: int, message: str
) -> None:
    """The sentence names the row, the number and what would do, before anything is trained."""
    with pytest.raises(UserError) as caught:
        Placement(**wishes).resources("a/row", asked, recipe(groups))
    assert message in str(caught.value)


def test_fewer_workers_than_asked_for_are_told() -> None:
    """A line says why: too few GPUs here, or a batch of one group; nothing is said where all is as asked."""
    here = Placement(device="cuda", gpus_here=1)
    assert here.workers_of("a/row", FOUR_GPUS, recipe(4)) == (
        1,
        "a/row: 1 of 4 workers, since this machine has 1 GPU; it is the same trial, only slower",
    )
    wanted, line = Placement(workers=2).workers_of("a/row", SHARE_OF_ONE, recipe(1))
    assert wanted == 1
    assert str(line).startswith("a/row: 1 worker, since its batch is one group")
    assert Placement(workers=2).workers_of("a/row", SHARE_OF_ONE, recipe(2)) == (2, None)
    assert Placement(device="cuda").workers_of("a/row", FOUR_GPUS, recipe(4)) == (4, None)


def test_every_row_can_be_shared_as_its_table_says() -> None:
    """On a cluster of GPUs every row's number of workers divides the groups of its batch, at every scale."""
    place = Placement(device="cuda")
    for table in load_tables().values():
        for row in table.rows.values():
            for scale, known in row.recipes.items():
                place.resources(f"{row.table}/{row.id}", row.resources_at(scale), known)


def test_the_options_contradict_each_other() -> None:
    """--trials-per-gpu and --workers exclude each other, but for one worker; GPUs are counted on this machine only."""
    with pytest.raises(UserError, match="--trials-per-gpu lets trials share a GPU, --workers gives each several"):
        parse_options(["--trials-per-gpu", "2", "--workers", "2"])
    assert parse_options(["--trials-per-gpu", "2", "--workers", "1"]).workers == 1


def test_gpus_are_counted_here_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster's GPUs are not this machine's, and on a CPU nobody counts."""
    monkeypatch.setattr(placing, "gpu_count", lambda: 2)
    assert gpus_of("cuda", cluster=False) == 2
    assert gpus_of("cuda", cluster=True) is None
    assert gpus_of("cpu", cluster=False) is None


def test_the_way_of_a_trial_follows_from_the_machines() -> None:
    """One machine that takes all workers is taken; else they part, if the machines together have room for each."""
    trial = workers_spec("wide", 4, 32.0, 4.0)
    (whole,) = place_on_nodes([trial], nodes((8, 2), (64, 4)))
    assert whole == trial
    (parted,) = place_on_nodes([trial], nodes((8, 1), (16, 2), (8, 1)))
    assert parted.resources == trial.resources.model_copy(update={"across_nodes": True})
    assert parted.trial_id == trial.trial_id
    alone = workers_spec("one", 1, 8.0)
    with pytest.raises(UserError, match="stub/one asks for 8 CPU and 0 GPU on one machine, and none has that"):
        place_on_nodes([alone], nodes((4, 2), (4, 2)))


@pytest.mark.parametrize(
    ("asked", "there", "message"),
    [
        (
            (4, 32.0, 4.0),
            ((16, 1), (16, 1), (16, 0)),
            "8 CPU and 1 GPU for each of 4 workers, and there is room for 2: there is node0 (16 CPU, 1 GPU), "
            "node1 (16 CPU, 1 GPU), node2 (16 CPU, 0 GPU); --workers 2 would do",
        ),
        ((4, 32.0, 4.0), ((16, 4),), "--workers 2 or --threads 4 would do"),  # GPUs enough, cores too few
        ((2, 16.0, 2.0), ((64, 0),), "and there is room for 0: there is node0 (64 CPU, 0 GPU); --device cpu would do"),
        ((2, 2.0, 0.0), ((1, 0),), "--workers 1 would do"),
        (
            (2, 8.0, 0.0),
            ((1, 0), (1, 0)),
            "there is room for 0: there is node0 (1 CPU, 0 GPU), node1 (1 CPU, 0 GPU); -",
        ),
        ((2, 8.0, 0.0), ((1, 0), (1, 0)), "; --threads 1 would do"),
        ((1, 32.0, 0.0), ((2, 0),), "none has that: there is node0 (2 CPU, 0 GPU); --threads 2 would do"),
    ],
)
def test_too_small_a_cluster_is_refused_at_once(
    asked: tuple[int, float, float], there: tuple[tuple[float, float], ...], message: str
) -> None:
    """The row, what it asks for, what there is, and what would do: one line instead of a silent wait."""
    with pytest.raises(UserError) as caught:
        place_on_nodes([workers_spec("wide", *asked)], nodes(*there))
    assert str(caught.value).startswith("stub/wide asks for ")
    assert message in str(caught.value)


def test_no_more_of_them_than_fit() -> None:
    """Trials over several nodes are bounded by the room for the widest of them."""
    eight = nodes(*(((8, 1),) * 8))
    four = place_on_nodes([workers_spec("four", 4, 32.0, 4.0)], eight)
    six = place_on_nodes([workers_spec("six", 6, 48.0, 6.0, groups=6)], eight)
    assert across_at_once(four, eight) == 2
    assert across_at_once([*four, *six], eight) == 1
    assert across_at_once([workers_spec("one", 1, 1.0)], eight) == 1


def _across(row: str, workers: int) -> TrialSpec:
    one = workers_spec(row, workers, float(workers))
    return one.model_copy(update={"resources": one.resources.model_copy(update={"across_nodes": True})})


def _take(queue: TrialQueue) -> list[TrialSpec]:
    taken = []
    while (trial := queue.next()) is not None:
        taken.append(trial)
    return taken


def _rows(trials: list[TrialSpec]) -> list[str]:
    return [trial.row for trial in trials]


def test_a_trial_over_nodes_is_not_starved() -> None:
    """It gets its turn as soon as there is room: shorter trials take what it leaves, and none is held ready in its way.

    While it runs, the next of its kind waits for it and reserves nothing, so the rest of the machines is used.
    """
    first, second = _across("first", 4), _across("second", 4)
    thin = [spec(HERE, f"thin-{number}") for number in range(9)]
    queue = TrialQueue([first, second, *thin], lambda: (6.0, 0.0))
    taken = _take(queue)
    assert _rows(taken) == ["first", "thin-0", "thin-1", "thin-2"]  # the last one takes over the next process
    for trial in taken[:3]:
        queue.started(trial.trial_id)
    queue.ended(first.trial_id, "done")
    queue.started(thin[2].trial_id)
    assert _take(queue) == []
    queue.ended(thin[0].trial_id, "done")
    assert _rows(_take(queue)) == ["second", "thin-3"]
    assert not queue.empty


def test_trials_over_nodes_run_side_by_side_where_they_fit() -> None:
    """As many at once as the nodes take, never one more."""
    queue = TrialQueue([_across(f"wide-{number}", 4) for number in range(5)], lambda: (64.0, 0.0), 2)
    assert _rows(_take(queue)) == ["wide-0", "wide-1"]


def test_the_lines_about_workers() -> None:
    """One line for trials alike, with where their workers are; nothing about trials of one worker."""
    alike = [workers_spec(f"row-{number}", 4, 32.0, 4.0) for number in range(5)]
    lines = worker_lines([*alike, *alike, _across("parted", 2), spec(HERE)])
    assert lines == [
        "stub/row-0, stub/row-1, stub/row-2 and 2 more rows: 4 workers per trial, 8 CPU and 1 GPU each",
        "stub/parted: 2 workers per trial, 1 CPU each, over several machines, since none fits them all",
    ]


def test_workers_shorten_the_estimate() -> None:
    """Four workers take somewhat more than a quarter of the time; wide and large networks take longer."""
    rows = load_tables()["imagenet"].rows

    def seconds(row: str, workers: int = 1, device: str = "cpu") -> float:
        known = rows[row].recipe_at("paper")
        execution = spec(HERE).execution.model_copy(update={"workers": workers, "device": device})
        return Estimator({}).seconds(known, 1, execution)

    alone = seconds("dnw-x0.225")
    assert alone / 4 < seconds("dnw-x0.225", 4) < alone / 3
    assert seconds("shufflenet-v2-x1") > 1.3 * seconds("shufflenet-v2-x0.5")
    assert seconds("mobilenet-v1-x0.5") > 1.3 * seconds("mobilenet-v1-x0.25")
    assert seconds("densenet-x1") > 1.3 * seconds("densenet-x0.5")
    small = rows["dnw-x0.225"].recipe_at("smoke")
    assert Estimator({}).seconds(small, 1, spec(HERE).execution) < 1e-3 * alone


def test_measured_times_know_their_workers(tmp_path: Path) -> None:
    """What four workers took tells what one would take; only the same number is certain."""
    one = workers_spec("row", 4, 4.0)
    shared = one.execution.model_copy(update={"workers": 4})
    record = write_finished(tmp_path, one, seconds=100.0)
    assert record.provenance is not None
    by_four = record.model_copy(update={"provenance": record.provenance.model_copy(update={"workers": 4})})
    known = Estimator.from_records([by_four])
    assert known.seconds(one.recipe, one.recipe.epochs, shared) == pytest.approx(100.0)
    assert 300.0 < known.seconds(one.recipe, one.recipe.epochs, one.execution) < 400.0
    assert known.knows(one.recipe, shared)
    assert not known.knows(one.recipe, one.execution)
