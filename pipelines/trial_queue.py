"""Which trial comes next: longest first, a child once its parent is done. Knows nothing of Ray.

Tune takes trials first come, first served. It is therefore given what can start now and one trial of each kind more,
which takes over the process of the next one that ends. A child whose parent has just finished is then not behind
hundreds of shorter trials, and nothing waits inside a worker.

A trial over several nodes reserves nothing with Tune: Ray Train claims its workers' places, all at once or none, when
it has begun. So it is handed out only when there is room for all of them, and no more of its kind than the nodes take
together. While the first one in line waits for room, other trials get what it leaves; else they would fill every gap,
and it would come last. Should its places be in pieces even so, it waits and holds nothing, and those that hold
something end by themselves: nothing hangs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipelines.progress import State
from pipelines.spec import Resources, TrialSpec

Room = tuple[float, float]  # CPUs and GPUs of all machines together

_SPARE = 1
_ROUNDING = 1e-6  # shares of a GPU are added up


class TrialQueue:
    """Hands out each trial once.

    Args:
        specs: the trials, in the order in which they should start.
        room: returns what all machines have; asked often, and it may grow.
        across_at_once: most trials over several nodes that are at work together.
    """

    def __init__(self, specs: Sequence[TrialSpec], room: Callable[[], Room], across_at_once: int = 1) -> None:
        self._room = room
        self._across_at_once = across_at_once
        self._specs = {spec.trial_id: spec for spec in specs}
        self._waiting = dict(self._specs)
        self._unfinished = set(self._specs)  # parents among these are waited for; any other one is in the store
        self._given: dict[str, bool] = {}  # handed out and not ended, in that order -> whether it has its process
        self._blocked: list[TrialSpec] = []

    @property
    def empty(self) -> bool:
        """Whether nothing is left to hand out, now or later."""
        return not self._waiting

    def next(self) -> TrialSpec | None:
        """Hand out a trial; None while there is no room, or only children are left whose parents are at work."""
        used, spare = self._in_use()
        across_left = self._across_at_once - sum(self._specs[key].resources.across_nodes for key in self._given)
        reserved = False
        for key, spec in self._waiting.items():
            across = spec.resources.across_nodes
            if spec.parent_id in self._unfinished or (across and across_left <= 0):
                continue
            fits = _fits(used, spec.resources, self._room())
            if fits or not self._given or not (across or reserved or spare.count(spec.resources) >= _SPARE):
                del self._waiting[key]
                self._given[key] = False
                return spec
            if across:  # the next one in line: what comes after it gets what it leaves
                used, reserved, across_left = _plus(used, spec.resources), True, 0
        return None

    def started(self, trial_id: str) -> None:
        """Note that a trial got its process."""
        self._given[trial_id] = True

    def died(self, trial_id: str) -> None:
        """Note that a trial lost its process and waits for another one."""
        self._given[trial_id] = False

    def ended(self, trial_id: str, state: State) -> None:
        """Note a trial's end. Unless it is done, nothing starts that needs it."""
        self._given.pop(trial_id, None)
        self._unfinished.discard(trial_id)
        if state == "done":
            return
        for key in [key for key, spec in self._waiting.items() if spec.parent_id == trial_id]:
            spec = self._waiting.pop(key)
            if state != "stopped":
                self._blocked.append(spec)
            self.ended(key, state)

    def take_blocked(self) -> list[TrialSpec]:
        """Return the trials that became blocked since the last call, each after what blocks it."""
        taken, self._blocked = self._blocked, []
        return taken

    def _in_use(self) -> tuple[Room, list[Resources]]:
        """Return what the trials use that run or can start now, and what the others ask for, which wait for them."""
        room = self._room()
        used = (0.0, 0.0)
        waiting = []
        for key, runs in self._given.items():
            if runs:
                used = _plus(used, self._specs[key].resources)
        for key, runs in self._given.items():
            asked = self._specs[key].resources
            if runs:
                continue
            if _fits(used, asked, room):
                used = _plus(used, asked)
            else:
                waiting.append(asked)
        return used, waiting


def _plus(used: Room, asked: Resources) -> Room:
    return used[0] + asked.cpus, used[1] + asked.gpus


def _fits(used: Room, asked: Resources, room: Room) -> bool:
    return all(wanted <= there + _ROUNDING for wanted, there in zip(_plus(used, asked), room, strict=True))
