"""The base of every network's settings (free of torch)."""

from __future__ import annotations

from pydantic import Field

from dnw_core.config import Config
from dnw_core.wiring.budget import GraphSize


class ImageNetworkConfig(Config):
    """What the settings of every network tell: the images it takes and the graphs it holds."""

    classes: int = Field(default=10, gt=1)
    image_size: int = Field(default=32, gt=0, description="pixels a side")

    def graph_sizes(self) -> list[GraphSize]:
        """The graphs and their slots, in the order of the forward pass."""
        raise NotImplementedError
