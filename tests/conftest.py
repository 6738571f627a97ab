"""The order of the tests: files with slow ones first, so that no process is left with them at the end."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that hold tests marked slow first, in their order; the others after them.

    Works with ``--no-loadscope-reorder`` (pyproject.toml): xdist would begin with the files of the most tests, and the
    slow ones have few.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
