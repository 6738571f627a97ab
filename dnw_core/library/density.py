"""The density as a user gives it: any plain or NumPy number, and an answer to those who think in sparsities."""

from __future__ import annotations

import math
from fractions import Fraction
from numbers import Real
from typing import Any

import numpy as np
from torch import Tensor

from dnw_core.errors import UserError


def checked_density(rule: str, density: Any) -> float:
    """Return the density as a plain float.

    Raises:
        UserError: if there is none, or it is no number above 0 and at most 1.
    """
    if density is None:
        raise UserError(f"rule {rule!r} needs a density: the fraction of the weights that is kept")
    if isinstance(density, Tensor):
        raise UserError(
            "density is a Tensor; give a plain number (its item()): the fraction of the weights that is kept"
        )
    value = float(as_written(density)) if isinstance(density, Real) and not isinstance(density, bool) else math.nan
    if not 0 < value <= 1:
        raise UserError(
            f"density is {density!r}; it is the fraction of the weights that is kept, above 0 and at most 1"
        )
    return value


def as_written(value: Any) -> Any:
    """Return a NumPy number as the plain one that it was written as, anything else as it is.

    ``np.float32(0.1)`` is 0.1, which was meant, and not the 0.10000000149 that it holds.
    """
    if isinstance(value, np.floating):
        return float(str(value))
    return value.item() if isinstance(value, np.integer | np.bool_) else value


def instead_of_sparsity(sparsity: Any) -> str:
    """Return the end of a sentence for a user who gave the fraction that is taken away."""
    given = as_written(sparsity)
    if isinstance(given, int | float) and not isinstance(given, bool) and 0 <= given < 1:
        return f"density is 1 - sparsity: {float(1 - Fraction(repr(given))):.12g}"
    return "give density, which is 1 - sparsity"
