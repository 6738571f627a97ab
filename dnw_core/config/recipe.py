"""The recipe: everything that determines a trained network, except the seed.

Free of torch. Its fingerprint names the folder of a trial's result (``docs/architecture.md``).
"""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

from pydantic import Field, model_validator

from dnw_core.config.base import Config
from dnw_core.config.registered import NetworkConfig, WiringConfig

DatasetName = Literal["cifar10", "digits", "imagenet", "image-folder"]
STREAMED: tuple[DatasetName, ...] = ("imagenet", "image-folder")  # too large for memory, images of any size
Precision = Literal["fp32", "tf32", "bf16"]


class ImageCounts(NamedTuple):
    """Images of a data set."""

    train: int
    test: int


DATASET_IMAGES: dict[DatasetName, ImageCounts] = {
    "cifar10": ImageCounts(50_000, 10_000),
    "digits": ImageCounts(1_437, 360),
    "imagenet": ImageCounts(1_281_167, 50_000),
}
"""Images of the data sets whose contents are fixed."""


class DataConfig(Config):
    """Which images, and how a training batch is augmented (facts 3)."""

    dataset: DatasetName
    crop_padding: int = Field(
        default=4, ge=0, le=16, description="zero pixels a side before the random crop; 0: no crop"
    )
    flip: bool = Field(default=True, description="mirror each training image with probability one half")
    crop: Literal["padded", "random-resized"] = Field(
        default="padded",
        description="padded: a window of the zero-padded image; random-resized: a random part, resized (facts 3), and "
        "in evaluation the centre of the image at 256/224 of the network's size",
    )
    color_jitter: float = Field(
        default=0.0, ge=0, lt=1, description="largest relative change of brightness, contrast and saturation"
    )
    pixels: Literal["normalised", "bgr-255"] = Field(
        default="normalised", description="normalised: mean and std of the data set; bgr-255: 0 to 255, blue first"
    )
    content: str | None = Field(
        default=None, description="of an image-folder: digest of what it holds; the planner fills it in"
    )
    train_images: int | None = Field(default=None, gt=0, description="use only the first n training images; None: all")
    test_images: int | None = Field(default=None, gt=0, description="use only the first n test images; None: all")
    validation_images: int = Field(
        default=0, ge=0, description="hold out the last n training images and score on them instead of the test images"
    )

    @model_validator(mode="after")
    def _check_dataset(self) -> DataConfig:
        streamed = self.dataset in STREAMED
        if streamed != (self.crop == "random-resized"):
            wanted = "random-resized" if streamed else "padded"
            raise ValueError(f"crop {self.crop} does not exist for {self.dataset}; set crop: {wanted}")
        if streamed and self.crop_padding:
            raise ValueError(f"crop_padding is for padded crops; set crop_padding: 0 for {self.dataset}")
        if not streamed and (self.color_jitter or self.pixels != "normalised"):
            raise ValueError(f"color_jitter and pixels are for {' and '.join(STREAMED)}, not for {self.dataset}")
        if self.content is not None and self.dataset != "image-folder":
            raise ValueError(f"content is for image-folder; {self.dataset} is known by its name")
        return self


class OptimiserConfig(Config):
    """SGD with momentum (no Nesterov), as in every recipe of the paper (facts 3)."""

    learning_rate: float = Field(default=0.1, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(
        default=1e-4, ge=0, description="on every parameter (norms, biases, unselected edges) but the undecayed ones"
    )
    undecayed: Literal["nothing", "norms", "norms-off-shortcuts"] = Field(
        default="nothing",
        description="parameters without weight decay; norms-off-shortcuts (Q17): the released code, whose filter of "
        "names misses the norms of the shortcuts' convolutions",
    )


WarmupEpochs: int = Field(
    default=0, ge=0, description="epochs of a linear rise: in the first of n, 1/n of the rate; constant in each"
)


class MultiStepConfig(Config):
    """Constant learning rate, multiplied by ``factor`` from each milestone epoch on (facts 3)."""

    kind: Literal["multi-step"]
    milestones: Annotated[tuple[int, ...], Field(strict=False, description="epochs, counted from 0")]
    factor: float = Field(default=0.1, gt=0, le=1)
    warmup_epochs: int = WarmupEpochs

    @model_validator(mode="after")
    def _check_order(self) -> MultiStepConfig:
        if any(epoch < 0 for epoch in self.milestones) or list(self.milestones) != sorted(self.milestones):
            raise ValueError(f"milestones are {list(self.milestones)}; they must be rising epochs from 0 on")
        return self


class CosineConfig(Config):
    """Half a cosine to zero, stepped before each optimiser step: the last step has rate 0 (facts Q13)."""

    kind: Literal["cosine"]


class LinearConfig(Config):
    """A straight line to zero, stepped like the cosine (the ShuffleNet recipe, facts 4.2)."""

    kind: Literal["linear"]


class EpochCosineConfig(Config):
    """Half a cosine over the epochs after the warm-up, constant in each; the last is above zero (facts 3)."""

    kind: Literal["epoch-cosine"]
    warmup_epochs: int = WarmupEpochs


ScheduleConfig = Annotated[
    MultiStepConfig | CosineConfig | LinearConfig | EpochCosineConfig, Field(discriminator="kind")
]


class Recipe(Config):
    """Everything that determines the trained network, except the seed."""

    network: NetworkConfig
    wiring: WiringConfig
    data: DataConfig
    optimiser: OptimiserConfig = OptimiserConfig()
    schedule: ScheduleConfig
    epochs: int = Field(gt=0)
    batch_size: int = Field(gt=0, description="images a step, also in evaluation; the last batch may be smaller")
    precision: Precision = "fp32"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="of the training loss; scores have none")
    batch_norm_images: int | None = Field(
        default=None,
        gt=0,
        description="images whose statistics a batch norm takes together in training (Q19); None: the whole batch",
    )
    drop_last: bool = Field(default=False, description="leave out an epoch's last batch if it is smaller (facts 3)")
    parent: Recipe | None = Field(default=None, description="recipe of the trial that this one starts from (same seed)")

    @model_validator(mode="after")
    def _check_parent(self) -> Recipe:
        if self.wiring.needs_parent and self.parent is None:
            raise ValueError(f"rule {self.wiring.rule} starts from a finished trial; name its row with needs")
        if self.parent is not None:
            if not self.wiring.needs_parent:
                raise ValueError(f"rule {self.wiring.rule} takes nothing from another trial; drop needs")
            if self.parent.network != self.network:
                raise ValueError("the needed row has another network; a trial takes over weights of its own shape")
        return self

    @model_validator(mode="after")
    def _check_momentum(self) -> Recipe:
        if self.wiring.needs_momentum and not self.optimiser.momentum:
            raise ValueError(f"rule {self.wiring.rule} grows edges by momentum; set optimiser.momentum above 0")
        return self

    @model_validator(mode="after")
    def _check_batch(self) -> Recipe:
        if self.batch_norm_images is not None and self.batch_size % self.batch_norm_images:
            raise ValueError(
                f"batch_norm_images is {self.batch_norm_images}; it must divide batch_size ({self.batch_size})"
            )
        return self

    @property
    def batch_groups(self) -> int:
        """Parts of a batch with batch statistics of their own: the GPUs of the published recipe (Q19)."""
        return 1 if self.batch_norm_images is None else self.batch_size // self.batch_norm_images

    @property
    def worker_counts(self) -> list[int]:
        """The numbers of workers that can share the groups of a batch evenly, ascending."""
        return [workers for workers in range(1, self.batch_groups + 1) if self.batch_groups % workers == 0]

    @model_validator(mode="after")
    def _check_budget(self) -> Recipe:
        budget = self.wiring.budget
        if budget is not None:
            for graph in self.network.graph_sizes():
                budget.check(graph)
        return self

    def with_epochs(self, epochs: int) -> Recipe:
        """Return the recipe compressed (or stretched) to ``epochs``: milestones and warm-up move in proportion."""
        if epochs <= 0:
            raise ValueError(f"epochs is {epochs}; it must be at least 1")
        schedule = self.schedule
        if isinstance(schedule, MultiStepConfig):
            moved = tuple(round(milestone * epochs / self.epochs) for milestone in schedule.milestones)
            schedule = schedule.model_copy(update={"milestones": moved})
        if isinstance(schedule, MultiStepConfig | EpochCosineConfig):
            warmup = round(schedule.warmup_epochs * epochs / self.epochs)
            schedule = schedule.model_copy(update={"warmup_epochs": warmup})
        return self.model_copy(update={"epochs": epochs, "schedule": schedule})
