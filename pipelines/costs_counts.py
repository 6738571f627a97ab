"""Parameters and multiply-adds of rows as the papers count them, and what the counts rest on. Free of torch.

A count is a function of network, rule and code alone, so it is kept under the recipe's fingerprint as long as the
source of ``dnw_core`` and the libraries that networks are taken from stay the same.
"""

from __future__ import annotations

import functools
import hashlib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import dnw_core
from dnw_core.config import Config
from tune_configs import Row, Table

_LIBRARIES = ("torch", "torchvision", "pytorchcv")


class Count(Config):
    """One network's parameters and multiply-adds; the latter None where only training tells them.

    It does of a solver's steps, and of edges that training divides among the weights.
    """

    parameters: int
    macs: int | None


class RowCounts(Config):
    """What a row's network costs before anything is trained.

    Attributes:
        nothing_dead: if every node sends and every output is fed; None where training decides how many edges there are.
        at_start: with the edges that seed 0 begins with; None where they come from another row's trial.
    """

    nothing_dead: Count | None
    at_start: Count | None


class CostFile(Config):
    """What is kept: the counts by the fingerprint of the row's recipe at paper scale."""

    version: Literal[1] = 1
    source: str
    counts: dict[str, RowCounts]


def countable(tables: dict[str, Table]) -> list[Row]:
    """Return the rows that have a network: all but those that cannot be reproduced."""
    return [row for table in tables.values() for row in table.rows.values() if row.not_reproducible is None]


@functools.cache
def source_digest() -> str:
    """Return a hash of all that decides a count beside the recipe: the source of ``dnw_core``, and the libraries."""
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
