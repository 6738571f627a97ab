"""``--detach``: the command trains in a session of its own, which outlives the terminal.

The command starts itself again as a second process and waits until that one trains, relaying its output unchanged on
the same streams: a mistake looks as it does without ``--detach``, exit code included. From then on the second process
writes to ``driver.log`` in the results folder, beginning with its output so far.

Until then it writes to two unnamed files, not to pipes, which would end it once the first process is gone.
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import MutableMapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from dnw_core.errors import UserError
from pipelines.store import LOG_FILE

VARIABLE = "DNW_DETACHED"
"""In the environment of the second process: the descriptor on which it reports that it trains."""

_BEGUN = b"begun"
_POLL_SECONDS = 0.1


def start_detached(command: Sequence[str]) -> tuple[int, int | None]:
    """Start the command in a session of its own and wait until it trains or has ended.

    Args:
        command: program and arguments; it calls ``Detached.from_environment`` and ``Detached.begin``.

    Returns:
        Its process id; and its exit code, None if it is training.

    Raises:
        KeyboardInterrupt: once the command has ended, too.
    """
    reader, writer = os.pipe()
    with tempfile.TemporaryFile(buffering=0) as out, tempfile.TemporaryFile(buffering=0) as err:
        os.set_inheritable(writer, True)
        process = subprocess.Popen(  # noqa: S603 - our own command, again
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
            pass_fds=[writer],
            env={**os.environ, VARIABLE: str(writer)},
        )
        os.close(writer)
        relays = (_Relay(out, sys.stdout.buffer), _Relay(err, sys.stderr.buffer))
        try:
            begun = _watch(reader, relays)
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
            process.wait()
            raise
        finally:
            os.close(reader)
            for relay in relays:
                relay.pass_on()
        return process.pid, None if begun else process.wait()


def _watch(reader: int, relays: Sequence[_Relay]) -> bool:
    """Return whether the command began to train; False if it ended before."""
    while True:
        ready, _, _ = select.select([reader], [], [], _POLL_SECONDS)
        for relay in relays:
            relay.pass_on()
        if ready:
            return os.read(reader, len(_BEGUN)) == _BEGUN


class _Relay:
    """Copies to a stream what another process writes to a file."""

    def __init__(self, source: BinaryIO, target: BinaryIO) -> None:
        self._source = source
        self._target = target
        self._passed = 0

    def pass_on(self) -> None:
        """Copy what is new."""
        # by position: the writer shares the descriptor's offset
        while new := os.pread(self._source.fileno(), 1 << 16, self._passed):
            self._passed += len(new)
            with contextlib.suppress(OSError):  # nobody reads any more; the run continues
                self._target.write(new)
                self._target.flush()


class Detached:
    """The second process's side."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def from_environment(cls, variables: MutableMapping[str, str]) -> Detached | None:
        """Return that of this process, and hide it from its children; None if this process was not detached."""
        text = variables.pop(VARIABLE, "")
        if not text.isdigit():
            return None
        os.set_inheritable(int(text), False)
        # a shell's background job ignores SIGINT, which --stop relies on
        signal.signal(signal.SIGINT, signal.default_int_handler)
        return cls(int(text))

    def begin(self, results_dir: Path, command: Sequence[str]) -> None:
        """Continue in the log of the results folder, and tell the first process.

        Raises:
            UserError: if the log cannot be written.
        """
        path = results_dir / LOG_FILE
        try:
            log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            raise UserError(f"{path} cannot be opened ({error.strerror}); give another --results-dir") from None
        sys.stdout.flush()
        sys.stderr.flush()
        now = datetime.now(UTC).isoformat(timespec="seconds")
        os.write(log, f"\n{now} process {os.getpid()}: {shlex.join(command)}\n".encode())
        for stream in (1, 2):
            os.write(log, _content(stream))
            os.dup2(log, stream)
        os.close(log)
        with contextlib.suppress(OSError):  # it was ended
            os.write(self._descriptor, _BEGUN)
        os.close(self._descriptor)


def _content(descriptor: int) -> bytes:
    pieces: list[bytes] = []
    while piece := os.pread(descriptor, 1 << 16, sum(map(len, pieces))):
        pieces.append(piece)
    return b"".join(pieces)
