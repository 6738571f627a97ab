"""The gradients of all workers, summed in one exchange per step.

Not torch's DistributedDataParallel: it wants one forward pass through the whole network before each backward one,
where a share may have several groups (or, in an epoch's last batch, none at all) and the effective weights are
computed once for all of them; its sums are means over equal shares, which ours need not be; and the step's loss, its
correct images and the wish to stop ride along here without an exchange of their own. What it would gain, sending
while the backward pass still runs, is small for these networks: all 13 million gradients are one message.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dnw_core.training.engine.group import WorkerGroup


class GradientSum:
    """One flat buffer: gradients, which parameters have one, loss, correct images, stop.

    Args:
        group: the workers; more than one.
        parameters: those of the network that may have a gradient, in the same order on every worker; float32, on one
            device.
    """

    def __init__(self, group: WorkerGroup, parameters: list[nn.Parameter]) -> None:
        self.group = group
        self.parameters = parameters
        assert all(parameter.dtype == torch.float32 for parameter in parameters)
        sizes = [parameter.numel() for parameter in parameters]
        self.flat = torch.zeros(sum(sizes) + len(sizes) + 3, device=parameters[0].device)
        *places, self.presence, self.loss, self.correct, self.stop = torch.split(
            self.flat, [*sizes, len(sizes), 1, 1, 1]
        )
        self.gradients = [place.view(parameter.shape) for place, parameter in zip(places, parameters, strict=True)]
        self._present: list[bool] = []
        self._presence = torch.zeros(0)

    def __call__(self, loss: Tensor | None, correct: Tensor | None, *, stop: bool) -> tuple[Tensor, Tensor]:
        """Replace every parameter's gradient by the sum over all workers; return the sums of loss and correct.

        A parameter without a gradient has none on any worker and keeps none, so that the optimiser passes it over as
        it does in a single process (momentum and decay included).

        Args:
            loss: this worker's part of the batch's mean loss; None if its share is empty.
            correct: correct images of its share; None likewise.
            stop: whether this worker asks to stop.
        """
        if loss is None or correct is None:
            self.flat.zero_()
        else:
            self._fill(loss, correct)
        self.stop.fill_(float(stop))
        self.group.all_reduce(self.flat)
        # an empty share has no gradients to tell by: it looks at what the others sent
        present = self.presence.gt(0).tolist() if loss is None else self._present
        for parameter, gradient, given in zip(self.parameters, self.gradients, present, strict=True):
            parameter.grad = gradient if given else None
        return self.loss.clone().squeeze(), self.correct.to(torch.int64).squeeze()

    def stop_agreed(self) -> bool:
        """Whether any worker asked to stop in the last step; the same answer on all. Waits for the device."""
        return bool(self.stop > 0)

    def _fill(self, loss: Tensor, correct: Tensor) -> None:
        given = [parameter.grad for parameter in self.parameters]
        present = [gradient is not None for gradient in given]
        if present != self._present:
            self._present = present
            self._presence = torch.tensor(present, dtype=torch.float32).to(self.flat.device)
        places = [place for place, gradient in zip(self.gradients, given, strict=True) if gradient is not None]
        torch._foreach_copy_(places, [gradient for gradient in given if gradient is not None])
        for place, gradient in zip(self.gradients, given, strict=True):
            if gradient is None:
                place.zero_()
        self.presence.copy_(self._presence)
        self.loss.copy_(loss.detach())
        self.correct.copy_(correct)
