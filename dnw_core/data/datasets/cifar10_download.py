"""Fetching CIFAR-10 with torchvision's downloader, which knows its address and checks the archive's MD5."""

from __future__ import annotations

import contextlib
import http.client
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from dnw_core.data.datasets import cifar10_source
from dnw_core.data.sources.locks import file_lock
from dnw_core.errors import DataMissingError

if TYPE_CHECKING:
    from dnw_core.config import Execution

_SILENCE_SECONDS = 20.0  # an unreachable server must not hold a run for minutes


def download(execution: Execution) -> None:
    """Fetch torchvision's folder into ``cifar10/`` in the data folder, unless another process just did.

    Raises:
        DataMissingError: if the server cannot be reached, sends other bytes, or the folder cannot be written.
    """
    named, base = cifar10_source.candidate_folders(execution)
    folder = base if base.name == cifar10_source.NAME else named
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with file_lock(folder / "download.lock"):
            if not _is_there(execution):
                _fetch(folder)
    except (OSError, http.client.HTTPException, RuntimeError) as error:  # a RuntimeError: other bytes than expected
        reason = " ".join(str(error).split())
        raise DataMissingError(
            f"cifar10 could not be downloaded to {folder}: {reason}; fetch it elsewhere and give its folder "
            "with --data-dir"
        ) from None


def _is_there(execution: Execution) -> bool:
    try:
        cifar10_source.find_source(execution)
    except DataMissingError:
        return False
    return True


def _fetch(folder: Path) -> None:
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import download_and_extract_archive

    # Not CIFAR10(download=True): that would unpickle as well. Progress goes to stderr.
    with tempfile.TemporaryDirectory(prefix="download.", dir=folder) as temporary:
        with _timeout(_SILENCE_SECONDS):
            download_and_extract_archive(CIFAR10.url, temporary, filename=CIFAR10.filename, md5=CIFAR10.tgz_md5)
        target = folder / CIFAR10.base_folder
        target.mkdir(exist_ok=True)
        # file by file: another trial, looking without the lock, sees whole files only
        for file in sorted((Path(temporary) / CIFAR10.base_folder).iterdir()):
            file.replace(target / file.name)


@contextlib.contextmanager
def _timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
