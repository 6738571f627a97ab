"""How long a trial will take: measured on finished trials, or a rough figure without any."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from dnw_core.config import DATASET_IMAGES, STREAMED, Execution, Recipe
from dnw_core.record import TrialRecord

FOLDER_IMAGES = 10_000  # a guess: a plan does not count an image-folder


class Rough(NamedTuple):
    """Seconds to train one image once, evaluation included, fp32: on one CPU core and on a data-centre GPU."""

    cpu: float  # measured
    gpu: float  # a guess
    pixels: int  # a side, of the images measured
    size: float = 0.0  # of the network measured: nodes or width


# Rough on purpose: a plan needs "minutes or days", and the first finished trial of a kind replaces the figure.
ROUGH: dict[str, Rough] = {
    "tiny-static": Rough(2e-3, 6e-5, 32, 800),
    "tiny-discrete": Rough(9e-3, 1e-4, 32, 800),
    "tiny-continuous": Rough(1.1e-1, 6e-4, 32, 800),
    "graph-mobilenet": Rough(7e-3, 8e-5, 32),
    "mobilenet-v1": Rough(6e-4, 4e-5, 32, 0.25),
    "mobilenet-v2": Rough(2.5e-2, 4e-4, 224, 0.6),
    "light-densenet": Rough(5e-3, 4e-4, 224, 10),
    "light-xception": Rough(1.4e-2, 4e-4, 224, 32),
    "shufflenet-v1": Rough(3e-2, 4e-4, 224, 1),
    "shufflenet-v2": Rough(1.7e-2, 4e-4, 224, 1),
    "mnasnet-small": Rough(1.2e-2, 4e-4, 224),
    "resnet50": Rough(2.5e-1, 1.5e-3, 224, 1),
    "wide-resnet": Rough(6e-3, 1e-4, 32),
}
ROUGH_DENSE: dict[str, Rough] = {"graph-mobilenet": Rough(1.1e-2, 1.2e-4, 32)}  # every slot is an edge
DENSE_RULES = ("complete", "l1-anneal")  # the latter begins as the complete graph
UNKNOWN_KIND = Rough(1e-2, 2e-4, 32)
NODES_EXPONENT = 1.4  # measured: a graph with fewer nodes
WIDTH_EXPONENT = 1.0  # measured on ordinary networks; their parameters grow with its square, their time does not
AREA_EXPONENT = 0.65  # measured from 32 to 224 pixels a side: small maps use a processor badly
DECODE_SECONDS = 8e-3  # one JPEG on one core, augmented; a guess
WORKERS_EXPONENT = 0.93  # a guess: 4 workers are 3.6 times as fast as one


class NetworkKey(NamedTuple):
    """What two networks must share for one to predict the other's time."""

    kind: str
    size: float  # nodes or width; 0 where the network has no such setting
    pixels: int
    dense: bool  # whether all edges are kept
    device: str


@dataclass(frozen=True)
class Estimator:
    """Seconds per image and worker, measured on networks of the same kind and size on the same kind of device."""

    measured: dict[NetworkKey, float]
    workers: frozenset[tuple[NetworkKey, int]] = frozenset()  # numbers of workers measured; another one is a guess

    @classmethod
    def from_records(cls, records: Iterable[TrialRecord]) -> Estimator:
        """Measure finished trials; the median counts."""
        found: dict[NetworkKey, list[float]] = {}
        workers = set()
        for record in records:
            if record.status != "done" or record.provenance is None or record.train_seconds <= 0:
                continue
            key, number = _key(record.recipe, record.provenance.device), record.provenance.workers
            each = record.train_seconds / (record.recipe.epochs * images(record.recipe))
            found.setdefault(key, []).append(each * _speedup(number))
            workers.add((key, number))
        return cls({key: median(values) for key, values in found.items()}, frozenset(workers))

    def knows(self, recipe: Recipe, execution: Execution) -> bool:
        """Whether the estimate is measured on finished trials."""
        return (_key(recipe, execution.device), execution.workers) in self.workers

    def seconds(self, recipe: Recipe, epochs: int, execution: Execution) -> float:
        """Return the seconds that so many epochs take."""
        key = _key(recipe, execution.device)
        each = self.measured[key] if key in self.measured else _rough(key, recipe, execution)
        return epochs * images(recipe) * each / _speedup(execution.workers)


def images(recipe: Recipe) -> int:
    """Return how many images an epoch has."""
    known = DATASET_IMAGES.get(recipe.data.dataset)
    return recipe.data.train_images or (known.train if known else FOLDER_IMAGES)


def _speedup(workers: int) -> float:
    return float(workers**WORKERS_EXPONENT)


def _key(recipe: Recipe, device: str) -> NetworkKey:
    network = recipe.network
    dense = network.kind in ROUGH_DENSE and recipe.wiring.rule in DENSE_RULES
    return NetworkKey(
        network.kind, _size(network), network.image_size, dense, "cuda" if device.startswith("cuda") else "cpu"
    )


def _size(network: object) -> float:
    """Return the setting that gives a network's size."""
    for name in ("nodes", "width_multiplier", "growth", "middle_channels", "width"):
        if (value := getattr(network, name, None)) is not None:
            return float(str(value).removeprefix("x"))
    return 0.0


def _rough(key: NetworkKey, recipe: Recipe, execution: Execution) -> float:
    """Return the seconds of an image on one worker."""
    rough = (ROUGH_DENSE if key.dense else ROUGH).get(key.kind, UNKNOWN_KIND)
    each = rough.gpu if key.device == "cuda" else rough.cpu
    each *= float((key.pixels / rough.pixels) ** (2 * AREA_EXPONENT))
    if key.size and rough.size:
        exponent = NODES_EXPONENT if key.kind.startswith("tiny-") else WIDTH_EXPONENT
        each *= float((key.size / rough.size) ** exponent)
    if recipe.data.dataset not in STREAMED:
        return each
    if not execution.loader_workers:  # the process decodes and trains in turn
        return each + DECODE_SECONDS
    return max(each, DECODE_SECONDS / execution.loader_workers)
