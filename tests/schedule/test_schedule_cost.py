"""What the driver does for one trial does not grow with the number of trials: counted, never timed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from support.stubs.specs import spec

from pipelines.driver.progress import Progress
from pipelines.schedule import queue as trial_queue
from pipelines.schedule.queue import TrialQueue
from pipelines.spec import Resources, TrialSpec

HERE = Path("/results")
KINDS = (
    Resources(cpus=1.0),
    Resources(cpus=0.5, gpus=1 / 3),
    Resources(cpus=4.0, gpus=2.0, workers=2, across_nodes=True),
)


def _many(number: int) -> list[TrialSpec]:
    first = [spec(HERE, f"row-{kind}") for kind in range(len(KINDS))]
    return [
        first[place % len(KINDS)].model_copy(update={"seed": place, "resources": KINDS[place % len(KINDS)]})
        for place in range(number)
    ]


def _calls(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> Counter[str]:
    """Count the calls of a function from now on."""
    counted: Counter[str] = Counter()
    function: Callable[..., Any] = getattr(owner, name)

    def counting(*arguments: Any) -> Any:
        counted[name] += 1
        return function(*arguments)

    monkeypatch.setattr(owner, name, counting)
    return counted


def test_handing_out_looks_at_one_trial_of_each_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run's questions to the queue take as many looks at 3,000 waiting trials as at 30."""
    looks = []
    for number in (30, 3000):
        queue = TrialQueue(_many(number), lambda: (6.0, 2.0))
        counted = _calls(monkeypatch, trial_queue, "_fits")
        for _ in range(12):
            trial = queue.next()
            if trial is not None:
                queue.started(trial.trial_id)
                queue.ended(trial.trial_id, "done")
            else:
                break
        first = [queue.next() for _ in range(20)]  # until it refuses, and then again and again
        assert first[-1] is None
        looks.append(counted["_fits"])
        monkeypatch.undo()
    assert looks[0] == looks[1]
    assert looks[0] > 20


class _PlainQueue:
    """The queue's rule as it is said: walk along the line and take the first trial that may start."""

    def __init__(self, specs: list[TrialSpec], room: tuple[float, float], across_at_once: int) -> None:
        self.waiting, self.room, self.across_at_once = list(specs), room, across_at_once
        self.given: dict[str, tuple[Resources, bool]] = {}
        self.unfinished = {one.trial_id for one in specs}

    def next(self) -> TrialSpec | None:
        used, spare = [0.0, 0.0], []
        for asked in [asked for asked, runs in self.given.values() if runs]:
            used = self._plus(used, asked)
        for asked in [asked for asked, runs in self.given.values() if not runs]:
            if self._fits(used, asked):
                used = self._plus(used, asked)
            else:
                spare.append(asked)
        left = self.across_at_once - sum(asked.across_nodes for asked, _ in self.given.values())
        reserved = False
        for one in self.waiting:
            asked = one.resources
            if one.parent_id in self.unfinished or (asked.across_nodes and left <= 0):
                continue
            extra = not (asked.across_nodes or reserved or asked in spare)
            if self._fits(used, asked) or not self.given or extra:
                self.waiting.remove(one)
                self.given[one.trial_id] = asked, False
                return one
            if asked.across_nodes:
                used, reserved, left = self._plus(used, asked), True, 0
        return None

    def ended(self, trial_id: str, state: str) -> None:
        self.given.pop(trial_id, None)
        self.unfinished.discard(trial_id)
        if state != "done":
            for child in [one for one in self.waiting if one.parent_id == trial_id]:
                self.waiting.remove(child)
                self.ended(child.trial_id, state)

    @staticmethod
    def _plus(used: list[float], asked: Resources) -> list[float]:
        return [used[0] + asked.cpus, used[1] + asked.gpus]

    def _fits(self, used: list[float], asked: Resources) -> bool:
        after = self._plus(used, asked)
        return all(wanted <= there + 1e-6 for wanted, there in zip(after, self.room, strict=True))


@pytest.mark.parametrize("seed", range(20))
def test_the_quick_queue_gives_what_the_plain_rule_gives(seed: int) -> None:
    """Parents and children, three kinds of trials, random ends: trial for trial the order is the plain rule's."""
    random = Random(seed)
    parents = [
        spec(HERE, f"parent-{place}").model_copy(update={"resources": random.choice(KINDS)}) for place in range(8)
    ]
    children = [
        spec(HERE, f"child-{place}", parent=random.choice(parents)).model_copy(
            update={"resources": random.choice(KINDS)}
        )
        for place in range(8)
    ]
    line = random.sample([*parents, *children], 16)
    room, across = random.choice([(4.0, 2.0), (9.0, 6.0)]), random.randint(1, 2)
    quick, plain = TrialQueue(line, lambda: room, across), _PlainQueue(line, room, across)
    starting: list[str] = []
    running: list[str] = []
    for _ in range(200):
        event = random.random()
        if event < 0.5:
            one = quick.next()
            assert one == plain.next()
            starting += [one.trial_id] if one is not None else []
        elif event < 0.75 and starting:
            running.append(starting.pop(random.randrange(len(starting))))
            quick.started(running[-1])
            plain.given[running[-1]] = plain.given[running[-1]][0], True
        elif running:
            trial_id, state = running.pop(random.randrange(len(running))), random.choice(["done", "done", "failed"])
            quick.ended(trial_id, state)  # type: ignore[arg-type]
            plain.ended(trial_id, state)
    assert quick.empty == (not plain.waiting and not plain.given)


def test_an_epoch_works_out_one_row_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 300 rows the display and the heartbeat work out the one that changed, and those that wait for it."""
    parents = [spec(HERE, f"parent-{place}", epochs=3) for place in range(150)]
    children = [spec(HERE, f"child-{place}", parent=parent) for place, parent in enumerate(parents)]
    progress = Progress([*parents, *children])
    counted = _calls(monkeypatch, Progress, "_row")
    assert len(progress.rows()) == 300
    assert counted["_row"] == 300
    progress.rows()
    assert counted["_row"] == 300
    progress.start(parents[7].trial_id)
    progress.epoch(parents[7].trial_id, 1, 0.5, 2.0)
    row, child = (next(one for one in progress.rows() if one.row == name) for name in ("parent-7", "child-7"))
    assert counted["_row"] == 302
    assert (row.running, row.epoch, row.accuracy, child.waits_for) == (1, 1, 0.5, "stub/parent-7")
    progress.end(parents[7].trial_id, "done")
    assert next(one for one in progress.rows() if one.row == "child-7").waits_for is None
    assert counted["_row"] == 304
    assert [progress.count(state) for state in ("done", "running", "waiting")] == [1, 0, 299]  # type: ignore[arg-type]
