"""How long a run is, which the schedules of the rules are shares of."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral

from dnw_core.errors import UserError


@dataclass(frozen=True)
class Run:
    """How long a run is.

    Attributes:
        epochs: of the whole run.
        steps_per_epoch: optimiser steps in each.

    Raises:
        UserError: if one of the two is not a whole number above 0.
    """

    epochs: int
    steps_per_epoch: int

    def __post_init__(self) -> None:
        for name, what in (("epochs", "epochs"), ("steps_per_epoch", "optimiser steps in an epoch")):
            value = getattr(self, name)
            if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
                raise UserError(
                    f"Run's {name} is {value!r}; it is the number of {what}, a whole number (int) of at least 1"
                )

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.epochs * self.steps_per_epoch
