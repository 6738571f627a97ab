"""A bucket on the loopback (moto's server), and a line to it that can be cut (for tests)."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import urllib.request
from collections.abc import Iterator
from datetime import timedelta

import pytest

from pipelines.storage.bucket.client import Bucket

VARIABLES = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


class Line:
    """Passes connections on to a server; ``cut`` ends them all and lets none through until ``mend``."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._target = port
        self._listener = socket.create_server((host, 0))
        self.port: int = self._listener.getsockname()[1]
        self._cut = False
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Be away."""
        self._cut = True
        for one in list(self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        """Be there again."""
        self._cut = False

    def close(self) -> None:
        """Listen no more."""
        self.cut()
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                ours, _ = self._listener.accept()
                if self._cut:
                    ours.close()
                    continue
                theirs = socket.create_connection(("127.0.0.1", self._target))
                self._open |= {ours, theirs}
                threading.Thread(target=self._pass, args=(ours, theirs), daemon=True).start()
                threading.Thread(target=self._pass, args=(theirs, ours), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(1 << 16):
                target.sendall(piece)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            self._open.discard(one)


class S3:
    """A running server with one empty bucket, ``results``."""

    def __init__(self, port: int, line: Line, host: str = "127.0.0.1") -> None:
        self.line = line
        self.direct = f"http://127.0.0.1:{port}"
        self.endpoint = f"http://{host}:{line.port}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which a command finds it."""
        return {**VARIABLES, "AWS_ENDPOINT_URL": self.endpoint}

    def bucket(self, folder: str) -> Bucket:
        """Return a folder of the bucket, reached by the line."""
        return Bucket(f"s3://results/{folder}", self.endpoint, "us-east-1")

    def behind(self, folder: str) -> Bucket:
        """Return the same, reached while the line is cut."""
        return Bucket(f"s3://results/{folder}", self.direct, "us-east-1")

    def put_raw(self, key: str) -> None:
        """Make an empty object of a name that no client of ours would give it; the bucket itself for none."""
        urllib.request.urlopen(urllib.request.Request(f"{self.direct}/results/{key}", b"", method="PUT"))  # noqa: S310


def age(part: str, seconds: float) -> None:
    """Let the objects whose keys contain ``part`` have been written earlier, by the server's clock."""
    from moto.s3.models import s3_backends

    for backend in s3_backends["123456789012"].values():
        for key in backend.buckets["results"].keys.values():
            if part in key.name:
                key.last_modified -= timedelta(seconds=seconds)


def _forget() -> None:
    """Have no bucket left of an earlier server: moto keeps them for the whole process."""
    from moto.s3.models import s3_backends

    s3_backends.reset()


@contextlib.contextmanager
def serve(host: str = "127.0.0.1") -> Iterator[S3]:
    """Run a server for the block; the AWS variables of this process point to it.

    Args:
        host: of the line to it: an address of this machine that those who use it reach.
    """
    from moto.s3.responses import S3Response
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _forget()
    _, port = server.get_host_and_port()
    line = Line(port, host)
    found = S3(port, line, host)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in found.environment.items():
            patch.setenv(name, value)
        put, one_at_a_time = S3Response.put_object, threading.Lock()

        def put_object(response: S3Response) -> object:
            with one_at_a_time:  # moto looks at the conditions of a PUT and then writes
                return put(response)

        patch.setattr(S3Response, "put_object", put_object)
        found.put_raw("")
        try:
            yield found
        finally:
            line.close()
            server.stop()
