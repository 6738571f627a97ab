"""The base of every network's settings (free of torch)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from dnw_core.config.base import Config
from dnw_core.config.budget import GraphSize


class ImageNetworkConfig(Config):
    """What the settings of every network tell: the images it takes and the graphs it holds.

    Attributes:
        kind: the name in YAML, a ``Literal`` field of each registered class.
        implementation: the network's class, as ``package.module:Name``; a settings class that has one is registered.
        cost_includes_norms: whether papers count norms and biases among the network's parameters; of graph networks
            they count neither, nor what is dead (facts 2.3).
        cost_needs_counts_only: whether parameters and multiply-adds follow from the number of edges of each graph,
            whichever edges they are.
    """

    if TYPE_CHECKING:
        kind: str
    implementation: ClassVar[str]
    cost_includes_norms: ClassVar[bool] = False
    cost_needs_counts_only: ClassVar[bool] = False
    classes: int = Field(default=10, gt=1)
    image_size: int = Field(default=32, gt=0, description="pixels a side")

    def graph_sizes(self) -> list[GraphSize]:
        """The graphs and their slots, in the order of the forward pass."""
        raise NotImplementedError
