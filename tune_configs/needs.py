"""``needs: complete``: a row whose trials start from finished trials of another row, its parent.

A parent may have a parent of its own, in the same table or another; it may not come back to where it began.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dnw_core.config import Recipe
from dnw_core.errors import UserError
from dnw_core.nearest import nearest
from tune_configs.located import Located

RowName = tuple[str, str]  # table, row


@dataclass(frozen=True)
class Need:
    """What a row says that it needs: the parent, and where it says so."""

    parent: RowName
    entry: Located

    @property
    def name(self) -> str:
        """The parent's ``table/row``."""
        return "/".join(self.parent)

    def lay(self, recipe: Located, parent: Recipe) -> Located:
        """Return a laid-together recipe with its parent's in it; errors in there name the line of ``needs``."""
        inner = locate(parent.model_dump(mode="json"), self.entry.where)
        return Located({**recipe.value, "parent": inner}, recipe.where, recipe.key_where)


def locate(value: Any, where: str) -> Located:
    """Return plain values as a tree in which every part is located at ``where``."""
    if isinstance(value, dict):
        return Located({key: locate(inner, where) for key, inner in value.items()}, where, where)
    if isinstance(value, list):
        return Located([locate(inner, where) for inner in value], where, where)
    return Located(value, where, where)


def resolve_needs(asked: Mapping[RowName, Located | None]) -> dict[RowName, Need]:
    """Return the parent of every row that has one.

    Args:
        asked: every known row, with what it says after ``needs:`` (None: nothing).

    Raises:
        UserError: naming file and line, for a parent that is not a row and for rows that need each other in a circle.
    """
    needs = {row: _need(row, entry, asked) for row, entry in asked.items() if entry is not None}
    for row, need in needs.items():
        chain = [row]
        while chain[-1] in needs and chain.count(chain[-1]) == 1:
            chain.append(needs[chain[-1]].parent)
        if chain[-1] == row and len(chain) > 1:
            described = " needs ".join("/".join(name) for name in chain)
            raise UserError(f"{need.entry.where}: rows need each other in a circle: {described}; break it at one place")
    return needs


def refuse_written_parent(section: Located | None, subject: str) -> None:
    """Refuse a recipe that spells out its parent's.

    Raises:
        UserError: naming file and line.
    """
    parent = section.get("parent") if section is not None else None
    if parent is not None:
        raise UserError(f"{parent.key_where}: a parent's recipe is not written out; say needs: <row> ({subject})")


def _need(row: RowName, entry: Located, known: Mapping[RowName, Located | None]) -> Need:
    table, slash, name = str(entry.value).rpartition("/")
    parent = (table if slash else row[0], name)
    if parent not in known:
        near = [inner for outer, inner in known if outer == row[0]] if not slash else ["/".join(one) for one in known]
        hint = nearest(str(entry.value), near)
        raise UserError(f"{entry.where}: row {row[1]} needs an unknown row {entry.value!r}{hint}")
    return Need(parent, entry)
