"""What is live of a residual network: arithmetic on masks, pixel by pixel; no weight's value is looked at.

Backwards from the logits: which pixels of which channel can influence the output. An edge [o, i, y, x] is live if, at
some pixel of its receiver o that matters, its kernel position meets a real pixel of its sender i and not the padding;
the pixels that it meets there are the ones that matter of its sender. So a strided 1x1 shortcut reads every second
pixel only, and on maps of one pixel a 3x3 kernel has its centre alone.

A channel that receives nothing still sends a constant, its norm's shift (Q21): edges from it are live. Norms that learn
nothing have no shift, and there a channel without input is silent: edges from it carry nothing and are dead. That walk
goes forwards, channel by channel.

Legend: o receivers, i senders, y and x kernel positions, r rows and c columns of pixels that are read, q and p of those
that are written.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from dnw_core.config import BlockLayers, KernelLayer, ResidualConfig
from dnw_core.models.graph import any_along


def live_edges(config: ResidualConfig, masks: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the live ones of these kept edges for every weight of the network, [o, i, y, x], by name.

    Args:
        config: of the network.
        masks: kept edges by graph name; of a weight without a mask everything is kept.
    """
    kept = {layer.name: _kernel_mask(layer, masks.get(layer.name)) for layer in config.layers()}
    if not config.norm_affine:
        kept = _spoken(config, kept)
    walk = _Backwards(kept)
    matter = walk.through(config.read_out(), torch.ones(config.classes, 1, 1, dtype=torch.bool))
    last = config.blocks()[-1].side
    matter = matter.expand(-1, last, last)  # the mean reads every pixel
    for block in reversed(config.blocks()):
        matter = walk.through_block(block, matter)
    if config.pooled:
        matter = _before_pooling(matter, config.stem().side)
    walk.through(config.stem(), matter)
    return walk.live


def _kernel_mask(layer: KernelLayer, mask: Tensor | None) -> Tensor:
    shape = (layer.outputs, layer.inputs, layer.kernel, layer.kernel)
    return torch.ones(shape, dtype=torch.bool) if mask is None else mask.cpu().view(shape)


class _Backwards:
    """The walk from the logits to the images; ``live`` has what it has found so far."""

    def __init__(self, kept: dict[str, Tensor]) -> None:
        self.kept = kept
        self.live: dict[str, Tensor] = {}

    def through_block(self, block: BlockLayers, matter_oqp: Tensor) -> Tensor:
        """From what matters of a block's output to what matters of its input."""
        matter = matter_oqp
        for layer in reversed(block.path):
            matter = self.through(layer, matter)
        passed = self.through(block.shortcut, matter_oqp) if block.shortcut else matter_oqp
        return matter | passed

    def through(self, layer: KernelLayer, matter_oqp: Tensor) -> Tensor:
        """Note the layer's live edges; return which pixels matter of its senders, [i, r, c]."""
        reads = _reads(layer.kernel, layer.stride, layer.side_in)
        meets = reads.any(dim=2).float()  # [y, q]: not the padding
        whole = matter_oqp.flatten(1).all(dim=1)
        partly = matter_oqp.flatten(1).any(dim=1) & ~whole
        met_oyx = torch.zeros(layer.outputs, layer.kernel, layer.kernel, dtype=torch.bool)
        met_oyx[whole] = meets.any(dim=1)[:, None] & meets.any(dim=1)
        if partly.any():
            met_oyx[partly] = torch.einsum("oqp,yq,xp->oyx", matter_oqp[partly].float(), meets, meets) > 0
        live = self.kept[layer.name] & met_oyx[:, None]
        self.live[layer.name] = live
        # most receivers matter at every pixel: then what a kernel position reads is the same for all of them
        taps_iyx = any_along(live if whole.all() else live[whole], 0).float()
        read = reads.any(dim=1).float()  # [y, r]
        matter = torch.einsum("iyx,yr,xc->irc", taps_iyx, read, read) > 0
        if partly.any():
            matter |= _pixels_read(layer, live[partly], matter_oqp[partly])
        return matter


def _reads(kernel: int, stride: int, side_in: int) -> Tensor:
    """Which pixel a kernel position reads for which written one, along one axis, [y, q, r]; of padding, none."""
    position = torch.arange(kernel)[:, None, None] - kernel // 2
    written = torch.arange(-(-side_in // stride))[:, None]
    return stride * written + position == torch.arange(side_in)


def _pixels_read(layer: KernelLayer, edges: Tensor, matter_oqp: Tensor) -> Tensor:
    """Which pixels these edges read for the written ones that matter, [i, r, c]: a transposed convolution of counts."""
    padding = layer.kernel // 2
    reached = layer.stride * (layer.side - 1) + layer.kernel - 2 * padding
    counts = F.conv_transpose2d(
        matter_oqp.float()[None], edges.float(), None, layer.stride, padding, layer.side_in - reached
    )
    return counts[0] > 0.5


def _before_pooling(matter_oqp: Tensor, side_in: int) -> Tensor:
    reads = _reads(3, 2, side_in).any(dim=0).float()  # [q, r]
    return torch.einsum("oqp,qr,pc->orc", matter_oqp.float(), reads, reads) > 0


def _spoken(config: ResidualConfig, kept: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those of the kept edges whose sender has an input, where a channel without one sends nothing."""
    spoken: dict[str, Tensor] = {}

    def through(layer: KernelLayer, speaks_i: Tensor) -> Tensor:
        meets = _reads(layer.kernel, layer.stride, layer.side_in).any(dim=2).any(dim=1)
        spoken[layer.name] = kept[layer.name] & speaks_i[:, None, None]
        return any_along((spoken[layer.name] & meets[:, None] & meets).flatten(1), 1)

    stem = config.stem()
    speaks = through(stem, torch.ones(stem.inputs, dtype=torch.bool))
    for block in config.blocks():
        made = speaks
        for layer in block.path:
            made = through(layer, made)
        speaks = made | (through(block.shortcut, speaks) if block.shortcut else speaks)
    through(config.read_out(), speaks)
    return spoken
