"""Who decodes: this process, or loader processes beside it, which live as long as the trial.

A piece's pixels go from the loader process through a socket straight to their place in the batch: no shared memory that
a container limits or a killed process leaves behind. A thread for each process here sends a piece and waits for its
pixels, outside the interpreter's lock. A process that dies (of memory, say) is replaced once a piece.
"""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np
import numpy.typing as npt

from dnw_core.data.streaming.loader_process import DONE, receive_into, receive_object, send_object
from dnw_core.data.streaming.piece import DecodeTask, decode_piece
from dnw_core.errors import TrialFailedError

_SECONDS_TO_END = 5.0


class Loader(Protocol):
    """Decodes pieces."""

    @property
    def processes(self) -> int:
        """How many processes decode beside this one."""

    def start(self, piece: DecodeTask, pixels: npt.NDArray[np.uint8]) -> Future[None]:
        """Decode a piece into ``pixels``, uint8 [n, size, size, 3]; done, or failed, when the future says so."""

    def close(self) -> None:
        """End the processes; may be called twice."""


def make_loader(processes: int) -> Loader:
    """Return a loader with so many processes; 0: this one decodes."""
    return LoaderPool(processes) if processes else InlineLoader()


class InlineLoader:
    """Decodes at once, in this process."""

    processes = 0

    def start(self, piece: DecodeTask, pixels: npt.NDArray[np.uint8]) -> Future[None]:
        """See Loader."""
        future: Future[None] = Future()
        try:
            decode_piece(piece, pixels)
        except Exception as error:
            future.set_exception(error)
        else:
            future.set_result(None)
        return future

    def close(self) -> None:
        """Nothing runs."""


class LoaderPool:
    """Loader processes, and a thread for each that talks to it."""

    def __init__(self, processes: int) -> None:
        self.processes = processes
        self._threads = ThreadPoolExecutor(processes, thread_name_prefix="loader")
        self._idle: queue.SimpleQueue[_Process] = queue.SimpleQueue()
        self._all = [_Process() for _ in range(processes)]
        for process in self._all:
            self._idle.put(process)

    def start(self, piece: DecodeTask, pixels: npt.NDArray[np.uint8]) -> Future[None]:
        """See Loader."""
        return self._threads.submit(self._decode, piece, pixels)

    def close(self) -> None:
        """See Loader."""
        for process in self._all:
            process.hang_up()  # which also ends the threads' waiting
        self._threads.shutdown(cancel_futures=True)
        for process in self._all:
            process.end()

    def _decode(self, piece: DecodeTask, pixels: npt.NDArray[np.uint8]) -> None:
        process = self._idle.get()
        try:
            try:
                process.decode(piece, pixels)
            except (EOFError, OSError):
                process.replace()
                process.decode(piece, pixels)
        except (EOFError, OSError):
            raise TrialFailedError(
                f"a loader process ended twice over the same images ({process.how_it_ended()})"
            ) from None
        finally:
            self._idle.put(process)


class _Process:
    """A loader process and the socket to it."""

    def __init__(self) -> None:
        self._closed = False
        self._launch()

    def decode(self, piece: DecodeTask, pixels: npt.NDArray[np.uint8]) -> None:
        """Let the process decode; raises what it raised, or EOFError or OSError if it has ended."""
        send_object(self._socket, piece)
        answer = bytearray(1)
        receive_into(self._socket, memoryview(answer))
        if answer != DONE:
            raise receive_object(self._socket)
        receive_into(self._socket, pixels.data.cast("B"))

    def replace(self) -> None:
        """Launch another process in the place of one that has ended."""
        if self._closed:
            raise EOFError("closed")
        self.end()
        self._launch()

    def hang_up(self) -> None:
        """Close the connection: the process ends by itself."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        """Wait until the process has ended; kill it if it does not."""
        self._socket.close()
        try:
            self._process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def how_it_ended(self) -> str:
        """Return signal or exit code."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._process.wait(_SECONDS_TO_END)
            return f"signal {-code}" if code < 0 else f"exit code {code}"
        return "it no longer answers"

    def _launch(self) -> None:
        self._socket, other = socket.socketpair()
        with other:
            self._process = subprocess.Popen(  # noqa: S603 - this very program
                [sys.executable, "-P", "-m", "dnw_core.data.streaming.loader_process", str(other.fileno())],
                pass_fds=[other.fileno()],
                stdin=subprocess.DEVNULL,
                env=_environment(),
                start_new_session=True,  # Ctrl-C is for the trial, which ends its loaders
            )


def _environment() -> dict[str, str]:
    """Return this process's environment, such that a new interpreter finds the same modules and uses one thread."""
    paths = os.pathsep.join(path for path in sys.path if path)
    return {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
