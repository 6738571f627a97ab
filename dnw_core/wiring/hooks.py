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

from dnw_core.errors import UserError
from dnw_core.wiring.needs import check_optimiser, refuse_missing_momentum, warn_of_no_gradient
from dnw_core.wiring.rule import AttachedRule, Run, WiringRule, attached_rules
from dnw_core.wiring.sharded import refuse_sharded


class Wiring:
    """All rules of a network.

    Args:
        network: the module whose weights have rules.
        optimiser: trains them; None where nothing is trained (rules that read momentum then find none).
    """

    def __init__(self, network: nn.Module, optimiser: torch.optim.Optimizer | None = None) -> None:
        self.places = list(attached_rules(network, optimiser))
        self.network, self.optimiser = network, optimiser
        self._checked = False
        self._told = False

    def begin(self, run: Run) -> None:
        """Tell the rules how long the run is; also on resume. A run that outlasts it stays as it then is.

        Raises:
            UserError: if a rule cannot act with this optimiser, or without one, or on shards (FSDP2), if rules were
                attached or taken off since the ``Wiring`` was made, or the edges are those of a state with another
                number of them.
        """
        if [place.rule for place in self.places] != [place.rule for place in attached_rules(self.network)]:
            raise UserError(
                "rules were attached or taken off after this Wiring was made, so make a new one: Wiring(...)"
            )
        self._check()
        self._refuse_other_counts()
        self.announce(run)

    def announce(self, run: Run) -> None:
        """Tell the rules how long the run is, where no optimiser is there (yet)."""
        for place in self.places:
            place.rule.begin(run)

    @torch.no_grad()
    def before_step(self, step: int) -> None:
        """When the gradients of step ``step`` are there, before the optimiser uses them.

        Nothing is decided by gradients that are not finite (of any weight that the optimiser trains): a ``GradScaler``
        passes such a step over.

        Raises:
            UserError: as ``begin``.
        """
        self._check()
        if not self._told:
            self._told = warn_of_no_gradient(self.places)
        deciding = [place for place in self.places if place.rule.decides_at(step)]
        void = bool(deciding) and not self._gradients_are_finite()
        for place in self.places:
            if not (void and place in deciding):
                place.rule.before_step(place, step)
        for kind, places in self._pools():
            if not (void and any(place.rule.decides_at(step) for place in places)):
                kind.before_step_together(places, step)

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """After the optimiser's step ``step``, counted from 0 over the whole run.

        Raises:
            UserError: if a rule needs a momentum, and after this step the optimiser keeps none.
        """
        refuse_missing_momentum(self.places)
        for place in self.places:
            place.rule.after_step(place, step)
        for kind, places in self._pools():
            kind.after_step_together(places, step)

    @torch.no_grad()
    def after_epoch(self, epoch: int) -> None:
        """At the end of epoch ``epoch``, before anything is evaluated."""
        for place in self.places:
            place.rule.after_epoch(place, epoch)
        for kind, places in self._pools():
            kind.after_epoch_together(places, epoch)

    def edges(self) -> dict[str, Tensor]:
        """Return the current edges by the weights' names in the network.

        Raises:
            AssertionError: if a rule, or all rules of a class together, break their promise of a count.
        """
        found = {place.name: place.edges() for place in self.places}
        for kind, places in self._pools():
            promised = kind.promised_together([place.rule for place in places])
            if promised is not None:
                edges = sum(int(found[place.name].count_nonzero()) for place in places)
                assert edges == promised, f"{edges} edges in all, {promised} promised by {kind.__name__}"
        return found

    def _check(self) -> None:
        for place in self.places:
            refuse_sharded(place.weight, place.name)
        if not self._checked:
            for kind, places in self._pools():
                check_optimiser(kind, places, self.optimiser)
            self._checked = True

    def _refuse_other_counts(self) -> None:
        """``load_state_dict`` sees one weight at a time; a promise over all of them is looked at here."""
        for kind, places in self._pools():
            promised = kind.promised_together([place.rule for place in places])
            present = sum(place.rule.promised_edges or 0 for place in places)
            if promised is not None and present != promised:
                raise UserError(
                    f"the weights with {kind.__name__} have {present:,} edges in all, and {promised:,} are promised; "
                    "was a state loaded of a network with another density?"
                )

    def _gradients_are_finite(self) -> bool:
        trained = [place.weight for place in self.places]
        if self.optimiser is not None:
            trained += [one for group in self.optimiser.param_groups for one in group["params"]]
        return all(_is_finite(one.grad) for one in trained if one.grad is not None)

    def _pools(self) -> Iterator[tuple[type[WiringRule], list[AttachedRule]]]:
        """The rules that act together: of one class, and attached by one call of ``sparsify``."""
        pools = dict.fromkeys((type(place.rule), place.rule.pool) for place in self.places)
        for kind, pool in pools:
            yield kind, [one for one in self.places if type(one.rule) is kind and one.rule.pool == pool]


def _is_finite(gradient: Tensor) -> bool:
    """Also of a sparse gradient, as ``nn.Embedding(sparse=True)`` has one."""
    values = gradient.coalesce().values() if gradient.layout is torch.sparse_coo else gradient
    return bool(values.isfinite().all())
