"""Settings of the wiring rules of the paper (free of torch); those of later methods are in ``later_rules``.

A plan is validated without loading torch: a rule's class is imported when it is built.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from dnw_core.config.rule_base import (
    Fraction,
    LayeredConfig,
    RankedConfig,
    RuleConfig,
    SparseConfig,
    StartsFrom,
    Variant,
)


class CompleteConfig(RuleConfig):
    """The dense graph: every usable slot is an edge."""

    edges_learned: ClassVar[bool] = False
    rule: Literal["complete"]
    implementation: ClassVar[str] = "dnw_core.wiring.rules.fixed:Complete"


class TopEdgesConfig(RankedConfig):
    """DNW: the k edges of largest magnitude, straight-through gradient to all (facts 1.1)."""

    rule: Literal["top-edges"]
    implementation: ClassVar[str] = "dnw_core.wiring.rules.top_edges:DiscoveringNeuralWirings"


class FixedRandomConfig(LayeredConfig):
    """Random graph: k edges drawn once, the mask never changes (facts 1.6)."""

    edges_learned: ClassVar[bool] = False
    rule: Literal["fixed-random"]
    implementation: ClassVar[str] = "dnw_core.wiring.rules.fixed:RandomGraph"
    eligible_slots: Variant = Field(
        default="reference",
        description="Q2: draw from the slots that the released code leaves eligible, or from the usable ones",
    )


class ConstantFanConfig(RuleConfig):
    """Fixed random edges, the same number at every neuron of a weight's smaller side: X-Nets (facts 4.2)."""

    edges_learned: ClassVar[bool] = False
    rule: Literal["constant-fan"]
    implementation: ClassVar[str] = "dnw_core.wiring.rules.fixed:ExpanderGraph"
    factor: int = Field(gt=0, description="a neuron of the smaller side has 1/factor of the larger as partners")


class NoUpdateConfig(RankedConfig):
    """The k edges of largest magnitude, but only these get a gradient (facts 4.1)."""

    rule: Literal["no-update"]
    implementation: ClassVar[str] = "dnw_core.wiring.rules.top_edges:NoUpdateRule"


class TargetedDropoutConfig(RankedConfig):
    """All but the k largest magnitudes are dropped at random in training, and always in evaluation (facts Q4, Q5)."""

    rule: Literal["targeted-dropout"]
    implementation: ClassVar[str] = "dnw_core.wiring.rules.targeted_dropout:TargetedDropout"
    drop_probability: Fraction = Field(default=0.95, description="rho: chance that a targeted edge is off in a step")
    weight_sign: Variant = Field(
        default="reference",
        description="Q4: the forward pass uses |w| (reference) or the weight with its sign (corrected)",
    )


class L1AnnealConfig(SparseConfig):
    """From the complete graph down to k edges by magnitude, with an L1 penalty on the edges (facts 4.1)."""

    rule: Literal["l1-anneal"]
    implementation: ClassVar[str] = "dnw_core.wiring.rules.l1_anneal:L1Anneal"
    l1_weight: float = Field(default=1e-5, ge=0, description="factor of the sum of |w| over the edges in the loss")
    anneal_start: Fraction = Field(default=0.0, description="share of the epochs after which pruning begins")
    anneal_end: Fraction = Field(default=0.5, description="share of the epochs after which k edges are left")
    exponent: float = Field(default=3.0, gt=0, description="of the pruning curve; 1: linear, 3: most of it early")

    @model_validator(mode="after")
    def _check_span(self) -> L1AnnealConfig:
        if self.anneal_start > self.anneal_end:
            raise ValueError(f"anneal_start ({self.anneal_start}) must not lie after anneal_end ({self.anneal_end})")
        return self


class LotteryTicketConfig(RankedConfig):
    """One-shot lottery ticket: the parent's k largest final magnitudes, trained from the start again (facts 4.1)."""

    needs_parent: ClassVar[bool] = True
    rule: Literal["lottery-ticket"]
    implementation: ClassVar[str] = "dnw_core.wiring.rules.inherited:LotteryTicket"


class FineTuneConfig(RankedConfig):
    """The parent's k largest final magnitudes, trained on from its final weights (facts 4.1)."""

    needs_parent: ClassVar[bool] = True
    starts_from: ClassVar[StartsFrom] = "parent"
    rule: Literal["fine-tune"]
    implementation: ClassVar[str] = "dnw_core.wiring.rules.inherited:FineTune"
