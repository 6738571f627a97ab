"""Connecting to Ray: a private one on this machine, or a cluster that is already running.

Every failure to connect is a ``UserError`` of one line within ``CONNECT_SECONDS``: ``ray.init`` itself may retry for
minutes, or hang on the address of a cluster that is gone, so the address is tried from outside first.

Ray reads its environment when it is imported, so one process connects either to clusters or to Rays of its own.
"""

from __future__ import annotations

import contextlib
import gc
import ipaddress
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dnw_core.errors import UserError
from pipelines.cluster.environment import (
    QUIET,
    cluster_environment,
    local_environment,
    ray_environment,
    runtime_folder,
)
from pipelines.cluster.head_watch import head_watch
from pipelines.text import one_line

CONNECT_SECONDS = 60.0  # from a network disk, or on a busy machine, loading Ray alone may take half of it
_CHECK = (
    "check that it is Ray, that its token is set here (RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH), and that this "
    "machine is one of its nodes"
)
OBJECT_STORE_BYTES = 200 * 2**20  # trials pass a few hundred bytes each; Ray's default is 30 % of the memory
_SHIPPED = ("dnw_core", "tune_configs", "pipelines", "reports")
_TRY = "import ray, sys; ray.init(address=sys.argv[1], log_to_driver=False, logging_level='ERROR')"


@contextlib.contextmanager
def connect(cluster: str | None, resume: str = "the same command") -> Iterator[Path]:
    """Connect to Ray for the block; afterwards no process, variable or folder of it is left.

    Args:
        cluster: None for a Ray of our own on this machine; else the address (``host:port`` or ``auto``) of a
            running cluster, which gets this project's code with every trial.
        resume: the command that continues after the cluster was lost, for the message.

    Yields:
        A private temporary folder for the run (Tune's files).

    Raises:
        UserError: if the cluster cannot be reached or refuses us.
    """
    with runtime_folder() as folder:
        if cluster is None:
            variables, options = local_environment(folder), _local_options(folder)
        else:
            variables = cluster_environment()
            address = resolve_address(cluster)
            # Ray lets RAY_ADDRESS overrule the address it is given
            variables["RAY_ADDRESS"] = address
            options = {"address": address, "runtime_env": code_for_nodes()}
        without = ("RAY_ADDRESS",) if cluster is None else ()
        with ray_environment(variables, without):
            if cluster is not None:
                try_address(options["address"])
            import ray

            try:
                try:
                    ray.init(log_to_driver=False, logging_level="ERROR", **options)
                except Exception as error:  # these have no common base; on an overloaded machine a start takes too long
                    where = "on this machine" if cluster is None else f"beside the cluster at {options['address']}"
                    raise UserError(f"Ray could not be started {where}: {_exception_line(str(error))}") from None
                with contextlib.nullcontext() if cluster is None else head_watch(options["address"], resume):
                    yield folder
            finally:
                shut_down()


def shut_down() -> None:
    """Disconnect from Ray while no other thread collects garbage.

    Python collects garbage in whichever thread happens to run. If another thread (the tracker's) collects a handle of a
    Ray process in the middle of the shutdown, the handle calls a worker that is gone, and Ray ends the whole process.
    So handles are collected first, and nothing is while Ray shuts down.
    """
    import ray

    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        ray.shutdown()
    finally:
        if enabled:
            gc.enable()


def _local_options(folder: Path) -> dict[str, Any]:
    return {
        "address": "local",  # a plain init would join whatever cluster it finds, or hang on one that is gone
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE_BYTES,
        "_temp_dir": str(folder),
    }


def resolve_address(cluster: str) -> str:
    """Return ``host:port`` for what ``--cluster`` was given.

    Raises:
        UserError: if there is no address, or it is not ``HOST:PORT``.
    """
    address = cluster.strip()
    if address in ("", "auto"):
        address = os.environ.get("RAY_ADDRESS", "").strip() or _address_of_this_node()
        if not address:
            raise UserError("no Ray cluster is known here; give --cluster HOST:PORT or set RAY_ADDRESS")
    if address.startswith("ray://"):
        raise UserError(
            f"{address} is a Ray Client address; give the head's own, HOST:6379, from a node of the cluster"
        )
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/@]+):(\d{1,5})", address)
    if match is None or not 0 < int(match[2]) < 65536:
        raise UserError(
            f"--cluster {address!r} is not an address; give HOST:PORT of the head, for example 10.0.0.1:6379"
        )
    return address


def _address_of_this_node() -> str:
    """Return the address that ``ray start`` wrote on this machine; an empty text if there is none."""
    folder = Path(os.environ.get("RAY_TMPDIR") or "/tmp")  # noqa: S108 - where Ray puts it
    try:
        return (folder / "ray" / "ray_current_cluster").read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def try_address(address: str, limit: float = CONNECT_SECONDS) -> None:
    """Connect once from a process of its own, which can be ended when it hangs.

    Raises:
        UserError: if nothing listens there, it is not a Ray cluster that accepts us, or takes over ``limit`` seconds.
    """
    begun = time.monotonic()
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=min(5.0, limit)).close()
    except OSError as error:
        raise UserError(
            f"no Ray cluster answers at {address} ({error.strerror or error}); check that it runs"
        ) from None
    left = limit - (time.monotonic() - begun)
    try:
        result = subprocess.run(  # noqa: S603 - our own interpreter, and an address of a checked form
            [sys.executable, "-c", _TRY, address],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=left,
        )
    except subprocess.TimeoutExpired:
        raise UserError(
            f"the Ray cluster at {address} did not accept the connection within {limit:.0f} s; {_CHECK}"
        ) from None
    if result.returncode:
        why = _exception_line(result.stderr)
        # a ConnectionError is all that Ray says of a token that is wrong or missing
        hint = f"; {_CHECK}" if why.startswith("ConnectionError") else ""
        raise UserError(f"cannot join the Ray cluster at {address}: {why}{hint}")


def _exception_line(text: str) -> str:
    """Return the last exception line of a traceback (the last line, when there is none)."""
    errors = re.findall(r"^\s*([\w.]*(?:Error|Exception)\b.*)$", text, re.MULTILINE)
    return one_line(errors[-1] if errors else text, last=True) or "no reason was given"


def is_loopback(address: str) -> bool:
    """Whether the address can be reached from this machine only."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def code_for_nodes() -> dict[str, Any]:
    """Return the runtime environment that brings this project's packages to every node.

    The packages themselves, not the folder that holds them: that works from a checkout and from an installation.
    """
    from dnw_core.code_version import COMMIT_VARIABLE, code_version

    commit, dirty = code_version()
    root = Path(__file__).resolve().parents[2]
    return {
        "py_modules": [str(root / name) for name in _SHIPPED],
        "excludes": ["__pycache__/", "*.pyc"],
        "env_vars": {**QUIET, COMMIT_VARIABLE: f"{commit}+dirty" if dirty else commit},
    }


def check_cluster(address: str) -> None:
    """Check that the cluster accepts us, before a result is moved aside for it.

    Raises:
        UserError: within ``CONNECT_SECONDS``, if it does not.
    """
    try_address(resolve_address(address))
