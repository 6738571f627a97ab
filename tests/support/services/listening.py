"""Which sockets processes of this machine listen on, as the kernel lists them (Linux)."""

from __future__ import annotations

import contextlib
import ipaddress
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

_LISTENS, _UNCONNECTED = "0A", "07"  # states of TCP and of UDP


class Listening(NamedTuple):
    """A socket that takes what comes from outside its process."""

    protocol: str
    host: str
    port: int
    process: str  # the command line, in words

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches it."""
        address = ipaddress.ip_address(self.host)
        mapped = getattr(address, "ipv4_mapped", None)
        return (mapped or address).is_loopback


def listening(processes: Iterable[int]) -> set[Listening]:
    """Return the sockets that these processes listen on."""
    owners: dict[str, str] = {}
    for process in processes:
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            for entry in Path(f"/proc/{process}/fd").iterdir():
                with contextlib.suppress(OSError):
                    name = str(entry.readlink())
                    if name.startswith("socket:["):
                        owners[name[8:-1]] = command.strip()
    found = set()
    for protocol in ("tcp", "tcp6", "udp", "udp6"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/net/{protocol}").read_text("ascii").splitlines()[1:]:
                words = line.split()
                if words[9] in owners and words[3] == (_LISTENS if protocol.startswith("tcp") else _UNCONNECTED):
                    host, _, port = words[1].rpartition(":")
                    found.add(Listening(protocol, _address(host), int(port, 16), owners[words[9]]))
    return found


def _address(digits: str) -> str:
    """Return an address of which the kernel prints each group of 4 bytes as one number of this machine's order."""
    groups = [bytes.fromhex(digits[start : start + 8]) for start in range(0, len(digits), 8)]
    return str(ipaddress.ip_address(b"".join(group[::-1] if sys.byteorder == "little" else group for group in groups)))
