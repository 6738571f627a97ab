"""The one-shot lottery ticket: the trained network's largest weights, trained again from the beginning (facts 4.1)."""

from __future__ import annotations

from dnw_core.wiring.inherited import InheritedEdges


class LotteryTicket(InheritedEdges):
    """The parent's k largest final magnitudes; training starts from the weights that the parent started from.

    These are drawn from the seed, which is the parent's; ``LotteryTicketConfig.starts_from`` says so.
    """
