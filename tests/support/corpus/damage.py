"""What the corpora of damaged files share: seeded harm to bytes, and a give-up limit for what must not wait.

Every case is made from a good file by a generator that is seeded with the case's own name, so that it is the same on
every machine and a failing one can be made again by its name alone.
"""

from __future__ import annotations

import contextlib
import faulthandler
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

GIVE_UP_SECONDS = 60.0

Harm = Callable[[bytes], bytes]
Case = TypeVar("Case")

PARTS = range(8)
"""A corpus is tested in so many parts: a test for each of hundreds of cases takes longer to collect than to run."""


def part_of(cases: Mapping[str, Case], part: int) -> Iterator[tuple[str, Case]]:
    """Yield a part's cases, each by its name; a failure within one is noted with it."""
    for name in list(cases)[part :: len(PARTS)]:
        print(f"case: {name}")  # pytest shows it with a failure
        yield name, cases[name]


def flipped(name: str, bits: int = 1) -> Harm:
    """Return a harm that flips so many bits, at places that the name determines."""

    def harm(content: bytes) -> bytes:
        draw, changed = random.Random(name), bytearray(content)
        for _ in range(bits):
            changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
        return bytes(changed)

    return harm


def truncated(part: float) -> Harm:
    """Return a harm that keeps this part of the file's beginning."""
    return lambda content: content[: int(part * len(content))]


def scribbled(name: str, length: int = 64) -> Harm:
    """Return a harm that overwrites a stretch with noise, as a broken block of a disk does."""

    def harm(content: bytes) -> bytes:
        draw = random.Random(name)
        start = draw.randrange(max(1, len(content) - length))
        return content[:start] + draw.randbytes(length) + content[start + length :]

    return harm


def zeroed(part: float) -> Harm:
    """Return a harm that turns the file's end into zeros, as a power cut does."""

    def harm(content: bytes) -> bytes:
        kept = int(part * len(content))
        return content[:kept] + bytes(len(content) - kept)

    return harm


def raw_harms(kind: str, flips: int) -> dict[str, Harm]:
    """Return harms that know nothing of what the bytes mean, by name."""
    harms: dict[str, Harm] = {"empty": lambda _: b"", "one byte": lambda content: content[:1]}
    harms |= {f"cut to {percent} %": truncated(percent / 100) for percent in (10, 35, 60, 85, 99)}
    harms |= {f"zeros from {percent} %": zeroed(percent / 100) for percent in (0, 50, 95)}
    harms |= {f"flip {number}": flipped(f"{kind} flip {number}") for number in range(flips)}
    harms |= {f"noise {number}": scribbled(f"{kind} noise {number}") for number in range(4)}
    harms |= {"doubled": lambda content: content * 2, "byte in front": lambda content: b"\x00" + content}
    return harms


@contextlib.contextmanager
def no_hang() -> Iterator[None]:
    """End the process with every thread's stack if the block does not end: a test that waits for ever tells nothing."""
    faulthandler.dump_traceback_later(GIVE_UP_SECONDS, exit=True, file=sys.__stderr__)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
