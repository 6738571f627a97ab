"""A folder of images becomes Parquet shards. Free of torch, numpy and pyarrow at import."""

from dnw_core.data.formats.manifest import Settings
from dnw_core.data.prepare.run import Prepared, ProgressListener, check_folders, prepare
from dnw_core.data.prepare.shard import BadImagesError
