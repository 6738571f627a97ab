"""What the settings of the wiring rules have in common (free of torch)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, model_validator
from typing_extensions import override

from dnw_core.config.base import Config
from dnw_core.config.budget import EdgeBudget

Density = Annotated[float, Field(gt=0.0, le=1.0, description="fraction of all slots of a graph that is kept")]
Width = Annotated[
    float,
    Field(
        gt=0.0,
        le=1.0,
        description="as many edges as the ordinary network of this width has in the graph's place (facts 2.2)",
    ),
]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Variant = Literal["reference", "corrected"]
StartsFrom = Literal["seed", "parent"]
Layers = Literal["uniform", "erk"]


class RuleConfig(Config):
    """What the settings of every rule have in common.

    Attributes:
        rule: the name in YAML and on the command line, a ``Literal`` field of each registered class.
        implementation: the rule's class, as ``package.module:Name``; a settings class that has one is registered.
        needs_parent: whether the rule takes something from a finished trial of another row.
        starts_from: the weights that training starts from: drawn from the seed, or the parent trial's last ones.
        edges_learned: whether training decides which edges the network ends with, here or in the parent's trial;
            else the seed alone does, and the network's cost is known before anything is trained.
        needs_momentum: whether the rule reads the optimiser's momentum.
        fixed_layer_sizes: whether the settings say how many edges each weight ends with; else training divides them.
    """

    if TYPE_CHECKING:
        rule: str
    implementation: ClassVar[str]
    needs_parent: ClassVar[bool] = False
    starts_from: ClassVar[StartsFrom] = "seed"
    edges_learned: ClassVar[bool] = True
    needs_momentum: ClassVar[bool] = False
    fixed_layer_sizes: ClassVar[bool] = True

    @property
    def budget(self) -> EdgeBudget | None:
        """How many edges are kept; None where the rule keeps all."""
        return None


class SparseConfig(RuleConfig):
    """Settings of a rule that keeps a fixed number of edges: give ``density`` or ``width``."""

    density: Density | None = None
    width: Width | None = None

    @model_validator(mode="after")
    def _check_budget(self) -> SparseConfig:
        if (self.density is None) == (self.width is None):
            raise ValueError("a rule that keeps some of the edges takes either density or width")
        return self

    @property
    @override
    def budget(self) -> EdgeBudget:
        return EdgeBudget(self.density, self.width)


class LayeredConfig(SparseConfig):
    """Settings of a rule whose edges may be divided unevenly among the weights of a network."""

    layers: Layers = Field(
        default="uniform",
        description="uniform: the density holds in every weight; erk: in the whole, each weight's share by "
        "Erdős–Rényi-kernel (facts 6)",
    )

    @model_validator(mode="after")
    def _check_layers(self) -> LayeredConfig:
        if self.layers == "erk" and self.density is None:
            raise ValueError("layers erk divides a density; give density instead of width")
        return self


class RankedConfig(SparseConfig):
    """Settings of a rule that keeps the k slots of largest magnitude."""

    ranked_slots: Variant = Field(
        default="reference",
        description="Q1, Q3: rank all slots of the weight (reference) or only those the forward pass reads (corrected)",
    )
