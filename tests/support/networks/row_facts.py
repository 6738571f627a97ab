"""What the facts say of each row: kept edges and weights (facts 0.1, 2.2, 3, 4.1). Free of torch at import."""

from __future__ import annotations

import math
from fractions import Fraction

from tune_configs import Row, load_tables

ROWS = {
    f"{row.table}/{row.id}": row
    for table in load_tables().values()
    for row in table.rows.values()
    if row.not_reproducible is None
}

# facts 2.2 and 4.1: kept edges of each block by width; every usable slot where a rule starts from the complete graph
BLOCK_EDGES = {
    "x0.15": [47, 553, 2_212, 32_441, 35_390],
    "x0.225": [104, 1_245, 4_977, 72_991, 79_627],
    "x0.3": [185, 2_212, 8_848, 129_762, 141_558],
    "x0.49": [492, 5_901, 23_603, 346_175, 377_645],
}
COMPLETE_EDGES = 6_981_632
STARTS_COMPLETE = {"wirings/complete", "wirings/l1-anneal"}
# facts 0.1: the published random graph x0.49 of table imagenet is x0.51
RELEASED_X049 = [533, 6_393, 25_569, 375_011, 409_102]


def name_of(row: Row) -> str:
    """``table/row``."""
    return f"{row.table}/{row.id}"


def graph_edges(row: Row, classes: int) -> int:
    """Edges that a graph row starts with, those of its classifier included."""
    if name_of(row) in STARTS_COMPLETE:
        return COMPLETE_EDGES
    return sum(block_edges(row)) + (classifier_edges(row, classes) or 0)


def block_edges(row: Row) -> list[int]:
    """Edges of each block of a graph row; of x0.225 where its name says no width."""
    if name_of(row) == "imagenet/random-x0.49":
        return RELEASED_X049
    return next((edges for width, edges in BLOCK_EDGES.items() if width in row.id), BLOCK_EDGES["x0.225"])


def classifier_edges(row: Row, classes: int) -> int | None:
    """Edges of the classifier of a "Small" row: d of them, not d squared (facts 2.2: 153,600 and 230,400)."""
    if "small" not in row.id:
        return None
    thousandths = {"x0.15": 150, "x0.225": 225}[row.id.removeprefix("dnw-small-")]
    return classes * 1_024 * thousandths // 1_000


# facts 3: ResNet-50's weights by per cent kept, all sparse and first layer dense (that layer's 9,408 included), and its
# multiply-adds in millions
RESNET50_WEIGHTS = {10: (2_550_318, 2_558_785), 20: (5_100_607, 5_108_133), 30: (7_650_902, 7_657_487)}
RESNET50_MACS = {10: (409, 515), 20: (818, 912), 30: (1_227, 1_309)}
RESNET50_DENSE = (25_502_912, 4_089)
# rules that start from the complete network
START_DENSE = ("complete", "gradual-pruning", "snip", "soft-threshold", "ac-dc")


def resnet50_weights(row: Row) -> int:
    """Weights that a row of table ``sparse-resnet50`` starts with."""
    return RESNET50_DENSE[0] if row.recipe_at("paper").wiring.rule in START_DENSE else resnet50_kept(row)


def resnet50_kept(row: Row) -> int:
    """Weights that such a row ends with, dense ones included: facts 3's where it has them, else rounded up by layer."""
    recipe = row.recipe_at("paper")
    first_dense = recipe.network.kind == "resnet50" and recipe.network.dense_layers == 1
    percent = round(100 * getattr(recipe.wiring, "density", 1.0))
    if percent in RESNET50_WEIGHTS:
        return RESNET50_WEIGHTS[percent][first_dense]
    import torch  # here: names of rows are read at collection, which loads no torch
    import torchvision

    with torch.device("meta"):
        weights = [weight for weight in torchvision.models.resnet50().parameters() if weight.dim() > 1]
    kept = [math.ceil(Fraction(percent, 100) * weight.numel()) for weight in weights]
    return sum(kept) + (weights[0].numel() - kept[0]) * first_dense


def resnet50_macs(row: Row) -> int | None:
    """Multiply-adds that such a row starts with, in millions, where facts 3 has them: for uniform layers."""
    wiring = row.recipe_at("paper").wiring
    if wiring.rule in START_DENSE:
        return RESNET50_DENSE[1]
    if getattr(wiring, "layers", "uniform") != "uniform":
        return None
    first_dense = "first-dense" in row.id
    found = RESNET50_MACS.get(round(100 * getattr(wiring, "density", 1.0)))
    return None if found is None else found[first_dense]
