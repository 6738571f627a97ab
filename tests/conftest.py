"""How the tests share the machine: one thread each, one Ray, long files first, shipped tables read once."""

from __future__ import annotations

import atexit
import functools
import gc
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from support.services import ray_session as one_ray
from support.services import s3_server
from support.stubs.command import StubSchedule, quick_command
from xdist.scheduler import LoadFileScheduling

import tune_configs
from pipelines.driver import heartbeat, status, stop_command
from pipelines.storage.bucket.trials import BucketTrials
from tune_configs import Table

# before torch is imported: the processes of pytest-xdist have a core each, and two threads on it wait for each other
os.environ.setdefault("OMP_NUM_THREADS", "1")

# no test in them is slow, all together are
_LONG = (
    "test_rows_training.py",
    "test_training_resume.py",
    "test_training_groups.py",
    "test_rows.py",
    "test_reports_build.py",
    "test_prepare.py",
)

gc.disable()  # until all is collected: what modules define stays anyway

_frozen_modules: list[int] = []  # how many were imported at each freeze
_read_tables = tune_configs.load_tables


@functools.cache
def _shipped_tables() -> dict[str, Table]:
    return _read_tables()


def load_tables(folder: Path | None = None) -> dict[str, Table]:
    """Read the tables of a folder; the ones that come with the package once a process, since nobody changes them."""
    return _read_tables(folder) if folder is not None else dict(_shipped_tables())


tune_configs.load_tables = load_tables  # before any test module or the command takes it from there


@functools.cache
def _shares_ray(file: Path) -> bool:
    """Whether tests of the file use ``ray_session``, or ``shared_ray`` in a fixture of theirs."""
    return re.search(r'usefixtures\("ray_session"\)|\bshared_ray:', file.read_text("utf-8")) is not None


class _ByFile(LoadFileScheduling):  # type: ignore[misc]  # pytest-xdist is not typed
    """Runs each file in one process, and in the same one all files whose tests share a Ray."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return "ray" if _shares_ray(self.config.rootpath / file) else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling:
    """Schedule by files. ``--dist loadgroup`` would do, but pytest-xdist 3.8 cannot name groups in pytest 9.2."""
    return _ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that share a Ray first, then those with tests marked slow: no process is left with one at the end.

    Works with ``--no-loadscope-reorder`` (pyproject.toml): xdist would begin with the files of the most tests, and the
    slow ones have few.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (not _shares_ray(item.path), item.path not in slow, item.path.name not in _LONG))


def pytest_collection_finish() -> None:
    """Refuse a Ray that was imported too early; take what is loaded by now out of every later garbage collection.

    Ray reads its environment as it is imported, and a local run sets that first: after an early import every Ray that
    a test of this process starts would be refused its own token. Each trial collects garbage before it starts, and
    among the objects of all test modules that takes longer than many a trial of these tests.
    """
    if "ray" in sys.modules:
        raise pytest.UsageError("a test module imports ray as it is collected; import it within the test")
    gc.freeze()
    gc.enable()
    _frozen_modules.append(len(sys.modules))


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Do the same once a file's tests have imported much, PyTorch's compiler or MLflow for example."""
    if nextitem and nextitem.path != item.path and len(sys.modules) > _frozen_modules[-1] + 100:
        gc.collect()
        gc.freeze()
        _frozen_modules.append(len(sys.modules))


atexit.register(gc.unfreeze)  # so that the interpreter can end as ever: some extensions count what is left


@pytest.fixture(scope="session")
def shared_ray() -> Iterator[Mapping[str, str]]:
    """The environment of a Ray of 4 CPUs and 2 GPUs, started once for all tests that use it."""
    with one_ray.shared_ray() as variables:
        yield variables


@pytest.fixture
def ray_session(
    shared_ray: Mapping[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A started Ray, which ``run_schedule`` takes in place of one of its own."""
    one_ray.use_ray(monkeypatch, shared_ray, tmp_path_factory.mktemp("tune"))


@pytest.fixture(scope="module")
def s3() -> Iterator[s3_server.S3]:
    """A bucket for a module's tests; each has a folder of its own in it."""
    with s3_server.serve() as server:
        yield server


@pytest.fixture
def bucket_trials(s3: s3_server.S3, tmp_path: Path) -> BucketTrials:
    """An empty folder of the bucket."""
    return BucketTrials(s3.bucket(tmp_path.name), "drivers/run-1/")


@pytest.fixture
def quick_heartbeats(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heartbeats are written and read many times a second."""
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(heartbeat, "_POLL_SECONDS", 0.02)
    monkeypatch.setattr(status, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(stop_command, "_POLL_SECONDS", 0.02)


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> StubSchedule:
    """The command's scheduling, which trains nothing and writes results in milliseconds."""
    return quick_command(monkeypatch)


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, with results/ in it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "results"
