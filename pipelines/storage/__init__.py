"""Results that live elsewhere: on a shared disk, on the driver alone, or in a bucket."""

from pipelines.storage.backends import DriverFolderBackend, ResultsBackend, SharedFolderBackend
from pipelines.storage.bucket.mirror import mirror_folder
from pipelines.storage.choice import home_at
from pipelines.storage.staging import NodeUnusableError, RemoteStaging, Staging

__all__ = [
    "DriverFolderBackend",
    "NodeUnusableError",
    "RemoteStaging",
    "ResultsBackend",
    "SharedFolderBackend",
    "Staging",
    "home_at",
    "mirror_folder",
]
