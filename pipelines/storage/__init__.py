"""Results that live elsewhere: on a shared disk, on the driver alone, or in a bucket."""

from pipelines.storage.backends import DriverFolderBackend, ResultsBackend, SharedFolderBackend
from pipelines.storage.bucket.mirror import mirror_folder
from pipelines.storage.bucket_backend import open_backend
from pipelines.storage.staging import NodeUnusableError, RemoteStaging, Staging
