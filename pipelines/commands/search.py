"""Searches for a row's unpublished hyper-parameters: ``python pipelines/search.py --help``."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import tune_configs
from pipelines.commands.search_options import SEARCH_COMMAND, SearchOptions, parse_search_options
from pipelines.commands.shell import ALL_DONE, NOT_ALL_DONE, run
from pipelines.driver import driver_lock
from pipelines.hpo import (
    Judged,
    Search,
    check_target,
    counts_line,
    find_row,
    include_name,
    judge,
    plan_lines,
    plan_search,
    result_lines,
    space_lines,
    write_found,
)
from pipelines.plan import Placement, gpus_of, read_data, settle_device
from pipelines.store import Store
from pipelines.trial import TRAIN
from tune_configs import load_tables

FOUND, NOT_FOUND = ALL_DONE, NOT_ALL_DONE


def main(argv: Sequence[str] | None = None, *, train: str = TRAIN) -> int:
    """Run the command and return its exit code; a user's mistake is one line on standard error.

    Args:
        argv: the words after the command's name.
        train: the function that trains, as ``module:name``; a test puts a quick one in its place.
    """
    return run(lambda words: _run(parse_search_options(words), words, train), argv, _stopped)


def _run(options: SearchOptions, words: Sequence[str], train: str) -> int:
    row = find_row(load_tables(options.tables), options.row)
    search = plan_search(
        row,
        options.scale,
        seed=options.seed,
        trials=options.trials,
        placement=_placement(options),
        results_dir=options.results_dir,
    )
    if options.plan:
        store = Store.open(search.results_dir)
        history = [one.record for place in (store, Store.open(options.results_dir)) for one in place.records()]
        print("\n".join(plan_lines(search, judge(search, store), history)), flush=True)
        return FOUND
    path = options.out or (options.tables or Path(tune_configs.__file__).parent) / include_name(search.name)
    check_target(path, options.scale)
    store = Store.open(search.results_dir, create=True)
    with driver_lock(search.results_dir):
        if _train(search, store, options, train):
            raise KeyboardInterrupt
        judged = judge(search, store)
        code = _conclude(search, judged, path, shlex.join(["python", SEARCH_COMMAND, *words]))
        _track(search, judged, options, path if code == FOUND else None)
    return code


def _train(search: Search, store: Store, options: SearchOptions, train: str) -> bool:
    """Train what is left; return whether Ctrl-C ended it."""
    from pipelines.tracking import check_reachable

    check_reachable(options.tracking_uri, options.results_dir)
    _say("\n".join(space_lines(search)))
    judged = _make_room(search, judge(search, store), store, options.retry)
    if all(one.standing in ("finished", "stopped", "failed") for one in judged):
        return False
    if options.cluster is not None:
        from pipelines.cluster import check_cluster

        check_cluster(options.cluster)
    else:
        read_data([one.spec for one in search.configurations], _say)
    from pipelines.hpo import run_search

    return run_search(search, judged, store=store, cluster=options.cluster, train=train)


def _make_room(search: Search, judged: list[Judged], store: Store, retry: bool) -> list[Judged]:
    """Move damaged results aside and forget failures that are to be tried again; return how all stand then."""
    for one in judged:
        spec = one.configuration.spec
        if one.damaged is not None:
            store.set_aside(spec)
            _say(f"warning: {spec.trial_id} is not believed ({one.damaged}); moved to set-aside, trained again")
        if one.standing == "failed" and retry:
            store.clear_failure(spec)
    return judge(search, store)


def _conclude(search: Search, judged: list[Judged], path: Path, command: str) -> int:
    """Write the winner's file and say how the search ended; return the exit code."""
    failed = [one for one in judged if one.standing == "failed"]
    if failed and len(failed) == len(judged):
        _say(
            f"all {len(judged)} configurations failed, the first one with: {failed[0].reason}; {_kept(path)}; "
            "to try them again: the same command with --retry"
        )
        return NOT_FOUND
    for one in failed[:3]:
        _say(f"failed: {one.configuration}: {one.reason}")
    if any(one.standing in ("partial", "new") for one in judged):
        _say(f"{counts_line(judged)}; not all have ended, {_kept(path)}; the same command goes on")
        return NOT_FOUND
    if not any(one.standing == "finished" for one in judged):
        _say(
            f"{counts_line(judged)}; none was trained to the end, {_kept(path)}; "
            "to try the failed ones again: the same command with --retry"
        )
        return NOT_FOUND
    write_found(path, search, judged, command)
    _say("\n".join(result_lines(search, judged, path)))
    return FOUND


def _track(search: Search, judged: list[Judged], options: SearchOptions, path: Path | None) -> None:
    from pipelines.hpo import SearchTracker

    tracker = SearchTracker(options.tracking_uri, options.results_dir)
    synced = tracker.sync_search(search, judged, path.name if path else "")
    if synced.error is not None:
        _say(f"warning: the tracker could not be brought up to date ({synced.error}); the same command does it later")


def _placement(options: SearchOptions) -> Placement:
    device = settle_device(
        options.device, cluster=options.cluster is not None, trials_per_gpu=None, planning=options.plan
    )
    # a checkpoint after every epoch: a configuration that is given up, or a killed driver, then loses nothing
    return Placement(
        device=device,
        gpus_here=gpus_of(device, cluster=options.cluster is not None),
        checkpoint_minutes=0.0,
        data_dir=options.data_dir,
        download=options.download,
    )


def _kept(path: Path) -> str:
    return f"{path} stays as it was" if path.exists() else f"{path} is not written"


def _stopped(words: Sequence[str]) -> str:
    return "stopped; what was trained is kept. To resume: " + shlex.join(["python", SEARCH_COMMAND, *words])


def _say(text: str) -> None:
    print(text, flush=True)
