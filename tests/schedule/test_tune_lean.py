"""What Tune does in the driver and nobody uses is left out while an experiment runs, where there is such a thing."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines.schedule.tune_lean import lean_tune

# ray is loaded within the tests: it reads its environment then, and other tests of this process need another one


class _Registry:
    """A registry that counts what it is asked."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.values: dict[tuple[str, str], Any] = {}

    def register(self, category: str, key: str, value: Any) -> None:
        self.values[category, key] = value

    def contains(self, category: str, key: str) -> bool:
        self.asked["contains"] += 1
        return (category, key) in self.values

    def get(self, category: str, key: str) -> Any:
        self.asked["get"] += 1
        return self.values[category, key]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> _Registry:
    """Tune's registry, which needs no Ray and counts."""
    from ray.tune import registry

    there = _Registry()
    monkeypatch.setattr(registry, "_global_registry", there)
    return there


def test_the_head_is_asked_once_for_the_trainable(counted: _Registry) -> None:
    """However many trials ask Tune what trains them; one that is registered anew is the new one."""
    from ray.tune import registry

    counted.register(registry.TRAINABLE_CLASS, "trains", int)
    with lean_tune():
        assert [registry.get_trainable_cls("trains") for _ in range(5)] == [int] * 5
        assert counted.asked == {"contains": 1, "get": 1}
        registry._global_registry.register(registry.TRAINABLE_CLASS, "trains", str)
        assert registry.get_trainable_cls("trains") is str
        with pytest.raises(Exception, match="Unknown trainable: other"):
            registry.validate_trainable("other")
    assert registry._global_registry is counted
    assert registry.get_trainable_cls("trains") is str
    assert counted.asked["get"] == 3, "remembered after the block"


def test_the_state_of_all_trials_is_written_only_when_due(tmp_path: Path) -> None:
    """Tune asks for it at each step, to judge itself whether it is due, and insists on it at the end, where it then
    looks for the file: what is due is seen through, and the end writes it only if it is not there."""
    from ray.tune.execution.tune_controller import TuneController

    asked: list[dict[str, Any]] = []
    manager = SimpleNamespace(sync_up_experiment_state=lambda **how: asked.append(how))
    controller: Any = SimpleNamespace(_checkpoint_manager=manager, save_to_dir=None, experiment_path=str(tmp_path))
    before = TuneController.checkpoint
    due, at_the_end = ({"save_fn": None, "force": force, "wait": True} for force in (False, True))
    with lean_tune():
        TuneController.checkpoint(controller)
        assert asked == [due]
        TuneController.checkpoint(controller, force=True, wait=True)
        assert asked == [due, at_the_end], "it could not be written"
        (tmp_path / TuneController.CKPT_FILE_TMPL.format("now")).touch()
        TuneController.checkpoint(controller, force=True, wait=True)
        assert asked == [due, at_the_end]
    assert TuneController.checkpoint is before


def test_no_callbacks_are_counted_for_the_usage_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting them would load MLflow into the driver. Tune calls what is replaced."""
    from ray.air._internal import usage
    from ray.tune import tune

    monkeypatch.setattr(usage, "_count_callbacks", lambda callbacks: pytest.fail("they were counted"))
    with lean_tune():
        tune.air_usage.tag_callbacks([])


def test_another_ray_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where these inner names or modules do not exist nothing is put there, and nothing fails."""
    from ray.air._internal import usage
    from ray.tune import registry
    from ray.tune.execution.tune_controller import TuneController

    for module in ("ray.air._internal.usage", "ray.tune.execution.tune_controller"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, module, None)  # cannot be imported
            with lean_tune():
                pass
    for owner, name in ((registry, "_global_registry"), (usage, "tag_callbacks"), (TuneController, "checkpoint")):
        monkeypatch.delattr(owner, name)
    with lean_tune():
        assert not hasattr(registry, "_global_registry")
    assert not hasattr(usage, "tag_callbacks")


def test_an_error_in_the_experiment_puts_all_back() -> None:
    """As Ctrl-C does, which ends an experiment from within."""
    from ray.tune import registry

    before = registry._global_registry
    with pytest.raises(KeyboardInterrupt), lean_tune():
        raise KeyboardInterrupt
    assert registry._global_registry is before
