"""What the layers of a sparse network really multiply with, and a training loop that moves it."""

from __future__ import annotations

import warnings

import torch
from torch import nn

from dnw_core import Run, Wiring, layer_table
from dnw_core.wiring.attach import attached_rules
from support.networks.every_rule import sparse


def little(rule: str) -> nn.Module:
    """Two linear layers of 160 and 64 weights with the rule, the rules' own random state, and no other."""
    torch.manual_seed(0)
    return sparse(rule, made=nn.Sequential(nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, 4)))


def assert_layers_keep_the_promise(made: nn.Module, why: object = "") -> None:
    """Evaluation multiplies with no entry outside the edges, and these are as many as each rule and all promise.

    ``Wiring.edges`` itself compares the edges with the promise; this compares the layers with the edges.
    """
    edges = Wiring(made).edges()
    was_training = made.training
    made.eval()
    with torch.no_grad():
        for here in attached_rules(made):
            used = getattr(here.module, here.weight_name) != 0
            assert not (used & ~edges[here.name]).any(), (why, here.name)
    made.train(was_training)
    assert layer_table(made).total.kept == sum(int(own.sum()) for own in edges.values())


def sgd(made: nn.Module) -> torch.optim.Optimizer:
    """SGD with momentum and decay."""
    return torch.optim.SGD(made.parameters(), lr=0.2, momentum=0.9, weight_decay=1e-2)


def trained(rule: str, steps: int) -> nn.Module:
    """The little network after so many steps."""
    made = little(rule)
    Loop(made, sgd(made)).train(steps)
    return made


def same_edges(one: nn.Module, other: nn.Module) -> bool:
    """Whether two networks have the same edges at this moment."""
    own, theirs = Wiring(one).edges(), Wiring(other).edges()
    return list(own) == list(theirs) and all(torch.equal(own[name], theirs[name]) for name in own)


class Loop:
    """Somebody's training loop around the little network, epoch by epoch, with the rules' hooks."""

    def __init__(self, made: nn.Module, optimiser: torch.optim.Optimizer, *, epochs: int = 3, steps: int = 4) -> None:
        self.made, self.optimiser = made, optimiser
        self.wiring = Wiring(made, optimiser)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of decay that a rule's own parameter lacks
            self.wiring.begin(Run(epochs, steps))
        self.epochs, self.steps = epochs, steps
        self.done = 0

    def loss(self) -> torch.Tensor:
        """Of this step's batch."""
        x = torch.randn(8, 10, generator=torch.Generator().manual_seed(self.done))
        loss: torch.Tensor = (self.made(x) - x[:, :4].abs()).square().mean()
        return loss

    def backward(self) -> None:
        """New gradients."""
        self.optimiser.zero_grad()
        self.loss().backward()  # type: ignore[no-untyped-call]

    def closure(self) -> torch.Tensor:
        """As LBFGS and its like ask for it, several times in a step."""
        self.optimiser.zero_grad()
        loss = self.loss()
        loss.backward()  # type: ignore[no-untyped-call]
        self.wiring.before_step(self.done)
        return loss

    def train(self, steps: int) -> None:
        """Take so many steps."""
        for _ in range(steps):
            self.step()

    def step(self) -> None:
        """One step with its hooks, and those of an epoch's end where it is one."""
        if isinstance(self.optimiser, torch.optim.LBFGS):
            self.optimiser.step(self.closure)  # type: ignore[no-untyped-call]
        else:
            self.backward()
            self.wiring.before_step(self.done)
            self.optimiser.step()
        self.wiring.after_step(self.done)
        self.done += 1
        if self.done % self.steps == 0:
            self.wiring.after_epoch(self.done // self.steps - 1)
