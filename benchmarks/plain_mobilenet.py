"""The MobileNetV1-like graph network written plainly, as the baseline of ``training_step.py``.

It follows facts 1.1, 2.1: a full sort of each block's weights in each step, dense 1x1 convolutions from each group to
all later ones, PyTorch's own norms, everything in the default memory order. It takes its parameters from our network,
so that both compute the same function; ``training_step.py`` checks that before it measures.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.plain_tiny import KeepLargest
from dnw_core.models.mobilenet.graph_mobilenet import GraphMobileNet
from dnw_core.wiring.rule import AttachedRule


class PlainGraphMobileNet(nn.Module):
    """Stem, blocks, read-out."""

    def __init__(self, ours: GraphMobileNet, attached: list[AttachedRule]) -> None:
        super().__init__()
        self.stem, self.norm, self.classifier = ours.stem, ours.norm, ours.classifier
        self.blocks = ours.blocks
        self.weights = [one.weight for one in attached]
        self.keep = [one.rule.kept_edges for one in attached]

    def forward(self, images: Tensor) -> Tensor:
        """Return logits."""
        maps = self.stem(images)
        for block, weight, keep in zip(self.blocks, self.weights, self.keep, strict=True):
            maps = plain_block(block, KeepLargest.apply(weight, keep)[:, :, None, None], maps)
        features = F.adaptive_avg_pool2d(F.relu(self.norm(maps)), 1).flatten(1)
        logits: Tensor = self.classifier(features)
        return logits


def plain_block(block: nn.Module, kernel: Tensor, maps: Tensor) -> Tensor:
    """Let each group send to all later ones; return what the last one received."""
    shape = block.shape
    sums: Tensor | None = None
    start = 0
    for group, nodes in enumerate(block.senders):
        if sums is not None:
            maps = sums[:, : shape.outputs]
        sent = nodes.node_op(F.relu(nodes.norm(maps)))
        stop = start + sent.shape[1]
        arriving = F.conv2d(sent, kernel[group * shape.outputs :, start:stop])
        sums = arriving if sums is None else sums[:, shape.outputs :] + arriving
        start = stop
    assert sums is not None
    return sums
