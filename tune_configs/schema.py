"""What one table file holds: the typed schema of ``tune_configs/*.yaml``, and the rows that come of it.

Free of torch. The recipe of a row at a scale is laid together in this order, later ones on top::

    table recipe  <  recipe of the row that it corrects  <  row recipe  <  table scale  <  row scale

(a row's recipe overrides the values of the file that it includes),
and then compressed to the scale's epochs, so that a schedule keeps its shape. A row that ``needs`` another one has
that row's recipe at the same scale as its parent (needs.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from dnw_core.config import Config, Recipe, fingerprint

if TYPE_CHECKING:
    from tune_configs.scales import Scale
from tune_configs.search_space import SearchSettings


class RowResources(Config):
    """What a trial of a row asks of a machine."""

    cpus: float = Field(default=1.0, gt=0, description="cores; the whole ones become torch threads on a CPU")
    gpus: float = Field(
        default=1.0, ge=0, description="share of a GPU that a trial takes when it is trained on one; 0: on CPUs always"
    )

    @model_validator(mode="after")
    def _check_gpus(self) -> RowResources:
        if self.gpus > 1 and self.gpus != int(self.gpus):
            raise ValueError(f"gpus is {self.gpus}; it must be a share of one GPU (0 to 1) or a whole number")
        return self


Printed = Annotated[str, Field(pattern=r"^\d+(\.\d+)?M$")]
PrintedBound = Annotated[str, Field(pattern=r"^(> )?\d+(\.\d+)?M$")]


class Quoted(Config):
    """A number as the paper that it was taken from prints it; the two may differ."""

    mean: float = Field(ge=0, le=100, description="test accuracy in percent")
    origin: str = Field(min_length=1, description="paper and table")


class Published(Config):
    """A number as a paper prints it, in percent."""

    mean: float = Field(ge=0, le=100, description="test accuracy in percent")
    top5: float | None = Field(default=None, ge=0, le=100, description="top-5 test accuracy in percent")
    spread: float | None = Field(default=None, ge=0, description="the number after the ±, in points")
    spread_is: Literal["std", "sem", "ci95"] | None = Field(default=None, description="what the spread is")
    n: int | None = Field(default=None, ge=1, description="runs behind the mean")
    n_is: Literal["stated", "assumed"] | None = Field(default=None, description="where n comes from")
    origin: str = Field(min_length=1, description="where the number is printed")
    recipe: Literal["same", "other"] = Field(
        default="same",
        description="other: it was trained with another recipe, or one that is not known in every part; never judged",
    )
    parameters: Printed | None = Field(default=None, description="the parameter column, as printed")
    macs: PrintedBound | None = Field(default=None, description="the FLOPs column (multiply-adds), as printed")
    quoted: Quoted | None = Field(default=None, description="the paper that the number was taken from, if another")

    @model_validator(mode="after")
    def _check_pairs(self) -> Published:
        if (self.spread is None) != (self.spread_is is None):
            raise ValueError("spread and spread_is belong together; give both or neither")
        if (self.n is None) != (self.n_is is None):
            raise ValueError("n and n_is belong together; give both or neither")
        return self

    @model_validator(mode="after")
    def _check_top5(self) -> Published:
        if self.top5 is not None and self.top5 < self.mean:
            raise ValueError(f"top5 is {self.top5:g}; it must be at least the top-1 accuracy, mean ({self.mean:g})")
        return self


class ScaleFile(Config):
    """How a scale differs from the recipe as published."""

    recipe: dict[str, Any] = Field(default_factory=dict, description="settings laid over the row's recipe")
    epochs: int | None = Field(default=None, gt=0, description="compress the recipe to so many epochs")
    epochs_fraction: float | None = Field(default=None, gt=0, le=1, description="compress it to this fraction")
    resources: RowResources | None = None

    @model_validator(mode="after")
    def _check_epochs(self) -> ScaleFile:
        if self.epochs is not None and self.epochs_fraction is not None:
            raise ValueError("epochs and epochs_fraction exclude each other; give one")
        if "epochs" in self.recipe:
            raise ValueError("recipe.epochs would leave the schedule behind; give epochs beside recipe, not in it")
        return self


class ScalesFile(Config):
    """The settings of each scale."""

    smoke: ScaleFile = ScaleFile()
    short: ScaleFile = ScaleFile()
    paper: ScaleFile = ScaleFile()

    def at(self, scale: Scale) -> ScaleFile:
        """Return the settings of one scale."""
        found: ScaleFile = getattr(self, scale)
        return found


class SeedCounts(Config):
    """How many seeds a row gets when ``--seeds`` is not given."""

    smoke: int = Field(default=2, ge=1)
    short: int = Field(default=2, ge=1)
    paper: int = Field(default=5, ge=1)

    def at(self, scale: Scale) -> int:
        """Return the number of one scale."""
        count: int = getattr(self, scale)
        return count


class TableFile(Config):
    """The head of a table file: everything but its rows' content."""

    id: str
    title: str = Field(min_length=1)
    source: str = Field(min_length=1)
    default_seeds: SeedCounts = SeedCounts()
    recipe: dict[str, Any] = Field(description="settings that the rows have in common")
    scales: ScalesFile = ScalesFile()
    rows: dict[str, Any] = Field(min_length=1, description="row id -> row")


class RowFile(Config):
    """One row of a table file."""

    label: str = Field(min_length=1, description="the row's name as the paper prints it")
    published: Published | None = None
    extra: bool = Field(default=False, description="not one of the paper's rows; its number comes from elsewhere")
    corrects: str | None = Field(default=None, description="row whose recipe this one starts from and corrects")
    recipe: dict[str, Any] = Field(default_factory=dict, description="settings laid over the table's recipe")
    scales: ScalesFile = ScalesFile()
    notes: list[str] = Field(default_factory=list, description="a sentence for each unusual choice")
    search: dict[str, Any] | None = Field(default=None, description="what a search may vary (search_space.py)")
    include: str | None = Field(default=None, description="file of values that a search found (include.py)")
    needs: str | None = Field(default=None, description="row (or table/row) whose finished trials this one starts from")
    not_reproducible: str | None = Field(
        default=None, min_length=1, description="why this row cannot be trained; it has no recipe then"
    )

    @model_validator(mode="after")
    def _check_published(self) -> RowFile:
        if self.published is None:
            if not self.extra:
                raise ValueError("a row needs its published number, or extra: true")
            return self
        if self.published.recipe == "other" and not self.extra:
            raise ValueError(
                "published.recipe other is for extra rows; a row of the paper is judged by its number, so drop "
                "published.recipe or say extra: true"
            )
        if self.corrects is not None and self.published.recipe == "same":
            raise ValueError(
                f"a corrected row is not trained as the number of {self.corrects} was; drop published, or say "
                "published.recipe: other"
            )
        return self

    @model_validator(mode="after")
    def _check_reproducible(self) -> RowFile:
        if self.not_reproducible is not None and (self.extra or self.recipe or self.corrects or self.needs):
            raise ValueError("a row that is not reproducible has a published number and nothing to train")
        return self


@dataclass(frozen=True)
class Row:
    """One row, ready at every scale."""

    table: str
    id: str
    label: str
    published: Published | None
    extra: bool
    corrects: str | None
    notes: tuple[str, ...]
    recipes: dict[Scale, Recipe]
    resources: dict[Scale, RowResources]
    search: SearchSettings | None = None
    included: str | None = None  # the file whose values the recipe takes; a note says what they are
    not_reproducible: str | None = None  # why; such a row has no recipes
    parent_row: str | None = None  # ``table/row`` of the parent, whose recipe at the same scale is ``recipe.parent``

    def recipe_at(self, scale: Scale) -> Recipe:
        """Return the recipe at a scale."""
        return self.recipes[scale]

    def resources_at(self, scale: Scale) -> RowResources:
        """Return what a trial of the row asks for at a scale."""
        return self.resources[scale]

    def fingerprint_at(self, scale: Scale) -> str:
        """Return the fingerprint of the recipe at a scale."""
        return fingerprint(self.recipes[scale])


@dataclass(frozen=True)
class Table:
    """One table of the paper."""

    id: str
    title: str
    source: str
    default_seeds: SeedCounts
    rows: dict[str, Row]
