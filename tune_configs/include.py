"""A file of settings that a search found, and how a row includes it (``include: found/<table>.<row>.yaml``).

``pipelines/search.py`` writes such a file; a person may change its values. Only settings that the row's search varies
may stand in it, so that nothing else of a recipe hides in a second file.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from dnw_core.config import Config, Recipe, flatten
from dnw_core.errors import UserError
from dnw_core.nearest import nearest
from tune_configs.located import Located, parse_yaml, read_yaml
from tune_configs.scales import Scale
from tune_configs.validation import validate

_PART = r"[A-Za-z0-9_][A-Za-z0-9_.@=,+-]*"
_NAME = re.compile(f"{_PART}(/{_PART})*")  # no way leads out of the tables' folder


class FoundCounts(Config):
    """How many configurations there were, and how they ended."""

    tried: int
    finished: int = Field(description="trained to the full budget")
    stopped: int = Field(description="given up at a rung")
    failed: int


class FoundScore(Config):
    """One configuration's validation accuracy (a fraction) after its last epoch."""

    configuration: str
    validation_accuracy: float


class FoundProvenance(Config):
    """Where the values come from."""

    command: str
    date: str = Field(description="ISO 8601, UTC")
    scale: Scale
    seed: int
    space: dict[str, Any]
    configurations: FoundCounts
    winner: FoundScore
    runner_up: FoundScore | None = None
    epochs: int
    training_images: int = Field(description="without those held out")
    validation_images: int
    data_checksum: str
    commit: str
    dirty: bool
    packages: dict[str, str]


class FoundFile(Config):
    """The whole file."""

    recipe: dict[str, Any] = Field(min_length=1, description="the chosen settings, laid under the row's own recipe")
    provenance: FoundProvenance


@dataclass(frozen=True)
class Included:
    """A file that a row includes."""

    name: str  # as the row names it
    recipe: Located
    scale: Scale

    def sentence(self, recipe: Recipe) -> str:
        """Return what the report says of it; ``recipe`` is the row's, which may overrule some of the values."""
        values = flatten(recipe)
        used = [f"{key} {value}" for key, value in settings(self.recipe) if values.get(key) == value]
        nothing = " (smoke: they mean nothing)" if self.scale == "smoke" else ""
        return f"Values from a search at {self.scale} scale{nothing}: {', '.join(used) or 'none'} ({self.name})."


def read_include(located: Located, folder: Path, space: Iterable[str], subject: str) -> Included:
    """Read the file that ``include:`` names.

    Args:
        located: the entry of the row; its value is a path relative to ``folder``.
        folder: the folder of the table file.
        space: the settings that the row's search varies.
        subject: the row, for errors.

    Raises:
        UserError: naming file, line and what would be right.
    """
    name: str = located.value
    place = located.where
    if not _NAME.fullmatch(name):
        raise UserError(
            f"{place}: include {name[:80]!r} does not name a file below {folder.name}/, such as "
            f"found/<table>.<row>.yaml ({subject})"
        )
    try:
        text = read_yaml(_inside(folder, name))
    except OSError as error:
        raise UserError(
            f"{place}: include {name!r} cannot be read ({error.strerror}); pipelines/search.py writes it ({subject})"
        ) from None
    except UnicodeDecodeError:
        raise UserError(f"{place}: include {name!r} is not UTF-8 text ({subject})") from None
    found, root = parse_found(text, name, subject)
    recipe = root.get("recipe")
    assert recipe is not None
    known = list(space)
    for key, inner in _leaves(recipe):
        if key not in known:
            raise UserError(
                f"{inner.key_where}: {key!r} is not in the row's search space{nearest(key, known)} ({subject})"
            )
    return Included(name, recipe, found.provenance.scale)


def parse_found(text: str, name: str, subject: str = "") -> tuple[FoundFile, Located]:
    """Parse the text of such a file; ``name`` is used in errors.

    Raises:
        UserError: naming file, line and what would be right.
    """
    if not text.strip():
        raise UserError(f"{name}: the file is empty; it needs recipe and provenance, as pipelines/search.py writes it")
    root = parse_yaml(text, name)
    if not isinstance(root.value, dict):
        raise UserError(f"{name}: needs recipe and provenance, as pipelines/search.py writes it")
    return validate(FoundFile, root, subject), root


def nest(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return dotted names as nested sections."""
    root: dict[str, Any] = {}
    for key, value in values.items():
        *sections, last = key.split(".")
        node = root
        for name in sections:
            node = node.setdefault(name, {})
        node[last] = value
    return root


def settings(recipe: Located) -> Iterator[tuple[str, Any]]:
    """Yield the dotted names and plain values of a section."""
    for key, inner in _leaves(recipe):
        yield key, inner.plain()


def _inside(folder: Path, name: str) -> Path:
    """Return the file's path.

    Raises:
        OSError: if a link leads out of the folder.
    """
    path = folder / name
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):  # follows a circle to no end
        raise OSError(errno.EPERM, "a link leads out of the tables' folder", str(path))
    return path


def _leaves(located: Located, prefix: str = "") -> Iterator[tuple[str, Located]]:
    for key, inner in located.value.items():
        name = f"{prefix}.{key}" if prefix else key
        if isinstance(inner.value, dict):
            yield from _leaves(inner, name)
        else:
            yield name, inner
