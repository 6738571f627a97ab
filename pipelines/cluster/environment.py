"""The folders and environment variables of one Ray run, set before ray is imported and removed after it.

Measured with Ray 2.60: Ray writes its token world-readable into the home folder, reports usage, never removes its
session folders, and runs workers at niceness 15, which makes times incomparable. On Linux its ports listen on every
interface even when it is alone on its machine. Where it may not form clusters (its default on macOS and Windows), its
node's address is 127.0.0.1, and all of its ports listen there only.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from pipelines.cluster.ray_internals import CLUSTERS_VARIABLE, NICENESS_VARIABLE, START_WAIT_VARIABLE
from pipelines.private_folder import private_folder

_PREFIX = "dnw-ray-"
# Ray appends about 60 characters for its sockets, and a socket's path may have 103 of them (macOS)
_LONGEST_TEMPORARY = 30
_TOKEN = secrets.token_hex(32)  # one a process: Ray reads its token once, and a second run would be refused

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_USAGE_STATS_REPORT_URL": "http://127.0.0.1:9/",  # a disabled cluster reports that it is disabled
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # Ray logs half a page for each dead process and two for each lost machine; the display has a line for each
    "RAY_DEDUP_LOGS_SKIP_REGEX": "^A worker died or was killed while executing|^Raylet is terminated|"
    "^The node with node id: .* has been marked dead",
    "RAY_AIR_NEW_OUTPUT": "0",  # the old output can be silenced, the new one prints a box at verbosity 0
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Tune's own turns Ctrl-C into an ordinary end
    "TUNE_GLOBAL_CHECKPOINT_S": "inf",  # once, at the start: its experiment state is never read
    "TUNE_WARN_SLOW_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "60",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # a lost worker is handled the same way whether announced or not
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "900",  # from a network disk torch alone may take more than its minute
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
}
"""Set in every process of a run: nothing reports usage, and Tune only schedules."""


def local_environment(folder: Path) -> dict[str, str]:
    """Return the variables of a Ray of our own, whose token is the file ``folder/token``.

    Workers start with the driver's environment, but know neither its ``sys.path`` nor where this project is.
    """
    root = str(Path(__file__).resolve().parents[2])
    return {
        **QUIET,
        "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH")))),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
        NICENESS_VARIABLE: "0",
        START_WAIT_VARIABLE: "150",  # a busy machine takes longer than Ray's half minute
        CLUSTERS_VARIABLE: "0",
    }


def cluster_environment() -> dict[str, str]:
    """Return the variables for joining a running cluster: token mode wherever the user has a token.

    With the mode unset Ray uses a token for the address ``auto`` only, not for a given one.
    """
    variables = dict(QUIET)
    if "RAY_AUTH_MODE" not in os.environ and has_token():
        variables["RAY_AUTH_MODE"] = "token"
    return variables


def has_token() -> bool:
    """Whether the user has set a Ray token in one of the three places where Ray looks for one."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return True
    path = os.environ.get("RAY_AUTH_TOKEN_PATH")
    return (Path(path) if path else Path.home() / ".ray" / "auth_token").is_file()


@contextlib.contextmanager
def ray_environment(variables: Mapping[str, str], without: tuple[str, ...] = ()) -> Iterator[None]:
    """Set the variables (and unset those ``without``) for the block, then put back what was there."""
    names = (*variables, *without)
    before = {name: os.environ.get(name) for name in names}
    for name in without:
        os.environ.pop(name, None)
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def runtime_folder() -> Iterator[Path]:
    """Make a private temporary folder with a token for this run, and remove it at the end."""
    base = Path(tempfile.gettempdir())
    if len(str(base)) > _LONGEST_TEMPORARY:
        base = Path("/tmp")  # noqa: S108 - the folder in it is made by mkdtemp, mode 0700
    with private_folder(_PREFIX, base) as folder:
        _write_private(folder / "token", _TOKEN)
        yield folder


def _write_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
