"""How long a trial will take: from finished trials where there are any, else a rough figure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from dnw_core.recipe import Recipe
from dnw_core.record import TrialRecord

TRAINING_IMAGES: dict[str, int] = {"cifar10": 50_000, "digits": 1_437}

# Seconds to train one image once (evaluation included), fp32: on one CPU core, on a data-centre GPU. Rough on
# purpose: a plan needs "minutes or days", and the first finished trial of a kind replaces them.
ROUGH_SECONDS_PER_IMAGE: dict[str, tuple[float, float]] = {
    "tiny-static": (2.5e-3, 6e-5),
    "tiny-discrete": (1.2e-2, 1e-4),
    "tiny-continuous": (1e-1, 6e-4),
}
UNKNOWN_KIND = (1e-2, 2e-4)


@dataclass(frozen=True)
class Estimator:
    """Seconds per image, measured by (network kind, device kind)."""

    measured: dict[tuple[str, str], float]

    @classmethod
    def from_records(cls, records: Iterable[TrialRecord]) -> Estimator:
        """Learn from finished trials; the median of those of a network and device kind counts."""
        found: dict[tuple[str, str], list[float]] = {}
        for record in records:
            if record.status != "done" or record.provenance is None or record.train_seconds <= 0:
                continue
            key = (record.recipe.network.kind, _device_kind(record.provenance.device))
            found.setdefault(key, []).append(record.train_seconds / (record.recipe.epochs * images(record.recipe)))
        return cls({key: median(values) for key, values in found.items()})

    def knows(self, recipe: Recipe, device: str) -> bool:
        """Whether the estimate rests on finished trials."""
        return (recipe.network.kind, _device_kind(device)) in self.measured

    def seconds(self, recipe: Recipe, epochs: int, device: str) -> float:
        """Return the seconds that so many epochs take."""
        kind = _device_kind(device)
        rough = ROUGH_SECONDS_PER_IMAGE.get(recipe.network.kind, UNKNOWN_KIND)[kind == "cuda"]
        return epochs * images(recipe) * self.measured.get((recipe.network.kind, kind), rough)


def images(recipe: Recipe) -> int:
    """Return how many images an epoch has."""
    return TRAINING_IMAGES.get(recipe.data.dataset, 50_000)


def _device_kind(device: str) -> str:
    return "cuda" if device.startswith("cuda") else "cpu"
