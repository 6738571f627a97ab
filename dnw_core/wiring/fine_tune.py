"""Fine-tuning: the trained network's largest weights, trained on from where they are (facts 4.1)."""

from __future__ import annotations

from dnw_core.wiring.inherited import InheritedEdges


class FineTune(InheritedEdges):
    """The parent's k largest final magnitudes; training starts from its final state.

    ``FineTuneConfig.starts_from`` says so, and the training code loads that state.
    """
