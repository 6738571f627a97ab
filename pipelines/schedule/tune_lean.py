"""What Tune does in the driver and nothing here ever uses, left out while an experiment runs.

With trials that do nothing it took a third of what Tune costs the driver (docs/scaling.md):

* Tune asks the cluster's head four to five times for each trial which class trains it. The answer is always the same.
* At its end it writes the state of all trials, from which a later Tune could go on. No run of Tune's is ever restored.
* It loads MLflow, Weights & Biases and the like, to count for Ray's usage report which callbacks there are. That report
  is off.

All three are Ray's inner affairs. Where another version of Ray has no such name, nothing is left out and all is as it
was, only slower; a test says so for the version that is installed.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_ABSENT = object()


@contextlib.contextmanager
def lean_tune() -> Iterator[None]:
    """Leave it out for the block; Ray must have been started."""
    registry = _module("ray.tune.registry")
    controller = getattr(_module("ray.tune.execution.tune_controller"), "TuneController", None)
    write_state = getattr(controller, "checkpoint", _ABSENT)

    def write_state_once(controller: Any, force: bool = False, wait: bool = False) -> None:
        """Write when it is due (TUNE_GLOBAL_CHECKPOINT_S), to the end: Tune's last act is to look for the file.

        Tune insists on writing it just before that, which is needed only where it could not be written before.
        """
        if not force or not any(Path(controller.experiment_path).glob("experiment_state-*")):
            write_state(controller, force=force, wait=True)  # type: ignore[operator]

    with (
        _instead_of(registry, "_global_registry", _Remembering(getattr(registry, "_global_registry", None))),
        _instead_of(controller, "checkpoint", write_state_once),
        _instead_of(_module("ray.air._internal.usage"), "tag_callbacks", lambda callbacks: False),
    ):
        yield


def _module(name: str) -> Any:
    """Return a module; None where there is none of that name."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


@contextlib.contextmanager
def _instead_of(owner: Any, name: str, value: object) -> Iterator[None]:
    """Put a value in another one's place for the block, where there is one."""
    before = getattr(owner, name, _ABSENT)
    if before is _ABSENT:
        yield
        return
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


class _Remembering:
    """Tune's registry of trainables, which lies with the cluster's head, asked once for each."""

    def __init__(self, registry: Any) -> None:
        self._registry = registry
        self._known: dict[tuple[str, str], Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._registry, name)

    def register(self, category: str, key: str, value: Any) -> None:
        self._known.pop((category, key), None)
        self._registry.register(category, key, value)

    def contains(self, category: str, key: str) -> bool:
        return (category, key) in self._known or bool(self._registry.contains(category, key))

    def get(self, category: str, key: str) -> Any:
        if (category, key) not in self._known:
            self._known[category, key] = self._registry.get(category, key)
        return self._known[category, key]
