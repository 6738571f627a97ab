"""SET: what it grows is drawn, from every free slot alike and from its own random state."""

from __future__ import annotations

import torch
from support.networks.double_layers import DoubleLayers

from dnw_core.wiring.rule import Run


def test_set_grows_every_free_slot_alike() -> None:
    """10 of 40 edges dropped, 1,000 times: each of the 50 slots then free grows with chance 1/5, whatever the gradient.

    These are the 40 never used and the 10 just dropped; slots are alike and independent of one another.
    """
    values = [float(n) for n in range(1, 41)] + [0.0] * 40
    trial = DoubleLayers("set", [(8, 10)], Run(1, 4), drop_fraction=0.5, updates=2, updates_end=1.0)
    grown = torch.zeros(80)
    for _ in range(1000):
        here = trial.lay_out(values, values, values)
        trial.wiring.begin(Run(1, 4))  # else it would be the same step once more
        trial.wiring.before_step(2)
        grown += here.edges().flatten()
    assert torch.equal(grown[10:40], torch.full((30,), 1000.0))
    free = torch.cat([grown[:10], grown[40:]])
    # binomial with a standard deviation of 12.6; the largest of 50 deviations stays within four of them
    assert int(free.sum()) == 10_000
    assert float((free - 200).abs().max()) < 51
    assert 6 < float((free - 200).square().mean().sqrt()) < 19


def test_set_draws_from_its_buffers_alone() -> None:
    """The same draw with the same buffers whatever the outside random state; another at the next update or seed."""
    first, other = (DoubleLayers("set", [(20, 20)], Run(1, 10), seed=seed).rule for seed in (0, 1))
    state = {name: value.clone() for name, value in first.state_dict().items()}
    draws = [first.growth_scores(torch.zeros(20, 20)) for _ in range(2)]
    assert not torch.equal(draws[0], draws[1])
    assert not torch.equal(other.growth_scores(torch.zeros(20, 20)), draws[0])
    other.load_state_dict(state)
    torch.manual_seed(99)
    assert torch.equal(other.growth_scores(torch.zeros(20, 20)), draws[0])
    assert torch.equal(other.growth_scores(torch.zeros(20, 20)), draws[1])
