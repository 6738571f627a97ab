"""What the three parts of the driver that Tune is handed have in common."""

from __future__ import annotations

from typing import Any


class DriverOnly:
    """Stays in the driver: Tune pickles and copies its arguments for a restore that is never used."""

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return object, ()

    def __deepcopy__(self, memo: dict[int, Any]) -> DriverOnly:
        return self
