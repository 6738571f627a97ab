"""An empty MLflow database, made once: making the tables takes seconds, copying them does not."""

from __future__ import annotations

import pytest

from pipelines.tracking import database


@pytest.fixture(scope="session")
def empty_database() -> bytes:
    """The content of a fresh MLflow database."""
    return database.empty_database()
