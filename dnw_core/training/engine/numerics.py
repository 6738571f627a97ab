"""Process-wide numerical settings of a trial: threads, precision, determinism."""

from __future__ import annotations

import ctypes
import gc
import sys
import warnings
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from dnw_core.config import Precision


def set_numerics(precision: Precision, device: torch.device, threads: int) -> None:
    """Set threads and the precision of float32 products, regardless of what ran in this process before.

    On a CPU results depend on the number of threads, so it is recorded and kept on resume. PyTorch's own default
    lets cuDNN round float32 convolutions to TF32; ``fp32`` here means float32.
    """
    torch.set_num_threads(threads)
    tf32 = precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = device.type == "cuda"
    if tf32 and device.type != "cuda":
        warnings.warn(f"precision tf32 exists on CUDA devices only; on {device.type} it is fp32", stacklevel=2)


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Return the context in which the network runs: bf16 rounds operands of products, nothing else."""
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h


def tune_malloc() -> None:
    """Let glibc keep freed blocks of up to a gigabyte for their next use."""
    mallopt = _glibc("mallopt")
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def release_freed_memory() -> None:
    """Return kept memory to the kernel, between two trials of one process."""
    gc.collect()
    trim = _glibc("malloc_trim")
    if trim is not None:
        trim(0)


def _glibc(name: str) -> Any:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None
