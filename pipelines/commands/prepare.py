"""The command behind ``prepare.py``: lock the target, prepare, say how it ended."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dnw_core.data.prepare import BadImagesError, Prepared, Settings, check_folders, prepare
from dnw_core.errors import UserError
from pipelines.commands.arguments import CommandParser, absolute_path, whole_number
from pipelines.commands.prepare_progress import make_display, size
from pipelines.commands.shell import ALL_DONE, run
from pipelines.driver import driver_lock

LOCK_FILE = ".prepare.lock"
_NAMED = 20  # bad images


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; a user's mistake is one line on standard error."""
    return run(lambda words: _run(parse_prepare_options(words)), argv, _stopped)


def _stopped(words: Sequence[str]) -> str:
    again = shlex.join(["python", PREPARE_COMMAND, *(word for word in words if word != "--overwrite")])
    return f"stopped; finished shards are kept. To resume: {again}"


def _run(options: PrepareOptions) -> int:
    try:
        return _prepare(options)
    except BadImagesError as error:
        _name(error)
        raise


def _prepare(options: PrepareOptions) -> int:
    check_folders(options.source, options.out)
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
    return ALL_DONE


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


def _name(error: BadImagesError) -> None:
    for image in error.images[:_NAMED]:
        print(f"{image.path}: {image.reason}", file=sys.stderr)
    if len(error.images) > _NAMED:
        print(f"... and {len(error.images) - _NAMED:,} more", file=sys.stderr)


PREPARE_COMMAND = "pipelines/prepare.py"
SHORT_SIDE, QUALITY, IMAGES_PER_SHARD = 256, 92, 4096

_EXAMPLES = """\
examples:
  python pipelines/prepare.py ~/ILSVRC2012 /shared/data/imagenet
      train/<class>/ and val/<class>/ become train-*.parquet, validation-*.parquet and manifest.json;
      images whose shorter side is longer than 256 pixels are made smaller, the others keep their bytes
  python pipelines/prepare.py photos prepared --keep-size
      checked and packed, no image made smaller

exit codes: 0 all is prepared; 2 a mistake in the command, or images that cannot be used (they are named);
130 after Ctrl-C (the same command resumes it)
"""


@dataclass(frozen=True)
class PrepareOptions:
    """The command line, typed; paths are absolute."""

    source: Path
    out: Path
    settings: Settings
    processes: int
    overwrite: bool


def parse_prepare_options(argv: Sequence[str]) -> PrepareOptions:
    """Parse the command line.

    Raises:
        UserError: for anything invalid; a mistyped option is answered with the nearest one.
        SystemExit: after ``--help``.
    """
    values = _make_parser().parse(argv, "SOURCE and OUT are the only words")
    if values.keep_size and values.short_side is not None:
        raise UserError("--keep-size and --short-side contradict each other; give one of them")
    if values.quality > 100:
        raise UserError(f"--quality: '{values.quality}' is not a whole number from 1 to 100")
    short_side = None if values.keep_size else values.short_side or SHORT_SIDE
    return PrepareOptions(
        source=values.source,
        out=values.out,
        settings=Settings(short_side=short_side, quality=values.quality, images_per_shard=values.images_per_shard),
        processes=values.processes or _usable_cpus(),
        overwrite=values.overwrite,
    )


def _make_parser() -> CommandParser:
    parser = CommandParser(
        "prepare.py",
        "Turns a folder of images into Parquet shards: every image checked, large ones made smaller.",
        _EXAMPLES,
    )
    add = parser.add_argument
    add(
        "source",
        type=absolute_path,
        metavar="SOURCE",
        help="image folder: train/<class>/* and val/<class>/*",
    )
    add(
        "out",
        type=_target,
        metavar="OUT",
        help="folder for the shards: new, empty, or of an earlier preparation",
    )
    add(
        "--short-side",
        type=whole_number(8),
        metavar="PIXELS",
        help=f"of an image at most; larger ones are made smaller (default: {SHORT_SIDE})",
    )
    add("--keep-size", action="store_true", help="make no image smaller")
    add(
        "--quality",
        type=whole_number(1),
        default=QUALITY,
        metavar="N",
        help=f"of JPEGs that are encoded anew, 1 to 100 (default: {QUALITY})",
    )
    add(
        "--images-per-shard",
        type=whole_number(1),
        default=IMAGES_PER_SHARD,
        metavar="N",
        help=f"default: {IMAGES_PER_SHARD}",
    )
    add("--processes", type=whole_number(1), metavar="N", help="default: one for each processor")
    add("--overwrite", action="store_true", help="replace what was prepared in OUT from other images or settings")
    return parser


def _target(text: str) -> Path:
    if "://" in text:
        raise argparse.ArgumentTypeError(f"{text} is not a folder; prepare in one and copy it there (docs/imagenet.md)")
    return absolute_path(text)


def _usable_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
