"""Where and how fast a trial runs. It never changes a result and is no part of a trial's identity."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from dnw_core.config import Config


class Execution(Config):
    """Device, threads, folders. Paths are absolute by the time a trial gets them."""

    device: str = Field(default="cpu", description="'cpu', 'cuda' or 'cuda:N'")
    threads: int = Field(default=1, ge=1, description="torch threads; recorded, and kept when a trial is resumed")
    compile: bool = Field(default=False, description="torch.compile the network")
    checkpoint_minutes: float = Field(default=5.0, ge=0, description="0: after every epoch")
    data_dir: Path | None = Field(default=None, description="folder that holds the data set; None: the default")
    cache_dir: Path | None = Field(default=None, description="decoded images; None: the default")
    download: bool = Field(default=False, description="fetch a missing data set")
