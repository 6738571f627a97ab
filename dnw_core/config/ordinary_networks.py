"""Settings of the ordinary networks of table ``imagenet``: no graph, so no rule makes them sparse (free of torch)."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import ClassVar, Literal

from pydantic import Field
from typing_extensions import override

from dnw_core.config.budget import GraphSize
from dnw_core.config.network_base import ImageNetworkConfig


class OrdinaryNetworkConfig(ImageNetworkConfig):
    """A network without graphs; its rule is ``complete``."""

    cost_includes_norms: ClassVar[bool] = True
    classes: int = Field(default=1000, gt=1)
    image_size: int = Field(default=224, ge=32, description="pixels a side; the networks halve it five times")

    @override
    def graph_sizes(self) -> list[GraphSize]:
        return []


class MobileNetV2Config(OrdinaryNetworkConfig):
    """MobileNetV2, its widths as near as can be to the ShuffleNetV2 paper's own implementation (facts 4.2)."""

    kind: Literal["mobilenet-v2"]
    implementation: ClassVar[str] = "dnw_core.models.ordinary.mobilenet_v2:MobileNetV2"
    width_multiplier: float = Field(gt=0, le=2)

    def channels(self, full: int) -> int:
        """Return what the width leaves of ``full`` channels: a multiple of eight, rounded up, and at least 16."""
        return max(16, 8 * math.ceil(Fraction(repr(self.width_multiplier)) * full / 8))


class LightDenseNetConfig(OrdinaryNetworkConfig):
    """DenseNet on the ShuffleNetV2 paper's stage table, widths chosen for its budget (facts 4.2)."""

    kind: Literal["light-densenet"]
    implementation: ClassVar[str] = "dnw_core.models.ordinary.light_densenet:LightDenseNet"
    growth: int = Field(gt=0, description="channels that each unit adds")


class LightXceptionConfig(OrdinaryNetworkConfig):
    """The light Xception: stages of 4, 8 and 4 residual blocks of three separable convolutions (facts 4.2)."""

    kind: Literal["light-xception"]
    implementation: ClassVar[str] = "dnw_core.models.ordinary.light_xception:LightXception"
    stem_channels: int = Field(gt=0)
    middle_channels: int = Field(gt=0, description="m of the first stage; doubled in each further one")


class ShuffleNetV1Config(OrdinaryNetworkConfig):
    """ShuffleNetV1 with three groups (facts 4.2)."""

    kind: Literal["shufflenet-v1"]
    implementation: ClassVar[str] = "dnw_core.models.ordinary.pytorchcv_networks:ShuffleNetV1"
    width: Literal["x0.5", "x1"]


class ShuffleNetV2Config(OrdinaryNetworkConfig):
    """ShuffleNetV2 (facts 4.2)."""

    kind: Literal["shufflenet-v2"]
    implementation: ClassVar[str] = "dnw_core.models.ordinary.pytorchcv_networks:ShuffleNetV2"
    width: Literal["x0.5", "x1"]


class MnasNetSmallConfig(OrdinaryNetworkConfig):
    """MnasNet-search2, the small network whose architecture is published (facts 4.2)."""

    kind: Literal["mnasnet-small"]
    implementation: ClassVar[str] = "dnw_core.models.ordinary.pytorchcv_networks:MnasNetSmall"
