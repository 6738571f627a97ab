"""The file that a search leaves: the winner's settings and where they come from, for a row to include."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import yaml

from dnw_core.errors import UserError
from dnw_core.files import write_text
from pipelines.hpo.halving import Status, ranking
from pipelines.hpo.plan import Search
from tune_configs.include import FoundCounts, FoundFile, FoundProvenance, FoundScore, nest, parse_found
from tune_configs.scales import SCALES, Scale

FOLDER = "found"  # below the folder of the tables
_HEAD = "# Written by pipelines/search.py. A row includes it with `include:` (docs/how_to_add.md).\n"


def include_name(search_row: str) -> str:
    """Return the file's name below the folder of the tables, for ``table/row``."""
    return f"{FOLDER}/{search_row.replace('/', '.')}.yaml"


def check_target(path: Path, scale: Scale) -> None:
    """Check, before anything is trained, that the file may be written.

    Raises:
        UserError: if its values come from a larger scale, or a search did not write it.
    """
    try:
        found, _ = parse_found(path.read_text("utf-8"), path.name)
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}); give another file with --out") from None
    except UserError as error:
        raise UserError(f"{path} was not written by a search ({error}); give another file with --out") from None
    if SCALES.index(found.provenance.scale) > SCALES.index(scale):
        raise UserError(
            f"{path} holds values of a search at {found.provenance.scale} scale, which one at {scale} scale must not "
            "overwrite; give another file with --out"
        )


def write_found(path: Path, search: Search, statuses: Sequence[Status], command: str) -> None:
    """Write the winner's settings, atomically; a file that says the same already is left alone.

    Args:
        path: the file; its folder is made.
        search: the search; all its configurations have ended.
        statuses: of its configurations; at least one is finished.
        command: the command line.

    Raises:
        UserError: if it cannot be written.
    """
    found = found_file(search, statuses, command)
    with contextlib.suppress(OSError, UserError, UnicodeDecodeError):
        if _without_when(parse_found(path.read_text("utf-8"), path.name)[0]) == _without_when(found):
            return
    values = found.model_dump(mode="json", exclude_none=True)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, _HEAD + yaml.safe_dump(values, sort_keys=False, width=110))
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error}); give another file with --out") from None


def _without_when(found: FoundFile) -> FoundFile:
    return found.model_copy(update={"provenance": found.provenance.model_copy(update={"date": "", "command": ""})})


def found_file(search: Search, statuses: Sequence[Status], command: str) -> FoundFile:
    """Return what the file holds."""
    finished = [one for one in ranking(statuses) if one.standing == "finished"]
    winner = finished[0]
    source = winner.record.provenance if winner.record is not None else None
    assert source is not None
    counts = Counter(one.standing for one in statuses)
    scores = [
        FoundScore(configuration=str(one.configuration), validation_accuracy=one.accuracy)
        for one in finished[:2]
        if one.accuracy is not None
    ]
    space = {key: one.model_dump(mode="json", exclude_none=True) for key, one in sorted(search.space.items())}
    provenance = FoundProvenance(
        command=command,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        scale=search.scale,
        seed=search.seed,
        space=space,
        configurations=FoundCounts(
            tried=len(statuses), finished=counts["finished"], stopped=counts["stopped"], failed=counts["failed"]
        ),
        winner=scores[0],
        runner_up=scores[1] if len(scores) > 1 else None,
        epochs=search.epochs,
        training_images=search.images,
        validation_images=search.budget.validation_images,
        data_checksum=source.data_checksum,
        commit=source.commit,
        dirty=source.dirty,
        packages=source.packages,
    )
    return FoundFile(recipe=nest(winner.configuration.values), provenance=provenance)
