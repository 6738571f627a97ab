"""Trials that start from a finished one: the right edges, the right weights, and no start from anything else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.stubs.tiny_trials import interrupt, small_recipe, train

from dnw_core.config.base import fingerprint
from dnw_core.config.recipe import Recipe
from dnw_core.errors import TrialFailedError
from dnw_core.files import sha256_of
from dnw_core.models.build import build_wired
from dnw_core.record import CHECKPOINT_FILE, LOG_FILE, RECORD_FILE, TrialRecord, sealed
from dnw_core.training.checkpoints.checkpoint import CheckpointKey, save_checkpoint
from dnw_core.training.checkpoints.parent import load_parent, own_state, start_from, state_digest
from dnw_core.wiring.attach import attached_rules

COMPLETE = small_recipe(wiring={"rule": "complete"})
DENSE = "edges.parametrizations.weight.original"


def child_recipe(rule: str, **changes: Any) -> Recipe:
    """A trial that starts from the complete graph."""
    return small_recipe(rule=rule, parent=COMPLETE, **changes)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished complete graph, seed 0."""
    folder = tmp_path_factory.mktemp("parent") / "complete"
    train(COMPLETE, folder)
    return folder


@pytest.fixture
def parent(trained: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may damage."""
    return Path(shutil.copytree(trained, tmp_path / "complete"))


def final_model(folder: Path) -> dict[str, torch.Tensor]:
    """The last weights."""
    model: dict[str, torch.Tensor] = torch.load(folder / CHECKPOINT_FILE, weights_only=True)["model"]
    return model


@pytest.mark.parametrize("rule", ["lottery-ticket", "fine-tune"])
def test_a_child_starts_from_the_edges_and_the_right_weights(parent: Path, rule: str) -> None:
    """Edges: the parent's 291 largest final magnitudes. Weights: the seed's own, or the parent's last, norms too."""
    recipe = child_recipe(rule)
    network, _ = build_wired(recipe.network, recipe.wiring, 0)
    drawn = {name: value.clone() for name, value in own_state(network)}
    start_from(recipe, network, load_parent(recipe, 0, parent))
    final = final_model(parent)
    (attached,) = attached_rules(network)
    largest = final[DENSE].abs().flatten().sort(descending=True).indices[:291]
    assert attached.edges().flatten().nonzero().flatten().tolist() == sorted(largest.tolist())
    expected = drawn if rule == "lottery-ticket" else final
    start = dict(own_state(network))
    assert start.keys() == drawn.keys()
    for name, value in start.items():
        assert torch.equal(value, expected[name]), name
    assert not torch.equal(drawn["stem.1.running_mean"], final["stem.1.running_mean"]), "the parent has moved on"


@pytest.mark.parametrize("rule", ["lottery-ticket", "fine-tune"])
def test_a_child_keeps_its_edges_and_tells_where_it_comes_from(parent: Path, tmp_path: Path, rule: str) -> None:
    """No edge is swapped; the record names the parent and its checkpoint, also after a resume without the parent."""
    recipe = child_recipe(rule)
    whole = train(recipe, tmp_path / "whole", parent=parent)
    origin = f"tiny/row/{fingerprint(COMPLETE)}/seed-0, checkpoint sha256 {sha256_of(parent / CHECKPOINT_FILE)}"
    assert whole.provenance is not None
    assert whole.provenance.parent == origin
    assert origin in (tmp_path / "whole" / LOG_FILE).read_text("utf-8")
    assert whole.cost is not None
    assert whole.cost.edges == 291
    interrupt(recipe, tmp_path / "broken", 2, parent=parent)
    shutil.rmtree(parent)
    broken = train(recipe, tmp_path / "broken", parent=parent)
    assert broken.provenance is not None
    assert (broken.provenance.resumed, broken.provenance.parent) == (1, origin)
    left, right = final_model(tmp_path / "whole"), final_model(tmp_path / "broken")
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_the_digest_is_of_everything_but_the_rules_own_buffers() -> None:
    """Two rules on the same seed give the same digest; another seed, or one changed buffer, another."""
    digests = []
    for seed, wiring in ((0, COMPLETE), (0, small_recipe(rule="fixed-random")), (1, COMPLETE)):
        network, _ = build_wired(wiring.network, wiring.wiring, seed)
        digests.append(state_digest(network))
    assert digests[0] == digests[1] != digests[2]
    names = [name for name, _ in own_state(network)]
    assert DENSE in names
    assert "stem.1.num_batches_tracked" in names
    network.get_buffer("stem.1.running_mean")[0] += 1e-3
    assert state_digest(network) != digests[2]


def rewrite(parent: Path, change: dict[str, Any], record_change: dict[str, Any] | None = None) -> None:
    """Change the parent's checkpoint and keep its record consistent with it."""
    path = parent / CHECKPOINT_FILE
    torch.save(torch.load(path, weights_only=True) | change, path)
    values = json.loads((parent / RECORD_FILE).read_text())
    values["files"][CHECKPOINT_FILE] = sha256_of(path)
    (parent / RECORD_FILE).write_text(json.dumps(sealed(values | (record_change or {}))))


def test_a_ticket_from_other_initial_weights_is_refused(parent: Path, tmp_path: Path) -> None:
    """The digest is another (a torch that draws other numbers) or missing: the sentence names the parent's torch."""
    provenance = json.loads((parent / RECORD_FILE).read_text())["provenance"]
    provenance["packages"]["torch"] = "1.9.0"
    for digest in ("0" * 64, None):
        rewrite(parent, {"initial_digest": digest}, {"provenance": provenance})
        with pytest.raises(
            TrialFailedError, match=r"cannot rebuild the initial weights: .* trained with torch 1\.9\.0"
        ):
            train(child_recipe("lottery-ticket"), tmp_path / "ticket", parent=parent)
    train(child_recipe("fine-tune"), tmp_path / "tuned", parent=parent)  # which takes the final ones


def truncate(path: Path) -> None:
    """Leave a part of a file."""
    path.write_bytes(path.read_bytes()[:1000])


UNUSABLE: dict[str, Callable[[Path], object]] = {  # the message, and what was done to the parent's folder
    "checkpoint.pt cannot be read": lambda parent: (parent / CHECKPOINT_FILE).unlink(),
    "trial.json cannot be read .*; is it finished": lambda parent: (parent / RECORD_FILE).unlink(),
    "its status is 'failed'": lambda parent: rewrite(parent, {}, {"status": "failed"}),
    "truncated or altered": lambda parent: truncate(parent / CHECKPOINT_FILE),
    "not a checkpoint of version 1": lambda parent: rewrite(parent, {"version": 99}),
    "it belongs to recipe ffffffff": lambda parent: rewrite(parent, {"fingerprint": "ffffffff"}),
    r"it is not finished \(epoch 1 of 2\)": lambda parent: rewrite(parent, {"epoch": 1}),
    "with seed 7, needed is .* with seed 0": lambda parent: rewrite(parent, {}, {"seed": 7}),
}


@pytest.mark.parametrize("message", UNUSABLE)
def test_an_unusable_parent_is_named(parent: Path, tmp_path: Path, message: str) -> None:
    """Missing, damaged, unfinished or another's: one sentence with the folder, and nothing is trained."""
    UNUSABLE[message](parent)
    with pytest.raises(TrialFailedError, match=message) as raised:
        train(child_recipe("fine-tune"), tmp_path / "child", parent=parent)
    assert str(parent) in str(raised.value)
    assert not (tmp_path / "child" / CHECKPOINT_FILE).exists()


def test_a_parent_with_another_network_is_refused(tmp_path: Path, parent: Path) -> None:
    """A weight of another shape or name (the recipe forbids it; a checkpoint may still hold one)."""
    model = final_model(parent)
    model[DENSE] = model[DENSE][:-1]
    rewrite(parent, {"model": model})
    for rule in ("fine-tune", "lottery-ticket"):
        with pytest.raises(TrialFailedError, match=rf"{DENSE} should have shape \(44, 44\), found shape \(43, 44\)"):
            train(child_recipe(rule), tmp_path / "child", parent=parent)


def test_a_parent_is_given_exactly_where_it_is_asked_for(tmp_path: Path, parent: Path) -> None:
    """Either without the other is a programmer's mistake."""
    with pytest.raises(ValueError, match="give run_trial its folder"):
        train(child_recipe("fine-tune"), tmp_path)
    with pytest.raises(ValueError, match=r"recipe\.parent is not set"):
        train(COMPLETE, tmp_path, parent=parent)


def test_an_unfinished_checkpoint_is_no_parent(tmp_path: Path) -> None:
    """A working folder has no record: it is refused, whatever its checkpoint says."""
    save_checkpoint(tmp_path, CheckpointKey(fingerprint(COMPLETE), 0), {"epoch": 2, "model": {}})
    with pytest.raises(TrialFailedError, match="is it finished"):
        load_parent(child_recipe("fine-tune"), 0, tmp_path)


def test_a_record_without_a_parent_reads_as_before(parent: Path) -> None:
    """The field is optional: records from before it are read."""
    values = json.loads((parent / RECORD_FILE).read_text())
    del values["provenance"]["parent"], values["digest"]
    record = TrialRecord.model_validate_json(json.dumps(values))
    assert record.provenance is not None
    assert record.provenance.parent is None
