"""Results that live elsewhere: on a shared disk, on the driver alone, or in a bucket."""

from pipelines.storage.backends import HeadHome, Home, SharedHome
from pipelines.storage.bucket.mirror import mirror_folder
from pipelines.storage.choice import home_at
from pipelines.storage.staging import Depot, FarDepot, UnfitNode

__all__ = [
    "Depot",
    "FarDepot",
    "HeadHome",
    "Home",
    "SharedHome",
    "UnfitNode",
    "home_at",
    "mirror_folder",
]
