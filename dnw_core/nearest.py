"""Hints for a name that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_LISTED = 12


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` for the most similar known name, whatever its case; empty if none is similar."""
    folded = {candidate.lower(): candidate for candidate in sorted(set(known))}
    similar = difflib.get_close_matches(name.lower(), list(folded), n=1, cutoff=0.5)
    return f"; did you mean {folded[similar[0]]!r}?" if similar else ""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the hint of ``did_you_mean``, or ``; known: x, y`` when no known name is similar."""
    names = sorted(set(known))
    if (hint := did_you_mean(name, names)) or not names:
        return hint
    listed = ", ".join(names[:_LISTED]) + (", …" if len(names) > _LISTED else "")
    return f"; known: {listed}"
