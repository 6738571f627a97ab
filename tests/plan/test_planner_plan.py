"""The planner: what is done, partly trained, failed, drifted, new or without data, and what will be trained."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
from support.stubs.store import finish, interrupt

from dnw_core.config.base import fingerprint
from dnw_core.errors import DataMissingError
from dnw_core.record import RECORD_FILE, sealed
from pipelines.commands.listing import plan_lines, status_lines
from pipelines.commands.reproduction import row_command
from pipelines.driver.status import NO_DRIVER
from pipelines.plan.data_checks import check_data, prepare_store
from pipelines.plan.placement import Placement
from pipelines.plan.planner import Plan, make_plan, plan_rows
from pipelines.plan.reported_rows import all_rows, report_rows
from pipelines.plan.rows import parse_overrides, select_rows
from pipelines.plan.trial_states import MODES, Mode, PlanState, should_run
from pipelines.store.folder import Store
from tune_configs import Scale, load_tables

TABLES = load_tables()


def plan_of(
    store: Store,
    *only: str,
    scale: Scale = "smoke",
    mode: Mode = "cached",
    seeds: tuple[int, ...] | None = None,
    settings: tuple[str, ...] = (),
    placement: Placement | None = None,
) -> Plan:
    """Plan rows of table ``tiny``."""
    rows = select_rows(TABLES, only=only)
    planned = plan_rows(TABLES, rows, scale, seeds=seeds, overrides=parse_overrides(settings))
    lost = [row for row in rows if row.not_reproducible is not None]
    return make_plan(planned, scale, store, placement or Placement(), mode=mode, not_reproducible=lost)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store.open(tmp_path / "results", create=True)


def test_each_trial_is_held_against_the_store(store: Store) -> None:
    """Done, partial, failed and new trials of a row are told apart, with the epochs that are left."""
    first = plan_of(store, "tiny/static-dnw", seeds=(0, 1, 2, 3))
    assert [trial.state for trial in first.trials] == ["new"] * 4
    specs = [trial.spec for trial in first.trials]
    finish(store, specs[0])
    interrupt(store, specs[1], 1)
    store.record_failure(specs[2], "the loss is nan")
    plan = plan_of(store, "tiny/static-dnw", seeds=(0, 1, 2, 3))
    assert [trial.state for trial in plan.trials] == ["done", "partial", "failed", "new"]
    assert [trial.epochs_left for trial in plan.trials] == [0, 1, 0, 2]
    assert [trial.will_run for trial in plan.trials] == [False, True, False, True]
    assert plan.trials[2].detail == "the loss is nan"
    text = "\n".join(plan_lines(plan, 2))
    assert "1 done, 1 partial, 1 failed, 1 new" in text
    assert "seed 2: failed: the loss is nan" in text
    assert "1 rows, 4 trials: 1 done, 2 to be trained, 3 epochs" in text
    status = "\n".join(status_lines(plan, store, [NO_DRIVER]))
    assert "1/4" in status
    assert "80.00" in status
    assert "seed 1 epoch 1/2" in status


def test_a_spec_says_everything_a_trial_needs(store: Store, tmp_path: Path) -> None:
    """Recipe, fingerprint, resources and folders of a planned trial agree with its row."""
    placement = Placement(device="cuda", trials_per_gpu=4, threads=3, checkpoint_minutes=1.5, data_dir=str(tmp_path))
    trial = plan_of(store, "tiny/discrete-dnw", placement=placement).trials[0]
    row = TABLES["tiny"].rows["discrete-dnw"]
    assert trial.spec.recipe == row.recipe_at("smoke")
    assert trial.spec.fingerprint == fingerprint(row.recipe_at("smoke"))
    assert (trial.spec.resources.gpus, trial.spec.resources.cpus) == (0.25, 3)
    assert (trial.spec.execution.device, trial.spec.execution.threads) == ("cuda", 3)
    assert (trial.spec.execution.checkpoint_minutes, trial.spec.execution.data_dir) == (1.5, str(tmp_path))
    on_cpu = plan_of(store, "tiny/discrete-dnw").trials[0].spec
    assert (on_cpu.resources.gpus, on_cpu.execution.device, on_cpu.execution.threads) == (0, "cpu", 1)
    assert on_cpu.trial_id == trial.spec.trial_id  # where it runs is no part of its identity


def test_default_seeds_are_the_tables(store: Store) -> None:
    """Without --seeds a row gets the table's number of seeds for the scale."""
    for scale, count in (("smoke", 2), ("paper", 5)):
        assert [trial.spec.seed for trial in plan_of(store, "tiny/static-dnw", scale=scale).trials] == list(
            range(count)
        )


def test_a_changed_recipe_is_named(store: Store) -> None:
    """A result of an older recipe makes the row drifted: it is trained anew, and the changed settings are named."""
    old = plan_of(store, "tiny/static-dnw").trials[0].spec
    older = old.recipe.model_copy(update={"batch_size": 16, "data": old.recipe.data.model_copy(update={"flip": True})})
    finish(store, old.model_copy(update={"recipe": older, "fingerprint": fingerprint(older)}))
    plan = plan_of(store, "tiny/static-*")
    states = {trial.spec.row: trial.state for trial in plan.trials}
    assert states.pop("static-dnw") == "drifted"
    assert set(states.values()) == {"new"}
    drifted = next(trial for trial in plan.trials if trial.state == "drifted")
    assert drifted.detail == f"since {fingerprint(older)}: batch_size 16 → 64; data.flip True → False"
    assert drifted.will_run
    assert drifted.epochs_left == 2
    finish(store, drifted.spec)
    assert plan_of(store, "tiny/static-dnw").trials[0].state == "done"


def test_continuous_trials_from_before_the_steps_ends_were_clamped_are_named(store: Store) -> None:
    """Their records, which know nothing of the setting, keep the fingerprint that they had; --plan says what is new."""
    new = plan_of(store, "tiny/continuous-dnw", seeds=(0,)).trials[0].spec
    network = new.recipe.network.model_copy(update={"ode_ends": "corrected"})
    recipe = new.recipe.model_copy(update={"network": network})
    old = new.model_copy(update={"recipe": recipe, "fingerprint": "c01b21d5"})
    finish(store, old)
    path = store.folder(old) / RECORD_FILE
    values = json.loads(path.read_text("utf-8"))
    del values["recipe"]["network"]["ode_ends"]
    path.write_text(json.dumps(sealed(values)), "utf-8")
    assert store.state(old).kind == "done"
    plan = plan_of(store, "tiny/continuous-dnw", seeds=(0,))
    (trial,) = plan.trials
    assert (trial.state, trial.will_run) == ("drifted", True)
    told = (
        "drifted: since c01b21d5: network.ode_ends corrected → reference (the released network clamps the end of every "
        "solver step at zero, not the start state alone (docs/deviations.md, Q9))"
    )
    assert any(told in line for line in plan_lines(plan, None))
    corrected = plan_of(store, "tiny/continuous-dnw-corrected", seeds=(0,)).trials[0].spec
    assert corrected.fingerprint == "c5af5580"  # as before: nothing of it has changed


def test_another_scale_is_no_drift(store: Store) -> None:
    """Results at one scale do not make the row drifted at another."""
    finish(store, plan_of(store, "tiny/static-dnw", scale="paper").trials[0].spec)
    assert {trial.state for trial in plan_of(store, "tiny/static-dnw").trials} == {"new"}


def test_missing_data_are_said(store: Store, tmp_path: Path) -> None:
    """Without CIFAR-10 the trials that need it are not run, one that is done is, and nothing else left is refused."""
    placement = Placement(data_dir=str(tmp_path / "nothing"))
    plan = plan_of(store, "tiny/static-dnw", scale="short")
    finish(store, plan.trials[0].spec)
    plan = plan_of(store, "tiny/static-dnw", scale="short", placement=placement)
    assert [(trial.state, trial.will_run) for trial in plan.trials] == [("done", False), ("data missing", False)]
    assert plan.trials[1].epochs_left == plan.trials[1].spec.recipe.epochs  # of use to who plans before fetching
    text = plan_lines(plan, 2)
    assert sum("cifar10 was not found" in line for line in text) == 1
    assert text[-1].startswith("1 rows, 2 trials: 1 done, 1 without their data (about ")
    with pytest.raises(DataMissingError, match="cifar10 was not found"):
        check_data(plan, local=True, say=print)
    rows = report_rows(plan, TABLES, store, lambda row, seeds: "")
    assert "cifar10 was not found" in rows[0]["data_missing"]
    assert rows[0]["blocked"] is None
    reading = plan_of(store, "tiny/static-dnw", scale="short", placement=placement, mode="read-only")
    assert [trial.state for trial in reading.trials] == ["done", "data missing"]
    fetched = Placement(data_dir=str(tmp_path / "nothing"), download=True)
    assert plan_of(store, "tiny/static-dnw", scale="short", placement=fetched).trials[1].state == "new"


NEVER: set[PlanState] = {"data missing", "blocked"}
RUNS: dict[Mode, set[PlanState]] = {
    "cached": {"partial", "drifted", "new"},
    "retry": {"partial", "drifted", "new", "failed"},
    "force": {"partial", "drifted", "new", "failed", "done"},
    "read-only": set(),
}


def test_the_modes_answer_every_question() -> None:
    """Which states are trained in which mode."""
    states: tuple[PlanState, ...] = ("done", "partial", "failed", "drifted", "new", *NEVER)
    assert {mode: {state for state in states if should_run(mode, state)} for mode in MODES} == RUNS
    dependencies = {mode: {state for state in states if should_run(mode, state, is_dependency=True)} for mode in MODES}
    assert dependencies == {**RUNS, "force": RUNS["retry"]}  # what is done serves, and is not replaced


def test_retry_goes_on_and_force_starts_afresh(store: Store) -> None:
    """Retry keeps a failed trial's checkpoint; force moves everything aside and deletes nothing."""
    specs = [trial.spec for trial in plan_of(store, "tiny/static-dnw", seeds=(0, 1)).trials]
    finish(store, specs[0])
    interrupt(store, specs[1], 1)
    store.record_failure(specs[1], "out of memory")
    plan = plan_of(store, "tiny/static-dnw", seeds=(0, 1), mode="retry")
    assert [(trial.will_run, trial.epochs_left) for trial in plan.trials] == [(False, 0), (True, 1)]
    said: list[str] = []
    prepare_store(plan, store, said.append)
    assert (store.state(specs[1]).kind, said) == ("partial", [])
    plan = plan_of(store, "tiny/static-dnw", seeds=(0, 1), mode="force")
    assert [trial.epochs_left for trial in plan.trials] == [2, 2]
    prepare_store(plan, store, said.append)
    assert [store.state(spec).kind for spec in specs] == ["new", "new"]
    assert len(said) == 2
    assert len(list((store.results_dir / "set-aside").rglob("checkpoint.pt"))) == 2


def test_a_damaged_result_is_trained_again_and_said(store: Store) -> None:
    """A damaged result is planned as new; a run moves it aside and says so; planning moves nothing."""
    spec = plan_of(store, "tiny/static-dnw").trials[0].spec
    finish(store, spec)
    (store.folder(spec) / "wiring.npz").write_bytes(b"cut")
    plan = plan_of(store, "tiny/static-dnw")
    assert (plan.trials[0].state, plan.trials[0].will_run) == ("new", True)
    assert "failed verification: wiring.npz: truncated or altered" in "\n".join(plan_lines(plan, None))
    assert store.folder(spec).exists()
    said: list[str] = []
    prepare_store(plan, store, said.append)
    assert not store.folder(spec).exists()
    assert "warning" in said[0]
    assert "set-aside/tiny/static-dnw" in said[0]


def test_the_estimate_learns_from_finished_trials(store: Store) -> None:
    """A finished trial of the same kind of network replaces the rough figure, in proportion to epochs and images."""
    plan = plan_of(store, "tiny/static-dnw")
    assert not plan.measured
    finish(store, plan.trials[0].spec, seconds=287.4)  # 0.1 s an image: 2 epochs of 1,437
    plan = plan_of(store, "tiny/static-dnw", "tiny/static-random")
    assert plan.measured
    assert plan.trials[0].estimated_seconds == pytest.approx(287.4)
    assert [trial.estimated_seconds for trial in plan.trials if trial.state == "done"] == [0.0]
    assert not plan_of(store, "tiny/discrete-dnw").measured
    other_size = plan_of(store, "tiny/static-dnw", settings=("network.nodes=400",))
    assert not other_size.measured  # a smaller graph says nothing about this one, and is not asked
    assert other_size.trials[0].estimated_seconds < 5


def test_report_rows_hold_what_was_planned_and_what_is_there(store: Store) -> None:
    """Planned rows, other rows and variants with results, seeds united, published numbers only for paper rows."""
    finish(store, plan_of(store, "tiny/static-dnw", seeds=(7,)).trials[0].spec)
    finish(store, plan_of(store, "tiny/discrete-dnw", seeds=(3,)).trials[0].spec)
    variant = (
        plan_of(store, "tiny/static-dnw", settings=("optimiser.learning_rate=0.05", "batch_size=16")).trials[0].spec
    )
    finish(store, variant)
    stale = variant.recipe.model_copy(update={"batch_size": 99})
    finish(
        store,
        variant.model_copy(
            update={"row": "static-random@batch_size=16", "recipe": stale, "fingerprint": fingerprint(stale)}
        ),
    )
    plan = plan_of(store, "tiny/static-dnw")
    rows = report_rows(plan, TABLES, store, lambda row, seeds: f"{row.id} {seeds}")
    names = ["static-dnw", "static-dnw@batch_size=16,optimiser.learning_rate=0.05", "discrete-dnw"]
    assert [row["row"] for row in rows] == names
    assert [row["seeds"] for row in rows] == [(0, 1, 7), (0,), (3,)]
    assert [row["variant"] for row in rows] == [False, True, False]
    assert [row["published_mean"] for row in rows] == [80.9, None, 82.3]
    assert rows[0]["command"] == "static-dnw (0, 1, 7)"
    everything = all_rows(TABLES, store, "smoke", partial(row_command, scale="smoke"))
    assert [row["row"] for row in everything] == names
    assert everything[1]["command"] == (
        "python pipelines/reproduce_all.py --scale smoke --only tiny/static-dnw --seeds 1 "
        "--set batch_size=16 --set optimiser.learning_rate=0.05"
    )
    assert all_rows(TABLES, store, "paper", partial(row_command, scale="paper")) == []


def test_the_report_takes_the_rows(store: Store) -> None:
    """The rows are what ``reports`` accepts: every field is one of its own."""
    from reports.rows import parse_rows

    rows = report_rows(plan_of(store), TABLES, store, lambda row, seeds: "again")
    assert len(parse_rows(rows, "smoke")) == sum(len(table.rows) for table in TABLES.values())


def test_data_that_a_cluster_lacks_are_missing_in_the_plan(store: Store) -> None:
    """What the nodes said is taken as it is; nothing is looked for on this machine."""
    rows = select_rows(TABLES, only=["tiny/static-dnw", "wirings/complete"])
    planned = plan_rows(TABLES, rows, "short", seeds=(0,))
    plan = make_plan(planned, "short", store, Placement(), check_data=False, missing={"cifar10": "on no node"})
    assert {(trial.state, trial.detail, trial.will_run) for trial in plan.trials} == {
        ("data missing", "on no node", False)
    }
    unasked = make_plan(planned, "short", store, Placement(), check_data=False)
    assert [trial.state for trial in unasked.trials] == ["new", "new"]
