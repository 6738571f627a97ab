"""The rules of a network, called together at the moments at which they may act.

For a training loop, ours or anybody's::

    wiring = Wiring(network, optimiser)
    wiring.begin(Run(epochs, steps_per_epoch))
    for epoch in range(epochs):
        for step, batch in enumerate(batches, start=epoch * steps_per_epoch):
            optimiser.zero_grad()
            with effective_weights():
                loss_of(network, batch).backward()
            wiring.before_step(step)
            optimiser.step()
            wiring.after_step(step)
        wiring.after_epoch(epoch)

The rules act on the weights' own storage and on the optimiser's state, without a gradient.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from dnw_core.wiring.rule import Attached, Run, WiringRule, attached_rules


class Wiring:
    """All rules of a network.

    Args:
        network: the module whose weights have rules.
        optimiser: trains them; None where nothing is trained (rules that read momentum then find none).
    """

    def __init__(self, network: nn.Module, optimiser: torch.optim.Optimizer | None = None) -> None:
        self.places = list(attached_rules(network, optimiser))

    def begin(self, run: Run) -> None:
        """Tell the rules how long the run is; also on resume."""
        for place in self.places:
            place.rule.begin(run)

    @torch.no_grad()
    def before_step(self, step: int) -> None:
        """When the gradients of step ``step`` are there, before the optimiser uses them."""
        for place in self.places:
            place.rule.before_step(place, step)
        for kind, places in self._by_class():
            kind.before_step_together(places, step)

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """After the optimiser's step ``step``, counted from 0 over the whole run."""
        for place in self.places:
            place.rule.after_step(place, step)
        for kind, places in self._by_class():
            kind.after_step_together(places, step)

    @torch.no_grad()
    def after_epoch(self, epoch: int) -> None:
        """At the end of epoch ``epoch``, before anything is evaluated."""
        for place in self.places:
            place.rule.after_epoch(place, epoch)
        for kind, places in self._by_class():
            kind.after_epoch_together(places, epoch)

    def edges(self) -> dict[str, Tensor]:
        """Return the current edges by the weights' names in the network.

        Raises:
            AssertionError: if a rule, or all rules of a class together, break their promise of a count.
        """
        found = {place.name: place.edges() for place in self.places}
        for kind, places in self._by_class():
            promised = kind.promised_together([place.rule for place in places])
            if promised is not None:
                edges = sum(int(found[place.name].count_nonzero()) for place in places)
                assert edges == promised, f"{edges} edges in all, {promised} promised by {kind.__name__}"
        return found

    def _by_class(self) -> Iterator[tuple[type[WiringRule], list[Attached]]]:
        kinds = dict.fromkeys(type(place.rule) for place in self.places)
        for kind in kinds:
            yield kind, [place for place in self.places if type(place.rule) is kind]
