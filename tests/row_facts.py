"""What the facts say of each row: kept edges, block by block (facts 0.1, 2.2, 4.1)."""

from __future__ import annotations

from tune_configs import Row, load_tables

ROWS = [row for table in load_tables().values() for row in table.rows.values() if row.not_reproducible is None]

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
