"""A Ray cluster of several machines on this one: real nodes, each with its own address in a network namespace.

The head is in the namespace of the tests, on a bridge, and has no CPU: every trial is on a machine that can be lost.
Needs root, and the ``ip`` command.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from support.faults.processes import kill_marked, quiet
from support.faults.ray_processes import start_ray, token_variables
from support.services.free_ports import free_port

_ROOT = Path(__file__).resolve().parents[3]


def namespaces_are_to_be_had() -> bool:
    """Whether this process may make network namespaces."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    name = f"dnw{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True).returncode == 0
    if made:
        quiet("ip", "netns", "del", name)
    return made


class Machines:
    """The cluster. Use ``machines()``, which takes everything away again.

    Attributes:
        address: of the head, ``host:port``.
        host: of the head, where all machines reach it.
        environment: what a command needs to join: the token.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._net = f"10.{77 + os.getpid() // 250 % 100}.{os.getpid() % 250}"
        self._name = f"dw{os.getpid() % 10**6:x}"  # an interface's name has at most 15 characters
        self._marks: dict[str, str] = {}
        self._nodes = 0
        self._port = free_port()
        self.host = f"{self._net}.1"
        self.address = f"{self.host}:{self._port}"
        self.environment = token_variables(folder)
        quiet("ip", "link", "add", self._name, "type", "bridge")
        quiet("ip", "address", "add", f"{self._net}.1/24", "dev", self._name)
        quiet("ip", "link", "set", self._name, "up")

    def start_head(self) -> None:
        """Start the head, again at the same address if it was lost."""
        words = ["--head", f"--port={self._port}", f"--node-ip-address={self._net}.1", "--num-cpus=0"]
        self._start("head", [], [*words, "--include-dashboard=false"])

    def add(self) -> str:
        """Start another machine, with one CPU, and return its name."""
        self._nodes += 1
        name, space = f"n{self._nodes}", f"{self._name}n{self._nodes}"
        inner, outer, ip = f"{space}i", f"{space}o", f"{self._net}.{10 + self._nodes}"
        quiet("ip", "netns", "add", space)
        quiet("ip", "link", "add", outer, "type", "veth", "peer", "name", inner)
        quiet("ip", "link", "set", outer, "master", self._name, "up")
        quiet("ip", "link", "set", inner, "netns", space)
        quiet("ip", "-n", space, "address", "add", f"{ip}/24", "dev", inner)
        for device in (inner, "lo"):
            quiet("ip", "-n", space, "link", "set", device, "up")
        prefix = ["ip", "netns", "exec", space]
        self._start(name, prefix, [f"--address={self.address}", f"--node-ip-address={ip}", "--num-cpus=1"])
        return name

    def _start(self, name: str, prefix: list[str], words: list[str]) -> None:
        mark = self._marks[name] = f"{self._folder.name}-{name}"
        own = self._folder / f"{name}-{secrets.token_hex(2)}"
        own.mkdir()
        start_ray(own, mark, words, {**self.environment, "PYTHONPATH": str(_ROOT / "tests")}, prefix)

    def mark(self, name: str) -> str:
        """Return the mark of a machine's processes."""
        return self._marks[name]

    def kill(self, name: str) -> None:
        """Lose a machine: SIGKILL for its raylet, its agents and all its workers."""
        kill_marked(self._marks[name])

    def cut(self, name: str) -> None:
        """Take a machine's link down: nobody is told, and it goes on by itself."""
        quiet("ip", "link", "set", f"{self._name}{name}o", "down")

    def close(self) -> None:
        """Take everything away."""
        for name in self._marks:
            self.kill(name)
        for number in range(1, self._nodes + 1):
            with contextlib.suppress(subprocess.CalledProcessError):
                quiet("ip", "link", "del", f"{self._name}n{number}o")
            with contextlib.suppress(subprocess.CalledProcessError):
                quiet("ip", "netns", "del", f"{self._name}n{number}")
        quiet("ip", "link", "del", self._name)


@contextlib.contextmanager
def machines(workers: int) -> Iterator[Machines]:
    """Start a head and so many machines for the block."""
    folder = Path(tempfile.mkdtemp(prefix="fm-", dir="/tmp"))
    cluster = Machines(folder)
    try:
        cluster.start_head()
        for _ in range(workers):
            cluster.add()
        yield cluster
    finally:
        cluster.close()
        shutil.rmtree(folder, ignore_errors=True)
