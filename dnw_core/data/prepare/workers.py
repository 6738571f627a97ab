"""The processes that make shards, one shard at a time each, and never more of them than there are shards.

Each has a pipe of its own and nothing else in common with the others, so that one that dies takes nothing with it.
When the driver dies a worker finds its pipe closed at its next message and ends; Ctrl-C is handled by the
driver, and workers never see it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from dnw_core.data.formats.manifest import Shard
from dnw_core.data.prepare.plan import ShardPlan
from dnw_core.data.prepare.shard import BadImage, BadImagesError, Preparation, is_whole, make_shard
from dnw_core.errors import UserError


@dataclass(frozen=True)
class Task:
    """A shard to be made, or to be kept if it is still ``known`` by its checksum."""

    plan: ShardPlan
    known: Shard | None


@dataclass(frozen=True)
class Progressed:
    """A worker's message: so many more images were prepared."""

    images: int


@dataclass(frozen=True)
class Ended:
    """A worker's message: its shard is there (``made`` or kept), or has bad images, or could not be written."""

    plan: ShardPlan
    shard: Shard | None = None
    made: bool = False
    bad: tuple[BadImage, ...] = ()
    failure: str | None = None


Message = Progressed | Ended


def run_tasks(
    preparation: Preparation, tasks: Sequence[Task], processes: int, on_message: Callable[[Message], None]
) -> None:
    """Do all tasks in ``processes`` processes, which are gone when this returns or raises.

    Args:
        preparation: source, target, settings.
        tasks: the shards, begun in this order.
        processes: how many at most.
        on_message: called in this process with each message of a worker.

    Raises:
        UserError: if a shard cannot be written or a process was killed. What ``on_message`` raises passes through.
    """
    waiting = deque(tasks)
    with _started(preparation, min(processes, len(tasks))) as workers:
        for connection, process in workers.items():
            _send(connection, process, waiting.popleft())
        busy = set(workers)
        while busy:
            for ready in wait(list(busy)):
                assert isinstance(ready, Connection)
                message = _receive(ready, workers[ready])
                on_message(message)
                if not isinstance(message, Ended):
                    continue
                if message.failure is not None:
                    raise UserError(f"{preparation.out / message.plan.name} cannot be written: {message.failure}")
                if waiting:
                    _send(ready, workers[ready], waiting.popleft())
                else:
                    busy.remove(ready)


@contextlib.contextmanager
def _started(preparation: Preparation, count: int) -> Iterator[dict[Connection, BaseProcess]]:
    context = multiprocessing.get_context("spawn")  # a forked process would inherit threads' locks
    workers: dict[Connection, BaseProcess] = {}
    try:
        for number in range(count):
            ours, theirs = context.Pipe()
            process: BaseProcess = context.Process(
                target=_work, args=(theirs, preparation), name=f"prepare-{number}", daemon=True
            )
            with _interrupts_blocked():
                process.start()
                workers[ours] = process
            theirs.close()  # else a worker's end would not close ours
        yield workers
    finally:
        for connection, process in workers.items():
            process.kill()  # what it was writing has a temporary name
            connection.close()
        for process in workers.values():
            process.join()


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Hold back SIGINT here, and for good in the processes started within."""
    resource_tracker.ensure_running()  # it starts with the first process otherwise, and lets SIGINT through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _send(connection: Connection, process: BaseProcess, task: Task) -> None:
    try:
        connection.send(task)
    except ConnectionError:
        raise _died(process) from None


def _receive(connection: Connection, process: BaseProcess) -> Message:
    try:
        message: Message = connection.recv()
    except (EOFError, ConnectionError):
        raise _died(process) from None
    return message


def _died(process: BaseProcess) -> UserError:
    process.join()
    code = process.exitcode or 0
    how = f"was ended by signal {-code} (too little memory?)" if code < 0 else f"ended with exit code {code}"
    return UserError(f"a process of the preparation {how}; the same command resumes it, perhaps with fewer --processes")


def _work(connection: Connection, preparation: Preparation) -> None:
    """A worker's life: a task, messages about it, the next task, until the pipe is closed."""
    with contextlib.suppress(EOFError, ConnectionError):  # the driver has ended
        while True:
            task: Task = connection.recv()
            connection.send(_do(task, preparation, connection))


def _do(task: Task, preparation: Preparation, connection: Connection) -> Ended:
    plan = task.plan
    try:
        if task.known is not None and is_whole(preparation, task.known):
            return Ended(plan, task.known)
        return Ended(plan, make_shard(preparation, plan, lambda images: connection.send(Progressed(images))), made=True)
    except BadImagesError as found:
        return Ended(plan, bad=tuple(found.images))
    except ConnectionError:
        raise
    except OSError as error:
        return Ended(plan, failure=error.strerror or str(error))
