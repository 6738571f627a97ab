"""Sparse networks under DistributedDataParallel and FSDP2: two processes are one process with the whole batch."""

from __future__ import annotations

from pathlib import Path

import torch
from support.networks.sparsify_workers import RULES, UNHOOKED, batch, network, train, train_unhooked, work

from dnw_core import sparsify


def test_two_workers_train_what_one_does(tmp_path: Path) -> None:
    """Both end with the same bits, boolean buffers included, and near what one process gets from whole batches.

    Shards are trained by the rules that need no hook; what needs whole weights says so.
    """
    context = torch.multiprocessing.get_context("spawn")
    workers = [context.Process(target=work, args=(rank, str(tmp_path / "meet"), str(tmp_path))) for rank in (0, 1)]
    for worker in workers:
        worker.start()
    alone = {}
    for rule in RULES:
        model = network()
        sparsify(model, rule, 0.25)
        alone[rule] = train(model, *batch())
    for rule in UNHOOKED:
        model = network()
        sparsify(model, rule, None if rule == "soft-threshold" else 0.25)
        train_unhooked(model, *batch())
        alone[f"shards {rule}"] = dict(model.named_parameters())
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    for rule in RULES:
        untrained = network().state_dict()
        for name, value in alone[rule].items():
            ours = first[rule][f"module.{name}"]
            assert torch.equal(ours, second[rule][f"module.{name}"]), (rule, name)
            torch.testing.assert_close(
                ours, value, rtol=1e-4, atol=1e-6, msg=lambda text, at=(rule, name): f"{at}: {text}"
            )
        assert not torch.equal(alone[rule]["5.bias"], untrained["5.bias"])
    for rule in UNHOOKED:
        ours = first[f"shards {rule}"]
        for name, value in alone[f"shards {rule}"].items():
            torch.testing.assert_close(
                ours[name], value.detach(), rtol=1e-4, atol=1e-6, msg=lambda text, at=(rule, name): f"{at}: {text}"
            )
        sentence = "0.weight is sharded by FSDP2 (DTensor), and wiring rules act on whole weights; use"
        assert [said.startswith(sentence) for said in ours["refused"]] == [True] * 3, ours["refused"]
