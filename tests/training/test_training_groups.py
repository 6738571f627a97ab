"""Batch statistics per group, and the same step whoever computes a group (facts Q19)."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from support.networks.worker_steps import CASES, Plain, feed_of, on_two_workers, recipe_of, small_graph, train_case
from torch import Tensor, nn
from torch.nn import functional as F

from dnw_core.data.feeds.feed import Batch
from dnw_core.errors import UserError
from dnw_core.training.engine.group import SINGLE, check_workers
from dnw_core.training.engine.loop import evaluate
from dnw_core.training.engine.optimiser import make_optimiser
from dnw_core.training.engine.step import TrainingStep
from dnw_core.wiring.rule import effective_weights


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def some_batch(count: int) -> Batch:
    """Random images and labels."""
    generator = torch.Generator().manual_seed(4)
    images = torch.randn(count, 3, 32, 32, generator=generator)
    return Batch(images, torch.randint(0, 10, (count,), generator=generator), count)


def like_data_parallel(network: nn.Module, batch: Batch, sizes: list[int]) -> tuple[float, list[Tensor]]:
    """What torch's DataParallel does, in plain words: a copy a group; the loss over all; gradients summed.

    The network itself is the first group's copy, so that its running statistics move and no other's show.
    """
    copies = [network, *(copy.deepcopy(network) for _ in sizes[1:])]
    logits = []
    for model, images in zip(copies, batch.images.split(sizes), strict=True):
        if len(images):
            with effective_weights():
                logits.append(model(images))
    loss = F.cross_entropy(torch.cat(logits), batch.labels)
    loss.backward()
    gradients = [[p.grad for p in model.parameters()] for model in copies]
    return float(loss.detach()), [sum(p for p in parts if p is not None) for parts in zip(*gradients, strict=True)]


@pytest.mark.parametrize(("count", "sizes"), [(16, [4, 4, 4, 4]), (11, [3, 3, 3, 2]), (2, [1, 1, 0, 0])])
def test_a_batch_in_groups_is_what_data_parallel_does(count: int, sizes: list[int]) -> None:
    """Loss, gradients and running statistics, in both memory orders of the graph network; also incomplete batches."""
    torch.manual_seed(0)
    ours, batch = small_graph(), some_batch(count)
    theirs = copy.deepcopy(ours)
    expected_loss, expected = like_data_parallel(theirs, batch, sizes)
    recipe = recipe_of("graph")
    step = TrainingStep(recipe, ours, torch.optim.SGD(ours.parameters(), lr=0.0))
    loss, _ = step(batch)
    assert float(loss) == pytest.approx(expected_loss, rel=1e-6)
    for parameter, gradient in zip(ours.parameters(), expected, strict=True):
        assert torch.allclose(parameter.grad, gradient, rtol=1e-4, atol=1e-6)
    buffers = dict(theirs.named_buffers())
    assert any("running_mean" in name for name in buffers)
    for name, buffer in ours.named_buffers():
        assert torch.equal(buffer, buffers[name]), name
        if "num_batches_tracked" in name:
            assert buffer == 1


def test_groups_change_the_result() -> None:
    """The comparisons here can fail: statistics of the whole batch give another loss."""
    torch.manual_seed(0)
    network, batch = small_graph(), some_batch(16)
    losses = [
        float(TrainingStep(recipe, network, torch.optim.SGD(network.parameters(), lr=0.0))(batch)[0])
        for recipe in (recipe_of("graph"), recipe_of("graph", batch_norm_images=None))
    ]
    assert abs(losses[0] - losses[1]) > 1e-3


def test_one_group_is_the_plain_step_to_the_bit() -> None:
    """Mean cross entropy, one backward pass, one optimiser step, written plainly."""
    torch.manual_seed(0)
    ours, batch = small_graph(), some_batch(13)
    plain = copy.deepcopy(ours)
    recipe = recipe_of("graph", batch_norm_images=None)
    loss, correct = TrainingStep(recipe, ours, make_optimiser(recipe, ours))(batch)
    optimiser = make_optimiser(recipe, plain)
    with effective_weights():
        logits = plain(batch.images)
        expected = F.cross_entropy(logits, batch.labels)
        expected.backward()
    optimiser.step()
    assert torch.equal(loss, expected.detach())
    assert correct == (logits.argmax(dim=1) == batch.labels).sum()
    for left, right in zip(ours.state_dict().values(), plain.state_dict().values(), strict=True):
        assert torch.equal(left, right)


def test_each_group_draws_for_itself() -> None:
    """What a group draws depends on its place, the step and the seed, and on nothing that was drawn before."""
    network, batch, drawn = Plain(), some_batch(16), []

    def model(images: Tensor) -> Tensor:
        drawn.append(float(torch.rand(())))
        logits: Tensor = network(images)
        return logits

    for seed, epoch, index in ((0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 0, 0)):
        recipe = recipe_of("dropout")
        TrainingStep(recipe, network, make_optimiser(recipe, network), model, seed=seed)(batch, epoch, index)
    assert len(set(drawn)) == 16
    assert drawn[:4] == drawn[16:]


def test_label_smoothing_is_in_the_training_loss_only() -> None:
    """torch's own, summed over groups; scores have none."""
    torch.manual_seed(0)
    network, batch = Plain().eval(), some_batch(16)  # as in evaluation: nothing dropped, so that both can be compared
    recipe = recipe_of("dropout", label_smoothing=0.1)
    step = TrainingStep(recipe, network, torch.optim.SGD(network.parameters(), lr=0.0))
    loss, _ = step(batch)
    with torch.no_grad():
        logits = network(batch.images)
    assert float(loss) == pytest.approx(float(F.cross_entropy(logits, batch.labels, label_smoothing=0.1)), rel=1e-6)
    assert abs(float(loss) - float(F.cross_entropy(logits, batch.labels))) > 1e-4
    scores = [
        evaluate(recipe_of("dropout", label_smoothing=value), network, network, feed_of(recipe)) for value in (0.0, 0.1)
    ]
    assert scores[0] == scores[1]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two workers over gloo found (``worker_steps``), started once."""
    return on_two_workers(tmp_path_factory.mktemp("pair"))


@pytest.mark.parametrize("case", CASES)
def test_two_workers_train_as_one_does(pair: list[dict[str, Any]], case: str) -> None:
    """After 20 steps, some of them with nothing for the second worker: the lone worker's weights, losses and scores.

    The graph network, a rule that draws its edges in every step, one that moves them by the workers' summed gradients,
    and a network with dropout and a weight that never gets a gradient (no decay then either).
    """
    alone = train_case(case)
    for found in pair:
        for name, value in alone["state"].items():
            assert torch.allclose(found[case]["state"][name].double(), value.double(), rtol=0, atol=1e-5), name
        for (loss, correct), (expected, right) in zip(found[case]["sums"], alone["sums"], strict=True):
            assert loss == pytest.approx(expected, rel=1e-4)
            assert abs(correct - right) <= 1
        assert found[case]["scores"] == pytest.approx(alone["scores"], rel=1e-4)
    first, second = (found[case]["state"] for found in pair)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_comparison_of_one_and_two_workers_can_fail(pair: list[dict[str, Any]]) -> None:
    """With statistics over the whole batch the weights differ by far more; and training moved them at all."""
    whole = train_case("graph", batch_norm_images=None)["state"]
    apart = max(float((pair[0]["graph"]["state"][name] - whole[name]).abs().max()) for name in whole)
    assert apart > 1e-3
    started = recipe_of("dropout")
    torch.manual_seed(0)
    before = Plain().state_dict()
    assert started.optimiser.weight_decay > 0
    after = pair[1]["dropout"]["state"]
    assert torch.equal(after["unused.weight"], before["unused.weight"])
    assert not torch.equal(after["conv.weight"], before["conv.weight"])


def test_a_worker_that_begins_with_an_empty_share(pair: list[dict[str, Any]]) -> None:
    """It cannot see which weights have a gradient, and learns it from the other: the unused one stays as it was."""
    alone = train_case("dropout", start_step=4, epochs=1)["state"]
    for found in pair:
        state = found["entered at the end"]["state"]
        assert all(torch.allclose(state[name].double(), alone[name].double(), rtol=0, atol=1e-6) for name in alone)


def test_only_the_first_groups_images_move_running_statistics(pair: list[dict[str, Any]]) -> None:
    """The second worker's batch norms have counted no batch by themselves; the first one's all twenty."""
    assert set(pair[0]["graph"]["batches tracked"]) == {20}
    assert set(pair[1]["graph"]["batches tracked"]) == {0}


def test_an_incomplete_batch_that_is_left_out_is_not_trained() -> None:
    """Four steps of 16 of the 66 images in each of four epochs."""
    assert train_case("dropout", drop_last=True)["batches tracked"] == [16]


def test_random_states_stay_the_same_on_every_worker(pair: list[dict[str, Any]]) -> None:
    """Dropout draws for each group by itself and leaves no trace."""
    assert torch.equal(pair[0]["dropout"]["random"], pair[1]["dropout"]["random"])


def test_workers_notice_when_they_differ(pair: list[dict[str, Any]]) -> None:
    """One bit is enough, and both say so; and both hold the first one's state."""
    for found in pair:
        assert found["exchange"]["equal"] is True
        assert found["exchange"]["other"] is False
        assert found["exchange"]["state"]["name"] == "first"
        assert found["exchange"]["state"]["weight"].tolist() == [0, 1, 2]


def test_all_stop_after_the_same_step(pair: list[dict[str, Any]]) -> None:
    """The first worker's wish reaches both with the step's sum, also one whose share of that step is empty."""
    assert [found["stopping"] for found in pair] == [[False, True, True]] * 2


def test_a_single_worker_exchanges_nothing() -> None:
    """No process group is needed."""
    values = torch.ones(2)
    SINGLE.all_reduce(values)
    SINGLE.broadcast(values)
    assert values.tolist() == [1, 1]
    assert SINGLE.all_equal([values])
    assert SINGLE.broadcast_state({"a": 1}) == {"a": 1}


@pytest.mark.parametrize(
    ("batch_norm_images", "workers", "message"),
    [
        (None, 2, "workers is 2, but the recipe takes batch statistics over the whole batch of 16.*batch_norm_images"),
        (4, 3, "workers is 3, but the recipe's batch has 4 groups of 4 images.*choose 1, 2, 4"),
        (4, 8, "workers is 8.*choose 1, 2, 4"),
    ],
)
def test_workers_that_cannot_share_a_batch(batch_norm_images: int | None, workers: int, message: str) -> None:
    """The user's mistake, before anything is started; the line says what would do."""
    with pytest.raises(UserError, match=message):
        check_workers(recipe_of("graph", batch_norm_images=batch_norm_images), workers)
    for fitting in (1, 2, 4):
        check_workers(recipe_of("graph"), fitting)
