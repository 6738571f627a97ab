"""Whether image files can be decoded and trained on: asked of every one of them before anything is trained on any."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from dnw_core.data.formats.jpeg import decode_checked

_CHUNK = 64  # images handed to a thread at a time
_NAMED = 5  # in a message


def find_unreadable(count: int, read: Callable[[int], bytes]) -> dict[int, str]:
    """Decode all images in threads (the decoder lets go of the interpreter's lock); return what is wrong, by row.

    Args:
        count: number of images.
        read: returns the bytes of one, by row; may raise ValueError.
    """

    def check(start: int) -> list[tuple[int, str]]:
        found = []
        for row in range(start, min(start + _CHUNK, count)):
            try:
                decode_checked(read(row))
            except ValueError as error:
                found.append((row, str(error)))
        return found

    with ThreadPoolExecutor(usable_cpus()) as pool:
        return dict(bad for found in pool.map(check, range(0, count, _CHUNK)) for bad in found)


def describe_unreadable(where: str, bad: Mapping[str, str], count: int) -> str:
    """Return the line for a user: the first few of the ``bad`` images (name: reason), and what to do."""
    named = "; ".join(f"{name} ({reason})" for name, reason in list(bad.items())[:_NAMED])
    more = f" and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
    return (
        f"{where}: {len(bad)} of {count} images cannot be read: {named}{more}; repair or remove them "
        "(python pipelines/prepare.py lists them all)"
    )


def usable_cpus() -> int:
    """Return how many processors this process may use, 16 at most."""
    try:
        return min(len(os.sched_getaffinity(0)), 16)
    except AttributeError:  # not on macOS
        return min(os.cpu_count() or 1, 16)
