"""Searches for a row's unpublished hyper-parameters: ``python pipelines/search.py --help``."""

from __future__ import annotations

import shlex
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tune_configs
from dnw_core.errors import UserError
from pipelines.commands.arguments import CommandParser, absolute_path, add_place_options, one_of, whole_number
from pipelines.commands.shell import ALL_DONE, NOT_ALL_DONE, run, say
from pipelines.driver import driver_lock
from pipelines.hpo import (
    Search,
    Status,
    assess,
    check_target,
    counts_line,
    find_row,
    include_name,
    plan_lines,
    plan_search,
    result_lines,
    space_lines,
    tracker_rows,
    write_found,
)
from pipelines.plan import DeviceChoice, Placement, choose_device, gpus_of, read_data
from pipelines.store import Store
from pipelines.trial import TRAIN
from tune_configs import load_tables
from tune_configs.scales import SCALES, Scale

FOUND, NOT_FOUND = ALL_DONE, NOT_ALL_DONE
SEARCH_COMMAND = "pipelines/search.py"

_EXAMPLES = """\
examples:
  python pipelines/search.py --row wirings/l1-anneal --plan
      the space, the configurations drawn from it, and what is trained already
  python pipelines/search.py --row wirings/l1-anneal --scale short --data-dir ~/data
      at the short scale; the winner goes to tune_configs/found/wirings.l1-anneal.yaml

exit codes: 0 a winner was found; 1 none was; 2 a mistake in the command; 130 after Ctrl-C
(the same command resumes a search that was stopped)
"""


@dataclass(frozen=True)
class SearchOptions:
    """The command line, typed; paths are absolute."""

    row: str
    scale: Scale
    trials: int | None
    seed: int
    plan: bool
    retry: bool
    out: Path | None
    tables: Path | None
    results_dir: Path
    data_dir: str | None
    download: bool
    tracking_uri: str | None
    device: DeviceChoice
    cluster: str | None


def main(argv: Sequence[str] | None = None, *, train: str = TRAIN) -> int:
    """Run the command and return its exit code; a user's mistake is one line on standard error.

    Args:
        argv: the words after the command's name.
        train: the function that trains, as ``module:name``; a test puts a quick one in its place.
    """
    return run(
        lambda words: _run(SearchOptions(**vars(_parse(words))), _command(words), train),
        argv,
        lambda words: f"stopped; what was trained is kept. To resume: {_command(words)}",
    )


def _run(options: SearchOptions, command: str, train: str) -> int:
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
        say("\n".join(plan_lines(search, *assess(search, store), history)))
        return FOUND
    path = options.out or (options.tables or Path(tune_configs.__file__).parent) / include_name(search.name)
    check_target(path, options.scale)
    store = Store.open(search.results_dir, create=True)
    with driver_lock(search.results_dir):
        if _train(search, store, options, command, train):
            raise KeyboardInterrupt
        code = _conclude(search, assess(search, store)[0], path, command)
        _track(search, options, command)
    return code


def _train(search: Search, store: Store, options: SearchOptions, command: str, train: str) -> bool:
    """Train what is left; return whether Ctrl-C ended it."""
    from pipelines.tracking import check_reachable

    check_reachable(options.tracking_uri, options.results_dir)
    say("\n".join(space_lines(search)))
    _make_room(assess(search, store)[0], store, retry=options.retry)
    following = assess(search, store)[1]
    if not following.configurations:
        return False
    if options.cluster is not None:
        from pipelines.cluster import check_cluster

        check_cluster(options.cluster)
    else:
        read_data([one.spec for one in following.configurations], say)
    from pipelines.hpo import run_search

    return run_search(search, store, say=say, cluster=options.cluster, train=train, resume=command)


def _make_room(statuses: Sequence[Status], store: Store, *, retry: bool) -> None:
    """Move damaged results aside, and forget failures that are to be tried again."""
    for one in statuses:
        spec = one.configuration.spec
        if one.damaged is not None:
            store.set_aside(spec)
            say(f"warning: {spec.trial_id} failed verification ({one.damaged}); moved to set-aside, trained again")
        if one.standing == "failed" and retry:
            store.clear_failure(spec)


def _conclude(search: Search, statuses: Sequence[Status], path: Path, command: str) -> int:
    """Write the winner's file and say how the search ended; return the exit code."""
    kept = f"{path} stays as it was" if path.exists() else f"{path} is not written"
    failed = [one for one in statuses if one.standing == "failed"]
    if len(failed) == len(statuses):
        say(
            f"all {len(statuses)} configurations failed, the first one with: {failed[0].reason}; {kept}; "
            "to try them again: the same command with --retry"
        )
        return NOT_FOUND
    for one in failed[:3]:
        say(f"failed: {one.configuration}: {one.reason}")
    if not all(one.has_ended for one in statuses):
        say(f"{counts_line(statuses)}; not all have ended, {kept}; the same command resumes the search")
        return NOT_FOUND
    if not any(one.standing == "finished" for one in statuses):
        say(
            f"{counts_line(statuses)}; none was trained to the end, {kept}; "
            "to try the failed ones again: the same command with --retry"
        )
        return NOT_FOUND
    write_found(path, search, statuses, command)
    say("\n".join(result_lines(search, statuses, path)))
    return FOUND


def _track(search: Search, options: SearchOptions, command: str) -> None:
    """Mirror the trials in an experiment of the search's own."""
    from pipelines.tracking import Tracker

    tracker = Tracker(options.tracking_uri, options.results_dir)
    synced = tracker.sync(tracker_rows(search, command), trials=search.results_dir, experiment=f"search {search.name}")
    if synced.error is not None:
        say(f"warning: the tracker could not be brought up to date ({synced.error}); the same command does it later")


def _placement(options: SearchOptions) -> Placement:
    cluster = options.cluster is not None
    device = choose_device(options.device, cluster=cluster, trials_per_gpu=None, planning=options.plan)
    return Placement(
        device=device,
        gpus_here=gpus_of(device, cluster=cluster),
        checkpoint_minutes=0.0,  # after every epoch: a killed search then trains no epoch twice
        data_dir=options.data_dir,
        download=options.download,
    )


def _command(words: Sequence[str]) -> str:
    return shlex.join(["python", SEARCH_COMMAND, *words])


def _parse(words: Sequence[str]) -> Namespace:
    values = _make_parser().parse(words, "name the row with --row")
    if values.row is None:
        raise UserError("--row is missing; give for example --row wirings/l1-anneal")
    return values


def _make_parser() -> CommandParser:
    parser = CommandParser(
        "search.py",
        "Searches for hyper-parameters that the paper does not give, on held-out training images.",
        _EXAMPLES,
    )
    add = parser.add_argument
    add("--row", metavar="TABLE/ROW", help="a row with a search: section in its table file")
    add(
        "--scale",
        type=one_of("scale", SCALES),
        default="smoke",
        metavar="SCALE",
        help="smoke, short or paper (default: smoke, whose values mean nothing)",
    )
    add("--trials", type=whole_number(1), metavar="N", help="configurations (default: the row's number for the scale)")
    add("--seed", type=whole_number(0), default=0, metavar="N", help="of the draws and of the training (default: 0)")
    add("--plan", action="store_true", help="print what would be trained, and train nothing")
    add("--retry", action="store_true", help="train configurations that failed once more")
    add(
        "--out",
        type=absolute_path,
        metavar="FILE",
        help="where the winner goes (default: found/<table>.<row>.yaml beside the tables)",
    )
    add("--tables", type=absolute_path, metavar="FOLDER", help="your own table files (default: the project's)")
    add(
        "--results-dir",
        type=absolute_path,
        default="results",
        metavar="FOLDER",
        help="default: ./results (the search's own trials: search/ in it)",
    )
    add_place_options(add)
    return parser
