"""Settings of the wiring rules, and the line that registers each of them.

Free of torch, so that a plan can be validated without loading it. A rule's class stands in its own file
and is imported when it is built.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dnw_core.config import Config

Density = Annotated[float, Field(gt=0.0, le=1.0, description="fraction of edges kept")]
Variant = Literal["reference", "corrected"]


class TopEdgesConfig(Config):
    """DNW: the k edges of largest magnitude, straight-through gradient to all (facts 1.1)."""

    rule: Literal["top-edges"]
    density: Density
    ranked_slots: Variant = Field(
        default="reference",
        description="Q1: rank all slots of the matrix (reference) or only those the forward pass reads (corrected)",
    )


class FixedRandomConfig(Config):
    """Random graph: k edges drawn once, the mask never changes (facts 1.6)."""

    rule: Literal["fixed-random"]
    density: Density
    eligible_slots: Variant = Field(
        default="reference",
        description="Q2: draw from the slots that the released code leaves eligible, or from the usable ones",
    )


WiringConfig = Annotated[TopEdgesConfig | FixedRandomConfig, Field(discriminator="rule")]

# rule name -> where its class stands; a new rule adds its configuration to the union above and a line here
RULE_CLASSES: dict[str, str] = {
    "top-edges": "dnw_core.wiring.top_edges:TopEdges",
    "fixed-random": "dnw_core.wiring.fixed_random:FixedRandom",
}
