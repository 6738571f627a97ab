"""What the C library's allocator does with memory that a training step frees (glibc; elsewhere nothing happens).

A step frees and takes the same tensors of some ten megabytes again and again. By default glibc returns them to the
kernel each time, and fetching their pages anew takes a sixth of the step (docs/measurements.md). No number changes.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from typing import Any

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h


def keep_freed_memory() -> None:
    """Let blocks of up to a gigabyte be kept for the next use when they are freed."""
    mallopt = _glibc("mallopt")
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def release_freed_memory() -> None:
    """Return what is kept to the kernel: between two trials of one process."""
    gc.collect()
    trim = _glibc("malloc_trim")
    if trim is not None:
        trim(0)


def _glibc(name: str) -> Any:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None
