"""A clock that somebody sets while programs run: loaded by every Python process that has this folder on PYTHONPATH.

The wall clock is moved by the seconds in a file; the monotonic one is left alone, as the kernel leaves it. The methods
of ``datetime`` itself are replaced, not the class: compiled modules know that by its address.
"""

from __future__ import annotations

import ctypes
import datetime
import gc
import os
import pathlib
import time

_FILE = pathlib.Path(os.environ["DNW_FAULT_CLOCK"])
_time, _time_ns = time.time, time.time_ns


def _moved() -> float:
    return _time() + int(_FILE.read_text())


def _now(cls: type[datetime.datetime], tz: datetime.tzinfo | None = None) -> datetime.datetime:
    return cls.fromtimestamp(_moved(), tz)


def _utcnow(cls: type[datetime.datetime]) -> datetime.datetime:
    return cls.fromtimestamp(_moved(), datetime.UTC).replace(tzinfo=None)


def _replace_methods(kind: type, **methods: object) -> None:
    """Put methods into a built-in class, whose own dictionary stands behind a read-only view."""
    own = gc.get_referents(kind.__dict__)[0]
    own.update(methods)
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(kind))


time.time = _moved
time.time_ns = lambda: _time_ns() + int(_FILE.read_text()) * 10**9
_replace_methods(
    datetime.datetime, now=classmethod(_now), utcnow=classmethod(_utcnow), today=classmethod(lambda cls: _now(cls))
)
