"""The scales a row can be trained at."""

from __future__ import annotations

from typing import Literal, get_args

Scale = Literal["smoke", "short", "paper"]
SCALES: tuple[Scale, ...] = get_args(Scale)
