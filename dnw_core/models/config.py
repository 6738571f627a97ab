"""Settings of the networks, and the line that registers each of them (free of torch)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from dnw_core.config import Config
from dnw_core.wiring.config import Variant


class TinyConfig(Config):
    """What the three tiny classifiers have in common (facts 1.2): one graph of 800 nodes at 8x8 pixels."""

    nodes: int = Field(default=800, gt=0, description="channels of the state")
    input_nodes: int = Field(default=32, gt=0, description="nodes that the stem writes")
    output_nodes: int = Field(default=100, gt=0, description="last nodes, read by the classifier")
    classes: int = Field(default=10, gt=1)
    image_size: int = Field(default=32, gt=0, description="pixels a side; the graph works at a quarter of it")
    readout_crop: Variant = Field(
        default="reference",
        description="Q8: average rows and columns 2-3 of the 8x8 map (reference) or the true centre 3-4",
    )

    @model_validator(mode="after")
    def _check_sizes(self) -> TinyConfig:
        if self.input_nodes + self.output_nodes > self.nodes:
            raise ValueError(
                f"input_nodes + output_nodes is {self.input_nodes + self.output_nodes}, more than nodes ({self.nodes})"
            )
        if self.image_size % 4 or self.image_size < 32:
            raise ValueError(f"image_size is {self.image_size}; it must be a multiple of 4 and at least 32")
        return self


class TinyStaticConfig(TinyConfig):
    """Feed-forward: blocks of nodes in order, each feeding all later ones (facts 1.5)."""

    kind: Literal["tiny-static"]
    block_nodes: int = Field(default=192, gt=0, description="nodes of a block after the input block")


class TinyDiscreteConfig(TinyConfig):
    """Discrete time: the same graph applied several times (facts 1.3)."""

    kind: Literal["tiny-discrete"]
    steps: int = Field(default=5, gt=0, description="applications of the graph")


class TinyContinuousConfig(TinyConfig):
    """Continuous time: dZ/dt is the graph's output, integrated from 0 to 1 by dopri5 (facts 1.4)."""

    kind: Literal["tiny-continuous"]
    rtol: float = Field(default=1e-3, gt=0)
    atol: float = Field(default=1e-3, gt=0)
    ode_start: Variant = Field(
        default="reference",
        description="Q9: clamp the start state at zero, as the in-place ReLU does (reference), or leave it",
    )


NetworkConfig = Annotated[
    TinyStaticConfig | TinyDiscreteConfig | TinyContinuousConfig,
    Field(discriminator="kind"),
]

# network kind -> where its class stands; a new network adds its configuration to the union and a line here
NETWORK_CLASSES: dict[str, str] = {
    "tiny-static": "dnw_core.models.tiny_static:TinyStatic",
    "tiny-discrete": "dnw_core.models.tiny_discrete:TinyDiscrete",
    "tiny-continuous": "dnw_core.models.tiny_continuous:TinyContinuous",
}
