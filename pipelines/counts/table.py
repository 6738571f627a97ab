"""One line per row: its counts beside the printed ones, and whether they agree. Free of torch.

Counts are compared where they are known before training. Where training decides which edges stay and which nodes die
(DNW), the printed numbers are those of the trained network: then only counts of finished trials are compared.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import dnw_core
from dnw_core.config import Config
from dnw_core.record import Cost
from pipelines.store import Store
from tune_configs import Row

AFTER_TRAINING = "only after training"

Trained = Mapping[tuple[str, str, str], Sequence[Cost]]  # (table, row, fingerprint) -> costs of finished trials


@dataclass(frozen=True)
class CostLine:
    """A row's printed and counted parameters and multiply-adds. What is not known or not printed is None."""

    table: str
    row: str
    label: str
    extra: bool
    after_training: bool  # training decides the counts
    not_reproducible: str | None
    parameters_published: str | None = None
    parameters_nothing_dead: int | None = None
    parameters_at_start: int | None = None
    parameters_trained: float | None = None  # mean of the finished trials
    parameters_agreement: str | None = None
    macs_published: str | None = None
    macs_nothing_dead: int | None = None
    macs_at_start: int | None = None
    macs_trained: float | None = None
    macs_agreement: str | None = None
    trained_seeds: int = 0


def cost_lines(rows: Sequence[Row], counts: Mapping[str, RowCounts], trained: Trained | None = None) -> list[CostLine]:
    """Return a line for each row that was counted or cannot be reproduced.

    Args:
        rows: the rows.
        counts: by the fingerprint of the recipe at paper scale.
        trained: the costs of each row's finished trials at paper scale.
    """
    lines = []
    for row in rows:
        if row.not_reproducible is not None:
            lines.append(_line(row, None, ()))
            continue
        mark = row.fingerprint_at("paper")
        if mark in counts:
            lines.append(_line(row, counts[mark], (trained or {}).get((row.table, row.id, mark), ())))
    return lines


def trained_costs(store: Store) -> dict[tuple[str, str, str], list[Cost]]:
    """Return the costs of the store's finished trials at paper scale, by table, row and fingerprint."""
    found: dict[tuple[str, str, str], list[Cost]] = {}
    for stored in store.records():
        record = stored.record
        if record.scale == "paper" and record.status == "done" and record.cost is not None:
            found.setdefault((record.table, record.row, record.fingerprint), []).append(record.cost)
    return found


def _line(row: Row, counts: RowCounts | None, trained: Sequence[Cost]) -> CostLine:
    recipe = row.recipes.get("paper")
    moves = recipe is not None and recipe.wiring.edges_learned
    with_norms = recipe is not None and recipe.network.cost_includes_norms
    parameters = [float(one.parameters_with_norm if with_norms else one.parameters) for one in trained]
    at_start = counts.at_start if counts is not None else None
    nothing_dead = counts.nothing_dead if counts is not None else None
    values: dict[str, Any] = {}
    for name, after in (("parameters", parameters), ("macs", [float(one.macs) for one in trained])):
        printed = getattr(row.published, name, None)
        start, mean = getattr(at_start, name, None), fmean(after) if after else None
        values |= {
            f"{name}_published": printed,
            f"{name}_nothing_dead": getattr(nothing_dead, name, None),
            f"{name}_at_start": start,
            f"{name}_trained": mean,
            f"{name}_agreement": _agreement(printed, mean if moves else start, moves) if counts else None,
        }
    return CostLine(
        table=row.table,
        row=row.id,
        label=row.label,
        extra=row.extra,
        after_training=moves,
        not_reproducible=row.not_reproducible,
        trained_seeds=len(trained),
        **values,
    )


def _agreement(printed: str | None, ours: float | None, moves: bool) -> str | None:
    if printed is None:
        return None
    if ours is None:
        return AFTER_TRAINING
    return str(compare_printed(printed, ours)) + (", trained" if moves else "")


TOLERANCE = Decimal("0.01")
_BOUND = "> "

Kind = Literal["agrees", "cut", "differs"]


@dataclass(frozen=True)
class Agreement:
    """How a count compares with the printed one.

    Attributes:
        kind: agrees: within 1 %, or ours rounds to the printed digits (or exceeds a printed bound); cut: the printed
            digits are ours truncated instead of rounded; differs: none of these.
        percent: by how much ours exceeds the printed number.
    """

    kind: Kind
    percent: float

    def __str__(self) -> str:
        if self.kind == "agrees":
            return "agrees"
        text = f"differs by {self.percent:+.1f} %".replace("-", "−")
        return f"{text} (cut off, not rounded)" if self.kind == "cut" else text


def compare_printed(printed: str, ours: float) -> Agreement:
    """Compare ``ours`` (a count, or the mean of some) with a number as the paper prints it."""
    bound, number = printed.startswith(_BOUND), Decimal(printed.removeprefix(_BOUND).removesuffix("M"))
    millions = Decimal(ours) / 1_000_000
    above = millions / number - 1
    if bound:
        kind: Kind = "agrees" if millions > number else "differs"
    elif abs(above) <= TOLERANCE or millions.quantize(number, ROUND_HALF_UP) == number:
        kind = "agrees"
    else:
        kind = "cut" if millions.quantize(number, ROUND_DOWN) == number else "differs"
    return Agreement(kind, float(100 * above))


_LIBRARIES = ("torch", "torchvision", "pytorchcv")


class Count(Config):
    """One network's parameters and multiply-adds; the latter are None where only training determines them.

    That is so for a solver's steps, and for edges that training divides among the weights.
    """

    parameters: int
    macs: int | None


class RowCounts(Config):
    """What a row's network costs before training.

    Attributes:
        nothing_dead: if every node sends and every output is fed; None where training decides how many edges there are.
        at_start: with the edges that seed 0 begins with; None where they come from another row's trial.
    """

    nothing_dead: Count | None
    at_start: Count | None


class CostFile(Config):
    """The kept counts, by the fingerprint of the row's recipe at paper scale."""

    version: Literal[1] = 1
    source: str
    counts: dict[str, RowCounts]


@functools.cache
def source_digest() -> str:
    """Return a hash of what determines a count besides the recipe: the source of ``dnw_core``, and the libraries."""
    root = Path(dnw_core.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()} {len(content)}\n".encode() + content)
    digest.update(" ".join(f"{name} {_version(name)}" for name in _LIBRARIES).encode())
    return digest.hexdigest()[:16]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
