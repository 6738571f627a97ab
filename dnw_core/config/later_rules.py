"""Settings of the methods that the paper's readers compare with: sparse momentum and later ones (facts 4.3, 6).

Free of torch. Moments of a run are shares of it, never steps or epochs, so that a schedule keeps its shape at every
scale. Papers give steps: 100 steps in 32,000, up to three quarters of the run, are 240 updates.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from dnw_core.config.rule_base import Density, Fraction, LayeredConfig, RuleConfig, SparseConfig


class SparseMomentumConfig(LayeredConfig):
    """Sparse Networks from Scratch: at every epoch's end drop small weights, regrow by momentum (facts 4.3)."""

    fixed_layer_sizes: ClassVar[bool] = False
    needs_momentum: ClassVar[bool] = True
    rule: Literal["sparse-momentum"]
    implementation: ClassVar[str] = "dnw_core.wiring.rules.sparse_momentum:SparseMomentum"
    drop_fraction: Fraction = Field(default=0.5, description="share of a weight's edges dropped at the first step")
    last_drop_fraction: Fraction = Field(default=0.005, description="at the last step; in between half a cosine")


class DropAndGrowConfig(LayeredConfig):
    """Settings of a rule that now and then drops its smallest edges and grows as many others."""

    drop_fraction: Fraction = Field(default=0.3, description="share of the edges dropped at first; a cosine to zero")
    updates: int = Field(default=240, gt=0, description="times that edges are exchanged, at most every tenth step")
    updates_end: Fraction = Field(default=0.75, description="share of the run after which the edges stay")


class SetConfig(DropAndGrowConfig):
    """SET: drop the smallest magnitudes, grow at random (facts 6)."""

    rule: Literal["set"]
    implementation: ClassVar[str] = "dnw_core.wiring.rules.drop_and_grow:SparseEvolutionaryTraining"


class RigLConfig(DropAndGrowConfig):
    """RigL: drop the smallest magnitudes, grow where the gradient is largest (facts 6)."""

    rule: Literal["rigl"]
    implementation: ClassVar[str] = "dnw_core.wiring.rules.drop_and_grow:RigL"


class GradualPruningConfig(LayeredConfig):
    """GMP: from the complete graph down to k edges by magnitude, on a cubic schedule (facts 6)."""

    rule: Literal["gradual-pruning"]
    implementation: ClassVar[str] = "dnw_core.wiring.rules.gradual_pruning:GradualMagnitudePruning"
    prune_start: Fraction = Field(default=0.05, description="share of the run after which pruning begins")
    prune_end: Fraction = Field(default=0.7, description="share of the run after which k edges are left")
    updates: int = Field(default=100, gt=0, description="times that edges are selected anew in between")
    exponent: float = Field(default=3.0, gt=0, description="of the pruning curve")

    @model_validator(mode="after")
    def _check_span(self) -> GradualPruningConfig:
        if self.prune_start > self.prune_end:
            raise ValueError(f"prune_start ({self.prune_start}) must not lie after prune_end ({self.prune_end})")
        return self


class SnipConfig(SparseConfig):
    """SNIP: one mask from the first batch, by |weight x gradient| over all weights together (facts 6)."""

    fixed_layer_sizes: ClassVar[bool] = False
    rule: Literal["snip"]
    implementation: ClassVar[str] = "dnw_core.wiring.rules.snip:Snip"


class SoftThresholdConfig(RuleConfig):
    """STR: sign(w) max(|w| - sigmoid(s), 0), s learned for each weight; the count comes out of training (facts 6)."""

    fixed_layer_sizes: ClassVar[bool] = False
    rule: Literal["soft-threshold"]
    implementation: ClassVar[str] = "dnw_core.wiring.rules.soft_threshold:SoftThresholdReparameterization"
    initial_threshold: float = Field(
        default=-3200.0, description="s at the start; weight decay draws it to zero, where half of the range is cut"
    )


class AcDcConfig(SparseConfig):
    """AC/DC: dense and sparse phases in turn, the edges by magnitude over all weights together (facts 6)."""

    fixed_layer_sizes: ClassVar[bool] = False
    rule: Literal["ac-dc"]
    implementation: ClassVar[str] = "dnw_core.wiring.rules.ac_dc:AcDc"
    warmup_share: Fraction = Field(default=0.1, description="share of the epochs before the first sparse phase")
    phase_share: float = Field(default=0.05, gt=0, le=1, description="share of the epochs that each phase takes")
    last_sparse_share: Fraction = Field(default=0.15, description="share of the epochs of the last, sparse phase")

    @model_validator(mode="after")
    def _check_shares(self) -> AcDcConfig:
        if self.warmup_share + self.last_sparse_share > 1:
            raise ValueError(
                f"warmup_share ({self.warmup_share}) and last_sparse_share ({self.last_sparse_share}) exceed the run"
            )
        return self


class EdgePopupConfig(SparseConfig):
    """Edge-popup: weights stay as they were drawn, scores are learned and the k largest are edges (facts 6)."""

    rule: Literal["edge-popup"]
    implementation: ClassVar[str] = "dnw_core.wiring.rules.edge_popup:EdgePopup"
    frozen_weights: Literal["drawn", "signed-constant"] = Field(
        default="drawn",
        description="drawn: as the network initialises them; signed-constant: their signs times sqrt(2 / fan-in)",
    )


class TopKastConfig(LayeredConfig):
    """Top-KAST: the k largest magnitudes in the forward pass, a gradient for a larger set (facts 6)."""

    rule: Literal["top-kast"]
    implementation: ClassVar[str] = "dnw_core.wiring.rules.top_kast:TopKast"
    backward_density: Density = Field(description="fraction of the slots that get a gradient; at least density")
    exploration_decay: float = Field(
        default=1e-4,
        ge=0,
        description="L2 decay of the edges, in place of SGD's; of the others with a gradient, this over density",
    )

    @model_validator(mode="after")
    def _check_backward(self) -> TopKastConfig:
        if self.density is None:
            raise ValueError("top-kast takes density, not width")
        if self.backward_density < self.density:
            raise ValueError(f"backward_density ({self.backward_density}) is below density ({self.density})")
        return self
