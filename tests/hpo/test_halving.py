"""Who goes on from a rung, from what the store holds. No Ray is started, nothing is trained."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.stubs.search import planned, reach
from support.stubs.store import finish

from pipelines.hpo.halving import SCORES_FILE, Status, assess, ranking, save_scores
from pipelines.hpo.plan import Search
from pipelines.store.folder import Store


@pytest.fixture
def one(tmp_path: Path) -> Search:
    """Six configurations; rungs at 2, 6 and 9 epochs, from which a third goes on."""
    return planned(tmp_path)


@pytest.fixture
def store(one: Search) -> Store:
    """The search's own store."""
    return Store.open(one.results_dir, create=True)


def advance(one: Search, store: Store, epochs: int, scores: dict[int, float]) -> None:
    """Train configurations, by their numbers, to so many epochs, and keep the scores as a driver does."""
    for index, score in scores.items():
        reach(store, one.configurations[index].spec, epochs, score)
    save_scores(one, assess(one, store)[0])


def following(one: Search, store: Store) -> tuple[int, list[int]]:
    """The rung of the next round, and the numbers of its configurations."""
    found = assess(one, store)[1]
    return found.rung, [each.index for each in found.configurations]


def standings(one: Search, store: Store) -> list[str]:
    """One word for each configuration."""
    return [each.standing for each in assess(one, store)[0]]


FIRST = {0: 0.3, 1: 0.5, 2: 0.5, 3: 0.1, 4: 0.5, 5: 0.2}


def test_the_best_go_on_round_after_round(one: Search, store: Store) -> None:
    """A round waits for its last configuration; then the best third goes on, ties by the number drawn first."""
    assert following(one, store) == (2, [0, 1, 2, 3, 4, 5])
    advance(one, store, 2, {index: score for index, score in FIRST.items() if index != 3})
    assert following(one, store) == (2, [3])
    advance(one, store, 2, {3: FIRST[3]})
    assert following(one, store) == (6, [1, 2])
    assert standings(one, store) == ["stopped", "partial", "partial", "stopped", "stopped", "stopped"]
    advance(one, store, 6, {2: 0.9})
    assert following(one, store) == (6, [1]), "the one ahead keeps its place, and the other has not lost its own"
    advance(one, store, 6, {1: 0.8})
    assert following(one, store) == (9, [2])
    finish(store, one.configurations[2].spec, accuracy=0.7)
    statuses, last = assess(one, store)
    assert not last.configurations
    assert [each.configuration.index for each in ranking(statuses)] == [2, 1, 4, 0, 5, 3]
    assert [each.accuracy for each in ranking(statuses)][:3] == [0.7, 0.8, 0.5], "a stopped one cannot win"


def test_epochs_left_are_those_of_all_rounds(one: Search, store: Store) -> None:
    """Six to 2 epochs, two from there to 6, one to the end."""
    assert assess(one, store)[1].epochs_left == 6 * 2 + 2 * 4 + 1 * 3
    advance(one, store, 2, FIRST)
    advance(one, store, 3, {1: 0.6})
    assert assess(one, store)[1].epochs_left == 3 + 4 + 3


def test_a_failure_frees_no_place_later_and_takes_none_before(one: Search, store: Store) -> None:
    """One that fails before the rung is left out of the count; one that fails after it keeps the place that it won."""
    store.record_failure(one.configurations[1].spec, "the loss is nan")
    advance(one, store, 2, {index: score for index, score in FIRST.items() if index != 1})
    assert following(one, store) == (6, [2, 4]), "of five, two go on"
    store.record_failure(one.configurations[4].spec, "the loss is nan")
    assert following(one, store) == (6, [2])
    assert standings(one, store) == ["stopped", "failed", "partial", "stopped", "failed", "stopped"]


def test_more_configurations_compete_with_the_scores_of_the_first(tmp_path: Path) -> None:
    """With ``--trials`` raised, earlier winners keep their scores at the rung, and only better ones join them."""
    few, many = planned(tmp_path, trials=3), planned(tmp_path, trials=6)
    store = Store.open(few.results_dir, create=True)
    advance(few, store, 2, {0: 0.3, 1: 0.5, 2: 0.4})
    advance(few, store, 6, {1: 0.6})
    advance(many, store, 2, {3: 0.1, 4: 0.6, 5: 0.2})
    assert following(many, store) == (6, [4])
    assert standings(many, store)[:3] == ["stopped", "partial", "stopped"]


@pytest.mark.parametrize("damage", ["", "{", '{"a": {"2": 7}}', None])
def test_lost_scores_leave_ahead_who_is_ahead(one: Search, store: Store, damage: str | None) -> None:
    """Without ``rungs.json`` a configuration that went on before goes on again; the others are compared."""
    advance(one, store, 2, FIRST)
    advance(one, store, 6, {2: 0.9})
    path = one.results_dir / SCORES_FILE
    path.unlink() if damage is None else path.write_text(damage)
    assert following(one, store) == (6, [1])


def test_a_score_that_cannot_be_read_is_not_trained_for_again(one: Search, store: Store) -> None:
    """A trial whose progress lacks its score is asked for it: it goes on from the rung, where it stops at once."""
    advance(one, store, 2, FIRST)
    (one.results_dir / SCORES_FILE).unlink()
    reach(store, one.configurations[3].spec, 2, 0.0, metrics=False)
    statuses, found = assess(one, store)
    assert [each.index for each in found.configurations] == [3]
    assert found.epochs_left == 2 * 4 + 3
    assert sum_of(statuses) == (12, pytest.approx(1.2))


def sum_of(statuses: list[Status]) -> tuple[int, float]:
    """Epochs and seconds of all."""
    return sum(one.epochs_done for one in statuses), sum(one.seconds for one in statuses)
