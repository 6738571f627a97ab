"""Random sequences of what people do to a network: after each, the layers use the promised edges and no others."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable

import pytest
import torch
from support.networks.every_rule import RULES
from support.networks.sparse_rules import Loop, assert_layers_keep_the_promise, little
from torch.func import functional_call
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.checkpoint import checkpoint

from dnw_core import effective_weights


class Anything:
    """A network with a rule, its averages and copies, and the things that can be done next."""

    def __init__(self, rule: str, adaptive: bool) -> None:
        self.rule, self.adaptive = rule, adaptive
        self.follow(little(rule), 0)
        self.saved = io.BytesIO()
        self.save()

    def follow(self, made: torch.nn.Module, done: int) -> None:
        """Go on with this network, a new optimiser and a new average of its buffers, too."""
        kind = torch.optim.AdamW if self.adaptive else torch.optim.SGD
        others = {} if self.adaptive else {"momentum": 0.9}
        optimiser = kind(made.parameters(), lr=0.05, weight_decay=1e-2, **others)  # type: ignore[arg-type]
        self.loop = Loop(made, optimiser, epochs=4, steps=3)
        self.loop.done = done
        self.average = AveragedModel(made, multi_avg_fn=get_ema_multi_avg_fn(0.7), use_buffers=True)

    @property
    def made(self) -> torch.nn.Module:
        """The network."""
        return self.loop.made

    def step(self) -> None:
        """A step as the documentation has it."""
        self.loop.step()

    def forward(self) -> None:
        """In training and in evaluation, computed once."""
        with effective_weights():
            self.loop.loss()
            self.made.eval()
            self.loop.loss()
        self.made.train()

    def backward(self) -> None:
        """Gradients that nobody uses (yet), under activation checkpointing."""
        with effective_weights():
            out = checkpoint(self.made, torch.ones(2, 10), use_reentrant=False)
            assert out is not None
            out.square().mean().backward()

    def unhooked_step(self) -> None:
        """The optimiser by itself."""
        self.loop.backward()
        self.loop.optimiser.step()

    def hooks_alone(self) -> None:
        """Hooks without gradients."""
        self.made.zero_grad()
        self.loop.wiring.before_step(self.loop.done)
        self.loop.wiring.after_step(self.loop.done)

    def overflow(self) -> None:
        """A step whose gradients are not finite, passed over."""
        self.loop.backward()
        for one in self.made.parameters():
            if one.grad is not None:
                one.grad.fill_(torch.inf)
        self.loop.wiring.before_step(self.loop.done)
        self.loop.wiring.after_step(self.loop.done)

    def noise(self) -> None:
        """Somebody writes into the weights."""
        with torch.no_grad():
            for one in self.made.parameters():
                if one.requires_grad and one.ndim == 2 and one.numel() > 1:
                    one.add_(torch.randn(one.shape, generator=torch.Generator().manual_seed(self.loop.done)) / 4)

    def deepcopy(self) -> None:
        """Training goes on with a copy."""
        self.follow(copy.deepcopy(self.made), self.loop.done)

    def save(self) -> None:
        """To a file."""
        self.saved = io.BytesIO()
        torch.save((self.made.state_dict(), self.loop.done), self.saved)

    def load(self) -> None:
        """Into a fresh network."""
        self.saved.seek(0)
        state, done = torch.load(self.saved, weights_only=True)
        fresh = little(self.rule)
        fresh.load_state_dict(state)
        self.follow(fresh, done)

    def ema(self) -> None:
        """The average over parameters and buffers moves."""
        self.average.update_parameters(self.made)

    def autocast(self) -> None:
        """A forward and backward pass in bfloat16."""
        with torch.autocast("cpu", torch.bfloat16):
            loss = self.made(torch.ones(2, 10)).float().square().mean()
        loss.backward()

    def other_parameters(self) -> None:
        """``functional_call`` with everything tripled, within the context."""
        with effective_weights(), torch.no_grad():
            self.made(torch.ones(2, 10))
            functional_call(self.made, {n: 3 * p.detach() for n, p in self.made.named_parameters()}, torch.ones(2, 10))


ACTIONS: list[Callable[[Anything], None]] = [
    Anything.step,
    Anything.forward,
    Anything.backward,
    Anything.unhooked_step,
    Anything.hooks_alone,
    Anything.overflow,
    Anything.noise,
    Anything.deepcopy,
    Anything.save,
    Anything.load,
    Anything.ema,
    Anything.autocast,
    Anything.other_parameters,
]


@pytest.mark.parametrize("rule", RULES)
def test_the_layers_use_the_promised_edges(rule: str) -> None:
    """The network, its average and what was said of both, whatever is done in whatever order."""
    from hypothesis import HealthCheck, Phase, given, settings  # takes long to import
    from hypothesis import strategies as st

    # steps come three times as often as each of the others, so that schedules get somewhere
    any_actions = st.lists(st.sampled_from([Anything.step] * 3 + ACTIONS), min_size=4, max_size=14)

    @settings(
        max_examples=6,
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(adaptive=st.booleans(), actions=any_actions)
    def keeps_the_promise(adaptive: bool, actions: list[Callable[[Anything], None]]) -> None:
        state = Anything(rule, adaptive)
        for number, action in enumerate(actions):
            action(state)
            why = [one.__name__ for one in actions[: number + 1]]
            assert_layers_keep_the_promise(state.made, why)
            assert_layers_keep_the_promise(state.average.module, why)

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the masks of a copied network were averaged")
        warnings.filterwarnings("ignore", "SNIP keeps all edges")
        keeps_the_promise()
