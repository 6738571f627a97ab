"""Reports without figures, for the tests of texts and data files."""

from __future__ import annotations

import pytest

from reports import build


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw nothing: drawing takes seconds."""
    monkeypatch.setattr(build, "table_pictures", lambda *_: [])
    monkeypatch.setattr(build, "wiring_picture", lambda source, target, **_: target)
