"""The planner and rows that start from others: what joins the plan, what is blocked, and how it is said."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.stubs.store import finish, interrupt

from dnw_core.record import CHECKPOINT_FILE, RECORD_FILE, read_record
from pipelines.commands.listing import duration, list_lines, plan_lines, status_lines
from pipelines.driver.status import NO_DRIVER
from pipelines.plan.data_checks import prepare_store
from pipelines.plan.placement import Placement
from pipelines.plan.planner import Plan, PlannedTrial, make_plan, plan_rows
from pipelines.plan.reported_rows import report_rows
from pipelines.plan.rows import parse_overrides, select_rows
from pipelines.plan.trial_states import Mode
from pipelines.store.folder import Store
from pipelines.store.left_out import leave_out_weights
from tune_configs import Table, load_tables

TABLES = load_tables()
CHILDREN = ("wirings/lottery-one-shot", "wirings/fine-tune")


def plan_of(
    store: Store,
    *only: str,
    mode: Mode = "cached",
    seeds: tuple[int, ...] | None = None,
    settings: tuple[str, ...] = (),
    tables: dict[str, Table] = TABLES,
) -> Plan:
    """Plan rows at scale smoke."""
    rows = select_rows(tables, only=only)
    planned = plan_rows(tables, rows, "smoke", seeds=seeds, overrides=parse_overrides(settings))
    return make_plan(planned, "smoke", store, Placement(), mode=mode)


def told(plan: Plan) -> list[tuple[str, int, str, bool]]:
    """Row, seed, state of each trial, and whether it runs."""
    return [(trial.spec.row, trial.spec.seed, trial.state, trial.will_run) for trial in plan.trials]


def trial_of(plan: Plan, row: str, seed: int = 0) -> PlannedTrial:
    """One trial of the plan."""
    return next(trial for trial in plan.trials if (trial.spec.row, trial.spec.seed) == (row, seed))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store.open(tmp_path / "results", create=True)


def test_a_missing_parent_joins_once_for_all_children(store: Store) -> None:
    """Children of one seed share the parent's trial, which stands before them and counts in the hours."""
    plan = plan_of(store, *CHILDREN, seeds=(0, 3))
    assert told(plan) == [
        (row, seed, "new", True) for row in ("complete", "lottery-one-shot", "fine-tune") for seed in (0, 3)
    ]
    parent = trial_of(plan, "complete", 3)
    assert parent.required_by == CHILDREN
    assert parent.spec.trial_id == plan_of(store, "wirings/complete", seeds=(3,)).trials[0].spec.trial_id
    assert [trial.spec.parent_id for trial in plan.trials if trial.spec.seed == 3][1:] == [parent.spec.trial_id] * 2
    text = "\n".join(plan_lines(plan, 4))
    assert "wirings/complete seed 0, 3: required by wirings/lottery-one-shot, wirings/fine-tune" in text
    assert "wirings/fine-tune needs wirings/complete: seed 0, 3 is trained first" in text
    assert "3 rows, 6 trials: 0 done, 6 to be trained, 12 epochs" in text
    chain = trial_of(plan, "complete").estimated_seconds + trial_of(plan, "fine-tune").estimated_seconds
    assert f"{duration(chain)} with 4 at once" in text  # no number of machines makes a chain shorter


def test_a_parent_that_is_done_serves(store: Store) -> None:
    """Only the seeds whose parent is missing pull it in; children that are done need none."""
    first = plan_of(store, *CHILDREN)
    finish(store, trial_of(first, "complete", 1).spec)
    finish(store, trial_of(first, "lottery-one-shot", 0).spec)
    plan = plan_of(store, "wirings/lottery-one-shot")
    assert told(plan) == [("lottery-one-shot", 0, "done", False), ("lottery-one-shot", 1, "new", True)]
    assert "wirings/lottery-one-shot needs wirings/complete: seed 1 is done" in "\n".join(plan_lines(plan, None))


def test_a_parent_without_weights_blocks_its_own_seed(store: Store) -> None:
    """It is done and need not be trained for itself; nothing can start from it."""
    first = plan_of(store, *CHILDREN)
    parent = trial_of(first, "complete", 0).spec
    finish(store, parent)
    (store.folder(parent) / CHECKPOINT_FILE).unlink()
    leave_out_weights(store.folder(parent), read_record(store.folder(parent) / RECORD_FILE))
    plan = plan_of(store, "wirings/complete", "wirings/fine-tune")
    assert told(plan) == [
        ("complete", 0, "done", False),
        ("complete", 1, "new", True),
        ("fine-tune", 0, "blocked", False),
        ("fine-tune", 1, "new", True),
    ]
    assert "blocked by wirings/complete seed 0 (its folder here lacks the weights" in trial_of(plan, "fine-tune").detail


def test_a_selected_parent_is_no_dependency(store: Store) -> None:
    """A parent that is meant itself stands before its children, although the table has it after them."""
    plan = plan_of(store, *CHILDREN, "wirings/complete")
    assert [row.id for row in plan.rows] == ["complete", "lottery-one-shot", "fine-tune"]
    assert {trial.required_by for trial in plan.trials} == {()}
    assert [row.dependency_seeds for row in plan.rows] == [()] * 3
    assert "required by" not in "\n".join(plan_lines(plan, None))


def test_a_failed_parent_blocks_its_own_seed(store: Store) -> None:
    """In mode cached its children are blocked, with the reason, in plan, status and report; other seeds go on."""
    first = plan_of(store, *CHILDREN)
    store.record_failure(trial_of(first, "complete", 0).spec, "the loss is nan")
    plan = plan_of(store, *CHILDREN)
    assert told(plan) == [
        ("complete", 1, "new", True),
        ("lottery-one-shot", 0, "blocked", False),
        ("lottery-one-shot", 1, "new", True),
        ("fine-tune", 0, "blocked", False),
        ("fine-tune", 1, "new", True),
    ]
    reason = "blocked by wirings/complete seed 0 (failed: the loss is nan)"
    assert trial_of(plan, "fine-tune").detail == reason
    assert f"  wirings/fine-tune seed 0: {reason}" in plan_lines(plan, None)
    assert f"  wirings/fine-tune seed 0: {reason}" in status_lines(plan, store, [NO_DRIVER])
    rows = {row["row"]: row for row in report_rows(plan, TABLES, store, lambda row, seeds: "")}
    assert {name: row["blocked"] for name, row in rows.items()} == {
        "lottery-one-shot": reason,
        "complete": None,
        "fine-tune": reason,
    }
    assert rows["complete"]["seeds"] == (0, 1)


def test_the_modes_and_a_failed_parent(store: Store) -> None:
    """Retry and force train it again, from its checkpoint where nobody asked for it; read-only trains nothing."""
    first = plan_of(store, "wirings/fine-tune", seeds=(0,))
    parent = trial_of(first, "complete").spec
    interrupt(store, parent, 1)
    store.record_failure(parent, "out of memory")
    assert told(plan_of(store, "wirings/fine-tune", seeds=(0,), mode="read-only")) == [
        ("fine-tune", 0, "blocked", False)
    ]
    modes: tuple[Mode, ...] = ("retry", "force")
    for mode in modes:
        plan = plan_of(store, "wirings/fine-tune", seeds=(0,), mode=mode)
        assert told(plan) == [("complete", 0, "failed", True), ("fine-tune", 0, "new", True)]
        assert trial_of(plan, "complete").epochs_left == 1
    prepare_store(plan, store, print)
    assert (store.state(parent).kind, store.state(parent).epochs_done) == ("partial", 1)


def test_force_retrains_what_is_meant(store: Store) -> None:
    """A finished parent is trained again only where it is selected itself."""
    for trial in plan_of(store, "wirings/fine-tune", seeds=(0,)).trials:
        finish(store, trial.spec)
    assert told(plan_of(store, "wirings/fine-tune", seeds=(0,), mode="force")) == [("fine-tune", 0, "done", True)]
    both = plan_of(store, "wirings/fine-tune", "wirings/complete", seeds=(0,), mode="force")
    assert told(both) == [("complete", 0, "done", True), ("fine-tune", 0, "done", True)]


def test_a_damaged_parent_is_trained_again(store: Store) -> None:
    """A parent whose checkpoint was altered joins the plan and is moved aside."""
    first = plan_of(store, "wirings/fine-tune", seeds=(0,))
    parent = trial_of(first, "complete").spec
    finish(store, parent)
    (store.folder(parent) / "checkpoint.pt").write_bytes(b"cut")
    plan = plan_of(store, "wirings/fine-tune", seeds=(0,))
    assert told(plan) == [("complete", 0, "new", True), ("fine-tune", 0, "new", True)]
    said: list[str] = []
    prepare_store(plan, store, said.append)
    assert "failed verification (checkpoint.pt: truncated or altered" in said[0]
    assert store.state(parent).damaged is None


def test_a_variant_starts_from_the_parents_variant(store: Store) -> None:
    """With --set the parent is what ``--only wirings/complete`` with the same settings, but for wiring.*, trains."""
    settings = ("optimiser.learning_rate=0.05", "wiring.width=0.3", "epochs=1")
    plan = plan_of(store, "wirings/fine-tune", settings=settings, seeds=(0,))
    alone = plan_of(store, "wirings/complete", settings=("epochs=1", "optimiser.learning_rate=0.05"), seeds=(0,))
    assert trial_of(plan, "complete@epochs=1,optimiser.learning_rate=0.05").spec == alone.trials[0].spec
    only_wiring = plan_of(store, "wirings/fine-tune", settings=("wiring.width=0.3",), seeds=(0,))
    assert [trial.spec.row for trial in only_wiring.trials] == ["complete", "fine-tune@wiring.width=0.3"]
    finish(store, alone.trials[0].spec)
    rows = report_rows(plan, TABLES, store, lambda row, seeds: "")
    assert [row["row"] for row in rows if row["table"] == "wirings"] == [
        "complete@epochs=1,optimiser.learning_rate=0.05",
        "fine-tune@epochs=1,optimiser.learning_rate=0.05,wiring.width=0.3",
    ]


def test_a_recount_keeps_dependencies(store: Store) -> None:
    """After the run the rows of the plan are counted again, dependencies included."""
    plan = plan_of(store, "wirings/fine-tune", seeds=(0,))
    finish(store, trial_of(plan, "complete").spec)
    after = make_plan(plan.rows, "smoke", store, Placement(), mode="read-only")
    assert told(after) == [("complete", 0, "done", False), ("fine-tune", 0, "new", False)]
    assert [(row.id, row.seeds, row.dependency_seeds) for row in after.rows] == [
        ("complete", (), (0,)),
        ("fine-tune", (0,), ()),
    ]


CHAIN = """\
id: {id}
title: A chain
source: a test
recipe:
  network: {{kind: tiny-static}}
  data: {{dataset: digits}}
  schedule: {{kind: cosine}}
  epochs: 2
  batch_size: 8
default_seeds: {{smoke: {seeds}}}
rows:
"""
ROW = "  {id}:\n    label: Row\n    extra: true\n{needs}    recipe: {{wiring: {{rule: {rule}}}}}\n"
FINE = "fine-tune, density: 0.1"


@pytest.fixture
def chain(tmp_path: Path) -> dict[str, Table]:
    """Rows third → second → first, the last in another table that has fewer seeds."""
    third = ROW.format(id="third", needs="    needs: second\n", rule=FINE)
    second = ROW.format(id="second", needs="    needs: b/first\n", rule=FINE)
    (tmp_path / "a.yaml").write_text(CHAIN.format(id="a", seeds=2) + third + second)
    (tmp_path / "b.yaml").write_text(CHAIN.format(id="b", seeds=1) + ROW.format(id="first", needs="", rule="complete"))
    return load_tables(tmp_path)


def test_a_chain_joins_as_a_whole(store: Store, chain: dict[str, Table]) -> None:
    """A parent's parent joins too, and a row that is partly selected gets the seeds that are needed beside its own."""
    plan = plan_of(store, "a/third", tables=chain)
    assert [(trial.spec.row, trial.spec.seed, trial.required_by) for trial in plan.trials] == [
        ("first", 0, ("a/second",)),
        ("first", 1, ("a/second",)),
        ("second", 0, ("a/third",)),
        ("second", 1, ("a/third",)),
        ("third", 0, ()),
        ("third", 1, ()),
    ]
    plan = plan_of(store, "*", tables=chain)
    first = next(row for row in plan.rows if row.id == "first")
    assert (first.seeds, first.dependency_seeds) == ((0,), (1,))
    finish(store, trial_of(plan, "second", 1).spec)
    assert [trial.spec.row for trial in plan_of(store, "a/third", seeds=(1,), tables=chain).trials] == ["third"]


def test_a_chain_is_blocked_to_its_end(store: Store, chain: dict[str, Table]) -> None:
    """A failure at the start blocks everything after it, and the reason is handed on."""
    store.record_failure(trial_of(plan_of(store, "a/third", tables=chain), "first", 0).spec, "the loss is nan")
    plan = plan_of(store, "a/third", seeds=(0,), tables=chain)
    assert told(plan) == [("third", 0, "blocked", False)]
    assert plan.trials[0].detail == ("blocked by a/second seed 0 (blocked by b/first seed 0 (failed: the loss is nan))")


def test_a_chain_waits_for_the_data_of_its_start(tmp_path: Path, store: Store, chain: dict[str, Table]) -> None:
    """Rows that have their own data are not trained while those of a row that they start from are missing."""
    start = tmp_path / "b.yaml"
    start.write_text(start.read_text().replace("dataset: digits", "dataset: cifar10"))
    tables = load_tables(tmp_path)
    planned = plan_rows(tables, select_rows(tables, only=["a/third"]), "smoke", seeds=(0,))
    plan = make_plan(planned, "smoke", store, Placement(data_dir=str(tmp_path / "nowhere")))
    assert [state for _, _, state, runs in told(plan) if not runs] == ["data missing"] * 3
    assert len({trial.detail for trial in plan.trials}) == 1
    finish(store, trial_of(plan, "first", 0).spec)
    plan = make_plan(planned, "smoke", store, Placement(data_dir=str(tmp_path / "nowhere")))
    assert told(plan) == [("second", 0, "new", True), ("third", 0, "new", True)]


def test_the_complete_graph_is_estimated_by_itself(store: Store) -> None:
    """A dense graph takes longer an image than a sparse one, also once one of the two was measured."""
    dense, sparse = plan_of(store, "wirings/complete"), plan_of(store, "wirings/dnw-x0.225")
    assert dense.trials[0].estimated_seconds > 1.3 * sparse.trials[0].estimated_seconds
    finish(store, dense.trials[0].spec, seconds=512.0)
    assert plan_of(store, "wirings/complete").trials[1].estimated_seconds == pytest.approx(512.0)
    assert not plan_of(store, "wirings/dnw-x0.225").measured
    assert not plan_of(store, "wirings/mobilenet-x0.25").measured


def test_the_list_says_what_a_row_needs() -> None:
    """--list names the parent beside the row."""
    lines = list_lines(TABLES, select_rows(TABLES))
    assert [line.split()[0] for line in lines if line.endswith("needs wirings/complete")] == list(CHILDREN)
