"""The tiny networks written plainly, as the baseline of ``training_step.py``.

These networks sort all weights at each application of the graph, use dense 1x1 convolutions and PyTorch's own
instance norm, keep the whole batch in one piece, and let autograd record the solver. They take their parameters from
our networks, so that both compute the same function; ``training_step.py`` checks that before it measures.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchdiffeq import odeint

from dnw_core.models.tiny.base import NORM_EPS, TinyNetwork
from dnw_core.models.tiny.continuous import TinyContinuous
from dnw_core.models.tiny.discrete import TinyDiscrete
from dnw_core.models.tiny.static import TinyStatic


class KeepLargest(torch.autograd.Function):
    """Zero all but the k largest magnitudes, found by a full sort; straight-through gradient."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, keep: int) -> Tensor:
        """Masked weight."""
        order = weight.abs().flatten().argsort()
        effective = weight.clone()
        effective.view(-1)[order[: weight.numel() - keep]] = 0
        return effective

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None]:
        """The gradient, unchanged."""
        return grads[0], None


class PlainTiny(nn.Module):
    """What the three have in common."""

    def __init__(self, ours: TinyNetwork, weight: nn.Parameter, keep: int) -> None:
        super().__init__()
        self.stem, self.node_op, self.classifier = ours.stem, ours.node_op, ours.classifier
        self.weight, self.keep = weight, keep
        self.norm_weight, self.norm_bias = ours.norm_weight, ours.norm_bias
        self.config = ours.config

    def edges(self) -> Tensor:
        """The masked matrix as a 1x1 kernel."""
        return KeepLargest.apply(self.weight, self.keep)[:, :, None, None]

    def norm(self, maps: Tensor, nodes: slice) -> Tensor:
        """Instance norm of these nodes' maps."""
        return F.instance_norm(maps, weight=self.norm_weight[nodes], bias=self.norm_bias[nodes], eps=NORM_EPS)

    def read_out(self, outputs: Tensor) -> Tensor:
        """Crop, average, classify."""
        half = outputs.shape[-1] // 2 - 1
        shift = 0 if self.config.readout_crop == "reference" else 1
        crop = outputs[:, :, half - 1 + shift : half + 2 + shift, half - 1 + shift : half + 2 + shift]
        return self.classifier(F.avg_pool2d(crop.contiguous(), 2, 2).flatten(1))


class PlainStatic(PlainTiny):
    """Block after block."""

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        first_output = self.config.nodes - self.config.output_nodes
        bounds = [0, *range(self.config.input_nodes, self.config.nodes + 1, self.config.block_nodes)]
        inputs = self.stem(images)
        rest = self.config.nodes - self.config.input_nodes
        state = torch.cat([inputs, inputs.new_zeros(len(inputs), rest, *inputs.shape[2:])], dim=1)
        kernel = self.edges()
        for start, stop in pairwise(bounds):
            own = slice(start, stop)
            maps = F.relu(self.norm(state[:, own], own))
            maps = F.conv2d(maps, self.node_op.weight[own], padding=1, groups=stop - start)
            to = min(stop, first_output)
            sent = F.conv2d(maps, kernel[to:, own])
            state = torch.cat([state[:, :to], state[:, to:] + sent], dim=1)
        return self.read_out(state[:, first_output:])


class PlainDiscrete(PlainTiny):
    """Step after step."""

    def slope(self, state: Tensor) -> Tensor:
        """ReLU, node operation, edges, norm."""
        return self.behind_relu(F.relu(state))

    def behind_relu(self, maps: Tensor) -> Tensor:
        """Node operation, edges, norm."""
        maps = F.conv2d(maps, self.node_op.weight, padding=1, groups=self.config.nodes)
        return self.norm(F.conv2d(maps, self.edges()), slice(None))

    def start(self, images: Tensor) -> Tensor:
        """The stem's maps, then zeros."""
        inputs = self.stem(images)
        rest = self.config.nodes - self.config.input_nodes
        return torch.cat([inputs, inputs.new_zeros(len(inputs), rest, *inputs.shape[2:])], dim=1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        state = self.start(images)
        for _ in range(self.config.steps):
            state = self.slope(state)
        return self.read_out(state[:, -self.config.output_nodes :])


class PlainContinuous(PlainDiscrete):
    """From 0 to 1; the reference's ReLU works in place, on the states that the solver goes on from."""

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        state = self.start(images).float()
        times = torch.tensor([0.0, 1.0], device=images.device)
        config = self.config
        in_place = config.ode_ends == "reference"

        def slope(t: Tensor, z: Tensor) -> Tensor:
            return self.behind_relu(F.relu(z, inplace=in_place))

        end = odeint(slope, state, times, rtol=config.rtol, atol=config.atol, method="dopri5")[-1]
        return self.read_out(end[:, -self.config.output_nodes :])


def plain_version(ours: TinyNetwork, weight: nn.Parameter, keep: int) -> PlainTiny:
    """Return the plain network that shares ``ours``'s parameters."""
    plain: type[PlainTiny]
    if isinstance(ours, TinyStatic):
        plain = PlainStatic
    elif isinstance(ours, TinyDiscrete):
        plain = PlainDiscrete
    else:
        assert isinstance(ours, TinyContinuous)
        plain = PlainContinuous
    return plain(ours, weight, keep)
