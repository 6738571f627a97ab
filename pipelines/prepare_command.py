"""The command behind ``prepare.py``: lock the target, prepare, say how it ended."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence

from dnw_core.data.prepare import BadImages, Prepared, check_places, prepare
from dnw_core.errors import UserError
from pipelines.lock import driver_lock
from pipelines.prepare_display import make_display, size
from pipelines.prepare_options import PREPARE_COMMAND, PrepareOptions, parse_prepare_options

DONE, USER_ERROR, INTERRUPTED = 0, 2, 130
LOCK_FILE = ".prepare.lock"
_NAMED = 20  # bad images


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; a user's mistake is one line on standard error."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _run(parse_prepare_options(words))
    except UserError as error:
        if isinstance(error, BadImages):
            _name(error)
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        again = shlex.join(["python", PREPARE_COMMAND, *(word for word in words if word != "--overwrite")])
        print(f"\nstopped; finished shards are kept. To go on: {again}", file=sys.stderr)
        return INTERRUPTED


def _run(options: PrepareOptions) -> int:
    check_places(options.source, options.out)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{options.out} cannot be made: {error.strerror or error}; give another OUT") from None
    with driver_lock(options.out, lock_file=LOCK_FILE, option="OUT"), make_display() as display:
        started = time.monotonic()
        prepared = prepare(
            options.source,
            options.out,
            options.settings,
            processes=options.processes,
            overwrite=options.overwrite,
            watch=display,
        )
    _say(prepared, options, time.monotonic() - started)
    return DONE


def _say(prepared: Prepared, options: PrepareOptions, seconds: float) -> None:
    manifest = prepared.manifest
    shards = manifest.shards
    print(
        f"{options.out}: {manifest.train.images:,} training and {manifest.validation.images:,} validation images of "
        f"{len(manifest.classes):,} classes in {len(shards)} shards ({prepared.made} made, "
        f"{len(shards) - prepared.made} kept), {size(sum(shard.bytes for shard in shards))}, "
        f"in {seconds:,.1f} s",
        flush=True,
    )


def _name(error: BadImages) -> None:
    for image in error.images[:_NAMED]:
        print(f"{image.path}: {image.reason}", file=sys.stderr)
    if len(error.images) > _NAMED:
        print(f"... and {len(error.images) - _NAMED:,} more", file=sys.stderr)
