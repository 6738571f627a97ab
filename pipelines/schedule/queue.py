"""Which trial comes next: longest first, a child once its parent is done. Knows nothing of Ray.

Tune starts trials first come, first served. So it gets what can start now and one more trial of each kind, which takes
over the process of the next one that ends. A child whose parent has just finished is then not behind hundreds of
shorter trials, and nothing waits inside a worker.

A trial over several nodes reserves nothing with Tune: Ray Train claims its workers' places, all at once or none, when
it has begun. So it is handed out only when there is room for all of them, and no more of its kind than the nodes take
together. While the first one in line waits for room, other trials get what it leaves; else they would fill every gap,
and it would come last. Should the free places be too small for its workers even so, it waits and holds nothing, and
trials that hold something end by themselves: nothing hangs.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Sequence

from pipelines.driver import ProgressState
from pipelines.spec import Resources, Room, TrialSpec

_SPARE = 1
_ROUNDING = 1e-6  # shares of a GPU are added up


class TrialQueue:
    """Hands out each trial once, and one that lost its process again, before those that have not begun.

    What is asked often takes as long for ten thousand trials as for ten: of trials that ask for the same, only the
    first one that can start is looked at.

    Args:
        specs: the trials, in the order in which they should start.
        room: returns what all machines have; asked often, and it may grow.
        across_at_once: how many trials over several nodes may run at the same time.
    """

    def __init__(self, specs: Sequence[TrialSpec], room: Callable[[], Room], across_at_once: int = 1) -> None:
        self._room = room
        self._across_at_once = across_at_once
        self._specs = {spec.trial_id: spec for spec in specs}
        self._places = {trial_id: place for place, trial_id in enumerate(self._specs)}  # the lowest is next
        self._first = 0  # the lowest place given away so far
        self._unfinished = set(self._specs)  # a parent that is not among these is in the store
        self._waiting = set(self._specs)
        self._children: dict[str, list[str]] = {}
        self._ready: dict[Resources, list[tuple[int, str]]] = {}  # what can start, by what it asks for: heaps
        self._starting: dict[str, Resources] = {}  # handed out and without a process, in that order
        self._running: dict[str, Resources] = {}
        self._in_work: Counter[Resources] = Counter()  # of those with a process
        self._blocked: list[TrialSpec] = []
        for trial_id, spec in self._specs.items():
            if spec.parent_id in self._unfinished:
                self._children.setdefault(spec.parent_id or "", []).append(trial_id)
            else:
                self._make_ready(trial_id)

    @property
    def empty(self) -> bool:
        """Whether nothing is left to hand out, now or later: a trial that runs may have to be handed out again."""
        return not self._waiting and not self._starting and not self._running

    def next(self) -> TrialSpec | None:
        """Hand out a trial; None while there is no room, or only children are left whose parents run."""
        room = self._room()
        used, spare = self._in_use(room)
        across_left = self._across_at_once - sum(asked.across_nodes for asked in self._starting.values())
        across_left -= sum(number for asked, number in self._in_work.items() if asked.across_nodes)
        reserved, alone = False, not self._starting and not self._running
        for _, trial_id, asked in sorted((*heap[0], asked) for asked, heap in self._ready.items()):
            across = asked.across_nodes
            if across and across_left <= 0:
                continue
            fits = _fits(used, asked, room)
            if fits or alone or not (across or reserved or spare[asked] >= _SPARE):
                return self._hand_out(trial_id, asked)
            if across:  # the next one in line: what comes after it gets what it leaves
                used, reserved, across_left = _plus(used, asked), True, 0
        return None

    def started(self, trial_id: str) -> None:
        """Note that a trial got its process."""
        asked = self._starting.pop(trial_id, None)
        if asked is not None:
            self._running[trial_id] = asked
            self._in_work[asked] += 1

    def resources(self, trial_id: str) -> Resources:
        """Return what a trial asks for now."""
        return self._specs[trial_id].resources

    def requeue(self, trial_id: str, resources: Resources | None = None) -> None:
        """Take back a trial that lost its process; it is the next one, with other resources if any are given."""
        self._release(trial_id)
        if resources is not None:
            self._specs[trial_id] = self._specs[trial_id].model_copy(update={"resources": resources})
        self._first -= 1
        self._places[trial_id] = self._first
        self._waiting.add(trial_id)
        self._make_ready(trial_id)

    def ended(self, trial_id: str, state: ProgressState) -> None:
        """Note a trial's end. Unless it is done, nothing starts that needs it."""
        self._release(trial_id)
        self._unfinished.discard(trial_id)
        for child in self._children.pop(trial_id, ()):
            if state == "done":
                self._make_ready(child)
                continue
            self._waiting.discard(child)
            if state != "stopped":
                self._blocked.append(self._specs[child])
            self.ended(child, state)

    def take_blocked(self) -> list[TrialSpec]:
        """Return the trials that became blocked since the last call, each after what blocks it."""
        taken, self._blocked = self._blocked, []
        return taken

    def _make_ready(self, trial_id: str) -> None:
        heap = self._ready.setdefault(self._specs[trial_id].resources, [])
        heapq.heappush(heap, (self._places[trial_id], trial_id))

    def _hand_out(self, trial_id: str, asked: Resources) -> TrialSpec:
        heapq.heappop(self._ready[asked])
        if not self._ready[asked]:
            del self._ready[asked]
        self._waiting.discard(trial_id)
        self._starting[trial_id] = asked
        return self._specs[trial_id]

    def _release(self, trial_id: str) -> None:
        """Forget that a trial runs."""
        self._starting.pop(trial_id, None)
        asked = self._running.pop(trial_id, None)
        if asked is not None:
            self._in_work[asked] -= 1
            if not self._in_work[asked]:
                del self._in_work[asked]

    def _in_use(self, room: Room) -> tuple[Room, Counter[Resources]]:
        """Return what trials use that run or can start now, and how many wait for these, by what they ask for."""
        used = (
            math.fsum(asked.cpus * number for asked, number in self._in_work.items()),
            math.fsum(asked.gpus * number for asked, number in self._in_work.items()),
        )
        waiting: Counter[Resources] = Counter()
        for asked in self._starting.values():
            if _fits(used, asked, room):
                used = _plus(used, asked)
            else:
                waiting[asked] += 1
        return used, waiting


def _plus(used: Room, asked: Resources) -> Room:
    return used[0] + asked.cpus, used[1] + asked.gpus


def _fits(used: Room, asked: Resources, room: Room) -> bool:
    return all(wanted <= there + _ROUNDING for wanted, there in zip(_plus(used, asked), room, strict=True))
