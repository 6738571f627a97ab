"""A look at the plan reads no finished file twice, and a change to one is still found."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from support.stubs.specs import spec as stub_spec
from support.stubs.store import finish

from dnw_core.files import sha256_of
from dnw_core.record import CHECKPOINT_FILE, RECORD_FILE
from pipelines.spec import TrialSpec
from pipelines.store import verify as known_hashes
from pipelines.store.folder import Store
from pipelines.store.layout import KNOWN_HASHES_FILE


class Reads:
    """Counts the files that are hashed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        monkeypatch.setattr(known_hashes, "sha256_of", self._sha256)
        monkeypatch.setattr(known_hashes, "SETTLED_NS", 0)

    def _sha256(self, path: Path) -> str:
        self.count += 1
        return sha256_of(path)

    def of(self, store: Store, specs: list[TrialSpec]) -> tuple[list[str], int]:
        """The trials' states, and how many files were hashed to find them."""
        before = self.count
        return [state.kind for state in store.states(specs)], self.count - before


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    """A count of hashed files; files are remembered however young they are."""
    return Reads(monkeypatch)


@pytest.fixture
def specs(tmp_path: Path) -> list[TrialSpec]:
    """Two finished trials in a store that a writing run has looked through."""
    results = tmp_path / "results"
    specs = [stub_spec(results, seed=seed) for seed in range(2)]
    store = Store.open(results, create=True)
    for spec in specs:
        finish(store, spec)
    return specs


def looked_through(specs: list[TrialSpec]) -> Path:
    """Let a writing run look at the trials; return the results folder."""
    Store.open(specs[0].results_dir, create=True).states(specs)
    return specs[0].results_dir


def test_a_look_hashes_only_what_no_run_has_hashed(reads: Reads, specs: list[TrialSpec]) -> None:
    """Before a run everything is hashed and nothing written; afterwards nothing is hashed; a run hashes all again."""
    results = specs[0].results_dir
    files = sorted(results.rglob("*"))
    assert reads.of(Store.open(results, trust_unchanged=True), specs) == (["done", "done"], 8)
    assert sorted(results.rglob("*")) == files
    looked_through(specs)
    assert reads.of(Store.open(results, trust_unchanged=True), specs) == (["done", "done"], 0)
    for store in (Store.open(results), Store.open(results, create=True)):
        assert reads.of(store, specs) == (["done", "done"], 8)


@pytest.mark.parametrize("how", ["altered", "altered, times put back", "replaced", "record altered"])
def test_a_change_is_seen_by_a_look(reads: Reads, specs: list[TrialSpec], how: str) -> None:
    """Other bytes of the same length, even under the old modification time; another record for the same file."""
    results = looked_through(specs)
    path = Store.open(results).folder(specs[0]) / CHECKPOINT_FILE
    old = path.stat()
    changed = bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:]
    if how == "record altered":
        record = path.with_name(RECORD_FILE)
        values = json.loads(record.read_text())
        values["files"][CHECKPOINT_FILE] = "0" * 64
        record.write_text(json.dumps(values))
    elif how == "replaced":
        path.with_name("new").write_bytes(changed)
        path.with_name("new").replace(path)
    else:
        path.write_bytes(changed)
    if how == "altered, times put back":
        os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))
    states = Store.open(results, trust_unchanged=True).states(specs)
    assert [state.kind for state in states] == ["new", "done"]
    assert CHECKPOINT_FILE in str(states[0].damaged)


def test_a_copied_folder_is_hashed(reads: Reads, specs: list[TrialSpec], tmp_path: Path) -> None:
    """A copy brings the remembered hashes along; they match nothing there, and a damaged copy is found."""
    results = looked_through(specs)
    copy = tmp_path / "copy"
    shutil.copytree(results, copy)  # modification times are kept
    assert (copy / KNOWN_HASHES_FILE).is_file()
    moved = [spec.model_copy(update={"results_dir": copy}) for spec in specs]
    path = Store.open(copy).folder(moved[0]) / CHECKPOINT_FILE
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, ns=times)
    kinds, hashed = reads.of(Store.open(copy, trust_unchanged=True), moved)
    assert kinds == ["new", "done"]
    assert hashed >= 5  # the intact trial's four and at least the damaged file


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": 1, "files": {"x": 3}}', '{"version": 2, "files": {}}'])
def test_a_damaged_memory_is_no_memory(reads: Reads, specs: list[TrialSpec], content: str) -> None:
    """Everything is hashed, and the next run writes it anew."""
    results = looked_through(specs)
    (results / KNOWN_HASHES_FILE).write_text(content)
    assert reads.of(Store.open(results, trust_unchanged=True), specs) == (["done", "done"], 8)
    looked_through(specs)
    assert reads.of(Store.open(results, trust_unchanged=True), specs)[1] == 0


def test_young_files_are_not_remembered(reads: Reads, specs: list[TrialSpec], monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock may be too coarse to show the next change of a file that was written a moment ago."""
    monkeypatch.setattr(known_hashes, "SETTLED_NS", 3600 * 10**9)
    results = looked_through(specs)
    assert reads.of(Store.open(results, trust_unchanged=True), specs) == (["done", "done"], 8)


def test_what_is_gone_is_forgotten(reads: Reads, specs: list[TrialSpec]) -> None:
    """A trial that was set aside leaves no trace in the memory."""
    results = looked_through(specs)
    store = Store.open(results, create=True)
    store.reset(specs[0])
    finish(store, specs[0], accuracy=0.5)
    store.states(specs)
    store.reset(specs[1])
    (store.folder(specs[0]) / CHECKPOINT_FILE).touch()
    store.states(specs)
    known = json.loads((results / KNOWN_HASHES_FILE).read_text())["files"]
    assert {Path(name).parent.name for name in known} == {"seed-0"}


def test_a_writing_store_trusts_nothing(tmp_path: Path) -> None:
    """Asking for both is a programmer's mistake."""
    with pytest.raises(ValueError, match="believes no file unread"):
        Store.open(tmp_path, create=True, trust_unchanged=True)
