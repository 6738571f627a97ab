"""What a search may vary: the ``search:`` section of a row, typed, and checked against the row's recipe.

Free of torch. A row whose hyper-parameters were not published declares a space; ``pipelines/search.py`` draws from it
and scores on training images that are held out. A space is checked when the tables are loaded: what the recipe would
refuse is named with file and line before anything is trained.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from dnw_core.config import DATASET_IMAGES, TO_BE_TRAINED, Config, Recipe, flatten
from dnw_core.errors import UserError
from dnw_core.nearest import nearest
from tune_configs.located import Located
from tune_configs.scales import SCALES, Scale
from tune_configs.validation import DISCRIMINATORS, plain_message, validate

_NOT_SEARCHED = {
    "epochs": "the scale gives the epochs",
    "data.dataset": "the table gives the data set",
    "data.train_images": "the scale gives the images",
    "data.test_images": "the scale gives the images",
    "data.validation_images": "give validation_images beside space",
}


class Dimension(Config):
    """The values that one setting may take: exactly one of the four kinds."""

    uniform: Annotated[tuple[float, ...], Field(strict=False)] | None = None
    log_uniform: Annotated[tuple[float, ...], Field(strict=False)] | None = None
    integers: Annotated[tuple[int, ...], Field(strict=False)] | None = None
    choice: Annotated[tuple[Any, ...], Field(strict=False)] | None = None

    @model_validator(mode="after")
    def _check_values(self) -> Dimension:
        given = self.model_dump(exclude_none=True)
        if len(given) != 1:
            raise ValueError(f"takes exactly one of {', '.join(type(self).model_fields)}")
        name, values = next(iter(given.items()))
        if name == "choice":
            texts = [json.dumps(value, sort_keys=True) for value in values]
            if len(texts) < 2 or len(set(texts)) < len(texts):
                raise ValueError(f"choice is {list(values)}; give at least two values, each once")
            return self
        if len(values) != 2 or values[0] >= values[1]:
            raise ValueError(f"{name} is {list(values)}; give [low, high] with low below high")
        if name == "log_uniform" and values[0] <= 0:
            raise ValueError(f"log_uniform is {list(values)}; both bounds must be above 0, where a logarithm exists")
        return self

    @property
    def kind(self) -> str:
        """``uniform``, ``log_uniform``, ``integers`` or ``choice``."""
        return next(iter(self.model_dump(exclude_none=True)))

    @property
    def values(self) -> tuple[Any, ...]:
        """The bounds (low, high), or the choices."""
        found: tuple[Any, ...] = getattr(self, self.kind)
        return found

    def __str__(self) -> str:
        shown = [json.dumps(value) for value in self.values]
        if self.kind == "choice":
            return f"one of {', '.join(shown)}"
        return f"{shown[0]} to {shown[1]}, {self.kind.replace('_', '-')}"


class SearchScaleFile(Config):
    """How a scale differs from the search's own budget."""

    trials: int | None = Field(default=None, ge=1)
    validation_images: int | None = Field(default=None, ge=1)
    first_rung_fraction: float | None = Field(default=None, gt=0, le=1)
    reduction_factor: float | None = Field(default=None, gt=1)


class SearchScalesFile(Config):
    """The budget at each scale."""

    smoke: SearchScaleFile = SearchScaleFile()
    short: SearchScaleFile = SearchScaleFile()
    paper: SearchScaleFile = SearchScaleFile()


class SearchBudget(Config):
    """What a search may spend."""

    trials: int = Field(default=16, ge=1, description="configurations, the row's present values among them")
    validation_images: int = Field(default=5000, ge=1, description="last training images, held out to score on")
    first_rung_fraction: float = Field(default=0.1, gt=0, le=1, description="share of the epochs before the first cut")
    reduction_factor: float = Field(default=3.0, gt=1, description="the best one of so many goes on from each rung")


class SearchFile(SearchBudget):
    """The ``search:`` section of a row."""

    space: dict[str, Any] = Field(min_length=1, description="dotted setting -> its values")
    scales: SearchScalesFile = SearchScalesFile()


@dataclass(frozen=True)
class SearchSettings:
    """A row's search: the space, and the budget at each scale."""

    space: dict[str, Dimension]
    budgets: dict[Scale, SearchBudget]


def with_values(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """Return the recipe with settings (dotted names) changed, validated anew.

    Raises:
        ValidationError: if the recipe refuses them.
    """
    tree: dict[str, Any] = recipe.model_dump(mode="json")
    for key, value in values.items():
        *sections, last = key.split(".")
        node = tree
        for name in sections:
            node = node[name]
        node[last] = value
    return Recipe.model_validate(tree, context=TO_BE_TRAINED)


def parse_search(located: Located, subject: str) -> SearchSettings:
    """Read a ``search:`` section; the row's recipe is not looked at.

    Args:
        located: the section.
        subject: the row, for errors.

    Raises:
        UserError: naming file, line and what would be right.
    """
    body = validate(SearchFile, located, subject)
    dimensions = _entry(located, "space").value
    space = {key: _dimension(key, inner, subject) for key, inner in dimensions.items()}
    own = {name: getattr(body, name) for name in SearchBudget.model_fields}
    budgets = {
        scale: SearchBudget(**(own | getattr(body.scales, scale).model_dump(exclude_none=True))) for scale in SCALES
    }
    return SearchSettings(space, budgets)


def check_search(settings: SearchSettings, located: Located, recipes: Mapping[Scale, Recipe], subject: str) -> None:
    """Hold a search against the row's recipe at every scale: each bound and choice must be one that it takes.

    Each setting is tried with the others at their present values; a drawn combination that the recipe refuses is
    drawn again.

    Raises:
        UserError: naming file, line and what would be right.
    """
    for scale, recipe in recipes.items():
        if recipe.parent is not None:
            raise UserError(f"{located.key_where}: a row that starts from another one cannot be searched ({subject})")
        _check_validation_images(settings.budgets[scale], located, recipe, scale, subject)
        for key, dimension in settings.space.items():
            _check_setting(key, dimension, _entry(_entry(located, "space"), key), recipe, f"{subject}, scale {scale}")


def training_images(recipe: Recipe) -> int:
    """Return how many images a recipe trains on: some are held out first, then as many as it asks for are taken."""
    left = DATASET_IMAGES[recipe.data.dataset].train - recipe.data.validation_images
    return min(left, recipe.data.train_images or left)


def _dimension(key: str, located: Located, subject: str) -> Dimension:
    if not isinstance(located.value, dict):
        kinds = ", ".join(Dimension.model_fields)
        raise UserError(f"{located.where}: {key}: give one of {kinds}, for example {{uniform: [0, 1]}} ({subject})")
    try:
        return Dimension.model_validate(located.plain())
    except ValidationError as error:
        problem = error.errors()[0]
        if problem["type"] == "value_error":  # our own sentence, about the whole setting
            raise UserError(f"{located.where}: {key}: {plain_message(problem)} ({subject})") from None
    return validate(Dimension, located, f"{key}, {subject}")


def _check_validation_images(
    budget: SearchBudget, located: Located, recipe: Recipe, scale: Scale, subject: str
) -> None:
    images, scored = training_images(recipe), recipe.data.test_images
    if budget.validation_images >= images:
        reason = f"which has {images} training images; hold out fewer"
    elif scored is not None and budget.validation_images > scored:
        reason = f"where data.test_images lets only {scored} be scored on; hold out as many"
    else:
        return
    place = located.get("validation_images") or located
    scales = located.get("scales")
    at_scale = scales.get(scale) if scales is not None else None
    if at_scale is not None and at_scale.get("validation_images") is not None:
        place = _entry(at_scale, "validation_images")
    raise UserError(
        f"{place.where}: validation_images is {budget.validation_images} at scale {scale}, {reason} "
        f"with search.scales.{scale}.validation_images ({subject})"
    )


def _check_setting(key: str, dimension: Dimension, located: Located, recipe: Recipe, subject: str) -> None:
    known = [name for name in flatten(recipe) if _why_not(name) is None]
    reason = _why_not(key)
    if reason is not None:
        raise UserError(f"{located.key_where}: {key} cannot be searched: {reason} ({subject})")
    if key not in known:
        raise UserError(f"{located.key_where}: the recipe has no setting {key!r}{nearest(key, known)} ({subject})")
    for value in dimension.values:
        try:
            with_values(recipe, {key: value})
        except ValidationError as error:
            message = plain_message(error.errors()[0])
            raise UserError(
                f"{located.where}: the recipe refuses {key} = {json.dumps(value)}: {message} ({subject})"
            ) from None


def _why_not(key: str) -> str | None:
    if key.rpartition(".")[2] in DISCRIMINATORS:
        return "another kind has other settings; make it a row of its own"
    if key == "parent" or key.startswith("parent."):
        return "it belongs to another row"
    return _NOT_SEARCHED.get(key)


def _entry(located: Located, key: str) -> Located:
    entry = located.get(key)
    assert entry is not None, key
    return entry
