"""Where and how fast a trial runs. It changes no result and is not part of a trial's identity."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from dnw_core.config.base import Config
from dnw_core.errors import UserError
from dnw_core.folders import default_data_dir


def _as_text(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


class Execution(Config):
    """Device, processes, threads, folders. Paths are absolute by the time a trial gets them."""

    device: str = Field(default="cpu", description="'cpu', 'cuda' or 'cuda:N'")
    threads: int = Field(default=1, ge=1, description="torch threads; recorded, and kept when a trial is resumed")
    compile: bool = Field(default=False, description="torch.compile the network")
    checkpoint_minutes: float = Field(default=5.0, ge=0, description="0: after every epoch")
    stop_after_epochs: int | None = Field(
        default=None, ge=1, description="epochs after which the trial stops with a checkpoint; None: its last epoch"
    )
    workers: int = Field(default=1, ge=1, description="processes that share each batch, one device each")
    loader_workers: int = Field(default=0, ge=0, description="processes that decode images for each worker; 0: itself")
    data_dir: Annotated[str | None, BeforeValidator(_as_text)] = Field(
        default=None, description="folder that holds the data set, or a URI that pyarrow opens (s3://...)"
    )
    cache_dir: Path | None = Field(default=None, description="decoded images; None: the default")
    download: bool = Field(default=False, description="fetch a missing data set")

    def data_folder(self) -> Path:
        """Return the data folder as a path on this machine.

        Raises:
            UserError: if it is a URI.
        """
        if self.data_dir is None:
            return default_data_dir()
        if "://" in self.data_dir:
            raise UserError(
                f"--data-dir {self.data_dir} is not a folder of this machine; only image data are read from there"
            )
        return Path(self.data_dir)
