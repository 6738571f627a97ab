"""Clears this machine before it is taken away: ``python pipelines/leave_node.py --help``.

Run on a machine of a cluster that is about to be taken away (a Kubernetes ``preStop`` hook, the trap of a SLURM job):
Ray places nothing more here, and every trial of this machine is asked to write its checkpoint and leave, so that it
resumes elsewhere and nothing is lost.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Sequence

from dnw_core.errors import UserError
from pipelines.cluster import (
    cluster_environment,
    drain_node,
    ray_environment,
    resolve_address,
    trial_processes,
    try_address,
)
from pipelines.commands.arguments import CommandParser, whole_number
from pipelines.commands.shell import ALL_DONE, NOT_ALL_DONE, run

_POLL_SECONDS = 0.2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 1 if a trial is still here after the time."""
    return run(_run, argv, "stopped; trials that were asked to leave still do")


def _run(argv: Sequence[str]) -> int:
    values = make_parser().parse(argv, "it always clears this machine")
    return leave(values.address, values.seconds)


def make_parser() -> CommandParser:
    """Return the parser."""
    parser = CommandParser("leave_node.py", str(__doc__).partition("\n\n")[2], "")
    parser.add_argument(
        "--address",
        default="auto",
        metavar="ADDRESS",
        help="the Ray cluster's HOST:PORT (default: RAY_ADDRESS or this machine's cluster)",
    )
    parser.add_argument(
        "--seconds",
        type=whole_number(0),
        default=90,
        metavar="S",
        help="time for the trials to write their checkpoints (default: 90)",
    )
    return parser


def leave(cluster: str, seconds: float) -> int:
    """Clear this machine; trials are asked to leave even if the cluster does not answer.

    Raises:
        UserError: if Ray does not take the request.
    """
    begun = time.monotonic()
    refusal: UserError | None = None
    try:
        drain(cluster, seconds)
    except UserError as error:
        refusal = error
    left = clear(seconds - (time.monotonic() - begun))
    if refusal is not None:
        raise refusal
    return NOT_ALL_DONE if left else ALL_DONE


def clear(seconds: float, processes: Callable[[], list[int]] = trial_processes) -> list[int]:
    """Ask every trial of this machine to leave, wait for them, and return the processes that have not left."""
    asked = processes()
    for process in asked:
        with contextlib.suppress(OSError):  # it has ended
            os.kill(process, signal.SIGTERM)
    until = time.monotonic() + seconds
    left = asked
    while left and time.monotonic() < until:
        time.sleep(_POLL_SECONDS)
        left = sorted({*left} & {*processes()})
    print(f"{len(asked)} trials were asked to leave this machine, {len(asked) - len(left)} have", flush=True)
    return left


def drain(cluster: str, seconds: float) -> None:
    """Ask Ray to place nothing more on this machine.

    Raises:
        UserError: if there is no cluster, it does not answer, or it refuses.
    """
    with ray_environment(cluster_environment()):
        address = resolve_address(cluster)
        try_address(address)
        import ray

        with ray_environment({"RAY_ADDRESS": address}):
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        try:
            node = ray.get_runtime_context().get_node_id()
            taken, why = drain_node(address, node, seconds)
        except Exception as error:  # gRPC's exceptions have no stable name
            raise UserError(f"Ray at {address} did not take the request ({type(error).__name__}: {error})") from None
        finally:
            ray.shutdown()
    if not taken:
        raise UserError(f"Ray at {address} does not let this machine go ({why})")
