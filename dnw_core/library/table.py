"""What every layer of a sparse network keeps: the table that users of sparse training ask for first (facts 7.1)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from torch import nn

from dnw_core.errors import UserError
from dnw_core.library.chains import effective_in_evaluation, laid_over, refuse_buried
from dnw_core.wiring.hooks import Wiring
from dnw_core.wiring.rule import AttachedRule, WiringRule


class LayerRow(NamedTuple):
    """One weight. ``slots`` counts its entries, ``kept`` its present edges."""

    name: str
    shape: tuple[int, ...]
    slots: int
    kept: int

    @property
    def density(self) -> float:
        """Fraction of the slots that is kept; not a number where there are none."""
        return self.kept / self.slots if self.slots else math.nan


@dataclass(frozen=True)
class LayerTable:
    """Every weight that has a rule, as it is at one moment. ``str`` of it is a table of text.

    Attributes:
        rows: the weights, in the order of the network's modules.
        hooks: methods of ``Wiring`` through which the rules act while training; empty where none is needed.
        goal: how many edges are kept in the end, where that differs from what is kept now; None elsewhere.
    """

    rows: tuple[LayerRow, ...]
    hooks: tuple[str, ...] = ()
    goal: int | None = None

    @property
    def total(self) -> LayerRow:
        """All weights together."""
        return LayerRow("total", (), sum(row.slots for row in self.rows), sum(row.kept for row in self.rows))

    def __str__(self) -> str:
        lines = [("weight", "shape", "slots", "kept", "density")]
        for row in (*self.rows, self.total):
            shape = "x".join(str(size) for size in row.shape)
            lines.append((row.name, shape, f"{row.slots:,}", f"{row.kept:,}", _percent(row.density)))
        widths = [max(len(line[column]) for line in lines) for column in range(5)]
        text = [
            "  ".join(
                cell.ljust(width) if column < 2 else cell.rjust(width) for column, (cell, width) in enumerate(cells)
            )
            for cells in (list(zip(line, widths, strict=True)) for line in lines)
        ]
        if self.goal is not None:
            text.append(f"in the end {self.goal:,} are kept ({_percent(self.total._replace(kept=self.goal).density)})")
        if self.hooks:
            text.append(f"acts through dnw_core.Wiring while training: {', '.join(self.hooks)}")
        return "\n".join(line.rstrip() for line in text)


def layer_table(network: nn.Module) -> LayerTable:
    """Return the table of every weight that has a wiring rule, with its present edges; empty if none has.

    Raises:
        AssertionError: if a rule breaks its promise of a count.
        UserError: if another parametrisation lies under a rule, or lies over it and fills what it leaves empty.
    """
    wiring = Wiring(network)
    for here in wiring.attached:
        refuse_buried(here)
    edges = wiring.edges()
    rows = tuple(_row(here, int(edges[here.name].count_nonzero())) for here in wiring.attached)
    hooks = tuple(dict.fromkeys(hook for here in wiring.attached for hook in hooks_of(type(here.rule))))
    goal = sum(here.rule.kept_edges for here in wiring.attached)
    # a rule without a budget has every slot as its goal, which it may never mean to reach
    settled = goal in (sum(row.kept for row in rows), sum(row.slots for row in rows))
    return LayerTable(rows, hooks, None if settled else goal)


def hooks_of(rule: type[WiringRule]) -> list[str]:
    """Return the methods of ``Wiring`` through which a rule of this class acts, in the order in which they come."""
    begins = rule.needs_run or rule.begin is not WiringRule.begin
    acts = [moment for moment in ("before_step", "after_step", "after_epoch") if rule.acts_at(moment)]
    return ["begin", *acts] if begins else acts


def _percent(density: float) -> str:
    return "–" if math.isnan(density) else f"{density:.2%}"


def _row(here: AttachedRule, kept: int) -> LayerRow:
    shape = tuple(here.weight.shape)
    over = laid_over(here)
    if over and int(effective_in_evaluation(here).count_nonzero()) > kept:
        raise UserError(
            f"{here.name}: {', '.join(over)} lies over the rule and fills what it leaves empty; take that off"
        )
    return LayerRow(here.name, shape, math.prod(shape), kept)
