"""Damaged checkpoints: bytes harmed, and whole files that do not fit the trial. By name."""

from __future__ import annotations

import copy
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from support.corpus.damage import Harm, raw_harms

State = dict[str, Any]
Change = Callable[[State], object]


def cases() -> dict[str, Harm]:
    """Return what can be wrong with a checkpoint. It is refused, or it is the state that was saved, to the bit."""
    made = dict(raw_harms("checkpoint", 24))
    made |= {f"tensor: {name}": _entry("data/", harm) for name, harm in raw_harms("tensor", 10).items()}
    made |= {f"values: {name}": _entry("data.pkl", harm) for name, harm in raw_harms("values", 6).items()}
    made |= {name: _changed(change) for name, change in _CHANGES.items()}
    made |= {
        "compressed": lambda content: _repacked(content, zipfile.ZIP_DEFLATED),
        "a bomb": _bomb,
        "an entry twice": _twice,
        "an archive of nothing": lambda _: _zip({}),
        "an archive of something else": lambda _: _zip({"hello.txt": b"hello"}),
        "a text": lambda _: b"hello",
    }
    return made


def _entry(name: str, harm: Harm) -> Harm:
    """Harm one entry's content where it lies, so that the archive is as before but for it."""

    def damage(content: bytes) -> bytes:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entry = max(
                (one for one in archive.infolist() if name in one.filename and not one.filename.endswith("_id")),
                key=lambda one: one.file_size,
            )
            inside = archive.read(entry)
        start = content.index(inside)
        changed = harm(inside)[: len(inside)].ljust(len(inside), b"\0")
        return content[:start] + changed + content[start + len(inside) :]

    return damage


def _changed(change: Change) -> Harm:
    def damage(content: bytes) -> bytes:
        state = torch.load(io.BytesIO(content), weights_only=True)
        change(state)
        buffer = io.BytesIO()
        torch.save(state, buffer)
        return buffer.getvalue()

    return damage


def _zip(entries: dict[str, bytes], how: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", how) as archive:
        for name, inside in entries.items():
            archive.writestr(name, inside)
    return buffer.getvalue()


def _entries(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _repacked(content: bytes, how: int) -> bytes:
    return _zip(_entries(content), how)


def _bomb(content: bytes) -> bytes:
    entries = _entries(content)
    largest = max(entries, key=lambda name: len(entries[name]))
    return _zip(entries | {largest: bytes(200 << 20)}, zipfile.ZIP_DEFLATED)


def _twice(content: bytes) -> bytes:
    buffer = io.BytesIO(content)
    with zipfile.ZipFile(buffer, "a") as archive:
        name = next(name for name in archive.namelist() if name.endswith("data/0"))
        inside = archive.read(name)
        archive.fp.seek(0, 2)  # type: ignore[union-attr]
        archive.writestr(name, bytes(len(inside)))
    return buffer.getvalue()


def _first(state: State) -> str:
    return next(name for name, value in state["model"].items() if value.is_floating_point() and value.dim() > 1)


def _weight(change: Callable[[torch.Tensor], Any]) -> Change:
    return lambda state: state["model"].update({_first(state): change(state["model"][_first(state)])})


def _drop(name: str) -> Change:
    return lambda state: state.pop(name)


def _put(name: str, value: Any) -> Change:
    return lambda state: state.update({name: copy.deepcopy(value)})


_NAMES = ("model", "optimiser", "epoch", "step", "loss_sum", "correct", "history", "seconds", "threads", "random")
_CHANGES: dict[str, Change] = {
    **{f"without {name}": _drop(name) for name in (*_NAMES, "start_masks", "started_at", "fingerprint", "version")},
    "a weight missing": lambda state: state["model"].pop(_first(state)),
    "a weight too many": lambda state: state["model"].update(extra=torch.zeros(2)),
    "a weight of another shape": _weight(lambda weight: weight[:-1]),
    "a weight of another type": _weight(lambda weight: weight.double()),
    "a weight that is not a number": _weight(lambda weight: weight.fill_(float("nan"))),
    "one number of a weight endless": _weight(lambda weight: weight.index_fill_(0, torch.tensor([0]), float("inf"))),
    "a weight as a list": _weight(lambda weight: weight.tolist()),
    "a sparse weight": _weight(lambda weight: weight.to_sparse()),
    "a weight of nothing spread out": _weight(lambda weight: torch.zeros(1, 1).expand(10**6, 10**6)),
    "a weight on no device": _weight(lambda weight: weight.to("meta")),
    "weights as a list": lambda state: state.update(model=list(state["model"])),
    "momenta of another shape": lambda state: state["optimiser"]["state"][0].update(momentum_buffer=torch.zeros(3)),
    "momenta that are no numbers": lambda state: state["optimiser"]["state"][0]["momentum_buffer"].fill_(float("nan")),
    "momenta for more": lambda state: state["optimiser"]["state"].update({999: {}}),
    "an optimiser of other groups": lambda state: state["optimiser"]["param_groups"].append({"params": []}),
    "an optimiser without a rate": lambda state: state["optimiser"]["param_groups"][0].pop("lr"),
    "edges of another shape": lambda state: state.update(start_masks={"graph": torch.ones(2, 2).bool()}),
    "another trial's": _put("fingerprint", "00000000"),
    "another seed's": _put("seed", 99),
    "an older version": _put("version", 0),
    "a newer version": _put("version", 2),
    "an epoch after the end": _put("epoch", 99),
    "an epoch before the start": _put("epoch", -1),
    "half an epoch": _put("epoch", 0.5),
    "a text for a step": _put("step", "3"),
    "true for threads": _put("threads", True),
    "no thread": _put("threads", 0),
    "a billion threads": _put("threads", 10**9),
    "no worker": _put("workers", 0),
    "seconds before the start": _put("seconds", -1.0),
    "a longer history": lambda state: state["history"].append({"epoch": 0}),
    "a history of other epochs": lambda state: state["history"][0].update(epoch=7),
    "a history of words": _put("history", ["good"]),
    "a random state of nothing": _put("random", torch.zeros(0, dtype=torch.uint8)),
    "a random state of ones": _put("random", torch.ones(5056, dtype=torch.uint8)),
    "a sum of another shape": _put("loss_sum", torch.zeros(3, dtype=torch.float64)),
    "a parent that is no text": _put("parent", 3),
}


def write(folder: Path, name: str, harm: Harm) -> None:
    """Damage one of a folder's checkpoints."""
    path = folder / name
    content = path.read_bytes()
    path.unlink()  # the previous one may be a second name of the same file
    path.write_bytes(harm(content))
