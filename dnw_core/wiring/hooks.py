"""The rules of a network, called together at the moments at which they may act.

For any training loop::

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
from dnw_core.wiring.attach import attached_rules
from dnw_core.wiring.needs import check_optimiser, refuse_missing_momentum, warn_of_no_gradient
from dnw_core.wiring.rule import AttachedRule, Run, WiringRule
from dnw_core.wiring.sharded import refuse_sharded


class Wiring:
    """All rules of a network.

    Args:
        network: the module whose weights have rules.
        optimiser: trains them; None where nothing is trained (rules that read momentum then find none).
    """

    def __init__(self, network: nn.Module, optimiser: torch.optim.Optimizer | None = None) -> None:
        self.attached = list(attached_rules(network, optimiser))
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
        if [here.rule for here in self.attached] != [here.rule for here in attached_rules(self.network)]:
            raise UserError(
                "rules were attached or taken off after this Wiring was made, so make a new one: Wiring(...)"
            )
        self._check()
        self._refuse_other_counts()
        self.announce(run)

    def announce(self, run: Run) -> None:
        """Tell the rules how long the run is, where no optimiser is there (yet)."""
        for here in self.attached:
            here.rule.begin(run)

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
            self._told = warn_of_no_gradient(self.attached)
        deciding = [here for here in self.attached if here.rule.decides_at(step)]
        void = bool(deciding) and not self._gradients_are_finite()
        for here in self.attached:
            if not (void and here in deciding):
                here.rule.before_step(here, step)
        for kind, attached in self._pools():
            if not (void and any(here.rule.decides_at(step) for here in attached)):
                kind.pool_before_step(attached, step)

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """After the optimiser's step ``step``, counted from 0 over the whole run.

        Raises:
            UserError: if a rule needs a momentum, and after this step the optimiser keeps none.
        """
        refuse_missing_momentum(self.attached)
        for here in self.attached:
            here.rule.after_step(here, step)
        for kind, attached in self._pools():
            kind.pool_after_step(attached, step)

    @torch.no_grad()
    def after_epoch(self, epoch: int) -> None:
        """At the end of epoch ``epoch``, before anything is evaluated."""
        for here in self.attached:
            here.rule.after_epoch(here, epoch)
        for kind, attached in self._pools():
            kind.pool_after_epoch(attached, epoch)

    def edges(self) -> dict[str, Tensor]:
        """Return the current edges by the weights' names in the network.

        Raises:
            AssertionError: if a rule, or all rules of a class together, break their promise of a count.
        """
        found = {here.name: here.edges() for here in self.attached}
        for kind, attached in self._pools():
            promised = kind.pool_promised_edges([here.rule for here in attached])
            if promised is not None:
                edges = sum(int(found[here.name].count_nonzero()) for here in attached)
                assert edges == promised, f"{edges} edges in all, {promised} promised by {kind.__name__}"
        return found

    def _check(self) -> None:
        for here in self.attached:
            refuse_sharded(here.weight, here.name)
        if not self._checked:
            for kind, attached in self._pools():
                check_optimiser(kind, attached, self.optimiser)
            self._checked = True

    def _refuse_other_counts(self) -> None:
        """``load_state_dict`` sees one weight at a time; a promise over all of them is looked at here."""
        for kind, attached in self._pools():
            promised = kind.pool_promised_edges([here.rule for here in attached])
            present = sum(here.rule.promised_edges or 0 for here in attached)
            if promised is not None and present != promised:
                raise UserError(
                    f"the weights with {kind.__name__} have {present:,} edges in all, and {promised:,} are promised; "
                    "was a state loaded of a network with another density?"
                )

    def _gradients_are_finite(self) -> bool:
        trained = [here.weight for here in self.attached]
        if self.optimiser is not None:
            trained += [one for group in self.optimiser.param_groups for one in group["params"]]
        return all(_is_finite(one.grad) for one in trained if one.grad is not None)

    def _pools(self) -> Iterator[tuple[type[WiringRule], list[AttachedRule]]]:
        """The rules that act together: of one class, and attached by one call of ``sparsify``."""
        pools = dict.fromkeys((type(here.rule), here.rule.pool) for here in self.attached)
        for kind, pool in pools:
            yield kind, [one for one in self.attached if type(one.rule) is kind and one.rule.pool == pool]


def _is_finite(gradient: Tensor) -> bool:
    """Also of a sparse gradient, as ``nn.Embedding(sparse=True)`` has one."""
    values = gradient.coalesce().values() if gradient.layout is torch.sparse_coo else gradient
    return bool(values.isfinite().all())
