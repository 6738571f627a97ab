"""How the tests share the machine: one thread each, and files with slow tests first."""

from __future__ import annotations

import os

import pytest

# before torch is imported: the processes of pytest-xdist have a core each, and two threads on it wait for each other
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that hold tests marked slow first, in their order, so that no process is left with them at the end.

    Works with ``--no-loadscope-reorder`` (pyproject.toml): xdist would begin with the files of the most tests, and the
    slow ones have few.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
