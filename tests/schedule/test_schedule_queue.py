"""The order in which trials are handed out: children after their parents, and no more than there is room for."""

from __future__ import annotations

from pathlib import Path

from support.stubs.specs import spec

from pipelines.schedule.queue import TrialQueue
from pipelines.schedule.run import longest_first
from pipelines.spec import Resources, TrialSpec

HERE = Path("/results")


def names(trials: list[TrialSpec | None]) -> list[str | None]:
    """The rows of the trials."""
    return [trial.row if trial is not None else None for trial in trials]


def take(queue: TrialQueue) -> list[str]:
    """Take all that the queue gives now."""
    rows = []
    while (trial := queue.next()) is not None:
        rows.append(trial.row)
    return rows


def test_a_child_comes_right_after_its_own_parent() -> None:
    """A child is handed out once its parent is done, before shorter trials that were there earlier."""
    parent = spec(HERE, "parent", epochs=9)
    child = spec(HERE, "child", epochs=8, parent=parent)
    long = spec(HERE, "long", epochs=9)
    short = [spec(HERE, f"short-{number}", epochs=1) for number in range(9)]
    queue = TrialQueue([parent, child, long, *short], lambda: (2.0, 0.0))
    assert take(queue) == ["parent", "long", "short-0"]  # the last one is ready to take over a process
    for trial in (parent, long):
        queue.started(trial.trial_id)
    assert queue.next() is None
    queue.ended(parent.trial_id, "done")
    queue.started(short[0].trial_id)
    assert names([queue.next()]) == ["child"]
    assert not queue.empty


def test_a_parent_in_the_store_is_not_waited_for() -> None:
    """A child whose parent is not among the trials can start at once."""
    child = spec(HERE, "child", parent=spec(HERE, "parent"))
    queue = TrialQueue([child], lambda: (1.0, 0.0))
    assert names([queue.next()]) == ["child"]
    assert not queue.empty  # it may come back
    queue.ended(child.trial_id, "done")
    assert queue.empty


def test_a_failed_parent_blocks_the_chain() -> None:
    """What starts from a failed trial, and what starts from that, is never handed out; the rest is."""
    parent = spec(HERE, "parent")
    child = spec(HERE, "child", parent=parent)
    grandchild = spec(HERE, "grandchild", parent=child)
    other = spec(HERE, "other-seed", 1, parent=spec(HERE, "parent", 1))
    queue = TrialQueue([parent, child, grandchild, other], lambda: (1.0, 0.0))
    assert take(queue) == ["parent", "other-seed"]
    queue.ended(parent.trial_id, "failed")
    assert names(list(queue.take_blocked())) == ["child", "grandchild"]
    assert queue.take_blocked() == []
    queue.ended(other.trial_id, "done")
    assert queue.empty


def test_a_stopped_parent_blocks_without_a_word() -> None:
    """Ctrl-C leaves children unstarted: nothing is handed out any more, and nothing is called blocked."""
    parent = spec(HERE, "parent")
    queue = TrialQueue([parent, spec(HERE, "child", parent=parent)], lambda: (1.0, 0.0))
    take(queue)
    queue.ended(parent.trial_id, "stopped")
    assert (queue.empty, queue.take_blocked()) == (True, [])


def test_other_resources_do_not_wait_in_line() -> None:
    """While trials of one kind fill their room, those of another kind still start; a growing cluster is used."""
    room = [3.0]
    wide = [spec(HERE, f"wide-{number}", cpus=2.0) for number in range(4)]
    thin = [spec(HERE, f"thin-{number}", cpus=0.5) for number in range(4)]
    queue = TrialQueue([*wide, *thin], lambda: (room[0], 0.0))
    assert take(queue) == ["wide-0", "wide-1", "thin-0", "thin-1", "thin-2"]
    room[0] = 6.0
    assert take(queue) == ["wide-2", "thin-3"]


def test_something_is_always_at_work() -> None:
    """A trial that seems to fit nowhere is handed out when nothing else is at work, so that nothing hangs."""
    trials = [spec(HERE, f"wide-{number}", cpus=64.0) for number in range(2)]
    queue = TrialQueue(trials, lambda: (1.0, 0.0))
    assert take(queue) == ["wide-0"]
    queue.started(trials[0].trial_id)
    queue.requeue(trials[0].trial_id)
    assert take(queue) == ["wide-0"]
    queue.ended(trials[0].trial_id, "failed")
    assert take(queue) == ["wide-1"]


def test_a_parent_counts_with_what_waits_for_it() -> None:
    """The longest chain starts first, although its parent alone is short."""
    parent = spec(HERE, "parent")
    trials = [spec(HERE, "long"), parent, spec(HERE, "child", parent=parent)]
    seconds = {("stub", "long"): 50.0, ("stub", "parent"): 20.0, ("stub", "child"): 40.0}
    assert names(list(longest_first(trials, seconds))) == ["parent", "long", "child"]


def test_a_trial_that_lost_its_process_is_the_next_one() -> None:
    """It comes before trials that have not begun, once, with the resources that it is given; its child waits on."""
    parent = spec(HERE, "parent")
    rest = [spec(HERE, f"rest-{number}") for number in range(3)]
    queue = TrialQueue([parent, spec(HERE, "child", parent=parent), *rest], lambda: (1.0, 0.0))
    assert take(queue) == ["parent", "rest-0"]
    queue.requeue(parent.trial_id, Resources(cpus=0.5))
    again = queue.next()
    assert again is not None
    assert (again.row, again.resources, queue.resources(parent.trial_id)) == ("parent", *2 * (Resources(cpus=0.5),))
    queue.ended(parent.trial_id, "done")
    assert take(queue) == ["child"]


def test_of_two_that_lost_their_processes_the_last_one_is_next() -> None:
    """Each comes back to the very front, wherever it stood before and whatever its name."""
    trials = [spec(HERE, name) for name in ("a", "b", "c")]
    queue = TrialQueue(trials, lambda: (2.0, 0.0))
    assert take(queue) == ["a", "b", "c"]
    for trial in trials:
        queue.started(trial.trial_id)
    for trial in trials:
        queue.requeue(trial.trial_id)
    assert take(queue) == ["c", "b", "a"]
