"""How long a trial will take: from finished trials where there are any, else a rough figure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from dnw_core.recipe import Recipe
from dnw_core.record import TrialRecord

TRAINING_IMAGES: dict[str, int] = {"cifar10": 50_000, "digits": 1_437}

# Seconds to train one image once (evaluation included), fp32: on one CPU core (measured), on a data-centre GPU
# (a guess). Rough on purpose: a plan needs "minutes or days", and the first finished trial of a kind replaces them.
ROUGH_SECONDS_PER_IMAGE: dict[str, tuple[float, float]] = {
    "tiny-static": (2e-3, 6e-5),
    "tiny-discrete": (9e-3, 1e-4),
    "tiny-continuous": (1.1e-1, 6e-4),
    "graph-mobilenet": (7e-3, 8e-5),
    "mobilenet-v1": (6e-4, 4e-5),  # x0.25
}
ROUGH_DENSE: dict[str, tuple[float, float]] = {"graph-mobilenet": (1.1e-2, 1.2e-4)}  # every slot is an edge
DENSE_RULES = ("complete", "l1-anneal")  # the latter begins as the complete graph
UNKNOWN_KIND = (1e-2, 2e-4)
ROUGH_NODES = 800  # the graph that the rough figures are for; a smaller one takes less (exponent measured)
NODES_EXPONENT = 1.4

# kind, nodes (0 where the network has no such setting), whether all edges are kept, device kind
NetworkKey = tuple[str, int, bool, str]


@dataclass(frozen=True)
class Estimator:
    """Seconds per image, measured on networks of the same kind and size on the same kind of device."""

    measured: dict[NetworkKey, float]

    @classmethod
    def from_records(cls, records: Iterable[TrialRecord]) -> Estimator:
        """Learn from finished trials; the median counts."""
        found: dict[NetworkKey, list[float]] = {}
        for record in records:
            if record.status != "done" or record.provenance is None or record.train_seconds <= 0:
                continue
            each = record.train_seconds / (record.recipe.epochs * images(record.recipe))
            found.setdefault(_key(record.recipe, record.provenance.device), []).append(each)
        return cls({key: median(values) for key, values in found.items()})

    def knows(self, recipe: Recipe, device: str) -> bool:
        """Whether the estimate rests on finished trials."""
        return _key(recipe, device) in self.measured

    def seconds(self, recipe: Recipe, epochs: int, device: str) -> float:
        """Return the seconds that so many epochs take."""
        key = _key(recipe, device)
        each = self.measured[key] if key in self.measured else _rough(key)
        return epochs * images(recipe) * each


def images(recipe: Recipe) -> int:
    """Return how many images an epoch has."""
    return recipe.data.train_images or TRAINING_IMAGES.get(recipe.data.dataset, 50_000)


def _key(recipe: Recipe, device: str) -> NetworkKey:
    nodes: int = getattr(recipe.network, "nodes", 0)
    dense = recipe.network.kind in ROUGH_DENSE and recipe.wiring.rule in DENSE_RULES
    return recipe.network.kind, nodes, dense, "cuda" if device.startswith("cuda") else "cpu"


def _rough(key: NetworkKey) -> float:
    kind, nodes, dense, device = key
    each = (ROUGH_DENSE if dense else ROUGH_SECONDS_PER_IMAGE).get(kind, UNKNOWN_KIND)[device == "cuda"]
    return each * (nodes / ROUGH_NODES) ** NODES_EXPONENT if nodes else each
