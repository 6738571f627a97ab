"""Leaving Ray while other threads are at work: see ``pipelines.cluster.connection.shut_down``."""

from __future__ import annotations

import gc
import sys
import weakref
from types import SimpleNamespace

import pytest

from pipelines.cluster.connection import shut_down


class Handle:
    """A handle in a circle, as Tune leaves them behind: only the garbage collector frees it."""

    def __init__(self) -> None:
        self.circle = self


def test_handles_are_collected_before_the_shutdown_and_none_during_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handle that another thread collected during the shutdown would end the process."""
    left = weakref.ref(Handle())
    seen: list[tuple[bool, bool]] = []
    ray = SimpleNamespace(shutdown=lambda: seen.append((left() is None, gc.isenabled())))
    monkeypatch.setitem(sys.modules, "ray", ray)
    shut_down()
    assert seen == [(True, False)]
    assert gc.isenabled()


def test_collecting_goes_on_after_a_shutdown_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """And stays off where it was off."""

    def fail() -> None:
        raise OSError("the raylet is gone")

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(shutdown=fail))
    with pytest.raises(OSError, match="raylet"):
        shut_down()
    assert gc.isenabled()
    gc.disable()
    try:
        with pytest.raises(OSError, match="raylet"):
            shut_down()
        assert not gc.isenabled()
    finally:
        gc.enable()
